"""What an engine is asked and what it answers: tokens, log-probabilities, ends, prompts,
cancellation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from slm_math.engines.base import ContextFull, Request
from slm_math.types import Reply, Sampling, Text, assistant, user
from vllm_checks.subject import CONTEXT, NATS, Measurement, Subject, gap, plain, requests


def greedy(s: Subject) -> Iterator[Measurement]:
    asked = requests(12, temperature=0.0)
    replies = s.answers(asked)
    unlike = [
        r
        for a, r in zip(asked, replies)
        if r.token_ids != s.greedy(r.prompt_ids, a.sampling.max_new_tokens)
    ]
    yield Measurement("greedy replies unlike `generate`, of 12", len(unlike), most=0)
    yield Measurement(
        "greedy: log-probabilities, max |d| (nats)", gap(s.model, *replies), most=NATS
    )


def logprobs(s: Subject) -> Iterator[Measurement]:
    asked = [*requests(16), *requests(16, 1, temperature=0.7), *requests(4, temperature=0.0)]
    replies = s.answers(asked)
    yield Measurement(
        "temperature 1: log-probabilities, max |d| (nats)", gap(s.model, *replies[:16]), most=NATS
    )
    yield Measurement(
        "temperature 0.7: log-probabilities, max |d| (nats)",
        gap(s.model, *replies[16:32]),
        most=NATS,
    )
    yield Measurement(
        "greedy among sampled: log-probabilities, max |d| (nats)",
        gap(s.model, *replies[32:]),
        most=NATS,
    )


def samples(s: Subject) -> Iterator[Measurement]:
    asked = [Request(user("x"), Sampling(max_new_tokens=12), key=(7, i)) for i in range(8)]
    together = [reply.token_ids for reply in s.answers(asked)]
    alone = [s.answers([request])[0].token_ids for request in asked]
    others = s.answers([*requests(5), *asked[::-1]])[5:]
    yield Measurement("different replies among 8 samples of a prompt", len(set(together)), least=7)
    unlike = sum(a != b for a, b in zip(together, alone)) + sum(
        a != b.token_ids for a, b in zip(together, reversed(others))
    )
    yield Measurement("samples that depend on company or order, of 16", unlike, most=0)


def distribution(s: Subject) -> Iterator[Measurement]:
    n, temperature = 400, 0.5
    one = Sampling(temperature, max_new_tokens=1)
    replies = s.answers([Request(user("x"), one, key=(8, i)) for i in range(n)])
    expected = n * plain(s.model, replies[0])[0].exp().double()
    counts = torch.bincount(
        torch.tensor([reply.token_ids[0] for reply in replies]), minlength=len(expected)
    ).double()
    bins, want, got = [], 0.0, 0.0
    for token in expected.argsort().tolist():  # rare tokens share a bin of at least 5
        want, got = want + expected[token].item(), got + counts[token].item()
        if want >= 5:
            bins.append((want, got))
            want, got = 0.0, 0.0
    bins[-1] = bins[-1][0] + want, bins[-1][1] + got
    chi = sum((got - want) ** 2 / want for want, got in bins)
    p = torch.special.gammaincc(torch.tensor((len(bins) - 1) / 2), torch.tensor(chi / 2)).item()
    yield Measurement(f"first tokens of {n} samples against the softmax: p", p, least=1e-4)
    yield Measurement("bins of that test", len(bins), least=5)


def stops(s: Subject) -> Iterator[Measurement]:
    """Stop strings inside a token, and stop strings that span two tokens."""
    cases: dict[str, list[tuple[Request, tuple[int, ...]]]] = {"inside": [], "across": []}
    for request in requests(20, temperature=0.0, max_new_tokens=24):
        chat = user(f"{request.chat[0].text} {len(cases['across'])}{request.key[1]}")
        tokens = s.greedy(s.chat.encode(chat), 24)
        before = [s.chat.text(tokens[:k]) for k in range(len(tokens) + 1)]
        for k in range(1, len(tokens) - 1):
            one, two = before[k][len(before[k - 1]) :], before[k + 1][len(before[k]) :]
            stops = {"inside": two[:-1], "across": one[-1:] + two}
            for kind, stop in stops.items():
                fits = len(one) > 0 and len(two) > 1 and stop.isascii() and stop.isprintable()
                if fits and stop not in before[k] and len(cases[kind]) < 4:
                    asked = Sampling(0.0, max_new_tokens=24, stop=("never said", stop))
                    cases[kind].append((Request(chat, asked), tokens[: k + 1]))
    for kind, asked in cases.items():
        wrong = 0
        for (request, tokens), reply in zip(asked, s.answers([request for request, _ in asked])):
            stop = request.sampling.stop[1]
            text_agrees = reply.text == s.chat.text(tokens) and (
                reply.text.endswith(stop) or kind == "inside"
            )
            wrong += not (reply.token_ids == tokens and reply.finish == "stop" and text_agrees)
        yield Measurement(f"stop strings {kind} tokens: replies with another end", wrong, most=0)
        yield Measurement(f"stop strings {kind} tokens: tried", len(asked), least=2)


def ends(s: Subject) -> Iterator[Measurement]:
    named = s.model.generation_config.eos_token_id
    replies = s.answers([Request(chat, Sampling(0.0, max_new_tokens=40)) for chat in s.ending])
    reached = {reply.token_ids[-1] for reply in replies if reply.finish == "stop"}
    yield Measurement(
        "EOS ids that end a reply, of the 2 that are tried", len(reached & set(named[1:])), least=2
    )
    replies += s.answers(requests(64, 2, max_new_tokens=40))
    beyond = [r for r in replies if set(r.token_ids[:-1]) & set(named)]
    yield Measurement("replies that go on after an EOS id", len(beyond), most=0)
    odd = [r for r in replies if (r.finish == "stop") != (r.token_ids[-1] in named)]
    yield Measurement("replies with the wrong finish", len(odd), most=0)


def first(s: Subject) -> Iterator[Measurement]:
    """`not_first`: its first token cannot begin a reply, the log-probability is that among the
    others.
    """
    chats = [user(f"What is {i} + {j}?") for i in range(4) for j in range(4)]
    starts = [s.greedy(s.chat.encode(chat), 1)[0] for chat in chats]
    chat, banned = next(
        (c, t) for c, t in zip(chats, starts) if s.chat.tokens(s.tokenizer.decode([t])) == [t]
    )
    rule = Sampling(max_new_tokens=10, not_first=(s.tokenizer.decode([banned]),))
    best, *sampled = s.answers(
        [
            Request(chat, replace(rule, temperature=t), key=(9, i))
            for i, t in enumerate([0.0] + [1.0] * 24)
        ]
    )
    yield Measurement(
        "replies that begin with what not_first names",
        sum(r.token_ids[0] == banned for r in sampled),
        most=0,
    )
    second = int(plain(s.model, best)[0].index_fill(0, torch.tensor([banned]), -math.inf).argmax())
    want = (second, *s.greedy([*best.prompt_ids, second], 9))
    yield Measurement(
        "greedy reply under not_first unlike `generate`", best.token_ids != want, most=0
    )
    gaps = []
    for reply in sampled:
        rows = plain(s.model, reply)
        rows[0, banned] = -math.inf
        rows[0] = rows[0].log_softmax(-1)
        want_logps = rows.gather(1, torch.tensor(reply.token_ids)[:, None])[:, 0]
        gaps.append((want_logps - torch.tensor(reply.logprobs)).abs().max().item())
    yield Measurement("not_first: log-probabilities, max |d| (nats)", max(gaps), most=NATS)


def full(s: Subject) -> Iterator[Measurement]:
    """A prompt beyond the context is that request's error; one that nearly fills it leaves what
    room there is.
    """
    text = ""
    while len(s.chat.encode(user(text + " 7"))) < CONTEXT - 3:
        text += " 7"
    room = CONTEXT - len(s.chat.encode(user(text)))
    sampling = Sampling(0.0, max_new_tokens=30)
    bad, tight, good = s.answers(
        [Request(c, sampling) for c in (user(text * 2), user(text), user("x"))]
    )
    yield Measurement(
        "prompts beyond the context that end in ContextFull", isinstance(bad, ContextFull), least=1
    )
    ok = isinstance(tight, Reply) and tight.token_ids == s.greedy(tight.prompt_ids, room)
    yield Measurement("replies that fill the context to its last token", ok, least=1)
    yield Measurement(
        "their neighbors answered", isinstance(good, Reply) and len(good.token_ids) > 0, least=1
    )


def resume(s: Subject) -> Iterator[Measurement]:
    """An open assistant turn: sampled text, then injected text, then sampling continues."""
    injected, sampling = " So far: 12. ", Sampling(max_new_tokens=9)
    chats = [request.chat for request in requests(8)]
    begun = s.answers([Request(chat, sampling, key=(10, i)) for i, chat in enumerate(chats)])
    open_turns = [
        chat + assistant(reply, Text(injected, learn=False)) for chat, reply in zip(chats, begun)
    ]
    went_on = s.answers(
        [Request(chat, sampling, resume=True, key=(11, i)) for i, chat in enumerate(open_turns)]
    )
    more, wrong = tuple(s.tokenizer(injected, add_special_tokens=False)["input_ids"]), 0
    for one, two in zip(begun, went_on):
        own = one.token_ids[:-1] if one.token_ids[-1] == s.chat.end_id else one.token_ids
        wrong += two.prompt_ids != (*one.prompt_ids, *own, *more)
    yield Measurement("resumed prompts that do not extend the sampled ids", wrong, most=0)
    yield Measurement(
        "resumed: log-probabilities, max |d| (nats)", gap(s.model, *went_on), most=NATS
    )


def cancel(s: Subject) -> Iterator[Measurement]:
    asked = requests(8, 3, max_new_tokens=120)
    calm = [reply.token_ids for reply in s.answers(asked)]
    tickets = [s.engine.submit(request) for request in asked]
    s.engine.cancel(tickets[0])
    early = dict(s.engine.poll(0.02))
    victims = [ticket for ticket in tickets[1:] if ticket not in early][-2:]
    for ticket in victims:
        s.engine.cancel(ticket)
    results = early
    end = time.monotonic() + 60
    while s.engine.busy and time.monotonic() < end:
        results |= dict(s.engine.poll(0.5))
    results |= dict(s.engine.poll(0.2))
    gone = {tickets[0], *victims}
    yield Measurement("canceled under way, besides one that waits", len(victims), least=2)
    yield Measurement("canceled requests that come back", len(gone & results.keys()), most=0)
    others = [(t, tokens) for t, tokens in zip(tickets, calm) if t not in gone]
    unlike = sum(
        not isinstance(results.get(t), Reply) or results[t].token_ids != tokens
        for t, tokens in others
    )
    yield Measurement("others that come to harm", unlike, most=0)
    again = [reply.token_ids for reply in s.answers(asked)]
    yield Measurement(
        "requests after it that are not answered as before, of 8",
        sum(map(tuple.__ne__, again, calm)),
        most=0,
    )


CHECKS = (greedy, logprobs, samples, distribution, stops, ends, first, full, resume, cancel)
