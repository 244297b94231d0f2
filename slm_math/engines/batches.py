"""An engine that sends requests as files to the batch interface of an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from slm_math.engines.base import ContextFull, EngineError, Request, Unusable
from slm_math.engines.batch_routes import ROUTE, BatchRoutes
from slm_math.engines.batch_state import BatchState, SavedBatch
from slm_math.engines.endpoint import Refused, TemporaryFailure
from slm_math.engines.http import MOST_BYTES, Response
from slm_math.engines.openai import OpenAIEngine, is_full, read_reply
from slm_math.ranges import check_number, check_whole
from slm_math.types import Reply
from slm_math.visible import visible

MOST_ROWS = 50_000  # of a file
MOST_FILE = 100 << 20  # bytes of a file; servers take 200 MB and less
ROW_BYTES = 64 << 10  # of a file of replies, for each row and
TOKEN_BYTES = 64  # for each token that it may have
LOOK = 0.2  # seconds between two looks at how many requests wait
CANCEL = 5.0  # seconds that closing waits for servers

Outcome: TypeAlias = Response | Exception


@dataclass
class Row:
    """A request that waits for its response."""

    body: dict[str, Any]
    outcome: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def end(self, outcome: Outcome) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


@dataclass
class Batch:
    """A batch under way: who waits for its rows, and what came of rows for which nobody does yet.

    `missing` is what became of rows without a response; None while the batch is not at its end.
    """

    saved: SavedBatch
    rows: dict[str, Row] = field(default_factory=dict)
    responses: dict[str, Outcome] = field(default_factory=dict)
    missing: Exception | None = None

    def claim(self, id: str, row: Row) -> None:
        """Says who waits for a row."""
        if self.missing is None:
            self.rows[id] = row
        else:
            row.end(self.responses.pop(id, self.missing))

    def end(self, responses: Mapping[str, Outcome], missing: Exception) -> None:
        """Hands out what came of the batch."""
        self.responses, self.missing = dict(responses), missing
        rows, self.rows = self.rows, {}
        for id, row in rows.items():
            self.claim(id, row)


class OpenAIBatches(BatchRoutes):
    """Collects requests, uploads them as a file, and downloads the replies when the server has made
    them, within a day and at about half the price (which the prices of a run must say).

    Requests wait until none has come for `collect` seconds, or until `rows` wait. Rows that the
    server did not answer (it was busy, the batch expired) go into the next batch, up to `retries`
    times; other errors are final. With `state`, a run that is started again continues with the
    batches that an earlier one left at the server, and nothing is asked or paid twice; without it,
    `close` cancels them. The replies are those of `OpenAIEngine`, and so is `identity`: a journal
    may be filled by both.

    Args:
        base_url: for example https://api.example.com/v1.
        model: the name under which the server knows the model.
        state: a file for the batches under way, beside the journal of the run.
        api_key_env: environment variable with the API key, which appears nowhere else.
        rows: the most requests of a batch.
        collect: seconds without a new request after which a batch is sent.
        every: seconds between two looks at a batch.
        window: the time that the server gets, in its own words.
        timeout: seconds for one upload, look or download.
        retries: how often each of these is tried again, and a row that was not answered.
        backoff: seconds before the first retry, doubled for each further one.
        send_seed: whether to derive a seed from each request's key.
        chat_template_kwargs: variables of the server's chat template, sent with every request.
        extra: fields added to every request body; null removes a field.
    """

    name = "a batch endpoint"

    def __init__(
        self,
        base_url: str,
        model: str,
        state: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        rows: int = MOST_ROWS,
        collect: float = 10,
        every: float = 30,
        window: str = "24h",
        timeout: float = 600,
        retries: int = 4,
        backoff: float = 2,
        send_seed: bool = False,
        extra: Mapping[str, Any] | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_whole("rows", rows)
        check_number("collect", collect, low=0)
        check_number("every", every, above=0)
        super().__init__(
            base_url=base_url,
            model=model,
            api_key_env=api_key_env,
            concurrency=1 << 30,  # all requests wait for their batch
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            send_seed=send_seed,
            extra=extra,
            chat_template_kwargs=chat_template_kwargs,
        )
        self.rows, self.collect, self.every, self.window = rows, collect, every, window
        self._state = BatchState(Path(state) if state else None)
        self._waiting: dict[str, Row] = {}  # requests that are in no file yet
        self._asked = Counter[str]()  # how many requests had the same content
        self._batches: dict[str, Batch] = {}  # by the server's name of their file
        self._collecting: asyncio.Task[None] | None = None
        self._longest = 0  # reply that a request may have, in tokens
        self._last = 0.0  # when the last request came (time.monotonic)
        self._working: set[asyncio.Task[None]] = set()
        self._replies: dict[int, tuple[Reply, str]] = {}  # not handed out, with their row
        self._handed_out: list[str] = []  # rows whose replies the last poll returned

    def __repr__(self) -> str:
        return f"OpenAIBatches({self._url!r}, {self.model!r})"

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"engine": OpenAIEngine.__name__}

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        self._settle()
        results = super().poll(timeout)
        found = [self._replies.pop(id(result), None) for _, result in results]
        self._handed_out = [one[1] for one in found if one is not None]
        return results

    def close(self) -> None:
        self._settle()
        super().close()
        if self._asked:
            self._state.save()

    def _settle(self) -> None:
        """Forgets the rows whose replies were handed out by the last poll: whoever keeps replies
        has them by now.
        """
        with self._change:
            self._state.forget(self._handed_out)
        self._handed_out = []

    async def _end(self) -> None:
        ids = [batch.id for batch in self._state.batches if batch.id]
        if self._state.path is None and ids:  # nobody would find their replies
            cancels = [self.cancel_batch(id) for id in ids]
            with suppress(TimeoutError):
                async with asyncio.timeout(CANCEL):
                    await asyncio.gather(*cancels, return_exceptions=True)
        await super()._end()

    # one request

    async def _answer(self, request: Request) -> Reply:
        body = self._body(replace(request, progress=None))  # a file has no streams
        self._longest = max(self._longest, request.sampling.max_new_tokens)
        row_id = self._row_id(body, request.key)
        for failures in count(1):
            started = time.monotonic()
            try:
                response = await self._response(row_id, body)
                OpenAIEngine._check(self, self._url, response)
                reply = read_reply(response, request, time.monotonic() - started)
            except TemporaryFailure as error:
                self._forget([row_id])
                if failures > self.retries:
                    message = f"{self._url}: {error} (tried {failures} times)"
                    raise EngineError(self._clean(message)) from None
                await self._pause(failures, error)
            except Refused as error:
                self._forget([row_id])
                raise (ContextFull(str(error)) if is_full(error) else error) from None
            else:
                self._replies[id(reply)] = reply, row_id
                return reply
        raise AssertionError("counting has no end")

    def _row_id(self, body: Mapping[str, Any], key: Sequence[Any]) -> str:
        """The name of a request in files: the same in every session."""
        data = json.dumps([body, [str(part) for part in key]], sort_keys=True).encode()
        digest = hashlib.sha256(data).hexdigest()[:32]
        self._asked[digest] += 1
        number = self._asked[digest]
        return digest if number == 1 else f"{digest}-{number}"

    async def _response(self, row_id: str, body: dict[str, Any]) -> Response:
        """What the server made of a row: of a batch that holds it already, or else of the next."""
        row, saved = Row(body), self._state.holding(row_id)
        if saved is None:
            self._waiting[row_id], self._last = row, time.monotonic()
            if self._collecting is None or self._collecting.done():
                self._collecting = self._start(self._collect())
        else:
            if saved.file not in self._batches:
                self._batches[saved.file] = Batch(saved)
                self._start(self._follow(self._batches[saved.file]))
            self._batches[saved.file].claim(row_id, row)
        try:
            outcome = await row.outcome
        finally:
            self._waiting.pop(row_id, None)  # also if the request was canceled
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _forget(self, rows: Iterable[str]) -> None:
        with self._change:
            self._state.forget(set(rows))

    # batches

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def _collect(self) -> None:
        """Sends the requests that wait as soon as there are enough, or no more come."""
        while self._waiting:
            idle = time.monotonic() - self._last
            if idle < self.collect and len(self._waiting) < self.rows:
                await asyncio.sleep(min(self.collect - idle, LOOK))
            else:
                self._start(self._send(*self._file()))

    def _file(self) -> tuple[bytes, dict[str, Row]]:
        """The next file, and its rows."""
        lines, rows, size = [], {}, 0
        for row_id, row in self._waiting.items():
            line = {"custom_id": row_id, "method": "POST", "url": ROUTE, "body": row.body}
            data = json.dumps(line).encode() + b"\n"
            size += len(data)
            if rows and (size > MOST_FILE or len(rows) == self.rows):
                break
            lines.append(data)
            rows[row_id] = row
        for row_id in rows:
            del self._waiting[row_id]
        return b"".join(lines), rows

    async def _send(self, content: bytes, rows: dict[str, Row]) -> None:
        """Uploads a file, and makes a batch of it."""
        try:
            file = await self.upload(content)
        except (EngineError, Unusable) as error:
            for row in rows.values():
                row.end(error)
            return
        with self._change:
            saved = self._state.add(file, rows)
        batch = self._batches[file] = Batch(saved, rows)
        await self._follow(batch, is_new=True)

    async def _follow(self, batch: Batch, is_new: bool = False) -> None:
        """Waits for the end of a batch, which may have to be made first."""
        saved = batch.saved
        try:
            if not saved.id:
                saved.id = await self.make(saved.file, self.window, may_exist=not is_new)
                with self._change:
                    self._state.save()
                self._tell(f"batch {saved.id}: {len(saved.rows):,} requests sent")
            info = await self.ended(saved.id, self.every)
            responses = await self.downloads(info, most=self._most_bytes(len(saved.rows)))
            state = info.get("status")
            self._tell(f"batch {saved.id}: {state}, {len(responses):,} of its requests answered")
            missing: Exception = TemporaryFailure(f"batch {saved.id} is {state} without a reply")
        except (EngineError, Unusable, TemporaryFailure) as error:
            responses, missing = {}, error
        batch.end(responses, missing)

    def _most_bytes(self, rows: int) -> int:
        return MOST_BYTES + rows * (ROW_BYTES + TOKEN_BYTES * self._longest)

    def _tell(self, line: str) -> None:
        print(visible(self._clean(line)), flush=True)
