"""The conversations of a record, and what of them the model sampled."""

from slm_math.data.conversations import (
    conversation_chat,
    conversations,
    is_shown_output,
    turns_of_runs,
)
from slm_math.records.record import ChatMessage, Record, RunEvent, TurnEvent
from slm_math.types import Text


def turn(reply: str, *prompt: str, role: str = "solver") -> TurnEvent:
    """A reply after messages of user and assistant in turn."""
    roles = ("user", "assistant")
    messages = tuple(ChatMessage(roles[i % 2], text) for i, text in enumerate(prompt))
    return TurnEvent(role=role, prompt=messages, reply=reply)


def replies(role: str, *events: TurnEvent) -> list[list[str]]:
    record = Record("p", 0, events=events)
    return [[each.reply for each in turns] for turns in conversations(record, role)]


def spans(*turns: TurnEvent) -> list[list[tuple[str, bool]]]:
    """The texts of the assistant's messages, and whether they are trained on."""
    return [
        [(part.text, part.learn) for part in message.content if isinstance(part, Text)]
        for message in conversation_chat(turns)
        if message.role == "assistant"
    ]


FIRST = turn("a", "Q")
SECOND = turn("b", "Q", "a", "more")


def test_a_prompt_that_begins_with_an_earlier_one_goes_on_with_it() -> None:
    judge = turn("fine", "Q", role="verifier")
    assert replies("solver", FIRST, judge, SECOND) == [["a", "b"]]
    assert replies("verifier", FIRST, judge, SECOND) == [["fine"]]


def test_replies_to_one_prompt_are_conversations_of_their_own() -> None:
    assert replies("solver", FIRST, turn("c", "Q"), SECOND) == [["c"], ["a", "b"]]


def test_a_new_chat_is_a_new_conversation() -> None:
    assert replies("solver", FIRST, turn("b", "Q, again")) == [["a"], ["b"]]


def test_a_reply_that_goes_on_in_an_open_message_is_part_of_it() -> None:
    later = turn(" then c", "Q", "a [output]")
    assert replies("solver", FIRST, later) == [["a", " then c"]]
    assert spans(FIRST, later) == [[("a", True), (" [output]", False), (" then c", True)]]


def test_what_nobody_sampled_is_context() -> None:
    """A message of the prompt that is no reply of the conversation, such as an example."""
    assert spans(turn("b", "Q", "shown", "more")) == [[("shown", False)], [("b", True)]]
    assert spans(FIRST, SECOND) == [[("a", True)], [("b", True)]]


def test_a_program_belongs_to_the_reply_that_wrote_it() -> None:
    one, two = turn("```python\nprint(1)\n```", "Q"), turn("```python\nprint(2)\n```", "R")
    runs = [RunEvent(code="print(1)"), RunEvent(code="print(2)"), RunEvent(code="print(3)")]
    record = Record("p", 0, events=(one, two, *runs))
    assert [each for each, _ in turns_of_runs(record)] == [one, two, None]


def test_output_is_shown_in_the_last_message() -> None:
    run = RunEvent(code="x", output="42")
    assert is_shown_output(turn("b", "Q", "a", "It printed 42."), [run])
    assert not is_shown_output(turn("b", "Q", "a", "Check it."), [run])
    assert not is_shown_output(turn("a", "What is 42?"), [run])
