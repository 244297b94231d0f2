"""AgentEval inside of `fit`: several data sets, steps, gains, a resumed run, and what must not be
trained on.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from jsonargparse import ArgumentParser
from tiny import Endpoint, Worked, chats, grpo, problems, sft, trainer, with_inference

from callbacks import AgentEval
from slm_math.agents import Agent, SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.data.base import Split
from slm_math.data.chat_data import ChatData
from slm_math.data.problem_data import ProblemData
from slm_math.engines.settings import Inference, RoleSampling
from slm_math.evaluation.compare import compare
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.metrics.summary import summarize
from slm_math.policy.config import Policy
from slm_math.prompts import render
from slm_math.records.files import read_records
from slm_math.records.record import NoteEvent, Record
from slm_math.rewards import Reward
from slm_math.rollout.scheduler import Executors
from slm_math.types import Generate, Problem, Sampling, Task, Workflow, user


class Parity(Agent):
    """Answers 1 when its reply has an odd number of characters: any model is right now and then."""

    roles = ("solver", "judge")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        [reply] = yield [Generate(user(render("solve_plain", problem=problem.text)))]
        return str(len(reply.text) % 2)


class Ones(Worked):
    """Problems whose answer is 1; `leak` puts so many training problems into the
    validation split.
    """

    def __init__(self, name: str = "ones", leak: int = 0, seed: int = 0) -> None:
        super().__init__(seed=seed, train=84, validation=28, test=14)
        self.name, self.leak = name, leak

    def tasks(self, split: Split) -> list[Task]:
        tasks = [replace(task, gold="1") for task in super().tasks(split)]
        if split == "validation" and self.leak:
            train = super().tasks("train")[: self.leak]
            copies = [
                (i, task.problem.text.replace(" ", "  ").upper()) for i, task in enumerate(train)
            ]
            tasks += [Task(Problem(f"copy/{i}", text, "num"), "1") for i, text in copies]
        return tasks


def judge(**options: Any) -> AgentEval:
    defaults: dict[str, Any] = {"limit": None, "sampling": Sampling(0.0, max_new_tokens=6)}
    return AgentEval({"odd": Parity()}, **with_inference(defaults | options))


def data(source: Any = None, batch_size: int = 8) -> ChatData:
    return ChatData(source or Ones(), batch_size=batch_size, prompt="solve_plain", seed=0)


def fitted(
    root: Path, *callbacks: L.Callback, module: Any = None, source: Any = None, **options: Any
) -> L.Trainer:
    run = trainer(root, callbacks=list(callbacks), **({"limit_train_batches": 2} | options))
    run.fit(module or sft(), data(source), ckpt_path=options.get("ckpt"))
    return run


def logged(run: L.Trainer) -> dict[str, float]:
    found = {name: value.item() for name, value in run.callback_metrics.items()}
    return {name: value for name, value in found.items() if name.startswith("eval/")}


def records(root: Path, name: str, agent: str = "odd") -> list[Record]:
    return read_records(root / "eval" / name / agent / "records.jsonl")


def untimed(records: list[Record]) -> list[Record]:
    return [
        replace(
            record,
            seconds=0.0,
            events=tuple(
                event if isinstance(event, NoteEvent) else replace(event, seconds=0.0)
                for event in record.events
            ),
        )
        for record in sorted(records, key=lambda record: record.key)
    ]


class Keep(L.Callback):
    """What was logged at the end of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs.append(logged(trainer))


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


def test_role_with_an_engine_of_its_own_is_served_by_it(tmp_path: Path) -> None:
    class Judged(Parity):
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
    with pytest.raises(ValueError, match="AgentEval needs"):
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


def test_the_former_name_of_sampling_works_and_says_so() -> None:
    with pytest.warns(UserWarning, match=r"called inference\.sampling now"):
        old = AgentEval({"odd": Parity()}, sampling=Sampling(0.5))
    assert old.inference == Inference(sampling=Sampling(0.5))


def test_the_former_sampling_of_a_config_keeps_the_rest_of_the_defaults() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AgentEval, "eval")
    agents = {"one": {"class_path": "slm_math.agents.SingleShot"}}
    options = {"agents": agents, "sampling": {"max_new_tokens": 64}}
    config = {"class_path": "callbacks.AgentEval", "init_args": options}
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


def check_gain(found: dict[str, float], before: list[Record], after: list[Record]) -> None:
    [expected] = compare({"a": before, "b": after})
    values = {
        "": expected.difference,
        "_low": expected.low,
        "_high": expected.high,
        "_p": expected.p,
    }
    assert {end: found[f"eval/odd/gain{end}"] for end in values} == pytest.approx(values)
    share = [sum(record.correct for record in rows) / len(rows) for rows in (before, after)]
    assert found["eval/odd/gain"] == pytest.approx(share[1] - share[0], abs=1e-6)


@pytest.mark.parametrize("samples", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_gain_is_the_paired_difference_to_the_first_evaluation(
    samples: int, tmp_path: Path
) -> None:
    keep = Keep()
    sampling = Sampling(1.0, max_new_tokens=6)
    fitted(tmp_path, judge(samples=samples, sampling=sampling), keep, max_epochs=3)
    rows = [records(tmp_path, f"epoch-{i}") for i in range(3)]
    # there is something to compare
    assert [record.correct for record in rows[0]] != [record.correct for record in rows[2]]
    assert not [name for name in keep.epochs[0] if "/gain" in name]
    check_gain(keep.epochs[1], rows[0], rows[1])
    check_gain(keep.epochs[2], rows[0], rows[2])


def test_evaluation_before_training_is_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    run = fitted(tmp_path, judge(at_start=True), limit_train_batches=8)
    check_gain(logged(run), records(tmp_path, "start"), records(tmp_path, "epoch-0"))
    shown = capsys.readouterr().out
    [expected] = compare({"a": records(tmp_path, "start"), "b": records(tmp_path, "epoch-0")})
    assert "since start" in " ".join(shown.split())
    assert f"{100 * expected.difference:+.1f}" in shown


def test_first_evaluation_is_remembered_by_a_resumed_run(tmp_path: Path) -> None:
    keep = Keep()
    run = fitted(tmp_path, judge(at_start=True))
    run.save_checkpoint(tmp_path / "half.ckpt")
    options: Any = {"max_epochs": 2, "limit_train_batches": 4}
    again = trainer(tmp_path, callbacks=[judge(at_start=True), keep], **options)
    again.fit(sft(), data(), ckpt_path=tmp_path / "half.ckpt")
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == [
        "epoch-0",
        "epoch-1",
        "start",
    ]
    check_gain(keep.epochs[-1], records(tmp_path, "start"), records(tmp_path, "epoch-1"))


def refused(
    tmp_path: Path, module: Any, datamodule: Any, eval_: AgentEval, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The error instead of training; no model may be loaded before."""

    def load(self: Policy, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Policy, "load", load)
    with pytest.raises(ValueError, match="are among the training problems") as caught:
        trainer(tmp_path, callbacks=[eval_]).fit(module, datamodule)
    assert not (tmp_path / "eval").exists()
    return str(caught.value)


def test_training_on_evaluated_problems_is_refused_before_a_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refused(tmp_path, sft(), data(Ones(leak=3)), judge(), monkeypatch)
    for text in (
        "3 of the 31 problems",
        "validation split of ones",
        "copy/0",
        "allow_overlap: true",
    ):
        assert text in message


def test_grpo_on_evaluated_problems_of_another_source_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {"clean": Ones("clean", seed=1), "dirty": Ones("dirty", leak=2)}
    train = ProblemData(Ones(), batch_size=4, seed=0)
    assert "2 of the 30 problems" in refused(
        tmp_path, grpo(), train, judge(sources=sources), monkeypatch
    )


def test_problems_that_a_limit_leaves_out_of_training_may_be_evaluated(tmp_path: Path) -> None:
    train = ProblemData(Ones(), batch_size=4, limit=8, seed=0)
    train.setup("fit")
    texts = {task.problem.text for task in train.tasks}
    others = [task for task in Ones().tasks("train") if task.problem.text not in texts][:5]

    class Rest(Ones):
        def tasks(self, split: Split) -> list[Task]:
            return others

    run = trainer(tmp_path, callbacks=[judge(sources={"rest": Rest()})], limit_train_batches=1)
    run.fit(grpo(), ProblemData(Ones(), batch_size=4, limit=8, seed=0))
    assert len(records(tmp_path, "epoch-0", "rest/odd")) == 5


def test_overlap_is_allowed_when_it_is_asked_for(tmp_path: Path) -> None:
    fitted(tmp_path, judge(allow_overlap=True), source=Ones(leak=3), limit_train_batches=1)
    assert len(records(tmp_path, "epoch-0")) == 31


def test_validation_without_training_is_not_refused(tmp_path: Path) -> None:
    trainer(tmp_path, callbacks=[judge()]).validate(sft(), data(Ones(leak=3)), verbose=False)
    assert len(records(tmp_path, "validate")) == 31


def test_problems_elsewhere_than_in_training_are_no_overlap(tmp_path: Path) -> None:
    trainer(
        tmp_path,
        callbacks=[AgentEval({"one": SingleShot("solve_plain")}, limit=3)],
        limit_train_batches=1,
    ).fit(sft(), chats())
    trainer(tmp_path / "grpo", callbacks=[judge(limit=3)], limit_train_batches=1).fit(
        grpo(), problems()
    )
