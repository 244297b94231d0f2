"""A model of one's own, or one with random weights: the one that is named last is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny import model_folder

from slm_math.cli import run

SFT = ["fit", "--config=sft/full"]


def policy_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """The policy of the configuration that these arguments of `fit` make."""
    with pytest.raises(SystemExit):
        run([*SFT, *arguments, "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["policy"]


def test_a_folder_takes_the_place_of_random_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(model_folder(tmp_path))
    policy = policy_of(capsys, "--config=fast", "--model.policy.path", folder)
    assert (policy["path"], policy["scratch"]) == (folder, None)


def test_random_weights_take_the_place_of_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    policy = policy_of(capsys, "--model.policy.scratch.hidden=32")
    assert policy["path"] is None
    assert policy["scratch"]["hidden"] == 32  # type: ignore[index]


def test_a_folder_before_a_file_without_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run([*SFT, "--model.policy.path=mine", "--config=fast"])
    assert "--model.policy.path mine has no effect before --config fast" in capsys.readouterr().err
