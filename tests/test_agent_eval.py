"""AgentEval inside of `fit`: several data sets, steps, engines, rewards, and its records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agent_eval import Keep, Ones, Parity, data, fitted, judge, logged, records, untimed
from evaluation.sighted import Colors, Sighted
from jsonargparse import ArgumentParser
from tiny import Endpoint, grpo, sft, trainer

from slm_math.agents import Judge
from slm_math.answers import extract
from slm_math.answers.graded import GradedTrace
from slm_math.callbacks import AgentEval
from slm_math.data.problem_data import ProblemData
from slm_math.engines.settings import Inference, RoleSampling
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.metrics.summary import summarize
from slm_math.records.files import read_records
from slm_math.rewards import Reward
from slm_math.rollout.executors import Executors
from slm_math.types import Generate, Problem, Sampling, Workflow, user


def test_two_data_sets_have_names_and_folders_of_their_own(tmp_path: Path) -> None:
    sources = {"a": Ones("first", seed=1), "b": Ones("second", seed=2)}
    run = fitted(tmp_path, judge(sources=sources, limit=9))
    found = logged(run)
    for name, source in sources.items():
        folder = tmp_path / "eval" / "epoch-0" / name / "odd"
        rows = read_records(folder / "records.jsonl")
        assert {record.problem for record in rows} <= {
            task.problem.text for task in source.tasks("validation")
        }
        assert len(rows) == 9
        assert json.loads((folder / "manifest.json").read_text())["records"] == 9
        assert found[f"eval/{name}/odd/accuracy"] == pytest.approx(
            sum(record.correct for record in rows) / 9
        )
    assert not [name for name in found if name.split("/")[1] not in sources]
    assert (records(tmp_path, "epoch-0", "a/odd")) != (records(tmp_path, "epoch-0", "b/odd"))


def test_evaluates_every_so_many_steps_too(tmp_path: Path) -> None:
    fitted(tmp_path, judge(every_n_steps=2, limit=3), limit_train_batches=5)
    folders = sorted(path.name for path in (tmp_path / "eval").iterdir())
    assert folders == ["epoch-0", "step-2", "step-4"]
    abouts = [
        json.loads((tmp_path / f"eval/{f}/odd/manifest.json").read_text())["about"] for f in folders
    ]
    assert [about["step"] for about in abouts] == [5, 2, 4]


def test_several_optimizer_steps_a_batch_do_not_skip_an_evaluation(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[judge(every_n_steps=3, limit=3)], limit_train_batches=3)
    run.fit(grpo(passes=2), ProblemData(Ones(), batch_size=4, seed=0))
    assert run.global_step == 6
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == [
        "epoch-0",
        "step-4",
        "step-6",
    ]


def test_limit_takes_the_same_problems_every_time(tmp_path: Path) -> None:
    fitted(tmp_path, judge(limit=5, at_start=True), max_epochs=2)
    chosen = [
        [record.id for record in records(tmp_path, name)]
        for name in ("start", "epoch-0", "epoch-1")
    ]
    assert sorted(chosen[0]) == sorted(chosen[1]) == sorted(chosen[2])
    assert len(set(chosen[0])) == 5


def test_names_are_the_same_in_every_evaluation(tmp_path: Path) -> None:
    keep = Keep()
    fitted(tmp_path, judge(samples=2), keep, max_epochs=2)
    names = [{name.removeprefix("eval/odd/") for name in epoch} for epoch in keep.epochs]
    core = {
        "accuracy",
        "low",
        "high",
        "n",
        "problems",
        "strict",
        "lenient",
        "hedged",
        "no_answer",
        "truncated",
    }
    core |= {
        "tokens",
        "length",
        "pass@2",
        "maj@2",
        "pass@2_low",
        "maj@2_high",
        "errors",
        "undecided",
        "seconds",
    }
    assert core <= names[0]
    assert names[1] - names[0] >= {"gain", "gain_low", "gain_high", "gain_p"}
    metrics = summarize(records(tmp_path, "epoch-1")).all_metrics()
    for name in core:
        assert keep.epochs[1][f"eval/odd/{name}"] == pytest.approx(metrics[name]), name


def test_the_blind_control_is_logged_and_written_beside(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    class Seeing(Parity):
        roles = ("solver", "eyes")

        def solve(self, problem: Problem) -> Workflow[str | None]:
            [reply] = yield [Generate(user(problem.text, problem.images), "eyes")]
            return extract(reply.text).value

    sources: Any = {"colors": Colors(str(tmp_path / "data"))}
    eval_ = AgentEval(
        {"odd": Seeing()},
        sources=sources,
        engines={"eyes": Sighted()},
        split="test",
        blank_images=True,
    )
    found = logged(fitted(tmp_path, eval_))
    assert found["eval/colors/odd/blind_accuracy"] == pytest.approx(0.5)
    assert found["eval/colors/odd/seeing_gain"] == pytest.approx(0.5)
    assert found["eval/colors/odd/seeing_problems"] == 6
    assert found["eval/colors/odd/accuracy"] == 1.0
    assert len(records(tmp_path, "epoch-0", "colors/odd")) == 8
    assert all(record.blind for record in records(tmp_path, "epoch-0", "colors/odd.blind"))
    assert "100.0 with images, 50.0 blind: +50.0" in capsys.readouterr().out


def test_role_with_an_engine_of_its_own_is_served_by_it(tmp_path: Path) -> None:
    class Judged(Parity):
        roles = ("solver", "judge")

        def solve(self, problem: Problem) -> Workflow[str | None]:
            [reply] = yield [Generate(user(problem.text), "judge")]
            return reply.text

    endpoint = Endpoint()
    eval_ = AgentEval({"odd": Judged()}, limit=4, engines={"judge": endpoint})
    fitted(tmp_path, eval_)
    assert [record.answer for record in records(tmp_path, "epoch-0")] == ["yes"] * 4
    assert endpoint.asked == 4


class Approved(Reward):
    """Asks a judge about every trace."""

    roles = ("judge",)

    def __call__(self, graded: GradedTrace) -> Workflow[float]:
        [reply] = yield [Generate(user(graded.task.problem.text), "judge")]
        return float(reply.text == "yes")


def test_rewards_that_ask_are_in_the_records_of_an_evaluation(tmp_path: Path) -> None:
    endpoint = Endpoint()
    module = grpo(rewards=[Approved()], engines={"judge": endpoint})
    run = trainer(tmp_path, callbacks=[judge(limit=3, samples=2)])
    run.validate(module, ProblemData(Ones(), batch_size=4, seed=0), verbose=False)
    assert endpoint.asked == 6
    found = records(tmp_path, "validate")
    assert [record.rewards for record in found] == [{"solver": 1.0}] * 6
    assert [record.parts for record in found] == [{"solver": {"approved": 1.0}}] * 6
    summary = json.loads((tmp_path / "eval" / "validate" / "odd" / "summary.json").read_text())
    assert (summary["reward"], summary["n"], summary["partial"]) == (1.0, 6, False)


@pytest.mark.parametrize(
    "options", [{"every_n_epochs": 0}, {"every_n_steps": 0}, {"agents": {}}], ids=str
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="AgentEval"):
        AgentEval(**({"agents": {"odd": Parity()}} | options))


@pytest.mark.parametrize(
    ("inference", "message"),
    [
        (Inference(slots=8, sampling=Sampling(0.0)), "set them in model.inference"),
        (Inference(sampling=Sampling(0.0), roles={"critic": RoleSampling(0.5)}), "names critic"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(inference: Inference, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AgentEval({"odd": Parity()}, inference=inference)


def test_an_agent_that_cannot_take_the_problems_is_refused_before_training(tmp_path: Path) -> None:
    module, engines = sft(), {"verifier": Endpoint()}
    evaluation = AgentEval({"odd": Parity(), "verifier": Judge(runs=0)}, engines=engines)
    with pytest.raises(ValueError, match=r"agent verifier: problem .* has no draft to judge"):
        fitted(tmp_path, evaluation, module=module)
    assert module.loaded is None


def test_the_former_name_of_sampling_works_and_says_so() -> None:
    with pytest.warns(UserWarning, match=r"called inference\.sampling now"):
        old = AgentEval({"odd": Parity()}, sampling=Sampling(0.5))
    assert old.inference == Inference(sampling=Sampling(0.5))


def test_the_former_sampling_of_a_config_keeps_the_rest_of_the_defaults() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AgentEval, "eval")
    agents = {"one": {"class_path": "slm_math.agents.SingleShot"}}
    options = {"agents": agents, "sampling": {"max_new_tokens": 64}}
    config = {"class_path": "slm_math.callbacks.AgentEval", "init_args": options}
    with pytest.warns(UserWarning, match="called inference"):
        made = parser.instantiate_classes(parser.parse_object({"eval": config})).eval
    assert made.inference == Inference(sampling=Sampling(0.0, max_new_tokens=64))


def test_records_are_those_of_evaluate_with_the_same_engine(tmp_path: Path) -> None:
    module, sampling = sft(), Sampling(0.8, max_new_tokens=6)
    run = trainer(tmp_path, callbacks=[judge(samples=2, sampling=sampling, seed=3)])
    run.validate(module, data(), verbose=False)
    tasks = Ones().tasks("validation")
    plain = tmp_path / "plain"
    executors = Executors(module.engines(), {"default": sampling})
    plan = Plan(Parity(), tasks, samples=2, seed=3)
    ours = evaluate(plan, executors, Output(plain)).records
    assert len(ours) == 56
    assert untimed(list(ours)) == untimed(records(tmp_path, "validate"))
    manifests = [
        json.loads((f / "manifest.json").read_text())
        for f in (plain, tmp_path / "eval" / "validate" / "odd")
    ]
    for name in ("agent", "data", "problems", "samples", "seed", "sampling", "engines"):
        assert manifests[0]["identity"][name] == manifests[1]["identity"][name]
