"""An engine that repeats what it is asked, a request, and its reply."""

from slm_math.engines.base import Engine, EngineError, Request
from slm_math.types import Reply, Sampling, user


class Echo(Engine):
    """Repeats the question as soon as it is polled, `slots` requests at a time."""

    def __init__(self, name: str = "echo", slots: int = 100, **reply: object) -> None:
        self.name, self.slots, self.reply = name, slots, reply
        self.asked: list[str] = []
        self.canceled: list[int] = []
        self.closed = False
        self._open: dict[int, str] = {}

    def submit(self, request: Request) -> int:
        self.asked.append(request.chat[-1].text)
        self._open[len(self.asked)] = self.asked[-1]
        return len(self.asked)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        done = list(self._open.items())[: self.slots]
        for ticket, _ in done:
            del self._open[ticket]
        counts = {"asked": 10, "counted": 5, "model": "m"} | self.reply
        return [
            (ticket, EngineError("no") if text == "bad" else Reply(f"re: {text}", **counts))
            for ticket, text in done
        ]

    def cancel(self, ticket: int) -> None:
        self.canceled.append(ticket)
        self._open.pop(ticket, None)

    @property
    def busy(self) -> int:
        return len(self._open)

    def identity(self) -> dict:
        return {"engine": self.name}

    def usage(self) -> dict:
        return {"steps": 3}

    def close(self) -> None:
        self.closed = True


REQUEST = Request(user("2 + 2?"), Sampling(), key=("cot", 0, "p/1", 1), role="solver")


def ask(engine: Engine, request: Request = REQUEST) -> Reply | EngineError:
    ticket = engine.submit(request)
    [(done, result)] = engine.poll()
    assert done == ticket
    assert engine.busy == 0
    return result
