"""The log-probabilities of given tokens by `vllm serve` processes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import cycle
from threading import Lock
from typing import Any

from slm_math.engines.base import EngineError, check_logprobs
from slm_math.engines.endpoint import cleaned
from slm_math.engines.vllm_control import START_HINT, ServerUnavailable, VLLMServer

ROUTE = "/inference/v1/generate"


class PromptScores:
    """Asks servers for the log-probabilities of prompts: token ids in, one number per token out.

    They are those at temperature 1 over the whole vocabulary. Servers take turns. A request that a
    server does not answer goes to the next one, and the run ends when no server has answered it for
    `patience` seconds.

    Args:
        urls: addresses, for example http://node2:8000.
        api_key_env: the environment variable with the servers' API key, if they need one.
        patience: seconds for which all servers may be down.
        timeout: seconds that one request may take.
        concurrency: requests in flight at once.
    """

    def __init__(
        self,
        urls: Sequence[str],
        api_key_env: str = "VLLM_API_KEY",
        patience: float = 300.0,
        timeout: float = 600.0,
        concurrency: int = 32,
    ) -> None:
        self._key = os.environ.get(api_key_env, "").strip()
        self.servers = [VLLMServer(url, self._key) for url in urls]
        self.patience, self.timeout, self.concurrency = patience, timeout, concurrency
        self.model = ""
        self.root = ""
        self.context: int | None = None
        self._lock = Lock()
        self._turn = cycle(self.servers)

    def connect(self) -> None:
        """Waits until all servers are up, and reads what they serve. Raises ValueError if that
        differs.
        """
        if self.model:
            return
        for server in self.servers:
            server.wait(self.patience)
            server.check_version()
        models = [server.model() for server in self.servers]
        roots = sorted({str(model.get("root")) for model in models})
        if len(roots) > 1:
            raise ValueError(f"the teacher's servers serve different models: {', '.join(roots)}")
        self.root = roots[0]
        lengths = [int(model.get("max_model_len") or 0) for model in models]
        self.context = min(filter(None, lengths), default=None)
        self.model = str(models[0].get("id"))

    def scores(
        self,
        sequences: Sequence[Sequence[int]],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[tuple[list[float], list[bool]]]:
        """For each sequence of token ids the log-probability in nats of every token after the
        first, and whether it is the likeliest one.
        """
        self.connect()
        found: dict[int, tuple[list[float], list[bool]]] = {}
        with ThreadPoolExecutor(self.concurrency) as pool:
            jobs = {pool.submit(self._score, list(ids)): n for n, ids in enumerate(sequences)}
            try:
                for job in as_completed(jobs):
                    found[jobs[job]] = job.result()
                    progress(len(found), len(jobs))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [found[n] for n in range(len(sequences))]

    def _score(self, ids: list[int]) -> tuple[list[float], list[bool]]:
        body = {
            "model": self.model,
            "token_ids": ids,
            # a reply of one token, since there is none of none; nobody reads it
            "sampling_params": {"temperature": 1.0, "max_tokens": 1, "prompt_logprobs": 0},
        }
        until, pause = time.monotonic() + self.patience, 0.1
        for server in self._rotation():
            try:
                response = server.ask("POST", ROUTE, body, self.timeout)
                return parse_prompt(response, ids, server.url)
            except ServerUnavailable as error:
                if time.monotonic() >= until:
                    raise EngineError(
                        cleaned(f"no server of the teacher answers: {error}", self._key)
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, 5.0)
        raise AssertionError("the rotation has no end")

    def _rotation(self) -> Iterator[VLLMServer]:
        while True:
            with self._lock:
                server = next(self._turn)
            yield server


def parse_prompt(answer: Any, ids: Sequence[int], url: str) -> tuple[list[float], list[bool]]:
    """The log-probabilities in a response for the tokens after the first, and whether each is the
    likeliest. Raises EngineError for a response without them.
    """
    try:
        entries = answer["prompt_logprobs"]
        own = [entry[str(token)] for entry, token in zip(entries[1:], ids[1:], strict=True)]
        # JSON has null instead of NaN
        logps = [math.nan if one["logprob"] is None else float(one["logprob"]) for one in own]
        ranks = [one.get("rank") == 1 for one in own]
    except (LookupError, TypeError, ValueError, AttributeError):
        raise EngineError(
            f"{url} gives no log-probabilities of the {len(ids)} tokens of a prompt "
            f"(prompt_logprobs): it cannot be a teacher. {START_HINT}"
        ) from None
    check_logprobs(tuple(logps), f"of {url}")
    return logps, ranks
