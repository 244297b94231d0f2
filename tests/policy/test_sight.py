"""Images in the network: what is sampled is what is trained on, for every family with eyes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from seeing import FAMILIES, ask, drawing, drawings, engine_of, model_of, trace_of

from slm_math.data.rows import Row
from slm_math.policy.batches import collate
from slm_math.policy.chat import ChatFormat
from slm_math.policy.loaded import LoadedPolicy
from slm_math.rollout.rows import trace_rows
from slm_math.types import Chat, Image, Reply, assistant, user


@pytest.fixture(scope="module", params=FAMILIES)
def seeing(request: pytest.FixtureRequest) -> tuple[Any, ChatFormat]:
    torch.set_num_threads(1)
    return model_of(request.param)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    return drawings(tmp_path_factory.mktemp("drawings"))


def chats_of(images: list[Image]) -> list[Chat]:
    """One image, another size, text only, two images, a tiny one."""
    a, b, c, d = images
    return [user("Go", [a]), user("Go on", [b]), user("Go"), user("Both", [d, a]), user("Go", [c])]


def rows_of(chats: list[Chat], replies: list[Reply]) -> list[Row]:
    return [trace_rows(trace_of(pair), "solver")[0] for pair in zip(chats, replies)]


def gap(model: Any, rows: list[Row]) -> float:
    """nats between sampled and teacher-forced log-probabilities."""
    batch = collate(rows)
    logprobs = LoadedPolicy(model, {}).logprobs(batch)[0]
    assert len(logprobs) == sum(sum(row.mask) for row in rows)
    return (logprobs - batch.sampling).abs().max().item()


def test_teacher_forced_log_probabilities_are_the_sampled_ones(
    seeing: tuple[Any, ChatFormat], images: list[Image]
) -> None:
    model, chat = seeing
    chats = chats_of(images) * 3
    # rows leave and join: 15 requests, 6 slots
    replies = ask(engine_of(model, chat, slots=6), chats)
    rows = rows_of(chats, replies)
    assert gap(model, rows) < 1e-5
    assert gap(model, rows[::-1]) < 1e-5
    assert max(gap(model, [row]) for row in rows) < 1e-5
    assert [row.ids.count(chat.sight.placeholder_id) for row in rows[:5]] == [1, 1, 0, 2, 1]
    # the image matters: another one in its place is noticed
    other = [Row(**{**vars_of(rows[0]), "images": (images[1],)})]
    assert gap(model, other) > 1e-2


def vars_of(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__dataclass_fields__}


def test_plain_forward_pass_of_transformers_computes_the_same(
    seeing: tuple[Any, ChatFormat], images: list[Image]
) -> None:
    """Placeholders, positions and features against what the model makes of pixels by itself."""
    model, chat = seeing
    own = chats_of(images)[3]
    [reply] = ask(engine_of(model, chat), [own])
    [row] = rows_of([own], [reply])
    seen = chat.sight.seen([row.ids], [row.images])
    inputs = chat.sight.view.inputs([chat.sight.look(i) for i in row.images], seen.ids)
    if "image_grid_thw" in inputs:
        positions, _ = model.model.get_rope_index(seen.ids, **inputs)
        assert torch.equal(positions, seen.positions)
    with torch.no_grad():
        logits = model(input_ids=seen.ids, **inputs).logits[0]
    logits[:, list(chat.sight.banned)] = -torch.inf
    logps = logits.log_softmax(-1)
    start = len(seen.ids[0]) - len(reply.token_ids)
    want = [logps[start + n - 1, token].item() for n, token in enumerate(reply.token_ids)]
    assert max(abs(a - b) for a, b in zip(want, reply.logprobs)) < 1e-5


def test_second_turn_with_a_new_image_is_one_row(
    seeing: tuple[Any, ChatFormat], images: list[Image]
) -> None:
    model, chat = seeing
    engine = engine_of(model, chat)
    first = user("Look", [images[0]])
    [one] = ask(engine, [first])
    second = (*first, *assistant(one), *user("And now?", [images[1]]))
    [two] = ask(engine, [second])
    rows = trace_rows(trace_of((first, one), (second, two)), "solver")
    assert [row.images for row in rows] == [(images[0], images[1])]
    assert gap(model, rows) < 1e-5


def test_each_image_goes_through_the_tower_once_and_samples_share_it(
    seeing: tuple[Any, ChatFormat], images: list[Image]
) -> None:
    model, chat = seeing
    a, b = images[:2]
    chats = [user("Go", [a]), user("Go", [b]), user("No", [a])] * 4
    model.requires_grad_(True)
    with torch.no_grad():  # other weights: nothing is remembered
        next(model.model.parameters()).add_(0.0)
        next(p for n, p in model.named_parameters() if "visi" in n or "visual" in n).add_(0.0)
    before = chat.sight.encoded
    engine = engine_of(model, chat)
    replies = ask(engine, chats)
    assert chat.sight.encoded == before + 2
    assert engine.prefills == 1
    batch = collate(rows_of(chats, replies))
    LoadedPolicy(model, {}).logprobs(batch)[0].sum().backward()
    assert chat.sight.encoded == before + 4  # with gradients: a pass of its own
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused(missing) == []
    model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("foreach", [True, False])
def test_step_of_an_optimizer_renews_features(foreach: bool, images: list[Image]) -> None:
    model, chat = model_of("qwen2_vl")
    model.requires_grad_(True)

    def features() -> torch.Tensor:
        with torch.no_grad():
            return chat.sight.features(model, [images[:1]])[0]

    before = features()
    assert torch.equal(features(), before)
    assert chat.sight.encoded == 1
    chat.sight.features(model, [images[:1]])[0].sum().backward()
    torch.optim.AdamW(model.parameters(), lr=0.1, foreach=foreach).step()
    assert not torch.equal(features(), before)
    assert chat.sight.encoded == 3


def test_two_names_of_an_image_share_a_prefill(images: list[Image], tmp_path: Path) -> None:
    model, chat = model_of("qwen2_vl")
    twin = shutil.copy(images[0].source, tmp_path / "twin.png")
    chats = [user("Go", [images[0]]), user("Go", [Image(str(twin))]), user("Go", [images[3]])]
    rows: list[int] = []
    engine = engine_of(model, chat)
    forward = engine._forward
    engine._forward = lambda ids, *more, **options: (
        rows.append(len(ids)) or forward(ids, *more, **options)
    )
    one, other, _ = ask(engine, chats, temperature=0.0)
    assert rows[0] == 2
    assert one.token_ids == other.token_ids[: len(one.token_ids)]
    assert one.prompt == other.prompt


def unused(missing: list[str]) -> list[str]:
    """Without the last layer norm of a tower that nothing reads, if a family has one."""
    return [name for name in missing if "post_layernorm" not in name]


def test_images_of_other_problems_share_nothing(
    seeing: tuple[Any, ChatFormat], images: list[Image], tmp_path: Path
) -> None:
    model, chat = seeing
    twin = drawing(tmp_path, "twin", (84, 84), 77)  # as large as the first
    one, other = user("Go", [images[0]]), user("Go", [twin])
    assert chat.encode(one) == chat.encode(other)
    assert chat.prompt(one)[1] != chat.prompt(other)[1]
    replies = ask(engine_of(model, chat), [one, other], temperature=1.0)
    alone = [ask(engine_of(model, chat), [each])[0] for each in (one, other)]
    close = pytest.approx(alone[0].logprobs, abs=1e-5)
    assert replies[0].logprobs == close
    assert replies[1].logprobs[0] != pytest.approx(alone[0].logprobs[0], abs=1e-3)


def test_image_tokens_are_never_sampled(
    seeing: tuple[Any, ChatFormat], images: list[Image]
) -> None:
    model, chat = seeing
    banned = set(chat.sight.banned)
    assert chat.sight.placeholder_id in banned
    replies = ask(engine_of(model, chat), [user("Go", [images[0]])] * 20, 12, temperature=50.0)
    assert not banned & {token for reply in replies for token in reply.token_ids}
