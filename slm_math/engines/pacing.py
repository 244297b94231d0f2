"""How fast an endpoint may be asked: requests and tokens per minute, pauses that it asks for."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from slm_math.ranges import check_whole
from slm_math.types import Chat, Image

CHARACTERS = 4  # of a token, about, in English and in formulas
IMAGE_TOKENS = 1000  # of an image, about
CATCH_UP = 1.0  # seconds: what an idle moment leaves unused may be used for as long
LONGEST_LOOK = 1.0  # seconds: after them a wait looks again, since replies correct the estimates
SHORTEST = 1e-6  # seconds: a shorter wait is what rounding left
SPREAD = 1.25  # the longest of the waits of the requests that a pause holds back, in pauses


class Bucket:
    """A rate of so much per minute. What is taken may exceed what is there; the next one waits
    until that is paid back.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self.rate = per_minute / 60
        self._level, self._then = 0.0, now

    def wait(self, now: float) -> float:
        """Seconds until something may be taken."""
        self._level = min(self._level + (now - self._then) * self.rate, self.rate * CATCH_UP)
        self._then = now
        wait = -self._level / self.rate
        return wait if wait > SHORTEST else 0.0

    def take(self, amount: float) -> None:
        """Takes an amount, or gives a negative one back."""
        self._level -= amount


class Pace:
    """When the next request may be sent, in the order in which the requests ask.

    Args:
        requests_per_minute: the most requests, also those that are sent again; None: any number.
        tokens_per_minute: the most tokens of prompts and replies. Before a request they are
            estimated, from the characters of the prompt and the mean length of the replies so far
            (of the first one, its token budget), and corrected when the reply comes.
    """

    def __init__(
        self,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_whole("requests_per_minute", requests_per_minute, optional=True)
        check_whole("tokens_per_minute", tokens_per_minute, optional=True)
        self._clock = clock
        now = clock()
        self._requests = Bucket(requests_per_minute, now) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute, now) if tokens_per_minute else None
        self._paused_until = now
        self._turn: asyncio.Lock | None = None
        self._replies = self._sampled = 0

    @property
    def counts_tokens(self) -> bool:
        """Whether requests must say how many tokens they take."""
        return self._tokens is not None

    def pause(self, seconds: float) -> None:
        """Sends nothing for a while."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def estimate(self, chat: Chat, budget: int) -> int:
        """The tokens of a request whose reply has at most `budget` tokens."""
        reply = budget if not self._replies else min(budget, self._sampled / self._replies)
        return estimated_tokens(chat) + round(reply)

    async def turn(self, tokens: int = 0) -> None:
        """Waits until a request of about `tokens` tokens may be sent."""
        if self._requests is None and self._tokens is None and not self._wait():
            return
        if (pause := self._paused_until - self._clock()) > 0:
            await asyncio.sleep(pause * random.uniform(1.0, SPREAD))
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            while wait := self._wait():
                await asyncio.sleep(min(wait, LONGEST_LOOK))
            for bucket, amount in ((self._requests, 1), (self._tokens, tokens)):
                if bucket is not None:
                    bucket.take(amount)

    def correct(self, estimated: int, prompt: int, sampled: int) -> None:
        """Counts what a request really took, where the server says so."""
        if not (prompt or sampled):
            return
        self._replies += 1
        self._sampled += sampled
        if self._tokens is not None:
            self._tokens.take(prompt + sampled - estimated)

    def _wait(self) -> float:
        """Seconds until a request may be sent."""
        now = self._clock()
        waits = [self._paused_until - now]
        waits += [bucket.wait(now) for bucket in (self._requests, self._tokens) if bucket]
        return max(0.0, *waits)


def estimated_tokens(what: Chat | str) -> int:
    """About how many tokens a text or a chat has, where nobody counts them."""
    if isinstance(what, str):
        return -(-len(what) // CHARACTERS)
    images = sum(isinstance(part, Image) for message in what for part in message.content)
    characters = sum(len(message.text) for message in what)
    return -(-characters // CHARACTERS) + IMAGE_TOKENS * images
