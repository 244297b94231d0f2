"""The stop string that a chat server cut off is put back where it ended the reply."""

import pytest
from engines.endpoint import ask, completion, in_turn

from slm_math.agents import Agent, PythonTools
from slm_math.engines.stops import restored
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.rollout.executors import Executors
from slm_math.sandbox import Sandbox
from slm_math.types import Problem, Reply, Sampling, Task, assistant, user

FENCE = "\n```\n"
OPEN = "Let me count.\n```python\nprint(3 * 9)"


@pytest.mark.parametrize(
    ("text", "stops", "choice", "whole"),
    [
        # servers that say what stopped them
        (OPEN, [FENCE], {"stop_reason": FENCE}, OPEN + FENCE),
        ("Look:", [FENCE], {"stop_reason": FENCE}, "Look:" + FENCE),
        ("So 27", ["##", "END"], {"matched_stop": "END"}, "So 27END"),
        ("So 27", ["END"], {"provider_specific_fields": {"stop_reason": "END"}}, "So 27END"),
        (OPEN, [FENCE], {"stop_reason": None}, OPEN),
        (OPEN, [FENCE], {"stop_reason": 151645}, OPEN),
        (OPEN, [FENCE], {"matched_stop": 2}, OPEN),
        ("So 27", ["END"], {"stop_reason": "another"}, "So 27"),
        # servers that leave it in
        (OPEN + FENCE, [FENCE], {}, OPEN + FENCE),
        (OPEN + FENCE, [FENCE], {"stop_reason": FENCE}, OPEN + FENCE),
        # servers that say nothing
        (OPEN, [FENCE], {}, OPEN + FENCE),
        (OPEN, ["END", FENCE], {"finish_reason": "stop"}, OPEN + FENCE),
        ("~~~py\nprint(1)", ["\n~~~"], {}, "~~~py\nprint(1)\n~~~"),
        ("~~~py\nprint(1)", [FENCE], {}, "~~~py\nprint(1)"),
        ("It is 27.", [FENCE], {}, "It is 27."),
        (OPEN + "\n```", [FENCE], {}, OPEN + "\n```"),
        ("<code>print(4)", ["</code>"], {}, "<code>print(4)</code>"),
        ("<code>4</code> is it", ["</code>"], {}, "<code>4</code> is it"),
        ("no tag", ["</code>"], {}, "no tag"),
        ("[RUN] 4", ["[/RUN]"], {}, "[RUN] 4[/RUN]"),
        ("So 27", ["\n\n"], {}, "So 27"),
        ("So 27", [], {}, "So 27"),
    ],
)
def test_what_ended_a_reply(text, stops, choice, whole):
    assert restored(text, stops, choice) == whole


def test_the_message_that_a_reply_continues_may_have_opened_the_block(serve):
    _, engine = serve(in_turn((200, completion("print(5)"))))
    opened = user("2 + 3?") + assistant(Reply("```python\n"))
    reply = ask(engine, opened, Sampling(stop=(FENCE,)), resume=True)
    assert reply.text == "print(5)" + FENCE


def test_a_reply_at_the_token_limit_was_not_stopped(serve):
    _, engine = serve(in_turn((200, completion(OPEN, "length"))))
    assert ask(engine, sampling=Sampling(stop=(FENCE,))).text == OPEN


def test_a_stop_string_within_the_reasoning_leaves_it_open(serve):
    answer = completion(None, reasoning_content=OPEN)
    answer["choices"][0]["stop_reason"] = FENCE
    _, engine = serve(in_turn((200, answer)))
    reply = ask(engine, sampling=Sampling(stop=(FENCE,)))
    assert reply.text == f"<think>\n{OPEN}{FENCE}"


SAID = f"{OPEN}{FENCE}", "It is \\boxed{27}."


@pytest.mark.parametrize("reports", [True, False])
def test_programs_run_where_a_chat_model_writes_them(serve, tmp_path, reports):
    def script(number, body):
        text, stop, _ = SAID[number].partition(body.get("stop", ["none"])[0])
        answer = completion(text)
        if reports:
            answer["choices"][0]["stop_reason"] = stop or None
        return 200, answer, {}

    server, engine = serve(script)
    agent: Agent = PythonTools()
    task = Task(Problem("p", "What is 3 times 9?"), "27")
    with Sandbox(workers=1) as sandbox:
        executors = Executors({"default": engine}, {"default": Sampling(0.0)}, sandbox)
        result = evaluate(Plan(agent, [task]), executors, Output(tmp_path))
    [record] = result.records
    assert [(run.code, run.output) for run in record.runs] == [("print(3 * 9)", "27")]
    assert record.correct
    assert server.bodies[1]["messages"][-1]["content"] == f"{SAID[0]}```output\n27\n```\n"
