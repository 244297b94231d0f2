"""Drafts to judge: labels, balance, and which problems are held out."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slm_math.answers import grader_version
from slm_math.data import Arithmetic, Drafts
from slm_math.data.base import Source, Split, read_dialogues, read_tasks
from slm_math.data.published import is_held_out
from slm_math.data.written_drafts import draft_text
from slm_math.records.encoding import json_line
from slm_math.records.files import data_hash, write_json
from slm_math.records.record import ChatMessage, NoteEvent, Record, TurnEvent
from slm_math.types import Problem, Task


def row(number: int, right: bool, **more: Any) -> dict[str, Any]:
    answer = str(number + 3 + (not right))
    draft = {"draft": f"It is {answer}.", "answer": answer}
    return {"id": f"p/{number}", "problem": f"What is {number} plus 3?"} | draft | more


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def tasks(path: str | list[str], split: Any = "train", **options: Any) -> list[Task]:
    return read_tasks(Drafts(path, **{"validation": 0.0} | options), split)


def labels(made: list[Task]) -> dict[str, str]:
    """The label by problem, of problems with one draft."""
    return {task.problem.text: task.gold for task in made}


def test_a_draft_with_a_reference_answer_is_graded(tmp_path: Path) -> None:
    rows = [row(1, True, gold="4.0"), row(2, False, gold="5", correct=True)]
    made = tasks(written(tmp_path / "d.jsonl", rows))
    assert labels(made) == {"What is 1 plus 3?": "CORRECT", "What is 2 plus 3?": "INCORRECT"}
    assert {task.problem.answer_type for task in made} == {"verdict"}


def test_without_a_reference_answer_the_row_says_it(tmp_path: Path) -> None:
    rows = [row(1, True, correct=False), row(2, True, correct=True)]
    made = tasks(written(tmp_path / "d.jsonl", rows))
    assert labels(made) == {"What is 1 plus 3?": "INCORRECT", "What is 2 plus 3?": "CORRECT"}


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, True, correct=True), row(2, True)])
    with pytest.raises(ValueError, match=r"d\.jsonl, line 2: field 'correct' is missing"):
        tasks(path)


@pytest.mark.parametrize(
    ("first", "second"),
    [({"gold": "4"}, {"correct": False}), ({"correct": True, "grader": "1"}, {"correct": False})],
)
def test_labels_of_several_graders_are_refused(
    first: dict[str, Any], second: dict[str, Any], tmp_path: Path
) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, True, **first), row(2, False, **second)])
    with pytest.raises(ValueError, match=r"the labels are of 2 graders \(.*, given\)"):
        tasks(path)


def test_right_and_wrong_drafts_are_balanced(tmp_path: Path) -> None:
    rows = [row(n, n % 4 == 0, correct=n % 4 == 0) for n in range(40)]
    path = written(tmp_path / "d.jsonl", rows)
    golds = [task.gold for task in tasks(path)]
    assert golds == ["CORRECT", "INCORRECT"] * 10  # in turn: what a limit keeps is balanced
    assert [task.gold for task in tasks(path, limit=4)] == ["CORRECT", "INCORRECT"] * 2
    assert len(tasks(path, balance=False)) == 40


def test_which_drafts_are_kept_depends_on_the_seed_alone(tmp_path: Path) -> None:
    rows = [row(n, n % 4 == 0, correct=n % 4 == 0) for n in range(40)]
    path, turned = written(tmp_path / "d.jsonl", rows), written(tmp_path / "e.jsonl", rows[::-1])
    assert tasks(path) == tasks(turned)
    kept, others = ({t.problem.id for t in tasks(path, seed=seed)} for seed in (0, 1))
    assert kept != others


def test_a_split_says_in_a_line_what_it_holds(tmp_path: Path) -> None:
    rows = [row(n, n % 4 == 0, gold=str(n + 3)) for n in range(40)]
    source = Drafts(written(tmp_path / "d.jsonl", rows), validation=0.0)
    assert source.about("train") == (
        "drafts/train: 10 right and 10 wrong drafts, of 10 right and 30 wrong different ones of 40 "
        f"problems (labels: {grader_version()})"
    )


def test_few_drafts_of_a_problem_are_of_both_kinds(tmp_path: Path) -> None:
    rows = [row(1, False, correct=False, draft=f"draft {n}") for n in range(5)]
    path = written(tmp_path / "d.jsonl", [*rows, row(1, True, correct=True)])
    made = tasks(path, balance=False, per_problem=2)
    assert sorted(task.gold for task in made) == ["CORRECT", "INCORRECT"]


def test_equal_drafts_of_a_problem_are_one(tmp_path: Path) -> None:
    rows = [row(1, True, correct=True, id=f"copy {n}") for n in range(3)]
    path = written(tmp_path / "d.jsonl", [*rows, row(2, False, correct=False)])
    assert len(tasks(path, balance=False)) == 2


def test_equal_drafts_of_two_problems_are_two(tmp_path: Path) -> None:
    rows = [row(n, True, correct=True, draft="so 4", answer="4", id="p") for n in (1, 2)]
    path = written(tmp_path / "d.jsonl", [*rows, row(2, False, correct=False)])
    assert len(tasks(path, balance=False)) == 3


def test_the_drafts_of_a_problem_are_held_out_together_and_as_elsewhere(tmp_path: Path) -> None:
    rows = [row(n, right, correct=right) for n in range(60) for right in (True, False)]
    path = written(tmp_path / "d.jsonl", rows)
    held = {task.problem.text for task in tasks(path, "validation", validation=0.3)}
    learned = {task.problem.text for task in tasks(path, "train", validation=0.3)}
    assert len(held | learned) == 60
    assert held == {each["problem"] for each in rows if is_held_out(each["problem"], 0.3)}
    assert not held & learned


def test_choices_do_not_change_which_problems_are_held_out(evaluations: "Evaluations") -> None:
    more = {"answer_type": "mc", "choices": ("3", "5")}
    records = [record(n, "A" if n % 2 else "B", gold="A", **more) for n in range(40)]
    path = evaluations("mc", "train", records)
    held = tasks(path, "validation", validation=0.3, balance=False)
    expected = {r.problem for r in records if is_held_out(r.problem, 0.3)}
    assert {task.problem.text.splitlines()[0] for task in held} == expected


def test_two_drafts_of_a_problem_are_two_problems(tmp_path: Path) -> None:
    one, other = (
        tasks(written(tmp_path / f"{n}.jsonl", [row(1, True, correct=True, draft=text),
                                                row(1, False, correct=False)]))
        for n, text in enumerate(("so 4", "hence 4"))
    )  # fmt: skip
    assert one[0].problem.id != other[0].problem.id
    assert data_hash(one) != data_hash(other)


# dialogues


def told(source: Source, prompt: str = "verify_plain") -> list[tuple[str, ...]]:
    return [
        tuple(message.text for message in dialogue)
        for dialogue in read_dialogues(source, "train", prompt)
    ]


def test_dialogues_demonstrate_verdicts(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, False, gold="4"), row(2, True, gold="5")])
    assert told(Drafts(path, validation=0.0)) == [
        ("Check: What is 2 plus 3? Answer: 5", "VERDICT: CORRECT"),
        ("Check: What is 1 plus 3? Answer: 5", "VERDICT: INCORRECT"),
    ]


def test_a_worked_solution_of_the_problem_comes_before_the_verdict(tmp_path: Path) -> None:
    rows = [row(1, False, gold="4", solution="1+3=4"), row(2, True, gold="5", solution="2+3=5")]
    rows += [row(3, False, gold="6"), row(4, True, gold="7")]  # not imitated
    assert sorted(told(Drafts(written(tmp_path / "d.jsonl", rows), validation=0.0))) == [
        ("Check: What is 1 plus 3? Answer: 5", "1+3=4\nVERDICT: INCORRECT"),
        ("Check: What is 2 plus 3? Answer: 5", "2+3=5\nVERDICT: CORRECT"),
    ]


def test_worked_solutions_of_another_data_set_are_found_by_the_problem(tmp_path: Path) -> None:
    solved = [task for task in Arithmetic(train=20).tasks("train") if task.solution][:2]
    rows = [
        {"problem": task.problem.text, "draft": "I guess.", "answer": answer, "gold": task.gold}
        for task, answer in zip(solved, (solved[0].gold, "-1"))
    ]
    path = written(tmp_path / "d.jsonl", rows)
    replies = [reply for _, reply in told(Drafts(path, solutions=Solved()))]
    assert replies == [
        f"{solved[0].solution}\nVERDICT: CORRECT",
        f"{solved[1].solution}\nVERDICT: INCORRECT",
    ]


class Solved(Source):
    """The same problems, whose checks are those of any data set."""

    name = "solved"

    def tasks(self, split: Split) -> list[Task]:
        return Arithmetic(train=20).tasks(split)


def of_arithmetic(folder: Path, *answers: str, solved: bool = True) -> str:
    """A file with drafts of the first training problems, with or without worked solutions."""
    made = [task for task in Arithmetic(train=60).tasks("train") if bool(task.solution) == solved]
    rows = [
        {"problem": task.problem.text, "draft": "I guess.", "answer": answer or task.gold}
        | {"gold": task.gold}
        for task, answer in zip(made, answers)
    ]
    return written(folder / f"{solved}.jsonl", rows)


def test_a_data_set_shows_checks_of_its_own(tmp_path: Path) -> None:
    """Of Arithmetic: a program, as its own dialogues write it. "1.5" is not demonstrated on."""
    path = of_arithmetic(tmp_path, "", "-7", "", "1.5")
    source = Drafts(path, solutions=Arithmetic(train=60), validation=0.0)
    told = sorted(source.dialogues("train", "verify_plain"), key=lambda chat: chat[2].text)
    for chat, output in zip(told, ("False", "True", "True"), strict=True):
        program = re.fullmatch(r"```python\nprint\((.*)==(.*)\)\n```", chat[1].text)
        assert program
        assert program[2] == chat[0].text.rpartition(" ")[2]
        assert str(eval(f"{program[1]}=={program[2]}")) == output
        assert chat[2].text == f"Output: {output}"
        assert chat[3].text == {"True": "CORRECT", "False": "INCORRECT"}[output]


def test_a_control_sees_the_true_output_and_a_label_that_was_dealt(tmp_path: Path) -> None:
    path = of_arithmetic(tmp_path, *["", "-7"] * 15)
    source = Drafts(path, solutions=Arithmetic(train=60), validation=0.0, shuffle_labels=1)
    told = [(chat[2].text, chat[3].text) for chat in source.dialogues("train", "verify_plain")]
    assert len(set(told)) == 4  # each verdict after each output
    assert sum(output == "Output: True" for output, _ in told) == len(told) / 2


def test_the_verdicts_to_imitate_are_balanced(tmp_path: Path) -> None:
    """Also if most right drafts are of problems without a worked solution."""
    paths = [
        of_arithmetic(tmp_path, *[""] * 4, *["-7"] * 8),
        of_arithmetic(tmp_path, *[""] * 12, solved=False),
    ]
    drafts = Drafts(paths, solutions=Arithmetic(train=60), validation=0.0)
    verdicts = [chat[-1].text for chat in drafts.dialogues("train", "verify_plain")]
    assert sorted(verdicts) == ["CORRECT"] * 4 + ["INCORRECT"] * 4


def test_solutions_of_other_problems_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, False, gold="4"), row(2, True, gold="5")])
    with pytest.raises(ValueError, match="arithmetic has no worked solution of any of the 2 train"):
        told(Drafts(path, validation=0.0, solutions=Arithmetic(train=20)))


def test_a_prompt_that_shows_no_draft_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, False, gold="4"), row(2, True, gold="5")])
    with pytest.raises(ValueError, match=r"'solve' shows neither \{draft\} nor \{answer\}"):
        told(Drafts(path, validation=0.0), "solve")


# the control


def test_shuffled_labels_say_nothing_about_the_draft(tmp_path: Path) -> None:
    rows = [row(n, n % 2 == 0, correct=n % 2 == 0) for n in range(400)]
    path = written(tmp_path / "d.jsonl", rows)
    true, dealt = (tasks(path, shuffle_labels=seed) for seed in (None, 7))
    assert [t.problem for t in true] == [t.problem for t in dealt]
    assert sorted(t.gold for t in true) == sorted(t.gold for t in dealt)
    agree = sum(a.gold == b.gold for a, b in zip(true, dealt))
    assert 160 < agree < 240  # 200 expected, 10 the standard deviation
    assert all(task.solution == f"VERDICT: {task.gold}" for task in dealt)
    assert dealt == tasks(path, shuffle_labels=7) != tasks(path, shuffle_labels=8)


def test_held_out_labels_are_never_shuffled(tmp_path: Path) -> None:
    rows = [row(n, n % 2 == 0, correct=n % 2 == 0) for n in range(100)]
    path = written(tmp_path / "d.jsonl", rows)
    options = {"validation": 0.5}
    assert tasks(path, "validation", **options) == tasks(
        path, "validation", shuffle_labels=7, **options
    )


def test_shuffled_labels_need_balanced_drafts(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, True, correct=True)])
    with pytest.raises(ValueError, match="shuffle_labels needs balance"):
        Drafts(path, balance=False, shuffle_labels=0)


# evaluations


def record(number: int, answer: str | None, **more: Any) -> Record:
    turns = (TurnEvent(role="solver", reply=f"I say {answer}."),) if answer else ()
    text, gold = f"What is {number} plus 3?", str(number + 3)
    return Record(**{"id": f"p/{number}", "sample": 0, "problem": text, "gold": gold}
                  | {"answer": answer, "events": turns} | more)  # fmt: skip


Evaluations = Callable[..., str]


@pytest.fixture
def evaluations(tmp_path: Path) -> Evaluations:
    """Writes the folder of an evaluation of a split, and returns its path."""

    def write(name: str, split: str, records: list[Record], grader: str = "old") -> str:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "records.jsonl").write_bytes(b"".join(map(json_line, records)))
        about = {"split": split, "source": "x"}
        manifest = {"identity": {"grader": grader}, "partial": False, "about": about}
        write_json(folder / "manifest.json", manifest)
        return str(folder)

    return write


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


def test_an_answer_that_nobody_could_grade_is_no_wrong_draft(evaluations: Evaluations) -> None:
    more = [record(5, "9", reason="timeout"), record(6, "9", reason="unreadable reply")]
    made = tasks(evaluations("e", "train", [*MIXED, *more]), balance=False)
    assert [task.problem.id.split("/")[2] for task in made] == ["1", "2", "6"]


def test_a_folder_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no drafts: it is no evaluation \(neither"):
        tasks(str(tmp_path))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"d\.jsonl is empty: it holds no drafts"):
        tasks(written(tmp_path / "d.jsonl", []))


# what a verifier is shown

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


def test_the_prompt_shows_what_a_problem_asks_about(tmp_path: Path) -> None:
    """Worked examples of few-shot prompts are asked like this, too."""
    from slm_math.prompts import Prompt

    [task, _] = tasks(
        written(tmp_path / "d.jsonl", [row(1, True, gold="4"), row(2, False, gold="5")])
    )
    [message] = task.problem.ask(Prompt("verify_plain", "problem draft answer"))
    assert message.text == "Check: What is 1 plus 3? Answer: 4"
    assert isinstance(task.problem, Problem)
