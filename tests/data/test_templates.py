"""Templates: what is masked, which rewrites are found, and what is another problem."""

import pytest

from slm_math.data.templates import same_template, template
from slm_math.types import Problem

TEST = (
    "Lena buys 12 boxes of candles for $3.50 each at a market in Oslo. She gives one-third of them "
    "to her brother and sells the rest for 20% more than she paid. How much money does Lena make?"
)
REWRITES = {
    "numbers": TEST.replace("12", "forty").replace("$3.50", "$8").replace("20%", "a quarter"),
    "names": TEST.replace("Lena", "Kofi Mensah").replace("Oslo", "New York"),
    "pronouns": TEST.replace("Lena", "Ivan").replace("She", "He").replace(" she ", " he ").replace(
        "her", "his"
    ),
    "things": TEST.replace("candles", "lanterns").replace("market", "fair").replace(
        "brother", "cousin"
    ),
}  # fmt: skip
OTHERS = {
    "question": TEST.replace("How much money does Lena make?", "How long did it take?")
    .replace("gives", "throws").replace("sells the rest", "keeps what is left over for the winter"),
    "story": "A farmer has 12 cows, and each gives 3.5 liters of milk, of which he sells 20%.",
}  # fmt: skip


def found(train: str, test: str = TEST) -> bool:
    return bool(same_template([Problem("train", train)], [Problem("test", test)]))


def test_numbers_names_and_genders_are_masked() -> None:
    text = "Ms. Lena O'Neil saw twenty-five percent of 1/2 a dozen birds; she paid $1,200.50."
    assert " ".join(template(Problem("", text))) == "@ saw # of # a # birds he paid #"


def test_the_first_word_of_a_sentence_is_no_name() -> None:
    assert template(Problem("", "The cat ran. If it did, how far?"))[:3] == ("the", "cat", "ran")


@pytest.mark.parametrize("name", REWRITES)
def test_rewrites_are_found(name: str) -> None:
    assert REWRITES[name] != TEST
    assert found(REWRITES[name])


@pytest.mark.parametrize("name", OTHERS)
def test_other_problems_are_not_found(name: str) -> None:
    assert not found(OTHERS[name])


def test_short_problems_have_no_template() -> None:
    assert not found("Compute 3 + 4.", "Compute 5 + 6.")


def test_a_prompt_around_all_training_problems_is_not_compared() -> None:
    numbered = [f"Question {i} has words of its own, {i * 'and '} more." for i in range(20)]
    texts = [*REWRITES.values(), *OTHERS.values(), *numbered]
    train = [
        Problem(str(i), f"Solve the following problem step by step:\n{text}\nPut it in a box.")
        for i, text in enumerate(texts)
    ]
    [match] = same_template(train, [Problem("test", TEST)])
    assert match.train < len(REWRITES)


def test_the_closest_training_problem_is_named() -> None:
    train = [Problem(name, REWRITES[name]) for name in ("things", "numbers")]
    [match] = same_template(train, [Problem("x", OTHERS["story"]), Problem("t", TEST)])
    assert (match.test, match.train) == (1, 1)
