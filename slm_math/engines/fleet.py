"""Load balancing and failover over vLLM servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx

from slm_math.engines.base import EngineError
from slm_math.engines.endpoint import EndpointEngine
from slm_math.engines.vllm_control import Server


class Fleet(EndpointEngine):
    """Copies of one model at several addresses. Subclasses define a server's requests and how it
    receives weights.

    `patience`: seconds for which all servers may be down. `is_sender`: this process sends the
    weights (exactly one of several training processes does).
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
        super().__init__(api_key_env, concurrency, timeout, retries, backoff=0.5)
        self.servers = [Server(url, self._key) for url in urls]
        self.patience = patience
        self.is_sender = True
        self._expected: str | None = None  # the servers' name for the weights that they were sent

    def _push_weights(self, server: Server) -> None:
        """Sends the weights to one server that has others."""
        raise NotImplementedError

    async def _free(self) -> Server:
        """The server with the least to do, as soon as there is one."""
        while True:
            well = [
                server for server in self.servers if server.down_since is None and not server.stale
            ]
            if well:
                return min(well, key=lambda server: server.load)
            await asyncio.sleep(0.1)

    async def _lost(self, server: Server) -> bool:
        """Whether a server that did not answer is gone, or has other weights."""
        if server.down_since is None and not server.stale and not await self._healthy(server):
            self._mark_down(server)
        # another process sends the weights: to be asked when they are there
        if server.stale and not self.is_sender:
            self._mark_down(server)
        return server.down_since is not None or server.stale

    def _mark_down(self, server: Server) -> None:
        """Leaves a server out, and watches it until it is back."""
        with self._change:
            if server.down_since is None and not self._closed:
                server.down_since, server.restarted = time.monotonic(), True
                asyncio.run_coroutine_threadsafe(self._watch(server), self._loop or self._begin())

    async def _watch(self, server: Server) -> None:
        while not await self._healthy(server) or (server.stale and not self.is_sender):
            if server.stale:
                server.problem = (
                    "it has other weights than it was sent; the first training process sends them"
                )
            await asyncio.sleep(0.5)
        server.down_since = None

    async def _healthy(self, server: Server) -> bool:
        """Whether it answers; marks it stale where its weights are not those that it was sent."""
        try:
            # beside all requests
            async with httpx.AsyncClient(headers=self._client.headers, timeout=5.0) as client:
                (await client.get(f"{server.url}/health")).raise_for_status()
                if self._expected is not None:
                    info = (await client.get(f"{server.url}/weight_info")).raise_for_status()
                    server.stale = info.json()["weight_version"] != self._expected or (
                        self.is_sender and server.stale
                    )
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            server.problem = self._clean(f"{type(error).__name__}: {error}")
            return False
        return True

    def _look_after(self) -> None:
        """Sends weights to servers that lack them. Raises EngineError when none has been of use for
        too long.
        """
        for server in self.servers:
            if server.stale and server.down_since is None and self.is_sender:
                self._push_weights(server)
        gone = [server.down_since for server in self.servers if server.down_since is not None]
        if len(gone) == len(self.servers) and time.monotonic() - max(gone) > self.patience:
            reasons = "; ".join(f"{server.url}: {server.problem}" for server in self.servers)
            message = self._clean(
                f"no vLLM server has answered for {self.patience:g} s ({reasons})"
            )
            raise EngineError(f"{message}: start them again, and the same command goes on")
