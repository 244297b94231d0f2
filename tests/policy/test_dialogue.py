"""What a dialogue marks as not trained on is context with every template."""

import pytest
from policy.test_thoughts import FORGETFUL, SWITCHED, chat_of, learned, opens

from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.types import Text, assistant, user

TEMPLATES = {
    "scratch": Scratch().tokenizer().chat_template,
    "chatml": "chatml",
    "plain": "plain",
    "opens a thought": opens(),
    "forgets thoughts": FORGETFUL,
    "closes thoughts": SWITCHED,
}
WRONG = assistant(Text("<think>count</think>one", learn=False))
RIGHT = assistant("<think>again</think>two")


def format_of(template: str) -> ChatFormat:
    if "{" in template:
        return chat_of(template)
    return ChatFormat(Scratch().tokenizer(), template)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_whole_turn_and_its_end_are_context(template: str) -> None:
    chat = format_of(template)
    [(context, text)] = learned(chat, user("q") + WRONG + user("No") + RIGHT)
    assert text.endswith("two" + chat.end_text)
    assert text.count(chat.end_text) == 1
    assert "one" not in text
    assert "No" in context


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_ids_are_those_of_the_same_dialogue_learned_whole(template: str) -> None:
    chat = format_of(template)
    some = chat.dialogue(user("q") + WRONG + user("No") + RIGHT)
    whole = chat.dialogue(user("q") + assistant(WRONG[0].text) + user("No") + RIGHT)
    assert [ids for ids, _ in some] == [ids for ids, _ in whole][-1:]


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_span_within_a_turn_is_context(template: str) -> None:
    chat = format_of(template)
    parts = ("<think>a</think>b ", Text("seen", learn=False), "said")
    [(context, text)] = learned(chat, user("q") + assistant(*parts))
    assert "seen" in context
    assert "seen" not in text
    assert text.endswith("said" + chat.end_text)


def test_a_turn_before_which_history_is_rewritten_is_no_row_of_its_own() -> None:
    talk = user("q") + assistant("x</think>a") + user("r") + assistant("y</think>b")
    assert len(chat_of(FORGETFUL).dialogue(talk)) == 2
    marked = (talk[0], WRONG[0], *talk[2:])
    [(context, text)] = learned(chat_of(FORGETFUL), marked)
    assert "count" not in context
    assert text == "y</think>b<|end|>"


def test_marks_of_thoughts_stay_in_a_turn_that_is_context() -> None:
    chat = chat_of(opens(), "<think>", "</think>")
    mark = chat.tokenizer.convert_tokens_to_ids("</think>")
    talk = user("q") + WRONG + user("No") + RIGHT
    [(ids, weights)] = chat.dialogue(talk)
    assert ids.count(mark) == 2
    assert [weights[n] for n, id in enumerate(ids) if id == mark] == [0.0, 1.0]


def test_a_thought_closed_in_a_turn_that_is_context_is_not_counted() -> None:
    chat = chat_of(opens())
    chat.dialogue(user("q") + assistant(Text("one", learn=False)) + user("No") + RIGHT)
    assert chat.closed_thoughts == 0


@pytest.mark.parametrize("talk", [user("q"), user("q") + WRONG])
def test_a_dialogue_in_which_nothing_is_learned_is_refused(talk) -> None:
    with pytest.raises(ValueError, match="nothing in it is trained on"):
        chat_of(opens()).dialogue(talk)
