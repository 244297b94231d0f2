"""`slm-math plan` on configs that need no download, its errors, and what `fit` says of a plan."""

import json

import pytest

from slm_math.cli import run
from slm_math.planning.devices import DEVICES

FAST = ["--config=fast", "--torch_threads=1"]
ANY = pytest.CaptureFixture[str]


def said_by(capsys: ANY, *arguments: str) -> tuple[int, str, str]:
    """The exit status of a plan, and what it says on stdout and stderr."""
    status = 0
    try:
        run(["plan", *arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    streams = capsys.readouterr()
    return status, streams.out, streams.err


SLOW = ("quickstart/sft", "grpo/dapo", "quickstart/vision_sft")


@pytest.mark.parametrize(
    "config",
    ["sft/lora", *(pytest.param(f, marks=pytest.mark.slow) for f in SLOW)],
)
def test_a_shipped_config_has_a_plan(config: str, capsys: ANY) -> None:
    base = ["--config=grpo/solver"] if config == "grpo/dapo" else []
    scratch = [] if config == "quickstart/vision_sft" else FAST
    plain = ["--config", '{"model": {"policy": {"lora": null}}}'] if config == "sft/lora" else []
    status, out, err = said_by(
        capsys, *base, f"--config={config}", *scratch, *plain, "--device=cpu", "--json"
    )
    assert status == 0, err
    plan = json.loads(out)
    assert plan["fits"]
    assert plan["peak_bytes"] == max(phase["bytes"] for phase in plan["phases"])
    assert plan["tokens_per_step"] > 0


def test_a_plan_fits_80_columns_and_names_its_source(capsys: ANY) -> None:
    status, out, _ = said_by(capsys, "--config=quickstart/sft", *FAST, "--device", "h200")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "of the data sheet, never measured here" in " ".join(out.split())
    assert "it fits" in out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ["--model.policy.scratch={hidden: 64, layers: 1000000000, heads: 4, ffn: 64}"],
            "the model has 1,000,000,000 layers, and a plan takes at most 1,000",
        ),
        (
            [
                "--model.policy.scratch.context=2000000000000",
                "--model.inference.sampling.max_new_tokens=1000000000000",
            ],
            "rows of up to 1,000,000,000,000 tokens is larger than a plan takes",
        ),
    ],
)
def test_absurd_sizes_are_refused_at_once(options: list[str], reason: str, capsys: ANY) -> None:
    status, _, err = said_by(capsys, "--config=quickstart/grpo", *FAST, *options, "--device=cpu")
    assert status == 2
    assert reason in err


@pytest.mark.slow
def test_what_does_not_fit_is_changed(capsys: ANY) -> None:
    # 64 rows of 512 tokens, of 200 layers: more than 24 GB of activations
    large = "{hidden: 1024, layers: 48, heads: 16, ffn: 4096}"
    status, out, err = said_by(
        capsys,
        *("--config=quickstart/sft", "--config=fast", f"--model.policy.scratch={large}"),
        *("--data.batch_size=64", "--model.tokens_per_batch=16384", "--device=4090", "--json"),
    )
    assert status == 0, err
    plan = json.loads(out)
    assert not plan["fits"]
    peaks = [plan["peak_bytes"], *(change["peak_bytes"] for change in plan["changes"])]
    assert peaks == sorted(peaks, reverse=True)
    assert len(peaks) > 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--device=tpu"], f"--device tpu: it is one of {', '.join(DEVICES)}"),
        (
            ["--model.optim.lrr=1"],
            "there is no option --model.optim.lrr: did you mean --model.optim.lr?",
        ),
        (["--model.policy={path: ./nowhere}"], "model path ./nowhere does not exist"),
        (["--trainer.precision=16-true"], "trainer.precision 16-true is not supported"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], error: str, capsys: ANY) -> None:
    status, out, err = said_by(capsys, "--config=quickstart/sft", *arguments)
    assert (status, out) == (2, "")
    assert error in err
    assert len(err.splitlines()) == 1
