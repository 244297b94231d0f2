"""AgentEval inside of `fit`: gains over the first evaluation, and what must not be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_eval import Keep, Ones, data, fitted, judge, logged, records
from tiny import chats, grpo, problems, sft, trainer

from slm_math.agents import SingleShot
from slm_math.callbacks import AgentEval
from slm_math.data.base import Split
from slm_math.data.problem_data import ProblemData
from slm_math.evaluation.compare import compare
from slm_math.policy.config import Policy
from slm_math.records.record import Record
from slm_math.types import Sampling, Task


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
