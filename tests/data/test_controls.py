"""Data of control arms: the same problems in the same order, without what there is to learn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from evaluation.sighted import Colors

from slm_math.data.arithmetic import Arithmetic
from slm_math.data.base import Source, read_tasks
from slm_math.data.controls import BlankImages, ShuffledGold, has_images, permuted
from slm_math.images import open_image
from slm_math.types import Chat, Image

SOURCE = Arithmetic(train=200, validation=20, test=20, solve=60, code=30, check=20, drills=20)


class Worked(Arithmetic):
    """Arithmetic whose dialogues are the worked solutions of its tasks."""

    dialogues = Source.dialogues


def test_another_item_of_its_kind_each_once() -> None:
    items = list(range(100))
    found = permuted(items, [n % 3 for n in items], seed=1)
    assert sorted(found) == items
    assert all(a != b and a % 3 == b % 3 for a, b in zip(items, found))
    assert permuted(items, [n % 3 for n in items], seed=2) != found
    assert permuted(["alone"], ["kind"], seed=0) == ["alone"]


def test_golds_are_those_of_other_problems_and_all_else_is_as_it_was() -> None:
    before, after = SOURCE.tasks("train"), read_tasks(ShuffledGold(SOURCE, 3), "train")
    assert [task.problem for task in before] == [task.problem for task in after]
    assert Counter(task.gold for task in before) == Counter(task.gold for task in after)
    pairs = Counter((task.gold, task.solution) for task in before)
    assert Counter((task.gold, task.solution) for task in after) == pairs
    equal = sum(a.gold == b.gold for a, b in zip(before, after))
    assert equal < 20  # by chance


def test_held_out_problems_keep_their_golds() -> None:
    for split in ("validation", "test"):
        assert ShuffledGold(SOURCE).tasks(split) == SOURCE.tasks(split)


def test_dialogues_answer_other_dialogues_of_their_form() -> None:
    before, after = (s.dialogues("train", "solve_plain") for s in (SOURCE, ShuffledGold(SOURCE)))

    def said(chats: list[Chat], role: str) -> list[str]:
        return [message.text for chat in chats for message in chat if message.role == role]

    assert said(before, "user") == said(after, "user")
    assert Counter(said(before, "assistant")) == Counter(said(after, "assistant"))
    assert said(before, "assistant") != said(after, "assistant")


def test_worked_solutions_are_shuffled_with_the_golds() -> None:
    source = ShuffledGold(Worked(train=40))
    solutions = [task.solution for task in source.tasks("train") if task.solution]
    assert [chat[1].text for chat in source.dialogues("train", "solve_plain")] == solutions
    assert source.answers_problems()


def test_training_images_are_blank_and_those_of_tests_are_not(tmp_path: Path) -> None:
    source = Colors(str(tmp_path))
    before, after = source.tasks("train"), BlankImages(source).tasks("train")
    for one, other in zip(before, after, strict=True):
        assert (one.problem.text, one.gold) == (other.problem.text, other.gold)
        for real, blank in zip(one.problem.images, other.problem.images, strict=True):
            assert blank.blank
            assert open_image(blank.source).size == open_image(real.source).size
            assert len(set(open_image(blank.source).getdata())) == 1
    assert BlankImages(source).tasks("test") == source.tasks("test")


def test_images_of_dialogues_are_blank(tmp_path: Path) -> None:
    class Solved(Colors):
        def dialogues(self, split, prompt="solve"):
            return [task.problem.ask(_Prompt()) for task in self.tasks(split)]

        def answers_problems(self) -> bool:
            return False

    class _Prompt:
        slots = ("problem",)

        def fill(self, **values: str) -> str:
            return values["problem"]

    chats = BlankImages(Solved(str(tmp_path))).dialogues("train")
    shown = [part for chat in chats for part in chat[0].content if isinstance(part, Image)]
    assert shown
    assert all(image.blank for image in shown)


def test_a_source_of_text_has_no_images(tmp_path: Path) -> None:
    assert has_images(Colors(str(tmp_path)))
    assert not has_images(SOURCE)
