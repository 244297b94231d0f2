"""Load balancing and failover over vLLM servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from slm_math.engines.base import EngineError
from slm_math.engines.endpoint import EndpointEngine, TemporaryFailure
from slm_math.engines.http import Response, TooLarge, TransportError
from slm_math.engines.vllm_control import VLLMServer

HEARTBEAT = 20.0  # seconds without a response after which the server's health is checked
MOST_LOSSES = 20  # a request that loses servers more often than this may be what ends them


class Fleet(EndpointEngine):
    """Servers of one model. Subclasses define how a request is sent and how weights are pushed.

    `patience`: seconds for which all servers may be down. `is_sender`: whether this process pushes
    the weights; of several training processes only one does.
    """

    def __init__(
        self,
        urls: Sequence[str],
        api_key_env: str,
        concurrency: int,
        timeout: float,
        retries: int,
        patience: float,
    ) -> None:
        super().__init__(
            api_key_env=api_key_env,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            backoff=0.5,
        )
        self.servers = [VLLMServer(url, self._key) for url in urls]
        self.patience = patience
        self.is_sender = True
        self._expected: str | None = None  # the version of the weights that were pushed last

    def _push_weights(self, server: VLLMServer) -> None:
        """Sends the current weights to a server that has others."""
        raise NotImplementedError

    async def _least_loaded(self) -> VLLMServer:
        """The usable server with the fewest requests; waits until one is usable."""
        await self._pace.turn()
        while True:
            usable = [
                server for server in self.servers if server.down_since is None and not server.stale
            ]
            if usable:
                return min(usable, key=lambda server: server.load)
            await asyncio.sleep(0.1)

    async def _is_lost(self, server: VLLMServer) -> bool:
        """Whether a server that did not answer is down, or has other weights than expected."""
        if server.down_since is None and not server.stale and not await self._healthy(server):
            self._mark_down(server)
        # another process pushes the weights: wait until it has done so
        if server.stale and not self.is_sender:
            self._mark_down(server)
        return server.down_since is not None or server.stale

    def _mark_down(self, server: VLLMServer) -> None:
        """Sends no more requests to a server until its health check passes again."""
        with self._change:
            if server.down_since is None and not self._closed:
                server.down_since, server.restarted = time.monotonic(), True
                asyncio.run_coroutine_threadsafe(self._watch(server), self._loop or self._begin())

    async def _watch(self, server: VLLMServer) -> None:
        """Marks a server as up again as soon as it is healthy and (if another process pushes the
        weights) has the expected weights.
        """
        while not await self._healthy(server) or (server.stale and not self.is_sender):
            if server.stale:
                server.problem = (
                    "its weights are not those that were pushed last; the first training process "
                    "pushes them again"
                )
            await asyncio.sleep(0.5)
        server.down_since = None

    async def _healthy(self, server: VLLMServer) -> bool:
        """Whether the health check passes; marks the server stale if it has other weights."""
        try:
            async with asyncio.timeout(5.0):
                await self._get(f"{server.url}/health")
                if self._expected is not None:
                    info = await self._get(f"{server.url}/weight_info")
                    server.stale = info.json()["weight_version"] != self._expected or (
                        self.is_sender and server.stale
                    )
        except (TransportError, ValueError, LookupError, TypeError, TimeoutError) as error:
            server.problem = self._clean(f"{type(error).__name__}: {error}")
            return False
        return True

    async def _named_weights(self, server: VLLMServer) -> set[str]:
        """The version of a server's weights if its responses do not name it, otherwise nothing.

        Asked for before and after a request: a process that answered with what it started with, and
        has got the policy's weights since, named another one before.
        """
        if self._expected is None or server.names_weights:
            return set()
        try:
            info = await self._get(f"{server.url}/weight_info")
            return {str(info.json()["weight_version"])}
        except (TransportError, ValueError, LookupError, TypeError) as error:
            raise TemporaryFailure(f"{type(error).__name__}: {error}") from None

    async def _get(self, url: str) -> Response:
        """The response of a control route. Raises TransportError unless its status is 200."""
        try:
            response = await self._client.send("GET", url)
        except TooLarge as error:
            raise TransportError(str(error)) from None
        if response.status != 200:
            raise TransportError(f"{url}: status {response.status}")
        return response

    async def _post_watched(
        self, server: VLLMServer, route: str, body: dict[str, Any], tokens: int
    ) -> Response:
        """The response to a request for `tokens` tokens, with health checks while it is in flight.

        Raises TemporaryFailure if two checks in a row fail: a machine that loses power or network
        does not close its connections.
        """
        url, silent = f"{server.url}{route}", 0
        post = asyncio.ensure_future(self._post(url, body, tokens))
        try:
            while not (await asyncio.wait({post}, timeout=HEARTBEAT))[0]:
                silent = 0 if await self._healthy(server) else silent + 1
                if silent == 2 or server.stale:
                    raise TemporaryFailure("no response, and its health check fails")
            return post.result()
        finally:
            post.cancel()

    def _maintain(self) -> None:
        """Pushes weights to stale servers. Raises EngineError if all servers have been down for
        longer than `patience`.
        """
        for server in self.servers:
            if server.stale and server.down_since is None and self.is_sender:
                self._push_weights(server)
        down = [server.down_since for server in self.servers if server.down_since is not None]
        if len(down) == len(self.servers) and time.monotonic() - max(down) > self.patience:
            reasons = "; ".join(f"{server.url}: {server.problem}" for server in self.servers)
            message = self._clean(
                f"no vLLM server has answered for {self.patience:g} s ({reasons})"
            )
            raise EngineError(f"{message}: start them again, then run the same command to continue")
