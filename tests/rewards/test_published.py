"""The rewards of the published systems, from their configurations, against what was published."""

import math

import pytest
from rewards.traces import (
    CONFIGS,
    EMPTY,
    MC,
    NO,
    RIGHT,
    WRONG,
    YES,
    ran,
    reward_of,
    rewards,
    say,
    tagged,
    trace,
)

from slm_math.rewards import (
    check,
)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((RIGHT,), 1.1),
        (("The answer is 7.",), 0.9),
        ((WRONG,), -0.9),
        (("I give up.",), -0.6),
        ((r"\boxed{5 +}",), -0.4),
        ((say(RIGHT, finish="length"),), -0.4),
        (("code", ran("7"), RIGHT), 1.2),
        (("code", ran("6"), RIGHT), 0.9),
        (("code", ran(error="line 1: NameError"), WRONG), -1.1),
    ],
)
def test_slm_math(events, expected: float) -> None:
    assert reward_of("slm_math", trace(*events)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("events", "solver", "verifier"),
    [
        ((RIGHT, YES), 1.4, 1.0),
        ((RIGHT, NO), 1.0, -1.0),
        ((WRONG, YES), -0.6, -1.0),
        ((WRONG, NO, RIGHT, YES), 1.4, 1.0),
        ((WRONG, NO, RIGHT, say("hm", "verifier")), 1.1, 0.35),
        ((EMPTY,), -0.6, math.nan),
    ],
)
def test_slm_math_multi_agent(events, solver: float, verifier: float) -> None:
    what = trace(*events)
    found = [reward_of("slm_math_multi_agent", what, role) for role in ("solver", "verifier")]
    assert found == pytest.approx([solver, verifier], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "tokens", "published", "bonus", "sound"),
    [
        (tagged("7", 256), 100, 1.75, 1.75, 1.75),
        (tagged("7", 512), 319, 2.0, 2.0, 2.0),
        (tagged("7", 1500), 320, 2.0, 2.2, 2.0),
        (tagged("7", 1500), 512, 2.0, 2.2, 2.0),
        (tagged("7", 1500), 513, 2.0, 2.0, 2.0),
        (tagged("8", 256), 400, -0.75, -0.75, 0.5),
        (tagged("8", 2000), 400, -1.0, -1.0, 0.5),
        (tagged("", 128), 40, -0.625, -0.625, 0.5),
        (RIGHT, 400, -2.0, -2.0, 0.0),
        (WRONG, 400, -2.0, -2.0, 0.0),
        (EMPTY, 0, -2.0, -2.0, 0.0),
    ],
)
def test_small_math_r1(
    text: str, tokens: int, published: float, bonus: float, sound: float
) -> None:
    what = trace(say(text, tokens=tokens))
    assert reward_of("small_math_r1", what) == pytest.approx(published)
    assert reward_of("small_math_r1", what, bonus=1.0) == pytest.approx(bonus)
    assert reward_of("small_math_r1_sound", what) == pytest.approx(sound)


def test_small_math_r1_on_multiple_choice() -> None:
    what = trace(tagged("(b)", 256), task=MC)
    assert reward_of("small_math_r1", what, task=MC) == pytest.approx(1.75)


def test_configurations_pass_the_check() -> None:
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    both = {"slm_math_multi_agent"}
    assert both < names
    for name in names:
        check(rewards(name), ("solver", "verifier") if name in both else ("solver",))
