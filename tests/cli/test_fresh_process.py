"""A process that has imported nothing knows every short name, and its first training warns of
nothing.
"""

import pytest
import yaml
from cli.fresh import ROOT, fit, slm_math, warnings

EVALUATION = (
    "{class_path: AgentEval, agents: {x: SingleShot}, "
    "engines: {x: {class_path: OpenAIEngine, base_url: 'http://a:1', model: m}}}"
)
SHORT = [
    *("fit", "--model", "GRPOModule", "--model.policy.path", "a/b"),
    *("--model.agent", "SingleShot", "--model.rewards+", "Correct"),
    *("--model.engines.judge", "CheckpointEngine", "--model.engines.judge.path", "a/b"),
    "--model.engines.server={class_path: VLLMServers, urls: ['http://a:1']}",
    *("--data", "ProblemData", "--data.source", "GSM8K", "--data.source.limit", "7"),
    *("--trainer.callbacks+", "RolloutTable", "--trainer.callbacks+", EVALUATION),
    "--print_config",
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the process says: a configuration, all that a training prints."""
    folder = tmp_path_factory.mktemp("fresh")
    (folder / "configs").symlink_to(ROOT / "configs")
    return slm_math(folder, SHORT, fit("sft", "--trainer.max_epochs=1"))


@pytest.mark.slow
def test_every_short_name_is_known_without_a_config(said: list[str]) -> None:
    config = yaml.safe_load(said[0])
    assert config["model"]["class_path"] == "slm_math.modules.grpo.GRPOModule"
    model = config["model"]["init_args"]
    assert model["policy"]["path"] == "a/b"
    assert model["agent"]["class_path"] == "slm_math.agents.SingleShot"
    assert model["rewards"][-1]["class_path"] == "slm_math.rewards.Correct"
    source = config["data"]["init_args"]["source"]
    assert source["class_path"] == "slm_math.data.GSM8K"
    assert source["init_args"]["limit"] == 7
    table, evaluation = config["trainer"]["callbacks"]
    assert table["class_path"] == "slm_math.callbacks.RolloutTable"
    engines = [model["engines"]["judge"], model["engines"]["server"]]
    engines.append(evaluation["init_args"]["engines"]["x"])
    names = [engine["class_path"].rpartition(".")[2] for engine in engines]
    assert names == ["CheckpointEngine", "VLLMServers", "OpenAIEngine"]


def test_the_first_training_of_the_quickstart_does_not_warn(said: list[str]) -> None:
    assert "epoch" in said[1]
    assert not warnings(said[1])
