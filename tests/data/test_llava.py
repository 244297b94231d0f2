"""LLaVA-OneVision's sets and MultiMath, on hand-made files in their shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.visual_files import (
    embedded,
    facts,
    first,
    png,
    talk,
    write_image,
    write_json,
    write_parquet,
)

from slm_math.data import LLaVAOneVision, MultiMath
from slm_math.data.base import NoProblems, read_dialogues, read_tasks
from slm_math.data.visual_text import Parts, parts_of

pytestmark = pytest.mark.usefixtures("cache")

HINT = "Hint: Please answer the question and provide the correct option letter, e.g., A, at the end"
TALKS = {
    f"<image>\n{HINT}.\nQuestion: How long is x?\nChoices:\n(A) 3\n(B) 4.5": (
        "The answer is B",
        ("How long is x?", "mc", ("3", "4.5"), "B"),
    ),
    "<image>\nHow long is x?\nA. 3\nB. 4\nC. 5\nAnswer with the option's letter from the given "
    "choices directly.": ("C", ("How long is x?", "mc", ("3", "4", "5"), "C")),
    "First perform reasoning, then finally select the question from the choices in the following "
    "format: Answer: xxx.\nQuestion: Find y.\nChoices:\nA: 32°\nB: 68°": (
        "Since a is parallel to b, y is 68°. So the answer is B.\nAnswer:B",
        ("Find y.", "mc", ("32°", "68°"), "B"),
    ),
    "<image>\nQuestion: Which? Choices: (A) 3/11 (B) 8/11": (
        "The correct answer is (A) 3/11.",
        ("Which?", "mc", ("3/11", "8/11"), "A"),
    ),
    "<image>\nHow many red things are left?": (
        "The answer is 3",
        ("How many red things are left?", "num", (), "3"),
    ),
    "<image>\nHow many?\nAnswer the question using a single word or phrase.": (
        "12",
        ("How many?", "num", (), "12"),
    ),
}


@pytest.mark.parametrize("question", TALKS)
def test_the_letter_inside_of_free_text(question: str, tmp_path: Path) -> None:
    reply, expected = TALKS[question]
    row = talk(question, reply, image=embedded(png(1)), data_source="GEOS(MathV360K)")
    write_parquet(tmp_path / "GEOS(MathV360K)" / "train-00000-of-00001.parquet", [row])
    source = LLaVAOneVision("GEOS", str(tmp_path), validation=0)
    assert facts(first(source)) == expected
    [chat] = read_dialogues(source, "train", "solve_plain")
    assert chat[1].text == reply


LETTER = "provide the correct option letter, e.g., A, B, C, D"
FORMS = {
    f"Hint: Please answer the question and {LETTER}, at the end.\nQuestion: Which?": "Which?",
    "Hint: Please answer the question and provide the final answer. Question: Which?": "Which?",
    "Hint: Please answer the question requiring a floating-point number with one decimal place "
    "and provide the final value, e.g., 1.2, 1.3, 1.4, at the end.\nQuestion: Which?": "Which?",
    f"Please first conduct reasoning, and then answer the question and {LETTER}, at the end.\n"
    "Question: Which?": "Which?",
    f"Please directly answer the question and {LETTER}.\nQuestion: Which?": "Which?",
    "Answer the question using a single word or phrase. How many are left?": "How many are left?",
    "Which?\nAnswer with the option's letter from the given choices directly.": "Which?",
    "Hint: A square is 1 cm. Which?": "Hint: A square is 1 cm. Which?",
    "Find x.\nHint: x is positive.": "Find x.\nHint: x is positive.",
    "Answer the question using the figure.": "Answer the question using the figure.",
}


@pytest.mark.parametrize("text", FORMS)
def test_only_known_words_on_the_form_are_left_out(text: str) -> None:
    assert parts_of(text) == Parts(FORMS[text])


def test_a_row_without_a_question_is_named(tmp_path: Path) -> None:
    row = talk("<image>\nAnswer the question using a single word or phrase.", "4")
    file = write_parquet(tmp_path / "train.parquet", [row | {"image": embedded(png(1))}])
    with pytest.raises(ValueError, match=r"train\.parquet, row 1: .* no question"):
        read_tasks(LLaVAOneVision("GEOS", str(file), validation=0), "train")


def test_files_of_each_set_on_the_hub() -> None:
    files = {
        part: [str(file) for file in LLaVAOneVision(part).hub_files()]  # type: ignore[arg-type]
        for part in ("GEOS", "Super-CLEVR", "GeoQA+")
    }
    start = "lmms-lab/LLaVA-OneVision-Data"
    assert files["GEOS"] == [f"{start}/GEOS(MathV360K)/train-00000-of-00001.parquet"]
    assert len(files["Super-CLEVR"]) == 6
    assert files["GeoQA+"][0].startswith(f"{start}/GeoQA+(MathV360K)/")
    with pytest.raises(NoProblems, match="no test split"):
        LLaVAOneVision("UniGeo").tasks("test")


def test_two_questions_about_an_image_are_two_problems(tmp_path: Path) -> None:
    turns = [("<image>\nHow many?", "3"), ("How many are red?", "2")]
    talks = [talk(*turn)["conversations"] for turn in turns]
    row = {"id": "7", "image": embedded(png(1)), "conversations": [*talks[0], *talks[1]]}
    file = write_parquet(tmp_path / "train.parquet", [row])
    one, other = read_tasks(LLaVAOneVision("CLEVR-Math", str(file), validation=0), "train")
    assert [one.gold, other.gold] == ["3", "2"]
    assert one.problem.images == other.problem.images
    assert one.problem.id != other.problem.id


@pytest.mark.parametrize("path", ["7.png", "RGB_images/7.png", "MultiMath/RGB_images/7.png"])
def test_multimath(path: str, tmp_path: Path) -> None:
    write_image(tmp_path / "RGB_images" / "7.png", 7)
    worked = "Step 1 (Tangents): x = 4.\nSo the answer is \\boxed{4}."
    row = talk("<image>\nFind x.", worked, image=path)
    write_json(tmp_path / "solution" / "chat_train_en.json", [row])
    task = first(MultiMath(str(tmp_path), validation=0))
    assert facts(task) == ("Find x.", "num", (), "4")
    assert task.solution == worked


def test_multimath_takes_no_image_of_another_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "RGB_images" / "7.png", 7)
    row = talk("<image>\nFind x.", "It is \\boxed{4}.", image="algebra/7.png")
    write_json(tmp_path / "solution" / "chat_train_en.json", [row])
    with pytest.raises(ValueError, match=r"RGB_images/algebra/7\.png: No such file"):
        read_tasks(MultiMath(str(tmp_path), validation=0), "train")
