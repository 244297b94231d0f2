"""The batch interface of OpenAI-compatible servers: files up, batches, files down."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, TypeAlias, TypeVar

from slm_math.engines.base import EngineError, Unusable
from slm_math.engines.endpoint import EndpointEngine, Refused, TemporaryFailure
from slm_math.engines.http import MOST_BYTES, Response
from slm_math.engines.openai import OpenAIEngine
from slm_math.engines.responses import error_message, refuses_all

T = TypeVar("T")

ROUTE = "/v1/chat/completions"  # as files name it, whatever the address of the server
ENDS = ("completed", "succeeded", "failed", "expired", "cancelled", "canceled")
LISTED = 100  # batches that a server lists

Outcome: TypeAlias = Response | Exception


class BatchRoutes(OpenAIEngine):
    """What the routes do, each with retries. They raise EngineError where these fail, and Unusable
    where the server has no batches, or refuses all of them.
    """

    async def upload(self, content: bytes) -> str:
        """Uploads a file of requests; returns the server's name of it."""
        end = uuid.uuid4().hex
        head = (
            f'--{end}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{end}\r\nContent-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{end}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={end}"}

        async def send() -> str:
            return _name(await self._object("POST", "/files", body, headers))

        try:
            return await self._retried(send)
        except Refused as error:
            if error.status == 404:
                raise Unusable(f"{error}. The server has no batches: use OpenAIEngine") from None
            raise

    async def make(self, file: str, window: str, may_exist: bool) -> str:
        """Makes a batch of an uploaded file; returns the server's name of it.

        `may_exist`: the server may have been asked for it before. An attempt whose answer got lost
        is not paid twice: the server's list says whether it came through.
        """
        body = {"input_file_id": file, "endpoint": ROUTE, "completion_window": window}
        is_first = not may_exist

        async def send() -> str:
            nonlocal is_first
            found = None if is_first else await self._find(file)
            is_first = False
            return found or _name(await self._object("POST", "/batches", body))

        return await self._retried(send)

    async def ended(self, id: str, every: float) -> dict[str, Any]:
        """What the server says about a batch at its end; looks every so many seconds. Raises
        Unusable for a batch that failed for what every batch has, TemporaryFailure for another one
        that failed, or that the server does not know any more.
        """
        while True:
            try:
                info = await self._retried(lambda: self._object("GET", f"/batches/{id}"))
            except Refused as error:
                if error.status == 404:
                    raise TemporaryFailure(str(error)) from None
                raise
            if info.get("status") in ENDS:
                break
            await asyncio.sleep(every)
        if info["status"] == "failed":
            response = _failure(info)
            remedy = refuses_all(response, self.api_key_env)
            said = f"batch {id} failed: {error_message(response)}"
            if remedy is not None:
                raise Unusable(f"{self._clean(said)}. Please {remedy}")
            raise TemporaryFailure(said)
        return info

    async def downloads(self, info: Mapping[str, Any], most: int) -> dict[str, Outcome]:
        """The responses of a batch by the ids of its rows, from both of its files, of at most
        `most` bytes. Lines that hold none are left out.
        """
        responses: dict[str, Outcome] = {}
        for name in ("output_file_id", "error_file_id"):
            if isinstance(file := info.get(name), str) and file:
                url = f"{self._base}/files/{file}/content"
                response = await self._retried(partial(self._exchange, "GET", url, most=most))
                for line in response.body.splitlines():
                    responses |= _row(line)
        return responses

    async def cancel_batch(self, id: str) -> None:
        await self._exchange("POST", f"{self._base}/batches/{id}/cancel")

    async def _find(self, file: str) -> str | None:
        """The newest batch of a file, if the server has one."""
        listed = (await self._object("GET", f"/batches?limit={LISTED}")).get("data")
        for one in listed if isinstance(listed, list) else []:
            if isinstance(one, dict) and one.get("input_file_id") == file:
                return _name(one)
        return None

    @property
    def _base(self) -> str:
        return self._url.removesuffix("/chat/completions")

    async def _object(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object that a route returns, in one attempt."""
        url = f"{self._base}{path}"
        response = await self._exchange(method, url, body, most=MOST_BYTES, headers=headers)
        try:
            data = response.json()
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise TemporaryFailure(f"the response is no JSON object: {error_message(response)}")
        return data

    async def _retried(self, send: Callable[[], Awaitable[T]]) -> T:
        for failures in count(1):
            try:
                await self._pace.turn()
                return await send()
            except TemporaryFailure as error:
                if failures > self.retries:
                    message = f"{self._base}: {error} (tried {failures} times)"
                    raise EngineError(self._clean(message)) from None
                await self._pause(failures, error)
        raise AssertionError("counting has no end")

    def _check(self, url: str, response: Response) -> None:
        # a file or a batch that is not there says nothing about the model
        if not 200 <= response.status < 300:
            EndpointEngine._check(self, url, response)


def _name(data: Mapping[str, Any]) -> str:
    """The name that a server gave to a file or a batch."""
    name = data.get("id")
    if not isinstance(name, str) or not name:
        raise TemporaryFailure(f"the response names no id: {data!s:.200}")
    return name


def _failure(info: Mapping[str, Any]) -> Response:
    """The first error of a batch that failed, as the response to a request."""
    errors = info.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else errors
    first = listed[0] if isinstance(listed, list) and listed else errors
    return Response(400, json.dumps({"error": first or "no reason given"}).encode())


def _row(line: bytes) -> dict[str, Outcome]:
    """Id and outcome of a line of a file of replies; {} for a line that is none."""
    try:
        data = json.loads(line)
        row, response, error = data["custom_id"], data.get("response"), data.get("error")
        if not isinstance(row, str):
            return {}
        if isinstance(response, dict) and isinstance(response.get("status_code"), int):
            body = response.get("body")
            return {row: Response(response["status_code"], json.dumps(body).encode())}
        if error:
            message = error.get("message") or error.get("code")
            return {row: TemporaryFailure(f"the batch has no reply: {message}")}
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return {}
