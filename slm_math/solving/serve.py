"""`slm-math serve-agent`: an OpenAI-compatible endpoint whose model is an agent."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from slm_math.agents import Agent, SingleShot
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference
from slm_math.listening import address_of, names_this_machine, url_of
from slm_math.ranges import check_number, check_whole
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.sandbox.wire import read_token
from slm_math.solving.executors import Serving
from slm_math.solving.protocol import Completion, Refusal, check_trace, read_question
from slm_math.solving.service import Service
from slm_math.types import Problem, Sampling, Trace
from slm_math.visible import visible

KEY_VARIABLE = "SLM_MATH_AGENT_KEY"
BODY_SECONDS = 60.0  # in which a client sends its request
QUIET_SECONDS = 10.0  # after which a stream says that it is alive
STARTED = 10.0  # seconds in which a server begins to listen


class _Connection(RequestHandler):
    """Answers what is no HTTP request in OpenAI's shape, too, and without a traceback."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("a response has begun already")
        if status >= 500:
            print(visible(f"serve-agent: {type(exc).__name__}: {exc}"), file=sys.stderr)
        # aiohttp's message shows the place in the bytes on more lines
        reason = (message or "not an HTTP request").splitlines()[0].rstrip(":")
        response = _refused(Refusal(status, reason))
        response.force_close()
        return response


class AgentServer:
    """Serves the agent of a service as a model, from an event loop on a thread of its own. Use it
    as a context, at whose end it closes service and socket.

    Args:
        service: solves the problems.
        name: of the model.
        listener: the socket of `listen`.
        key: that clients must send; "" for none.
        most: the most answers to one request (n).
        timeout: seconds for one request.
        body_mb: MiB of one request.
    """

    def __init__(
        self,
        service: Service,
        name: str,
        listener: socket.socket,
        key: str = "",
        most: int = 16,
        timeout: float = 600.0,
        body_mb: int = 16,
    ) -> None:
        self.service = service
        self.name = name
        self.most = most
        self.timeout = timeout
        self.key = key
        self.url = f"{url_of(listener.getsockname())}/v1"
        self._socket = listener
        self._since = int(time.time())
        self._largest = max(body_mb, 1) << 20
        self._app = web.Application(middlewares=[self._answered], client_max_size=self._largest)
        self._app.add_routes(
            [
                web.get("/v1/models", self._models),
                web.get("/v1/models/{name}", self._models),
                web.post("/v1/chat/completions", self._complete),
            ]
        )

    def __enter__(self) -> AgentServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="HTTP", daemon=True)
        self._thread.start()
        # handlers end when their client is gone
        self._runner = web.AppRunner(
            self._app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(STARTED)
        return self

    def __exit__(self, *error: object) -> None:
        self.service.close()  # whose clients are told
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _begin(self) -> None:
        await self._runner.setup()
        self._listening = await self._loop.create_server(self._connection, sock=self._socket)

    async def _end(self) -> None:
        self._listening.close()
        await self._runner.cleanup()

    def _connection(self) -> RequestHandler:
        assert self._runner.server is not None  # after its setup
        connection = self._runner.server()
        connection.__class__ = _Connection
        return connection

    # what every request has in common

    @web.middleware
    async def _answered(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The response to a request; errors are in OpenAI's shape."""
        try:
            self._authorize(request)
            return await handler(request)
        except Refusal as refusal:
            return _refused(refusal)
        except web.HTTPException as error:
            reason = f"status {error.status}: {error.reason}"
            if error.status == 404:
                reason = "there are GET /v1/models and POST /v1/chat/completions"
            return _refused(Refusal(error.status, reason))
        except ConnectionError:
            raise
        except Exception as error:  # a bug of the server, not of the request
            print(visible(f"serve-agent: {type(error).__name__}: {error}"), file=sys.stderr)
            return _refused(Refusal(500, f"{type(error).__name__}: {error}"))

    def _authorize(self, request: web.Request) -> None:
        sent = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if self.key and not hmac.compare_digest(sent, f"Bearer {self.key}".encode()):
            raise Refusal(401, "the API key is missing or wrong", "invalid_api_key")
        # only this machine can connect, but web pages in a browser on it could do so, too:
        # browsers send an Origin, and the name by which the page found this machine
        if not self.key and "Origin" in request.headers:
            raise Refusal(403, "requests of web pages need an API key")
        if not self.key and not names_this_machine(request.headers.getall("Host", [])):
            raise Refusal(403, "other names than localhost and loopback addresses need an API key")
        if (request.content_length or 0) > self._largest:  # before any of it comes
            raise Refusal(413, f"a request may have at most {self._largest} bytes")

    # the routes

    async def _models(self, request: web.Request) -> web.StreamResponse:
        model = {"id": self.name, "object": "model", "created": self._since, "owned_by": "slm-math"}
        name = request.match_info.get("name")
        if name not in (None, self.name):
            raise Refusal(404, f"there is no model {name!r:.100}", "model_not_found")
        return web.json_response(model if name else {"object": "list", "data": [model]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
        except TimeoutError:
            raise Refusal(408, f"the request did not come within {BODY_SECONDS:g} s") from None
        # images are checked, which takes a while
        question = await asyncio.to_thread(read_question, body, self.name, self.most)
        completion = Completion(self.name, question)
        async with self._solving(completion) as traces:
            if question.stream:
                return await self._stream(request, completion, traces)
            return web.json_response(completion.whole(await traces))

    @contextlib.asynccontextmanager
    async def _solving(
        self, completion: Completion
    ) -> AsyncIterator[asyncio.Task[Sequence[Trace]]]:
        """The traces of a question, while they come; what is not there at the end is dropped."""
        question = completion.question
        futures = self.service.submit(question.problem, question.n, question.seed)
        task = asyncio.ensure_future(self._traces([asyncio.wrap_future(each) for each in futures]))
        try:
            yield task
        finally:
            task.cancel()
            for future in futures:
                future.cancel()

    async def _traces(self, coming: Sequence[Awaitable[Trace]]) -> Sequence[Trace]:
        try:
            async with asyncio.timeout(self.timeout):
                traces = await asyncio.gather(*coming)
        except TimeoutError:
            raise Refusal(504, f"there is no answer after {self.timeout:g} s", "timeout") from None
        for trace in traces:
            check_trace(trace)
        return traces

    async def _stream(
        self,
        request: web.Request,
        completion: Completion,
        traces: asyncio.Task[Sequence[Trace]],
    ) -> web.StreamResponse:
        """Sends the answers as server-sent events; an error is one of them."""
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await _send(response, completion.first())
        while not traces.done():
            await asyncio.wait([traces], timeout=QUIET_SECONDS)
            if not traces.done():
                await response.write(b": the agent is at work\n\n")
        try:
            await _send(response, completion.last(await traces))
        except Refusal as refusal:
            await _send(response, [refusal.body])
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def listen(host: str, port: int, key: str) -> socket.socket:
    """A socket at `host`:`port` (0 for any free port).

    Raises ValueError for an address that other machines can reach if the `key` is "", OSError if it
    cannot be bound.
    """
    way_out = (
        f"an API key: put one into the environment variable {KEY_VARIABLE}, or listen on 127.0.0.1"
    )
    try:
        family, address = address_of(host, port, key=key, unprotected=way_out)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener


async def _send(response: web.StreamResponse, events: Sequence[dict[str, Any]]) -> None:
    for event in events:
        await response.write(f"data: {json.dumps(event)}\n\n".encode())


def _refused(refusal: Refusal) -> web.Response:
    headers = {"Retry-After": "1"} if refusal.status in (429, 503) else {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response(refusal.body, status=refusal.status, headers=headers)


def serve_agent(
    agent: Agent | None = None,
    model: str | dict[str, str] | None = None,
    engines: dict[str, Engine] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    workflows: int = 64,
    most_n: int = 16,
    timeout: float = 600.0,
    body_mb: int = 16,
    seed: int = 0,
    inference: Inference = Inference(sampling=Sampling(temperature=0.0)),
    dtype: str = "auto",
    chat_template: str | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    torch_threads: int | None = None,
    sandbox: Sandbox | RemoteSandbox | None = None,
) -> None:
    """Serves an agent as the model of an OpenAI-compatible endpoint: `slm-math serve-agent --model
    M --agent MajorityVote`.

    Args:
        agent: the agent; by default SingleShot.
        model: model folder, adapter folder or hub id that serves every role without an engine of
            its own; or an adapter of one base for each role, {solver: A, verifier: B}, or the
            folder of an export of several roles.
        engines: role -> engine; "default" serves all roles without a model or engine of their own.
        host: address to listen on. An address that other machines can reach needs an API key in the
            environment variable SLM_MATH_AGENT_KEY.
        port: port to listen on.
        name: name of the model in requests; by default that of the agent's class.
        workflows: workflows at once, over all requests; what comes beyond them gets status 429.
        most_n: the most answers to one request (n).
        timeout: seconds for one request.
        body_mb: MiB of one request.
        seed: of the sampling of requests that name none.
        inference: how the model is sampled: engine, requests at once, decoding settings.
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, float32 otherwise.
        chat_template: chatml, plain or a Jinja file, instead of the template of the tokenizer.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
        torch_threads: CPU threads of torch; by default the number of free cores.
        sandbox: runs the programs of agents; by default one with the default limits.
    """
    agent = agent or SingleShot()
    for option, value in {"workflows": workflows, "most_n": most_n, "body_mb": body_mb}.items():
        check_whole(option, value)
    check_number("timeout", timeout, above=0)
    serving = Serving(
        model=model,
        engines=engines,
        inference=inference,
        dtype=dtype,
        template=(chat_template, chat_template_kwargs),
        torch_threads=torch_threads,
        sandbox=sandbox,
    )
    if model is None and not engines:
        raise ValueError("serve-agent needs a model: --model FOLDER, or --engines.default ENGINE")
    key = read_token(KEY_VARIABLE)
    listener = listen(host, port, key)  # before a model is loaded
    with listener, serving.executors(agent, Problem("request", "What is 2 + 2?")) as executors:
        server = AgentServer(
            Service(agent, executors, seed=seed, most=workflows),
            name or type(agent).__name__,
            listener=listener,
            key=key,
            most=most_n,
            timeout=timeout,
            body_mb=body_mb,
        )
        with server:
            needs = "API key required" if key else "no API key, this machine only"
            text = f"agent: {server.name} at {server.url}, {needs}; stop it with Ctrl-C"
            print(visible(text), flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
