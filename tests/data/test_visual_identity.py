"""The same text about another image is another problem: in splits, mixtures, overlap, shots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image as Pillow

from slm_math.agents import SingleShot
from slm_math.answers.graded import grade_trace
from slm_math.data import Chats, CoT, Mixture
from slm_math.data.attempts import problem_of
from slm_math.data.base import Source, Split, read_dialogues, read_tasks
from slm_math.data.chat_data import ChatData
from slm_math.data.chats import write_chats
from slm_math.data.identity import problem_key, question_key
from slm_math.data.overlap import near_exact
from slm_math.data.problem_data import ProblemData
from slm_math.data.published import is_held_out, split_by_problem, split_part
from slm_math.data.templates import same_template
from slm_math.evaluation.shots import with_shots
from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.records.encoding import from_json, json_line
from slm_math.records.files import data_hash
from slm_math.records.record import record
from slm_math.types import Image, Problem, Task, Text, Trace, assistant, user

LONG = "In the figure the segment from the left corner to the right corner is a diameter. Find x."


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    for n in range(60):
        Pillow.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / f"{n}.png")
    return [Image(str(tmp_path / f"{n}.png")) for n in range(60)]


def tasks_about(images: Sequence[Image], text: str = "Find x.", start: int = 0) -> list[Task]:
    return [
        Task(Problem(f"p/{n}", text, "mc", ("1", "2"), (image,)), "A", "It is 1.\n#### A")
        for n, image in enumerate(images, start)
    ]


class Fixed(Source):
    """A data set of these tasks."""

    name = "fixed"

    def __init__(self, train: list[Task], test: list[Task]) -> None:
        self.splits = {"train": train, "validation": [], "test": test}

    def tasks(self, split: Split) -> list[Task]:
        return self.splits[split]


def test_images_decide_what_is_held_out(images: list[Image]) -> None:
    tasks = tasks_about(images)
    held = split_part(tasks, "validation", 0.3)
    assert 8 <= len(held) <= 28
    assert len(held) + len(split_part(tasks, "train", 0.3)) == 60
    other_text = tasks_about([task.problem.images[0] for task in held], "How long is y?")
    assert split_part(other_text, "validation", 0.3) == other_text


def test_a_text_without_images_is_held_out_as_before() -> None:
    held = [n for n in range(40) if is_held_out(Problem("", f"What is {n} + 1?"), 0.2)]
    assert held == [4, 6, 7, 10, 26, 32, 33]


def test_a_test_problem_is_one_with_its_images(images: list[Image]) -> None:
    one, other = (task.problem for task in tasks_about(images[:2]))
    splits = split_by_problem([(one, "train"), (one, "test"), (other, "train")], 0)
    assert [splits[question_key(one)], splits[question_key(other)]] == ["test", "train"]


def test_all_questions_about_the_image_of_a_test_problem_are_test_problems(
    images: list[Image],
) -> None:
    one, other = (task.problem for task in tasks_about(images[:2]))
    more = replace(one, text="What else?")
    met: list[tuple[Problem, Split]] = [(more, "train"), (other, "train"), (one, "test")]
    for order in (met, met[::-1]):
        splits = split_by_problem(order, 0)
        assert [splits[question_key(p)] for p in (more, other, one)] == ["test", "train", "test"]


def test_a_mixture_takes_only_what_is_the_same(images: list[Image]) -> None:
    first = Fixed(tasks_about(images[:3]), tasks_about(images[3:4], start=3))
    second = Fixed(tasks_about(images[1:6]), [])
    mixture = Mixture({"first": first, "second": second})
    trained = [task.problem.images[0] for task in read_tasks(mixture, "train", graded=False)]
    assert trained == [*images[:3], *images[4:6]]  # once each; the fourth is a test problem


def test_a_mixture_trains_on_no_scene_that_a_part_tests(images: list[Image]) -> None:
    tested = Fixed(tasks_about(images[:1]), tasks_about(images[1:2], start=1))
    other = Fixed(tasks_about(images[1:3], "How long is y?", start=2), [])
    for mixture in (Mixture({"a": tested, "b": other}), Mixture({"b": other, "a": tested})):
        trained = {task.problem.images[0] for task in read_tasks(mixture, "train", graded=False)}
        assert trained == {images[0], images[2]}
        assert mixture.about("train").endswith("1 of b")


def test_overlap_and_templates_compare_images(images: list[Image]) -> None:
    problems = [task.problem for task in tasks_about(images[:3], LONG)]
    assert near_exact(problems[:2], problems[1:]) == {0: 1}
    assert [match.test for match in same_template(problems[:2], problems[1:])] == [0]


def test_an_example_shows_no_image_of_a_problem(images: list[Image]) -> None:
    tasks = tasks_about(images[:1])
    source = Fixed(tasks_about(images[:1], "How long is y?") + tasks_about(images[1:3]), tasks)
    agent = with_shots(SingleShot(), 2, source, tasks)
    shown = {task.problem.images[0] for task in agent.examples}  # type: ignore[attr-defined]
    assert shown == set(images[1:3])
    with pytest.raises(ValueError, match="only 2 worked"):
        with_shots(SingleShot(), 3, source, tasks)


def test_a_hash_of_data_sees_images(images: list[Image]) -> None:
    one, other = tasks_about(images[:1]), tasks_about(images[1:2])
    assert data_hash(one) != data_hash(other)


def test_chats_are_held_out_by_their_images(images: list[Image], tmp_path: Path) -> None:
    chats = [user("Find x.", [image]) + assistant(Text("It is 1.")) for image in images]
    write_chats(chats, tmp_path / "chats.jsonl")
    source = Chats(str(tmp_path / "chats.jsonl"), validation=0.3)
    counts = [len(read_dialogues(source, split, "solve")) for split in ("train", "validation")]  # type: ignore[arg-type]
    assert sum(counts) == 60
    assert 8 <= counts[1] <= 28


def test_a_dialogue_with_a_missing_image_is_named(tmp_path: Path) -> None:
    chat = user("Find x.", [Image("no.png")]) + assistant(Text("It is 1."))
    write_chats([chat], tmp_path / "chats.jsonl")
    with pytest.raises(ValueError, match=r"dialogue 0: cannot read the image no\.png"):
        read_dialogues(Chats(str(tmp_path / "chats.jsonl"), validation=0), "train", "solve")


def test_worked_solutions_keep_choices_and_images(images: list[Image], tmp_path: Path) -> None:
    row = {"question": "Find x.", "ground_truth": "B", "solution": "It is 2, so \\boxed{B}."}
    row |= {"answer_type": "mc", "choices": ["1", "2"], "images": [images[0].source]}  # type: ignore[dict-item]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    [task] = read_tasks(CoT(str(tmp_path / "rows.jsonl"), validation=0), "train")
    assert problem_key(task.problem) == problem_key(
        Problem("", "Find x.", "mc", ("1", "2"), (images[0],))
    )


def test_records_of_one_text_are_told_apart_after_their_images_are_gone(
    images: list[Image],
) -> None:
    tasks = tasks_about(images[:2])
    graded = [grade_trace(task, Trace(task.problem, 0, (), None)) for task in tasks]
    records = [from_json(json.loads(json_line(record(each)))) for each in graded]
    keys = [problem_key(task.problem) for task in tasks]
    for image in images:
        Path(image.source).unlink()
    hashes = [[image.hash for image in each.images] for each in records]
    assert [problem_key(problem_of(r), own) for r, own in zip(records, hashes)] == keys
    assert keys[0] != keys[1]


def test_a_policy_with_eyes_and_data_without_images(
    images: list[Image], capsys: pytest.CaptureFixture[str]
) -> None:
    chat = ChatFormat(Scratch().tokenizer())
    chat.sight = SimpleNamespace()  # type: ignore[assignment]
    policy = SimpleNamespace(context=lambda: None)
    module = SimpleNamespace(chat=chat, policy=policy, train_roles=("solver",))
    text = Task(Problem("p", "What is 1 + 1?"), "2", "It is 2.")
    said = "fixed/train has no images, and the policy has eyes: it is trained as a model of text\n"
    for data in (ProblemData(Fixed([text], [])), ChatData(Fixed([text], []))):
        data.trainer = SimpleNamespace(lightning_module=module, is_global_zero=True)  # type: ignore
        data.setup("fit")
        assert capsys.readouterr().out == said
    seen = ProblemData(Fixed([text, *tasks_about(images[:1])], []))
    seen.trainer = data.trainer  # type: ignore
    seen.setup("fit")
    assert capsys.readouterr().out == ""
