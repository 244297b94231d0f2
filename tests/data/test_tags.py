"""Measured tags: where they come from, and what they choose."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import SCRATCH

from slm_math.data import Mixture, Source, Split
from slm_math.data.batches import Batches, ItemBatch, weighted_draws
from slm_math.data.chat_data import ChatData
from slm_math.data.identity import problem_key
from slm_math.data.problem_data import ProblemData
from slm_math.data.rows import Row
from slm_math.data.selection import Selected, tasks_where
from slm_math.data.tags import filled, pass_rates, read_tags, tag_lines, variances
from slm_math.policy.chat import ChatFormat
from slm_math.records.record import Record, recorded_images
from slm_math.types import Chat, Image, Problem, Task

RATES = (0.0, 0.25, 0.5, 1.0)


def task(i: int, split: str = "train", **tags: str) -> Task:
    problem = Problem(f"mine/{split}/{i}", f"In {split}, what is {i} + 1?", tags=tags)
    return Task(problem, str(i + 1), f"It is \\boxed{{{i + 1}}}.")


class Mine(Source):
    name = "mine"

    def tasks(self, split: Split) -> list[Task]:
        return [task(i, split, level=str(i % 2)) for i in range(len(RATES) + 1)]


class Other(Mine):
    """Problems without tags, of which every second one is worked."""

    name = "other"

    def tasks(self, split: Split) -> list[Task]:
        return [
            Task(Problem(f"other/{split}/{i}", f"In {split}, what is {i} * 9?"), str(9 * i), worked)
            for i, worked in enumerate([None, "It is \\boxed{9}."] * 3)
        ]


class Talk(Mine):
    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        return []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The pass rates of all training problems but the last."""
    path = tmp_path / "tags.jsonl"
    rows = [
        {"id": "other", "key": problem_key(each.problem), "pass_rate": rate, "n": 4}
        for each, rate in zip(Mine().tasks("train"), RATES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbers(tasks: list[Task]) -> list[int]:
    return [int(task.gold) - 1 for task in tasks]


def test_a_range_has_both_ends_and_leaves_out_what_has_no_tag(file: Path) -> None:
    chosen = Selected(Mine(), str(file), {"pass_rate": [0.25, 1]})
    assert numbers(chosen.tasks("train")) == [1, 2, 3]
    assert numbers(chosen.tasks("validation")) == [0, 1, 2, 3, 4]
    assert chosen.untagged("train") == 1


def test_other_tags_are_values_as_before(file: Path) -> None:
    chosen = Selected(Mine(), str(file), {"level": 1, "pass_rate": [0, 0.9]})
    assert numbers(chosen.tasks("train")) == [1]


@pytest.mark.parametrize("wanted", [0.5, [0.9, 0.1], [0.1], ["a", "b"], [0.1, 0.2, 0.3]])
def test_a_range_that_is_none(wanted: Any, file: Path) -> None:
    tasks = read_tags(file).put(Mine().tasks("train"))
    with pytest.raises(ValueError, match="takes a range"):
        tasks_where(tasks, {"pass_rate": wanted}, ["pass_rate"])


def test_worked_solutions_are_chosen_by_their_problems(file: Path) -> None:
    chosen = Selected(Mine(), str(file), {"pass_rate": [0.1, 0.6]})
    texts = [chat[1].text for chat in chosen.dialogues("train")]
    assert texts == ["It is \\boxed{2}.", "It is \\boxed{3}."]


def test_dialogues_that_name_no_problem_are_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="mine has dialogues of its own"):
        Selected(Talk(), str(file), {"pass_rate": [0, 1]}).dialogues("train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "key": "b", "pass_rate": "0.5"}', "line 1: field 'pass_rate' must be a num"),
        ('{"id": "a", "key": "b", "pass_rate": 2}', "between 0 and 1"),
        ('{"id": "a", "pass_rate": 1}', "field 'key' is missing"),
        ("", "holds no tags"),
    ],
)
def test_malformed_tags(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tags.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        read_tags(tmp_path / "tags.jsonl")


def test_tags_of_other_problems_are_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="none of the 5 problems has a tag"):
        read_tags(file).put(Mine().tasks("test"))


def test_weights_are_the_variance_of_a_reward(file: Path) -> None:
    rates = pass_rates(read_tags(file).put(Mine().tasks("train")))
    assert rates == [*RATES, None]
    known = [0.0, 0.1875, 0.25, 0.0]
    assert variances(rates) == [*known, sum(known) / 4]
    assert filled(rates)[-1] == sum(RATES) / 4


def test_draws_follow_the_weights_and_keep_apart() -> None:
    import random

    weights = [0.0, 0.1, 0.2] * 40
    drawn = weighted_draws(weights, 6000, apart=4, draw=random.Random(0))
    shares = [sum(index % 3 == kind for index in drawn) / 6000 for kind in range(3)]
    assert shares[0] == 0
    assert abs(shares[2] - 2 / 3) < 0.03
    assert all(len(set(drawn[i : i + 4])) == 4 for i in range(5997))


@pytest.mark.parametrize("options", [{"weights": [0.1, 0.2, 0.25] * 8}, {"ranking": [1, 2, 3] * 8}])
def test_these_orders_resume_in_the_middle(options: dict[str, Any]) -> None:
    straight = Batches(range(24), 4, seed=1, **options)
    for _ in range(8):
        straight.draw()
    resumed = Batches(range(24), 4, seed=1, **options)
    resumed.load_state_dict(straight.state_dict())
    rest = [[loader.draw().items for _ in range(5)] for loader in (straight, resumed)]
    assert rest[0] == rest[1]


def test_a_curriculum_ascends_in_every_epoch_and_shuffles_equals() -> None:
    loader = Batches(range(12), 4, ranking=[i // 4 for i in range(12)])
    epochs = [[sorted(batch.items) for batch in loader] for _ in range(2)]
    assert epochs == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]] * 2


def test_what_cannot_be_drawn_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="only 1 of 3 problems are drawn at all"):
        Batches(range(3), 2, weights=[0, 0.1, 0])
    with pytest.raises(ValueError, match=r"data\.draw by_difficulty needs pass rates"):
        ProblemData(Mine(), draw="by_difficulty")


def test_data_modules_train_on_what_is_selected(file: Path) -> None:
    data = ProblemData(Mine(), tags=str(file), where={"pass_rate": [0.2, 0.8]})
    data.setup("fit")
    assert numbers(data.tasks) == [1, 2]
    data.setup("validate")
    assert numbers(data.tasks) == [0, 1, 2, 3, 4]
    chats = ChatData(Mine(), tags=str(file), where={"pass_rate": [0.2, 0.8]})
    assert len(chats.training_source.dialogues("train")) == 2


def test_a_mixture_is_selected_from_as_a_whole(file: Path) -> None:
    mixture = Mixture({"mine": Mine(), "other": Other()})
    chosen = Selected(mixture, str(file), {"pass_rate": [0.2, 0.8]})
    dialogues = {name: part.dialogues("train") for name, part in chosen.parts().items()}
    assert [chat[-1].text for chat in dialogues["mine"]] == [
        "It is \\boxed{2}.",
        "It is \\boxed{3}.",
    ]
    assert dialogues["other"] == []
    assert chosen.dialogues("train") == dialogues["mine"]
    assert len(chosen.parts()["other"].tasks("validation")) == 6
    with pytest.raises(ValueError, match="mine has dialogues of its own"):
        Selected(Mixture({"talk": Talk(), "other": Other()}), str(file)).dialogues("train")


def chats_to_train_on(source: Source, **options: Any) -> ChatData:
    """Chats as a trainer sets them up."""
    module = SimpleNamespace(
        chat=ChatFormat(SCRATCH.tokenizer()),
        train_roles=("solver",),
        policy=SimpleNamespace(context=lambda: None),
    )
    data = ChatData(source, **options)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=module,
        is_global_zero=True,
        global_rank=0,
        world_size=1,
        overfit_batches=0,
    )
    data.setup("fit")
    return data


def answers(batch: ItemBatch[Row]) -> list[int]:
    """The answers of the solutions in a batch."""
    tokenizer = SCRATCH.tokenizer()
    texts = [tokenizer.decode(row.ids) for row in batch.items]
    return [int(re.findall(r"It is \\boxed\{(\d+)\}", text)[-1]) for text in texts]


def test_rows_come_from_easy_to_hard(file: Path) -> None:
    data = chats_to_train_on(Mine(), batch_size=1, tags=str(file), draw="easy_to_hard")
    epoch = [answers(batch)[0] for batch in data.train_dataloader()]
    # 1, 0.5, the mean (of a problem without a tag), 0.25, 0
    assert epoch == [4, 3, 5, 2, 1]


def test_rows_of_a_mixture_are_drawn_by_the_pass_rates_of_their_problems(file: Path) -> None:
    mixture = Mixture({"other": Other(), "mine": Mine()})
    data = chats_to_train_on(mixture, batch_size=2, tags=str(file), draw="by_difficulty")
    # three worked solutions of problems without tags, and one of each that was measured
    assert data.rates == [None, None, None, *RATES, None]
    loader = data.train_dataloader()
    drawn = {answer for _ in range(300) for answer in answers(loader.draw())}
    assert drawn == {9, 2, 3, 5}


def test_an_order_is_decided_once(file: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.shuffle: false .* data\.draw easy_to_hard"):
        ChatData(Mine(), tags=str(file), draw="easy_to_hard", shuffle=False)
    weighted = Mixture({"mine": Mine(), "other": Other()}, weights={"mine": 1, "other": 1})
    with pytest.raises(ValueError, match="both decide how often"):
        ChatData(weighted, tags=str(file), draw="by_difficulty")


def test_a_problem_is_known_by_its_image(tmp_path: Path) -> None:
    """Two problems of one text have each its own rate, also after the first image moved."""
    images = []
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
        images.append(Image(str(tmp_path / name)))
    problems = [Problem(image.source, "Area?", images=(image,)) for image in images]
    records = [
        Record(
            each.id,
            0,
            problem="Area?",
            images=recorded_images(each.images),
            correct=each is problems[0],
        )
        for each in problems
    ]
    (tmp_path / "a").rename(tmp_path / "moved")
    (tmp_path / "tags.jsonl").write_text("".join(f"{line}\n" for line in tag_lines(records)))
    found = read_tags(tmp_path / "tags.jsonl")
    moved = Problem("else", "Area?", images=(Image(str(tmp_path / "moved")),))
    assert (found.of(moved)["pass_rate"], found.of(problems[1])["pass_rate"]) == (1.0, 0.0)
