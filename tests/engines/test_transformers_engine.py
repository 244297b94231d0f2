"""The engine against plain forward passes and plain `generate`."""

from typing import Any

import pytest
import torch
from answering import answer
from tiny import SCRATCH

from slm_math.engines.base import EngineError, ModelError, Request
from slm_math.engines.sampling import sample_freely, sample_tokens, uniforms
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.chat import ChatFormat
from slm_math.types import Reply, Sampling, user


@pytest.fixture(scope="module")
def model(chat: ChatFormat) -> Any:
    model = SCRATCH.model(chat.tokenizer).eval()
    for parameter in model.parameters():  # spread the logits, so that greedy choices are clear
        parameter.data *= 2.5 if parameter.ndim == 2 else 1
    return model


def requests(n: int, **sampling: Any) -> list[Request]:
    """Prompts of many lengths, some of them equal, with budgets of many lengths."""
    return [
        Request(
            user("Mina has beads. " * (1 + i % 5)),
            Sampling(max_new_tokens=3 + i * 7 % 23, **sampling),
            key=(0, i),
        )
        for i in range(n)
    ]


def test_logprobs_are_those_of_a_plain_forward_pass(model: Any, chat: ChatFormat) -> None:
    for reply in answer(TransformersEngine(model, chat, slots=4), requests(13)):
        ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
        plain = model(ids).logits[0].log_softmax(-1)
        start = len(reply.prompt_ids) - 1
        want = plain[torch.arange(start, ids.shape[1] - 1), ids[0, start + 1 :]]
        assert torch.allclose(torch.tensor(reply.logprobs), want, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_end_the_run(
    chat: ChatFormat, temperature: float, value: float
) -> None:
    broken = SCRATCH.model(chat.tokenizer).eval()
    broken.config.name_or_path = "some/model"
    head = broken.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    head.weight.data[7, :] = value
    engine = TransformersEngine(broken, chat)
    engine.submit(Request(user("x"), Sampling(temperature, max_new_tokens=4), key=(1,)))
    with pytest.raises(ModelError, match=r"some/model computes logits .* in float32"):
        engine.poll(60)


def test_greedy_equals_generate(model: Any, chat: ChatFormat) -> None:
    for reply in answer(TransformersEngine(model, chat, slots=5), requests(11, temperature=0.0)):
        ids = torch.tensor([reply.prompt_ids])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=len(reply.token_ids),
        )
        assert tuple(out[0, ids.shape[1] :].tolist()) == reply.token_ids


def test_samples_do_not_depend_on_slots_or_company(model: Any, chat: ChatFormat) -> None:
    alone = [
        answer(TransformersEngine(model, chat, slots=1), [request])[0].token_ids
        for request in requests(9)
    ]
    together = [
        reply.token_ids
        for reply in answer(TransformersEngine(model, chat, slots=3), requests(9)[::-1])
    ][::-1]
    assert alone == together


def test_temperature_is_in_the_logprobs(model: Any, chat: ChatFormat) -> None:
    [reply] = answer(
        TransformersEngine(model, chat),
        [Request(user("x"), Sampling(0.5, max_new_tokens=4), key=(1,))],
    )
    ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
    plain = (model(ids).logits[0] / 0.5).log_softmax(-1)
    assert reply.logprobs[0] == pytest.approx(
        plain[len(reply.prompt_ids) - 1, reply.token_ids[0]].item(), abs=1e-5
    )


def test_every_eos_of_the_config_ends_a_reply(model: Any, chat: ChatFormat) -> None:
    request = requests(1, temperature=0.0)[0]
    [long] = answer(
        TransformersEngine(model, chat), [Request(request.chat, Sampling(0.0, max_new_tokens=9))]
    )
    assert long.finish == "length"
    model.generation_config.eos_token_id = [chat.tokenizer.eos_token_id, long.token_ids[4]]
    try:
        [short] = answer(
            TransformersEngine(model, chat),
            [Request(request.chat, Sampling(0.0, max_new_tokens=9))],
        )
    finally:
        model.generation_config.eos_token_id = chat.tokenizer.eos_token_id
    first = long.token_ids.index(long.token_ids[4])
    assert short.finish == "stop"
    assert short.token_ids == long.token_ids[: first + 1]


def test_stop_string_ends_a_reply_with_whole_tokens(model: Any, chat: ChatFormat) -> None:
    plain = Request(user("x"), Sampling(0.0, max_new_tokens=20))
    [long] = answer(TransformersEngine(model, chat), [plain])
    stop = long.text[5:8]
    [short] = answer(
        TransformersEngine(model, chat),
        [Request(plain.chat, Sampling(0.0, max_new_tokens=20, stop=(stop,)))],
    )
    assert short.finish == "stop"
    assert stop in short.text
    assert long.token_ids[: len(short.token_ids)] == short.token_ids
    assert stop not in chat.tokenizer.decode(short.token_ids[:-1])


def test_not_first_bans_a_first_token_only(model: Any, chat: ChatFormat) -> None:
    [free] = answer(
        TransformersEngine(model, chat), [Request(user("x"), Sampling(0.0, max_new_tokens=3))]
    )
    word = chat.tokenizer.decode([free.token_ids[0]])
    banned = Sampling(0.0, max_new_tokens=3, not_first=(word,))
    [other] = answer(TransformersEngine(model, chat), [Request(user("x"), banned)])
    assert other.token_ids[0] != free.token_ids[0]


def test_prompt_longer_than_the_context_is_that_requests_error(
    model: Any, chat: ChatFormat
) -> None:
    long = Request(user("Mina has 4 beads. " * 200), Sampling(max_new_tokens=3))
    bad, good = answer(TransformersEngine(model, chat), [long, requests(1)[0]])
    assert isinstance(bad, EngineError)
    assert "512" in str(bad)
    assert isinstance(good, Reply)


def test_canceled_request_never_comes_back(model: Any, chat: ChatFormat) -> None:
    engine = TransformersEngine(model, chat, slots=2)
    tickets = [engine.submit(request) for request in requests(4)]
    seen = {ticket for ticket, _ in engine.poll()}
    victim = next(ticket for ticket in reversed(tickets) if ticket not in seen)
    engine.cancel(victim)
    while engine.busy:
        seen |= {ticket for ticket, _ in engine.poll()}
    assert seen == set(tickets) - {victim}


def test_training_mode_is_given_back(model: Any, chat: ChatFormat) -> None:
    model.train()
    answer(TransformersEngine(model, chat), requests(1))
    assert model.training
    model.eval()


def test_uniforms_depend_on_the_key_alone() -> None:
    assert (uniforms((0, "a", 1), 5) == uniforms((0, "a", 1), 9)[:5]).all()
    assert (uniforms((0, "a", 1), 5) != uniforms((0, "a", 2), 5)).any()


@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.6, 0), (1.0, 2), (0.95, 3)])
def test_sampling_frequencies(top_p: float, top_k: int) -> None:
    """Frequencies over a fine grid of uniforms equal the truncated, renormalized distribution."""
    probs = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
    n = 4000
    logits = probs.log().expand(n, 5)
    grid = (torch.arange(n) + 0.5) / n
    tokens, logps, _ = sample_tokens(
        logits,
        torch.ones(n),
        torch.full((n,), top_p),
        torch.full((n,), top_k),
        torch.zeros(n),
        grid,
    )
    kept = probs.clone()
    order = probs.argsort(descending=True)
    if top_k:
        kept[order[top_k:]] = 0
    kept = kept / kept.sum()
    before = torch.zeros(5)
    before[order] = kept[order].cumsum(0) - kept[order]
    kept[before >= top_p] = 0
    got = torch.bincount(tokens, minlength=5) / n
    assert torch.allclose(got, kept / kept.sum(), atol=2 / n)
    assert torch.allclose(logps, probs.log().expand(n, 5), atol=1e-6)


@pytest.mark.parametrize("size", [1, 64, 130, 1000])
def test_a_token_is_where_the_cumulative_sum_passes_the_draw(size: int) -> None:
    """And never one of probability 0, at whatever end of a block of tokens it stands."""
    draws = torch.Generator().manual_seed(size)
    probs = torch.rand(size, generator=draws) * (torch.rand(size, generator=draws) < 0.3)
    probs[size // 2] = 1.0
    probs /= probs.sum()
    n = 2000
    uniform = torch.cat([torch.rand(n - 2, generator=draws), torch.tensor([0.0, 1 - 2**-24])])
    tokens, logps = sample_freely(probs.log().expand(n, size), None, uniform)
    assert (probs[tokens] > 0).all()
    assert torch.allclose(logps, probs[tokens].log(), atol=1e-5)
    after = probs.double().cumsum(0)[tokens]
    assert (uniform <= after + 1e-6).all()
    assert (uniform >= after - probs[tokens] - 1e-6).all()
