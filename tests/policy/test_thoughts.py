"""Templates that open a thought in the prompt: nothing opens it twice, and everything ends it."""

from collections.abc import Iterator
from itertools import compress
from typing import Any

import pytest
import torch

from slm_math.answers import extract
from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.policy.templates import check_template, template_identity
from slm_math.rewards import Format
from slm_math.rewards.answer import Length
from slm_math.types import (
    Chat,
    Generate,
    Problem,
    Reply,
    Sampling,
    Task,
    Text,
    Trace,
    Turn,
    assistant,
    user,
)

SCRATCH = Scratch(hidden=32, layers=1, heads=2, ffn=32)
MARKS = {
    "<think>": "</think>",
    "[THINK]": "[/THINK]",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<seed:think>": "</seed:think>",
}


def opens(mark: str = "<think>", blanks: str = "\\n", history: str = "m['content']") -> str:
    """A template whose generation prompt opens a thought, and that writes `history`."""
    return (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}"
        f"{{{{ {history} }}}}{{% else %}}{{{{ m['content'] }}}}{{% endif %}}{{{{ '<|end|>' }}}}"
        "{% endfor %}{% if add_generation_prompt %}"
        f"{{{{ '<|assistant|>{mark}{blanks}' }}}}{{% endif %}}"
    )


# the thoughts of earlier answers are left out, those of the last one too
FORGETFUL = opens(history="m['content'].split('</think>')[-1]")
# a switch for thoughts; answers without thoughts get an empty one
SWITCHED = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' and "
    "loop.last and '</think>' not in m['content'] %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)


def chat_of(template: str, *special: str, **variables: Any) -> ChatFormat:
    tokenizer = SCRATCH.tokenizer()
    tokenizer.chat_template = template
    if special:
        tokenizer.add_tokens(list(special), special_tokens=True)
    return ChatFormat(tokenizer, variables=variables)


def learned(chat: ChatFormat, talk: Chat) -> list[tuple[str, str]]:
    """(context, what is learned) of each row of a dialogue."""
    return [
        tuple(
            chat.tokenizer.decode(list(compress(ids, [bool(w) == own for w in weights])))
            for own in (False, True)
        )
        for ids, weights in chat.dialogue(talk)
    ]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("blanks", ["", "\\n"])
def test_a_solution_does_not_open_its_thought_again(mark: str, blanks: str) -> None:
    chat, end, gap = chat_of(opens(mark, blanks)), MARKS[mark], "\n" * len(blanks[1:])
    for solution in (f"{mark}{gap}6 + 1{end}7", f"6 + 1{end}7", f"\n{mark}{gap}6 + 1{end}7"):
        assert learned(chat, user("q") + assistant(solution)) == [
            (f"<|user|>q<|end|><|assistant|>{mark}{gap}", f"6 + 1{end}7<|end|>")
        ]


@pytest.mark.parametrize("template", [opens(), FORGETFUL], ids=["keeps", "forgets"])
def test_a_solution_without_thoughts_closes_the_one_of_the_prompt(template: str) -> None:
    chat = chat_of(template)
    [(context, own)] = learned(chat, user("q") + assistant("6 + 1 is 7"))
    assert context.endswith("<think>\n")
    assert own == "\n</think>\n\n6 + 1 is 7<|end|>"
    assert chat.closed_thoughts == 1


@pytest.mark.parametrize("solution", ["<think>6 + 1 is 7", "<thought>6 + 1</thought>7"])
def test_a_thought_that_never_ends_is_refused(solution: str) -> None:
    with pytest.raises(ValueError, match=r"opens a thought with <think>.* has no </think>"):
        chat_of(opens()).dialogue(user("q") + assistant(solution))


def test_rows_begin_anew_where_thoughts_are_forgotten() -> None:
    talk = user("q") + assistant("<think>\nhm</think>a") + user("r") + assistant("so</think>b")
    assert [own for _, own in learned(chat_of(FORGETFUL), talk)] == [
        "hm</think>a<|end|>",
        "so</think>b<|end|>",
    ]
    assert learned(chat_of(opens()), talk)[0][1].startswith("hm</think>a<|end|>")


def test_an_empty_thought_of_the_template_is_written_once() -> None:
    talk = user("q") + assistant("7")
    empty = "<think>\n\n</think>\n\n"
    assert learned(chat_of(SWITCHED), talk) == [
        ("<|user|>q<|end|><|assistant|>", f"{empty}7<|end|>")
    ]
    assert learned(chat_of(SWITCHED, enable_thinking=False), talk) == [
        (f"<|user|>q<|end|><|assistant|>{empty}", "7<|end|>")
    ]
    thinking = user("q") + assistant("<think>\nhm\n</think>\n\n7")
    assert learned(chat_of(SWITCHED), thinking)[0][1] == "<think>\nhm\n</think>\n\n7<|end|>"


# replies


def scripted(chat: ChatFormat, texts: Iterator[int]) -> TransformersEngine:
    """An engine that samples the given tokens."""
    model = SCRATCH.model(chat.tokenizer).eval()
    engine = TransformersEngine(model, chat)
    real = engine._forward

    def forward(*arguments: Any, **options: Any) -> torch.Tensor:
        logits = torch.zeros_like(real(*arguments, **options))
        logits[:, next(texts)] = 9.0
        return logits

    engine._forward = forward  # type: ignore[method-assign]
    return engine


def sampled(chat: ChatFormat, asked: Chat, text: str, resume: bool = False) -> Reply:
    engine = scripted(chat, iter([*chat.tokens(text), chat.end_id]))
    engine.submit(Request(asked, Sampling(temperature=0.0, max_new_tokens=60), resume))
    [(_, reply)] = engine.poll(timeout=60)
    assert isinstance(reply, Reply)
    return reply


def graded(*replies: Reply) -> GradedTrace:
    problem = Problem("1", "6 + 1?")
    turns = tuple(Turn(Generate(user("6 + 1?")), reply) for reply in replies)
    return grade_trace(Task(problem, "7"), Trace(problem, 0, turns, "7"))


@pytest.mark.parametrize("mark", ["<think>", "[THINK]"])
def test_tags_count_the_opening_that_stands_in_the_prompt(mark: str) -> None:
    chat, end = chat_of(opens(mark)), MARKS[mark]
    reply = sampled(chat, user("6 + 1?"), f"6 + 1{end}\n<answer>7</answer>")
    assert Format(kind="tags")(graded(reply)) == 1.0
    assert Length(shape="ramp", unit="thinking", high=12)(graded(reply)) == pytest.approx(0.5)
    again = sampled(chat, user("6 + 1?"), f"{mark}6 + 1{end}\n<answer>7</answer>")
    assert Format(kind="tags")(graded(again)) == 0.0
    closed = chat_of(SWITCHED)
    reply = sampled(closed, user("6 + 1?"), "6 + 1</think>\n<answer>7</answer>")
    assert Format(kind="tags")(graded(reply)) == 0.0


def test_an_unfinished_thought_states_no_answer() -> None:
    reply = sampled(chat_of(opens()), user("6 + 1?"), r"perhaps \boxed{8}, or")
    assert extract(reply.text).value is None


def test_thoughts_in_special_tokens_stay_in_the_text() -> None:
    chat = chat_of(opens("[THINK]"), "[THINK]", "[/THINK]")
    reply = sampled(chat, user("6 + 1?"), r"\boxed{8}? no[/THINK]\boxed{7}")
    assert reply.text == "[THINK]\n\\boxed{8}? no[/THINK]\\boxed{7}"
    assert extract(reply.text).value == "7"
    [(_, own)] = learned(chat, user("q") + assistant("[THINK]\nhm[/THINK]7"))
    assert own == "hm[/THINK]7<|end|>"
    # nobody else may write them
    mark = chat.tokenizer.convert_tokens_to_ids("[/THINK]")
    assert mark not in chat.encode(user("[/THINK]"))
    output = assistant("[THINK]\nhm", Text("[/THINK]", learn=False), "so[/THINK]7")
    assert sum(ids.count(mark) for ids, _ in chat.dialogue(user("q") + output)) == 1


def test_a_reply_with_thoughts_stays_in_the_next_prompt() -> None:
    chat = chat_of(opens())
    reply = sampled(chat, user("q"), "hm</think>7")
    assert reply.text == "<think>\nhm</think>7"
    row = [*reply.prompt_ids, *reply.token_ids]
    asked = chat.encode(user("q") + assistant(reply) + user("r"))
    assert asked[: len(row)] == row
    assert chat.tokenizer.decode(asked).count("<think>") == 2  # of both turns


def test_a_resumed_turn_opens_its_thought_once() -> None:
    chat = chat_of(opens())
    first = sampled(chat, user("q"), "hm")
    turn = user("q") + assistant(first, Text(" 7 ", learn=False))
    ids = chat.encode(turn, resume=True)
    assert ids == [*first.prompt_ids, *chat.tokens("hm"), *chat.tokens(" 7 ")]
    assert sampled(chat, turn, "so</think>", resume=True).text == "so</think>"


def test_an_empty_reply_stays_empty() -> None:
    assert sampled(chat_of(opens()), user("q"), "").text == ""


# variables of templates


def test_variables_reach_the_template_and_the_identity() -> None:
    chat = chat_of(SWITCHED, enable_thinking=False)
    assert chat.render(user("q")).endswith("<think>\n\n</think>\n\n")
    assert chat_of(SWITCHED, enable_thinking=True).render(user("q")).endswith("<|assistant|>")
    policy = Policy(scratch=SCRATCH, chat_template_kwargs={"enable_thinking": False})
    assert policy.template_identity["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in template_identity(None)


@pytest.mark.parametrize("name", ["enable_thinkin", "messages", "tokenize", "eos_token"])
def test_variables_without_effect_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"does not use {name}"):
        chat_of(SWITCHED, **{name: True})


def test_built_in_templates_have_no_variables() -> None:
    with pytest.raises(ValueError, match="chat_template plain has no variables"):
        check_template("plain", {"enable_thinking": False})
    with pytest.raises(ValueError, match="chat_template chatml has no variables"):
        Policy(scratch=SCRATCH, chat_template="chatml", chat_template_kwargs={"x": 1})


@pytest.mark.parametrize(
    ("template", "solution"),
    [
        (SWITCHED, "<think>six and one"),  # beside the empty thought that the template writes
        (opens(), "Well. <think>six and one</think>7"),
        (opens(), "<think>six</think>and<think>one</think>7"),
    ],
)
def test_a_second_thought_is_refused(template: str, solution: str) -> None:
    with pytest.raises(ValueError, match="must have one thought at the beginning"):
        chat_of(template).dialogue(user("6 + 1?") + assistant(solution))


@pytest.mark.parametrize("solution", ["<think>six</think>7", "<think>six", "six</think>7"])
def test_a_thought_after_a_closed_one_is_refused(solution: str) -> None:
    chat = chat_of(SWITCHED, enable_thinking=False)
    with pytest.raises(ValueError, match=r"must have no thought.* chat_template_kwargs"):
        chat.dialogue(user("6 + 1?") + assistant(solution))


def test_tags_count_the_empty_thought_that_stands_in_the_prompt() -> None:
    chat = chat_of(SWITCHED, enable_thinking=False)
    reply = sampled(chat, user("6 + 1?"), "<answer>7</answer>")
    assert reply.text == "<think>\n\n</think>\n\n<answer>7</answer>"
    assert Format("tags")(graded(reply)) == 1
    again = chat.render(user("6 + 1?") + assistant(reply) + user("Sure?"))
    assert again.count("<think>") == 2  # that of the reply, and that of the next prompt
