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
from torch.distributed import HashStore

from slm_math.agents import SingleShot
from slm_math.answers.graded import GradedTrace
from slm_math.callbacks import RolloutLog, Watchdog, watchdog
from slm_math.training import TrainingCLI
from slm_math.types import Generate, Problem, user

CONFIGS = Path(__file__).parents[1] / "configs"
SOON = 0.005  # minutes: 0.3 s
STALL = re.compile(r"no progress for ([\d.]+) s: (.*); it stands at\n((?:  .*\n)+)")


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
    """Stands still before one batch until so many stalls were told of it."""

    def __init__(self, said: list[str], batch: int = 1, stalls: int = 1) -> None:
        self.said, self.batch, self.stalls = said, batch, stalls

    def _start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int, *rest: Any
    ) -> None:
        end = time.monotonic() + 120
        while (
            batch_idx == self.batch
            and len(stalls("".join(self.said), "_start")) < self.stalls
            and time.monotonic() < end
        ):
            time.sleep(0.2)

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = (
        on_predict_batch_start
    ) = _start


class Clock:
    """Stands for the watchdog's `time`: only those who move it let time go by."""

    def __init__(self) -> None:
        self.now, self.asked = 0.0, 0

    def monotonic(self) -> float:
        self.asked += 1
        return self.now


class Steady(L.Callback):
    """Lets some seconds of a clock go by before each batch, and the watchdog look at it."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds, self.clock = seconds, clock

    def on_train_batch_start(self, *args: Any) -> None:
        self.clock.now += self.seconds
        asked, end = self.clock.asked, time.monotonic() + 120
        while self.clock.asked == asked and time.monotonic() < end:
            time.sleep(0.005)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(watchdog, "time", Clock())
    return watchdog.time  # type: ignore[return-value]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What watchdogs said so far; it is said all the same."""
    texts: list[str] = []
    say = watchdog.say

    def note(text: str) -> None:
        say(text)
        texts.append(text + "\n")

    monkeypatch.setattr(watchdog, "say", note)
    return texts


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first model of a process is slow to come: that is no stall these tests are about."""
    trainer(tmp_path_factory.mktemp("warm"), limit_train_batches=1).fit(grpo(), problems())


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "watchdog"]


def gone() -> bool:
    """Whether every watchdog ended, within a moment."""
    for thread in watchers():
        thread.join(60)
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
    run.fit(grpo(agent=SleepyAgent(2.0, after=20), slots=4), problems())
    (seconds, place, frames), *_ = stalls(capsys.readouterr().err, "read")
    assert seconds >= 0.3
    assert re.fullmatch(r"rollouts, 1\d of 28 done \(epoch 0, step 0\)", place)
    assert frames[0] == f"{__file__}:{line_of(SleepyAgent.read, 'time.sleep')} read"
    assert re.fullmatch(r"slm_math/rollout/scheduler\.py:\d+ \w+", frames[1])


def test_stall_in_a_reward_shows_its_line_and_who_called_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, limit_train_batches=1, callbacks=[Watchdog(SOON)])
    run.fit(grpo(rewards=[SleepyReward(2.0)]), problems())
    (_, place, frames), *_ = stalls(capsys.readouterr().err, "__call__")
    assert place == "rewards, 0 of 28 done (epoch 0, step 0)"
    names = [frame.rsplit(" ", 1)[1] for frame in frames[1:]]
    assert names.index("called") < names.index("score_traces")


def test_stall_is_reported_at_doubling_intervals_and_so_is_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: list[str]
) -> None:
    sleeper = Sleeper(said, stalls=3)
    run = trainer(tmp_path, limit_train_batches=2, callbacks=[Watchdog(SOON), sleeper])
    run.fit(grpo(), problems())
    err = capsys.readouterr().err
    first, second, third, *_ = (seconds for seconds, *_ in stalls(err, "_start"))
    assert first >= 0.3
    assert second >= 0.6
    assert third >= 1.2
    ends = [float(seconds) for seconds in re.findall(r"things move again after ([\d.]+) s", err)]
    assert max(ends) >= 1.2  # on a busy machine something else may have stood still, too


def test_no_report_while_there_is_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    module = grpo()
    # 3 s are a stall, 4.8 s go by, of which the watchdog sees all but the first 1.2
    run = trainer(tmp_path, callbacks=[Watchdog(0.05), Steady(1.2, clock)])
    run.fit(module, problems())
    assert clock.now == pytest.approx(4.8)
    assert capsys.readouterr().err.count("moved") == 0
    assert module.heartbeats > 100


def test_batch_ends_of_sft_are_moves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    module = sft()
    callbacks = [Watchdog(0.05), Steady(1.0, clock)]
    run = trainer(tmp_path, limit_train_batches=5, callbacks=callbacks)
    run.fit(module, chats())
    assert clock.now == pytest.approx(5.0)
    assert "moved" not in capsys.readouterr().err


def test_stages_are_watched_one_after_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: list[str]
) -> None:
    run = trainer(tmp_path, callbacks=[Watchdog(SOON), Sleeper(said, batch=0)])
    module, data = sft(), chats()
    for stage in ("validate", "test", "predict"):
        said.clear()
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


def test_watchdog_ends_without_a_stop_call(tmp_path: Path) -> None:
    dog = Watchdog(SOON)
    state = SimpleNamespace(status="running", fn=None)
    dog.setup(
        SimpleNamespace(world_size=1, global_rank=0, state=state), SimpleNamespace(pulse=0), "fit"
    )  # type: ignore[arg-type]
    [thread] = watchers()
    assert thread.daemon
    state.status = "interrupted"
    assert gone()


def test_each_of_several_ranks_says_its_name(
    capsys: pytest.CaptureFixture[str], said: list[str]
) -> None:
    dog = Watchdog(SOON)
    state = SimpleNamespace(status="running", fn=SimpleNamespace(value="fit"))
    run: Any = SimpleNamespace(
        world_size=2, global_rank=1, state=state, current_epoch=3, global_step=9
    )
    dog.setup(run, SimpleNamespace(pulse=0, phase=("update", 2, 4)), "fit")  # type: ignore[arg-type]
    end = time.monotonic() + 120
    while not said and time.monotonic() < end:
        time.sleep(0.05)
    dog.teardown(run, None, "fit")  # type: ignore[arg-type]
    err = capsys.readouterr().err
    assert re.match(r"rank 1: no progress for [\d.]+ s: update", err)
    assert ": update, 2 of 4 done (epoch 3, step 9); it stands at" in err
    assert gone()


def test_stall_of_a_rank_is_told_by_the_ranks_that_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    store = HashStore()
    monkeypatch.setattr(watchdog.Ranks, "_store", lambda self: store)
    dogs = []
    for rank, phase in enumerate((("update", 2, 4), ("rollouts", 7, 8))):
        state = SimpleNamespace(status="running", fn=SimpleNamespace(value="fit"))
        run: Any = SimpleNamespace(
            world_size=3, global_rank=rank, state=state, current_epoch=0, global_step=5
        )
        dogs.append((Watchdog(SOON), run))
        dogs[-1][0].setup(run, SimpleNamespace(phase=phase), "fit")  # type: ignore[arg-type]
    end, told = time.monotonic() + 120, ""
    while "rank 1 stands" not in told and time.monotonic() < end:
        time.sleep(0.05)
        told = "".join(text for text in said if text.startswith("rank 0:"))
    for dog, run in dogs:
        dog.teardown(run, None, "fit")  # type: ignore[arg-type]
    assert "\n  rank 1 stands in rollouts, 7 of 8 done (epoch 0, step 5), at " in told
    assert "\n  rank 2 moves\n" in told
    assert gone()


def test_rank_that_moves_again_stands_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    monkeypatch.setattr(watchdog.Ranks, "_store", lambda self: store)
    first, second = watchdog.Ranks(0, 2), watchdog.Ranks(1, 2)
    second.tell("update, at a.py:3 f")
    assert first.others() == "\n  rank 1 stands in update, at a.py:3 f"
    second.tell("")
    assert first.others() == "\n  rank 1 moves"


def test_command_line_adds_watchdog_and_log_unless_they_are_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without a subcommand it would be the option `data`
    monkeypatch.delenv("SLM_MATH_DATA", raising=False)
    configs = [f"--config={CONFIGS / name}" for name in ("grpo/solver.yaml", "fast.yaml")]
    own = "--trainer.callbacks+={class_path: slm_math.callbacks.Watchdog, init_args: {minutes: 7}}"
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
