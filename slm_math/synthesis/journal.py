"""A file of answered requests, so that nothing that was answered is asked or paid again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from slm_math.engines.base import Engine, EngineError, Request, Unusable
from slm_math.engines.pacing import estimated_tokens
from slm_math.images import image_hash
from slm_math.synthesis.cost import Budget, BudgetSpent, Price, Spending, Spent, check_priced
from slm_math.synthesis.journal_file import JournalFile
from slm_math.types import Image, Message, Reply

UNBOUNDED = Spent()  # what a request is expected to take where there is no budget
ENCODER = json.JSONEncoder(default=str)  # made once: `dumps` would make one for each request

# of a line, besides the digest of the request
FIELDS = (
    *("role", "text", "finish", "asked", "tokens", "estimated", "usd"),
    *("seconds", "temperature", "model", "version", "prompt"),
)


class Journal:
    """The answered requests of a run, in one file, whatever agent asked.

    Each engine of the run gets the journal before it: an answered request is answered from the
    file, another one by the engine, and its reply is written as soon as it comes. A run that was
    killed at any moment therefore repeats what it did, without asking or paying again, up to the
    requests that were under way. Errors are not written, so that they are tried again.

    Of a reply the file holds the text, the finish reason, the counts of tokens, seconds, model and
    version. Token ids and log-probabilities are left out, and out of what is handed out the first
    time, too, so that every session sees the same: no trained role is served through a journal, and
    the next prompt of a local engine tokenizes the text of its replies.

    With a budget, a request is sent only if the budget covers what was spent, what the requests
    under way will take, and what this one will take, by estimate: its prompt has a token for every
    four characters, and its reply is as long as the role's replies were so far (the first ones: as
    long as they may be). It waits for replies until then; if none is under way, it is sent unless
    the budget is spent. Workflows that need nothing more come to their end, and then `poll` raises
    BudgetSpent. So a budget is exceeded by no more than the requests under way, also where these
    are the rows of a batch, and by their estimates' error only.

    Args:
        file: the journal, in JSON lines; created if it does not exist, and locked.
        prices: role -> price; "default" is that of all other roles.
        budget: what may be spent, in all sessions that wrote to the file.

    Raises ValueError for a file that is not a journal, or that another process writes to.
    """

    def __init__(
        self, file: Path, prices: Mapping[str, Price], budget: Budget | None = None
    ) -> None:
        self.prices, self.budget = prices, budget or Budget()
        self.spending = Spending()
        self._under_way = Spent()  # what the requests that were sent will take; 0 without a budget
        self._engines: dict[int, JournaledEngine] = {}
        self._file = JournalFile(file, FIELDS)
        try:
            for line in self._file.read():
                self.spending.add(str(line["role"]), _spent(line))
        except ValueError:
            self._file.close()
            raise

    def before(self, engine: Engine, role: str) -> Engine:
        """The engine, with this journal before it. An engine that serves several roles gets one for
        all of them; its requests count for the role that they name, or else for `role`.

        Raises ValueError if the budget is in USD and the role has no price.
        """
        check_priced(self.budget, self.prices, [role])
        return self._engines.setdefault(id(engine), JournaledEngine(self, engine, role))

    def price(self, role: str) -> Price | None:
        """What the requests of a role cost; None if nobody said."""
        return self.prices.get(role, self.prices.get("default"))

    def close(self) -> None:
        """Writes everything to the disk and unlocks the file."""
        self._file.close()

    # for the engines

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._file

    def reply(self, digest: bytes) -> Reply:
        """The reply to a request that was answered."""
        return _reply(self._file[digest])

    def write(self, digest: bytes, role: str, request: Request, reply: Reply) -> Reply:
        """Writes a reply and counts what it took. Returns what the file holds of it."""
        asked = reply.prompt_tokens or estimated_tokens(request.chat)
        sampled = reply.tokens or estimated_tokens(reply.text)
        line = {
            "role": role,
            "text": reply.text,
            "finish": reply.finish,
            "asked": asked,
            "tokens": sampled,
            "estimated": not reply.prompt_tokens or not reply.tokens,
            "usd": (self.price(role) or Price()).of(asked, sampled),
            "seconds": round(reply.seconds, 4),
            "temperature": reply.temperature,
            "model": reply.model,
            "version": reply.version,
            "prompt": reply.prompt,
        }
        self._file.add(digest, line)
        self.spending.add(role, _spent(line))
        return _reply(line)

    def begin(self, role: str, request: Request) -> Spent | None:
        """What a request will take, which counts as under way now; None if the budget does not
        allow to send it now.
        """
        if self.budget == Budget():
            return UNBOUNDED
        past, prompt = self.spending.of(role), estimated_tokens(request.chat)
        mean = past.completion_tokens / past.requests if past.requests else math.inf
        reply = math.ceil(min(mean, request.sampling.max_new_tokens))
        usd = (self.price(role) or Price()).of(prompt, reply)
        expected, spent = Spent(1, prompt, reply, usd), self.spending.total
        waits = self._under_way.requests and not self.budget.covers(
            spent + self._under_way + expected
        )
        if waits or self.budget.is_spent(spent):
            return None
        self._under_way += expected
        return expected

    def end(self, expected: Spent) -> None:
        """Says that a request is under way no longer."""
        if expected is not UNBOUNDED:
            self._under_way -= expected

    def await_budget(self, timeout: float) -> None:
        """Waits for the requests of other engines, which say what the budget still allows. Raises
        BudgetSpent if it is spent, none is under way, and no engine has something to hand out.
        """
        if self._under_way.requests:
            for engine in self._engines.values():
                engine.take(timeout)
            return
        spent = self.budget.is_spent(self.spending.total)
        if not spent or any(engine.has_results for engine in self._engines.values()):
            return
        total = self.spending.total
        raise BudgetSpent(
            f"the budget of {self.budget} is spent: {total.requests:,} requests took "
            f"{total.tokens:,} tokens and {total.usd:.4g} USD. Their replies are in "
            f"{self._file.path}: raise the budget and run the same command to continue"
        )


class Sent(NamedTuple):
    """A request under way, and what it will take."""

    ticket: int
    digest: bytes
    request: Request
    expected: Spent


class JournaledEngine(Engine):
    """An engine with a journal before it."""

    returns_logprobs = False

    def __init__(self, journal: Journal, engine: Engine, role: str) -> None:
        self.journal, self.engine, self.role = journal, engine, role
        self.runs_in_poll, self.name = engine.runs_in_poll, f"the journal of {engine.name}"
        self._identity: bytes | None = None
        self._tickets = 0
        self._known: dict[int, bytes] = {}  # ticket -> digest of a request that was answered before
        self._sent: dict[int, Sent] = {}  # by the engine's own ticket
        self._held: dict[int, tuple[bytes, Request]] = {}  # that the budget does not allow yet
        self._done: list[tuple[int, Reply | EngineError]] = []

    def submit(self, request: Request) -> int:
        digest = self._digest(request)
        self._tickets += 1
        if digest in self.journal:
            self._known[self._tickets] = digest
        else:
            self._held[self._tickets] = digest, request
            self._send()
        return self._tickets

    def _send(self) -> None:
        """Sends the requests that the budget allows, in their order."""
        while self._held:
            ticket, (digest, request) = next(iter(self._held.items()))
            expected = self.journal.begin(self._role(request), request)
            if expected is None:
                return
            del self._held[ticket]
            own = self.engine.submit(request)
            self._sent[own] = Sent(ticket, digest, request, expected)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        known, self._known = self._known, {}
        replies: list[tuple[int, Reply | EngineError]] = [
            (ticket, self.journal.reply(digest)) for ticket, digest in known.items()
        ]
        self.take(0.0 if replies or self._done else timeout)
        replies += self._done
        self._done = []
        if self._held and not self._sent and not replies:
            self.journal.await_budget(timeout)
        self._send()
        return replies

    def take(self, timeout: float) -> None:
        """Writes what the engine has finished."""
        for own, result in self.engine.poll(timeout) if self._sent else ():
            sent = self._sent.pop(own, None)
            if sent is None:
                continue
            self.journal.end(sent.expected)
            if isinstance(result, Reply):
                role = self._role(sent.request)
                result = self.journal.write(sent.digest, role, sent.request, result)
            self._done.append((sent.ticket, result))

    def cancel(self, ticket: int) -> None:
        own = next((own for own, sent in self._sent.items() if sent.ticket == ticket), None)
        if own is not None and not self.engine.runs_in_poll:
            with suppress(EngineError, Unusable):  # a reply that is there was paid
                self.take(0.0)
        if own in self._sent:
            self.journal.end(self._sent.pop(own).expected)
            self.engine.cancel(own)
        self._known.pop(ticket, None)
        self._held.pop(ticket, None)
        self._done = [(other, result) for other, result in self._done if other != ticket]

    @property
    def has_results(self) -> bool:
        """Whether a later poll returns something."""
        return bool(self._sent or self._known or self._done)

    @property
    def busy(self) -> int:
        return len(self._sent) + len(self._known) + len(self._done) + len(self._held)

    def identity(self) -> dict[str, Any]:
        return self.engine.identity()

    def usage(self) -> dict[str, int]:
        return self.engine.usage()

    def release(self) -> None:
        self.engine.release()

    def close(self) -> None:
        self.engine.close()

    def _role(self, request: Request) -> str:
        return request.role or self.role

    def _digest(self, request: Request) -> bytes:
        """What identifies a request: who asks whom what, and how."""
        if self._identity is None:
            identity = json.dumps(self.identity(), sort_keys=True, default=str)
            self._identity = hashlib.sha256(identity.encode()).digest()
        parts = [
            self._role(request),
            request.key,
            [(message.role, _content(message)) for message in request.chat],
            vars(request.sampling),
            request.resume,
        ]
        data = ENCODER.encode(parts).encode()
        return hashlib.sha256(self._identity + data).digest()[:16]


def _content(message: Message) -> list[list[str]]:
    """Texts and hashes of images; it does not matter who wrote which part of a text."""
    content: list[list[str]] = []
    for part in message.content:
        if isinstance(part, Image):
            content.append(["image", image_hash(part.source)])
        elif content and content[-1][0] == "text":
            content[-1][1] += part.text
        else:
            content.append(["text", part.text])
    return content


def _reply(line: Mapping[str, Any]) -> Reply:
    return Reply(
        text=line["text"],
        finish=line["finish"],
        version=line["version"],
        temperature=line["temperature"],
        seconds=line["seconds"],
        counted=line["tokens"],
        prompt=line["prompt"],
        asked=line["asked"],
        model=line["model"],
    )


def _spent(line: Mapping[str, Any]) -> Spent:
    return Spent(
        requests=1,
        prompt_tokens=line["asked"],
        completion_tokens=line["tokens"],
        usd=line["usd"],
        estimated=int(line["estimated"]),
    )
