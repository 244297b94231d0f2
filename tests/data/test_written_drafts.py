"""Evaluations and files as drafts to judge: of which split they are, what is refused, and the text
of a draft.
"""

from pathlib import Path

import pytest
from data.drafts import Evaluations, labels, record, tasks, written
from PIL import Image as Pillow

from slm_math.answers import grader_version
from slm_math.data import Drafts
from slm_math.data.base import read_tasks
from slm_math.data.written_drafts import draft_text
from slm_math.images import image_hash
from slm_math.records.record import ChatMessage, NoteEvent, Record, RecordedImage, TurnEvent
from slm_math.types import Image

MIXED = [record(1, "4"), record(2, "9"), record(3, None), record(4, None, error="broke")]


def test_an_evaluation_is_a_set_of_drafts(evaluations: Evaluations) -> None:
    source = Drafts(evaluations("e/solver", "train", MIXED), validation=0.0)
    made = read_tasks(source, "train")
    assert [(task.problem.draft.text, task.gold) for task in made if task.problem.draft] == [
        ("I say 4.", "CORRECT"),
        ("I say 9.", "INCORRECT"),
    ]
    assert source.about("train").endswith("left out of all splits: 2 without an answer")


def test_labels_of_another_version_are_graded_again(evaluations: Evaluations) -> None:
    """The records say the opposite of what the grader says."""
    records = [record(1, "4", correct=False), record(2, "9", correct=True)]
    old, now = (evaluations(g, "train", records, grader=g) for g in ("old", grader_version()))
    assert labels(tasks(old)) == {"What is 1 plus 3?": "CORRECT", "What is 2 plus 3?": "INCORRECT"}
    assert labels(tasks(now)) == {"What is 1 plus 3?": "INCORRECT", "What is 2 plus 3?": "CORRECT"}


def test_an_output_folder_holds_the_drafts_of_all_its_agents(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    evaluations("out/a", "train", MIXED)
    evaluations("out/b", "train", [record(1, "5"), record(2, "5")])
    assert len(tasks(str(tmp_path / "out"))) == 4


def test_each_evaluation_gives_drafts_of_its_split(evaluations: Evaluations) -> None:
    train = evaluations("train", "train", MIXED)
    test = evaluations("test", "test", [record(n, str(n + 3 + n % 2)) for n in range(10, 16)])
    assert len(tasks([train, test], "train")) == 2
    assert len(tasks([train, test], "test")) == 6


@pytest.mark.parametrize("order", [1, -1])
def test_a_problem_that_is_tested_on_is_never_trained_on(
    order: int, evaluations: Evaluations
) -> None:
    train = evaluations("train", "train", [record(n, str(n + 3 + n % 2)) for n in range(8)])
    test = evaluations("test", "test", [record(n, str(n + 4)) for n in (0, 1, 2, 9)])
    paths = [train, test][::order]
    learned = {task.problem.text for task in tasks(paths, "train", balance=False)}
    assert learned == {f"What is {n} plus 3?" for n in (3, 4, 5, 6, 7)}


def test_drafts_of_test_problems_are_never_trained_on(evaluations: Evaluations) -> None:
    path = evaluations("e", "test", MIXED)
    assert len(tasks(path, "test")) == 2
    with pytest.raises(ValueError, match=r"no drafts of train problems \(2 of test problems\)"):
        tasks(path, "train")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "is empty: it has no records"),
        (MIXED[2:], "holds no drafts: none of its 2 records has an answer"),
        ([record(1, "CORRECT", answer_type="verdict")], "holds verdicts on drafts: name the evalu"),
        ([record(1, "4"), record(2, "5")], "all 2 drafts are right and none is wrong"),
        ([record(1, "5")], "all 1 drafts are wrong and none is right"),
        (
            [record(1, "4", events=(TurnEvent("s", (ChatMessage("user", "[image: a.png]\n?"),)),))],
            "p/1 shows images, which records do not keep",
        ),
    ],
)
def test_an_evaluation_without_usable_drafts_is_refused(
    records: list[Record], message: str, evaluations: Evaluations
) -> None:
    with pytest.raises(ValueError, match=message):
        tasks(evaluations("e", "train", records))


def test_drafts_of_problems_with_images_show_them_as_they_were(
    evaluations: Evaluations, tmp_path: Path
) -> None:
    file = tmp_path / "a.png"
    Pillow.new("RGB", (8, 8), "red").save(file)
    image = RecordedImage(str(file), image_hash(str(file)))
    blind = record(3, "9", images=(image._replace(blank=True),))
    path = evaluations("e", "train", [record(1, "4", images=(image,)), record(2, "9"), blind])
    made = tasks(path)
    assert [task.problem.images for task in made] == [(Image(str(file)),), ()]
    Pillow.new("RGB", (8, 8), "blue").save(file)
    with pytest.raises(ValueError, match=r"the image .*a.png of problem p/1 was changed"):
        tasks(path)


def test_an_answer_that_nobody_could_grade_is_no_wrong_draft(evaluations: Evaluations) -> None:
    more = [record(5, "9", reason="timeout"), record(6, "9", reason="unreadable reply")]
    made = tasks(evaluations("e", "train", [*MIXED, *more]), balance=False)
    assert [task.problem.id.split("/")[2] for task in made] == ["1", "2", "6"]


def test_a_folder_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no drafts: it has neither records.jsonl"):
        tasks(str(tmp_path))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"d\.jsonl is empty: it holds no drafts"):
        tasks(written(tmp_path / "d.jsonl", []))


# the text of a draft

USER, CODE, OUTPUT = (
    ChatMessage("user", "3 + 4?"),
    ChatMessage("assistant", "print(3+4)"),
    ChatMessage("user", "Output: 7"),
)


def test_programs_and_their_output_belong_to_the_draft() -> None:
    events = (
        TurnEvent("solver", (USER,), CODE.content),
        TurnEvent("solver", (USER, CODE, OUTPUT), "#### 7"),
        NoteEvent("draft", "7"),
    )
    assert draft_text(Record("p", 0, answer="7", events=events)) == (
        "print(3+4)\n\nOutput: 7\n\n#### 7"
    )


def test_a_reply_that_goes_on_after_an_output_is_one_draft() -> None:
    opened = ChatMessage("assistant", "print(7)\nOutput: 7\n")
    events = (
        TurnEvent("solver", (USER,), "print(7)"),
        TurnEvent("solver", (USER, opened), "#### 7"),
    )
    assert draft_text(Record("p", 0, answer="7", events=events)) == "print(7)\nOutput: 7\n#### 7"


def test_earlier_drafts_and_critiques_are_not_shown() -> None:
    critique = ChatMessage("user", "No. Try again.")
    events = (
        TurnEvent("solver", (USER,), "#### 8"),
        NoteEvent("draft", "8"),
        TurnEvent("verifier", (USER,), "VERDICT: INCORRECT, it is \\boxed{7}"),
        NoteEvent("verdict", "INCORRECT"),
        TurnEvent("solver", (USER, ChatMessage("assistant", "#### 8"), critique), "#### 7"),
        NoteEvent("draft", "7"),
    )
    assert draft_text(Record("p", 0, answer="7", events=events)) == "#### 7"


def test_the_draft_states_the_answer_that_was_chosen() -> None:
    events = tuple(TurnEvent("solver", (USER,), f"#### {answer}") for answer in (7, 7, 8))
    assert draft_text(Record("p", 0, answer="7", events=events)) == "#### 7"
