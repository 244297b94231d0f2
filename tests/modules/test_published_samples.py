"""The ten published samples of Geometry3K, from their files to a training step: what the model
reads, an SFT step, a GRPO step, verdicts.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from seeing import SEEING
from tiny import first_reply, grpo, sft, trainer

from slm_math.agents import SingleShot
from slm_math.answers import grade_reply
from slm_math.data import CoT, Geometry3K
from slm_math.data.base import read_tasks
from slm_math.data.chat_data import ChatData
from slm_math.data.problem_data import ProblemData
from slm_math.images import open_image
from slm_math.losses.objective import Objective
from slm_math.policy.config import Policy
from slm_math.rollout.rows import training_rows
from slm_math.types import Task

# tokens of each diagram for Qwen2-VL at most at 100,000 pixels: sides rounded to 28 pixels, or
# scaled down to the limit in the same proportion and rounded down
TOKENS = {11: 9 * 9, 12: 12 * 9, 13: 10 * 5, 14: 13 * 9, 15: 8 * 11, 16: 13 * 9, 17: 13 * 8}
TOKENS |= {18: 11 * 8, 19: 12 * 10, 20: 11 * 4}
LIMIT = 100_000
POLICY = Policy(scratch=SEEING, vision="trained", max_pixels=LIMIT)


@pytest.fixture(scope="module")
def samples(real_data: Path) -> Path:
    return real_data / "geometry3k"


@pytest.fixture(scope="module")
def tasks(samples: Path) -> list[Task]:
    return read_tasks(Geometry3K(str(samples)), "train")


def number_of(task: Task) -> int:
    """The number of the folder that holds the diagram."""
    return int(Path(task.problem.images[0].source).parent.name)


def test_all_ten_load_with_diagram_choices_and_letter(samples: Path, tasks: list[Task]) -> None:
    assert list(map(number_of, tasks)) == list(range(11, 21))
    for task in tasks:
        published = json.loads((samples / str(number_of(task)) / "data.json").read_text())
        problem, [diagram] = task.problem, task.problem.images
        assert (problem.text, task.gold) == (published["annotat_text"], published["answer"])
        assert list(problem.choices) == published["choices"]
        assert open_image(diagram.source).size == (
            published["img_width"],
            published["img_height"],
        )


def test_prompts_show_the_choices_and_one_placeholder_that_becomes_the_tokens(
    tasks: list[Task],
) -> None:
    tokenizer = SEEING.tokenizer()
    sight = SEEING.sight(tokenizer, LIMIT)
    for task in tasks:
        [message] = task.problem.ask(SingleShot("solve_tags").prompt)
        lines = [f"({letter}) {text}" for letter, text in zip("ABCD", task.problem.choices)]
        assert "\n".join([task.problem.text, *lines]) in message.text
        assert sight.extent(task.problem.images).extra == TOKENS[number_of(task)] - 1


def test_sft_step_on_solutions_with_their_diagrams(tasks: list[Task], tmp_path: Path) -> None:
    with (tmp_path / "rows.jsonl").open("w") as file:
        for task in tasks:
            row = {"question": task.problem.text, "choices": task.problem.choices}
            row |= {"answer_type": "mc", "ground_truth": task.gold}
            row |= {"images": [image.source for image in task.problem.images]}
            solution = f"<think>The diagram says it.</think>\n<answer>{task.gold}</answer>"
            file.write(json.dumps(row | {"solution": solution}) + "\n")
    module = sft(POLICY)
    source = CoT(str(tmp_path / "rows.jsonl"), validation=0.0)
    data = ChatData(source, batch_size=10, prompt="solve_tags", seed=0)
    run = trainer(tmp_path)
    run.fit(module, data)
    # random weights know nothing: a token costs log V
    expected = torch.tensor(float(len(module.chat.tokenizer))).log().item()
    assert run.callback_metrics["train/loss"].item() == pytest.approx(expected, rel=0.05)
    rows = data.rows["train"]
    assert [row.images for row in rows] == [task.problem.images for task in tasks]
    widths = [row.width(module.chat.sight) - len(row.ids) + 1 for row in rows]
    assert widths == list(TOKENS.values())


def test_grpo_step_begins_with_ratio_1_and_kl_0(samples: Path, tmp_path: Path) -> None:
    module = grpo(POLICY, agent=SingleShot("solve_tags"), objective=Objective(beta=0.1))
    run = trainer(tmp_path)
    run.fit(module, ProblemData(Geometry3K(str(samples)), batch_size=10, seed=0))
    logged = run.callback_metrics
    assert logged["train/ratio_min"] == logged["train/ratio_max"] == 1
    assert logged["train/kl"].item() == pytest.approx(0, abs=1e-6)
    assert logged["train/frac_reward_zero_std"] < 1
    rows = training_rows([module.last_rollouts], ("solver",))
    assert len(rows) == 40
    for row, rollout in zip(rows, module.last_rollouts, strict=True):
        diagram = number_of(rollout.task)
        reply = first_reply(rollout.trace, "solver")
        # one placeholder in the ids, all tokens in what the network read
        assert row.ids.count(module.chat.sight.placeholder_id) == len(row.images) == 1
        assert reply.prompt_tokens == len(reply.prompt_ids) - 1 + TOKENS[diagram]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("{letter}", True),
        ("{value}", True),
        ("{letter}. {value}", True),
        ("{other}", False),
        ("{wrong}", False),
        ("{letter}. {wrong}", False),
        ("({other}) {value}", False),
        ("{letter} or {other}", False),
        ("I cannot see the diagram.", False),
    ],
)
def test_replies_are_graded_as_a_person_would(answer: str, right: bool, tasks: list[Task]) -> None:
    for task in tasks:
        choices = dict(zip("ABCD", task.problem.choices, strict=True))
        for other in set(choices) - {task.gold}:
            names = {"letter": task.gold, "value": choices[task.gold]}
            names |= {"other": other, "wrong": choices[other]}
            reply = f"<think>I read it.</think>\n<answer>{answer.format(**names)}</answer>"
            assert grade_reply(reply, task).correct == right, (task.problem.id, reply)
