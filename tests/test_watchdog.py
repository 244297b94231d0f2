"""The watchdog: what it says about a stall, when it is silent, and that it goes when the work is
over.
"""

import re
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from tiny import Even, chats, grpo, problems, sft, trainer

from callbacks import RolloutLog, Watchdog
from slm_math.agents import SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.training import TrainingCLI
from slm_math.types import Generate, Problem, user

CONFIGS = Path(__file__).parents[1] / "configs"
SOON = 0.005  # minutes: 0.3 s
STALL = re.compile(r"nothing has moved for ([\d.]+) s: (.*); it stands at\n((?:  .*\n)+)")


class SleepyAgent(SingleShot):
    """Sleeps once, when so many replies have come."""

    def __init__(self, seconds: float, after: int) -> None:
        super().__init__("solve_plain")
        self.seconds, self.left = seconds, after

    def read(self) -> None:
        self.left -= 1
        if self.left == 0:
            time.sleep(self.seconds)

    def solve(self, problem: Problem) -> Any:
        replies = yield [Generate(user(problem.text))]
        self.read()
        return replies[0].text


class SleepyReward(Even):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.left = seconds

    def __call__(self, graded: GradedTrace) -> float:
        seconds, self.left = self.left, 0.0
        time.sleep(seconds)
        return super().__call__(graded)


class Sleeper(L.Callback):
    """Sleeps before one batch, or all the time a little."""

    def __init__(self, seconds: float, batch: int | None = 1) -> None:
        self.seconds, self.batch = seconds, batch

    def _start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        if self.batch in (None, batch_idx):
            time.sleep(self.seconds)

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = (
        on_predict_batch_start
    ) = _start


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first model of a process is slow to come: that is no stall these tests are about."""
    trainer(tmp_path_factory.mktemp("warm"), limit_train_batches=1).fit(grpo(), problems())


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "watchdog"]


def gone() -> bool:
    """Whether every watchdog ended, within a moment."""
    for thread in watchers():
        thread.join(2)
    return not watchers()


def stalls(text: str, where: str) -> list[tuple[float, str, list[str]]]:
    """(seconds, place, frames) of every stall that was told of a function; a busy machine may have
    others.
    """
    found = [
        (float(m[1]), m[2], [line.strip() for line in m[3].splitlines()])
        for m in STALL.finditer(text)
    ]
    return [stall for stall in found if stall[2][0].endswith(f" {where}")]


def line_of(function: Any, text: str) -> int:
    """The line number of a text in a function of this file."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    start = function.__code__.co_firstlineno
    return next(i for i, line in enumerate(lines[start - 1 :], start) if text in line)


def test_stall_in_rollouts_names_phase_count_and_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, limit_train_batches=1, callbacks=[Watchdog(SOON)])
    run.fit(grpo(agent=SleepyAgent(0.8, after=20), slots=4), problems())
    (seconds, place, frames), *_ = stalls(capsys.readouterr().err, "read")
    assert seconds >= 0.3
    assert re.fullmatch(r"rollouts, 1\d of 28 done \(epoch 0, step 0\)", place)
    assert frames[0] == f"{__file__}:{line_of(SleepyAgent.read, 'time.sleep')} read"
    assert re.fullmatch(r"slm_math/rollout/scheduler\.py:\d+ \w+", frames[1])


def test_stall_in_a_reward_shows_its_line_and_who_called_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, limit_train_batches=1, callbacks=[Watchdog(SOON)])
    run.fit(grpo(rewards=[SleepyReward(0.7)]), problems())
    (_, place, frames), *_ = stalls(capsys.readouterr().err, "__call__")
    assert place == "rewards, 0 of 28 done (epoch 0, step 0)"
    assert [frame.rsplit(" ", 1)[1] for frame in frames[1:3]] == ["called", "score_traces"]


def test_stall_is_told_at_doubling_intervals_and_so_is_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, limit_train_batches=2, callbacks=[Watchdog(SOON), Sleeper(1.8)])
    run.fit(grpo(), problems())
    err = capsys.readouterr().err
    first, second, third, *_ = (seconds for seconds, *_ in stalls(err, "_start"))
    assert first >= 0.3
    assert second >= 0.6
    assert third >= 1.2
    ends = [float(seconds) for seconds in re.findall(r"things move again after ([\d.]+) s", err)]
    assert max(ends) >= 1.7  # on a busy machine something else may have stood still, too


def test_nothing_is_said_while_things_move(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = grpo()
    # 3 s are a stall, 3.6 s go by
    run = trainer(tmp_path, callbacks=[Watchdog(0.05), Sleeper(0.9, None)])
    run.fit(module, problems())
    assert capsys.readouterr().err.count("moved") == 0
    assert module.pulse > 100


def test_batch_ends_of_sft_are_moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = sft()
    run = trainer(tmp_path, limit_train_batches=5, callbacks=[Watchdog(0.05), Sleeper(0.7, None)])
    run.fit(module, chats())
    assert "moved" not in capsys.readouterr().err


def test_stages_are_watched_one_after_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, callbacks=[Watchdog(SOON), Sleeper(0.5, 0)])
    module, data = sft(), chats()
    for stage in ("validate", "test", "predict"):
        getattr(run, stage)(module, data)
        (_, place, _), *_ = stalls(capsys.readouterr().err, "_start")
        assert place == f"start ({stage})"
        assert gone()


@pytest.mark.parametrize("error", [InterruptedError, KeyboardInterrupt])
def test_watchdog_ends_with_a_stage_that_breaks(error: type[BaseException], tmp_path: Path) -> None:
    running: list[int] = []

    class Break(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            running.append(len(watchers()))
            raise error

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises((error, SystemExit)):
        trainer(tmp_path, callbacks=[Watchdog(SOON), Break()]).fit(sft(), chats())
    signal.signal(signal.SIGINT, before)  # Lightning ignores it from its first interrupt on
    assert running == [1]
    assert gone()


def test_watchdog_ends_when_nobody_tells_it_to(tmp_path: Path) -> None:
    dog = Watchdog(SOON)
    state = SimpleNamespace(status="running", fn=None)
    dog.setup(SimpleNamespace(world_size=1, state=state), SimpleNamespace(pulse=0), "fit")  # type: ignore[arg-type]
    [thread] = watchers()
    assert thread.daemon
    state.status = "interrupted"
    assert gone()


def test_each_of_several_ranks_says_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    dog = Watchdog(SOON)
    state = SimpleNamespace(status="running", fn=SimpleNamespace(value="fit"))
    run: Any = SimpleNamespace(
        world_size=2, global_rank=1, state=state, current_epoch=3, global_step=9
    )
    dog.setup(run, SimpleNamespace(pulse=0, phase=("update", 2, 4)), "fit")  # type: ignore[arg-type]
    time.sleep(0.6)
    dog.teardown(run, None, "fit")  # type: ignore[arg-type]
    err = capsys.readouterr().err
    assert err.startswith("rank 1: nothing has moved for 0.")
    assert ": update, 2 of 4 done (epoch 3, step 9); it stands at" in err
    assert gone()


def test_command_line_adds_watchdog_and_log_unless_they_are_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without a subcommand it would be the option `data`
    monkeypatch.delenv("SLM_MATH_DATA", raising=False)
    configs = [f"--config={CONFIGS / name}" for name in ("grpo/solver.yaml", "fast.yaml")]
    own = "--trainer.callbacks+={class_path: callbacks.Watchdog, init_args: {minutes: 7}}"
    for extra, minutes in (([], [5]), ([own], [7])):
        args = [
            *configs,
            f"--trainer.default_root_dir={tmp_path}",
            "--trainer.accelerator=cpu",
            *extra,
        ]
        found = TrainingCLI(args, run=False).trainer.callbacks
        assert [callback.minutes for callback in found if isinstance(callback, Watchdog)] == minutes
        assert sum(isinstance(callback, RolloutLog) for callback in found) == 1
