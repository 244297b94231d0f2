"""Classes by short names, options beside class_path, agents of several files, renamed options."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slm_math.cli import run
from slm_math.config_files import with_init_args
from slm_math.parsing import classes_first

Shown = Callable[..., dict[str, Any]]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    """The configuration that a command would run with; the notes are under "stderr"."""

    def configuration(*arguments: str) -> dict[str, Any]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run([*arguments, "--print_config"])
        streams = capsys.readouterr()
        assert stop.value.code in (0, None), streams.err
        return yaml.safe_load(streams.out) | {"stderr": streams.err}

    return configuration


def write(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return [f"--config={folder / name}.yaml" for name in files]


EVAL = ["eval", "--out=x", "--model=a/b"]
TRAIN = """
model: {class_path: GRPOModule, policy: {path: a/b}, agent: SingleShot, rewards: [Correct]}
data: {class_path: ProblemData, source: GSM8K}
"""


def test_eval_knows_agents_sources_and_engines(shown: Shown) -> None:
    agents = ["--agents.x=SolverVerifier", "--engines.verifier=OpenAIEngine"]
    engine = ["--engines.verifier.base_url=http://localhost:1", "--engines.verifier.model=m"]
    config = shown(*EVAL, "--source=Arithmetic", *agents, *engine)
    assert config["source"]["class_path"] == "slm_math.data.Arithmetic"
    assert config["agents"]["x"]["class_path"] == "slm_math.agents.SolverVerifier"
    assert config["engines"]["verifier"]["class_path"].endswith(".OpenAIEngine")


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (
            "{class_path: slm_math.data.GSM8K, limit: 3}",
            "{class_path: slm_math.data.sources.GSM8K, init_args: {limit: 3}}",
        ),
        ("Arithmetic", "slm_math.data.arithmetic.Arithmetic"),
        (
            "{class_path: GSM8K, validation: 0.1}",
            "{class_path: slm_math.data.gsm8k.GSM8K, init_args: {validation: 0.1}}",
        ),
    ],
)
def test_the_short_and_the_long_form_mean_the_same(shown: Shown, short: str, long: str) -> None:
    one, two = (
        shown(*EVAL, "--agents.x=SingleShot", f"--source={text}")["source"]
        for text in (short, long)
    )
    assert one["init_args"] == two["init_args"]
    assert one["class_path"].rpartition(".")[2] == two["class_path"].rpartition(".")[2]


def test_the_old_places_of_data_sets_are_the_same_classes() -> None:
    from slm_math import data
    from slm_math.data import modules, sources

    for name in ("GSM8K", "MATH", "MATH500", "CoT"):
        assert getattr(sources, name) is getattr(data, name)
    for name in ("ProblemData", "ChatData"):
        assert getattr(modules, name) is getattr(data, name)


def test_options_beside_the_class_at_any_depth() -> None:
    value = [{"class_path": "A", "b": {"class_path": "B", "c": 1}}, {"d": {"e": 2}}]
    inner = {"class_path": "B", "init_args": {"c": 1}}
    assert with_init_args(value) == [
        {"class_path": "A", "init_args": {"b": inner}},
        {"d": {"e": 2}},
    ]


def test_agents_of_several_files_are_all_evaluated(shown: Shown, tmp_path: Path) -> None:
    files = write(
        tmp_path,
        one="source: GSM8K\nagents: {one: SingleShot, both: {class_path: MajorityVote, k: 3}}",
        two="agents: {two: CodeFeedback, both: {class_path: MajorityVote, k: 7}}",
    )
    agents = shown(*EVAL, *files, "--agents.three=SolverVerifier")["agents"]
    assert list(agents) == ["one", "both", "two", "three"]
    assert agents["both"]["init_args"]["k"] == 7


def test_agents_of_agent_eval_are_merged_by_name_where_a_later_file_appends_it(
    shown: Shown, tmp_path: Path
) -> None:
    first = "trainer: {callbacks: [{class_path: AgentEval, limit: 5, agents: {one: SingleShot}}]}"
    evaluation = "{class_path: AgentEval, agents: {two: CodeFeedback}}"
    second = f"trainer: {{callbacks+: [{evaluation}, ExportHF]}}"
    files = write(tmp_path, one=TRAIN + first, two=second)
    callbacks = shown("fit", *files)["trainer"]["callbacks"]
    assert [item["class_path"] for item in callbacks] == [
        "slm_math.callbacks.AgentEval",
        "slm_math.callbacks.ExportHF",
    ]
    assert list(callbacks[0]["init_args"]["agents"]) == ["one", "two"]
    assert callbacks[0]["init_args"]["limit"] == 5


def test_several_callbacks_of_one_class_in_a_file_all_stay(shown: Shown, tmp_path: Path) -> None:
    monitors = (
        "{class_path: ModelCheckpoint, monitor: a}, {class_path: ModelCheckpoint, monitor: b}"
    )
    first = f"trainer: {{callbacks: [{monitors}]}}"
    files = write(tmp_path, one=TRAIN + first, two="trainer: {max_epochs: 3}")
    callbacks = shown("fit", *files)["trainer"]["callbacks"]
    assert [item["init_args"]["monitor"] for item in callbacks] == ["a", "b"]


def test_a_callback_that_a_file_appends_to_several_of_its_class_is_one_more(
    shown: Shown, tmp_path: Path
) -> None:
    checkpoint = "{{class_path: ModelCheckpoint, monitor: {}}}"
    a, b, c, d = map(checkpoint.format, "abcd")
    one = write(tmp_path, one=f"{TRAIN}trainer: {{callbacks: [{a}, {b}]}}")
    single = write(tmp_path, single=f"{TRAIN}trainer: {{callbacks: [{a}]}}")
    more = write(tmp_path, more=f"trainer: {{callbacks+: [{c}]}}")
    two = write(tmp_path, two=f"trainer: {{callbacks+: [{c}, {d}]}}")
    for files, expected in (
        ([*one, *more], "abc"),
        ([*single, *two], "acd"),
        ([*single, *more], "c"),
    ):
        callbacks = shown("fit", *files)["trainer"]["callbacks"]
        assert [item["init_args"]["monitor"] for item in callbacks] == list(expected)


def test_callbacks_without_a_plus_replace_those_of_earlier_files(
    shown: Shown, tmp_path: Path
) -> None:
    files = write(
        tmp_path,
        one=TRAIN + "trainer: {callbacks: [{class_path: AgentEval, agents: {one: SingleShot}}]}",
        two="trainer: {callbacks: [{class_path: AgentEval, agents: {two: CodeFeedback}}]}",
    )
    [callback] = shown("fit", *files)["trainer"]["callbacks"]
    assert list(callback["init_args"]["agents"]) == ["two"]


def test_old_names_of_the_options_of_eval_work_and_say_so(shown: Shown, tmp_path: Path) -> None:
    old = "policy: a/b\nsource: GSM8K\nagents: {one: SingleShot}\nslots: 3\nsampling: {top_p: 0.5}"
    files = write(tmp_path, old=old)
    config = shown(
        "eval", "--out=x", *files, "--sampling.temperature", "0.7", "--engine=transformers"
    )
    assert config["model"] == "a/b"
    assert config["inference"]["slots"] == 3
    assert config["inference"]["engine"] == "transformers"
    assert config["inference"]["sampling"]["top_p"] == 0.5
    assert config["inference"]["sampling"]["temperature"] == 0.7
    assert "slots is now called inference.slots" in config["stderr"]


def test_old_names_of_the_options_of_training_work(shown: Shown, tmp_path: Path) -> None:
    old = "model: {init_args: {slots: 3, sampling: {max_new_tokens: 9}}}"
    files = write(tmp_path, new=TRAIN, old=old)
    inference = shown(
        "fit", *files, "--model.init_args.sampling.temperature=0.7", "--model.engine=vllm"
    )["model"]["init_args"]["inference"]
    assert (inference["slots"], inference["engine"]) == (3, "vllm")
    assert inference["sampling"]["max_new_tokens"] == 9
    assert inference["sampling"]["temperature"] == 0.7


def test_the_order_of_a_class_and_its_options_does_not_matter(shown: Shown) -> None:
    options = [
        *("--data.source.limit", "7", "--data.batch_size=3", "--data.source", "GSM8K"),
        *("--data.source.validation=0.1", "--data", "ProblemData", "--model.agent.k", "5"),
        *("--model.policy.path", "a/b", "--model.agent=MajorityVote", "--model", "GRPOModule"),
    ]
    config = shown("fit", *options)
    data, model = (config[name]["init_args"] for name in ("data", "model"))
    assert (data["batch_size"], data["source"]["class_path"]) == (3, "slm_math.data.GSM8K")
    assert data["source"]["init_args"] == {"path": None, "validation": 0.1, "limit": 7}
    assert (model["policy"]["path"], model["agent"]["init_args"]["k"]) == ("a/b", 5)
    agents = shown(*EVAL, "--source=GSM8K", "--agents.x.k=3", "--agents.x", "MajorityVote")
    assert agents["agents"]["x"]["init_args"]["k"] == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--a.b 1 --a K", "--a K --a.b 1"),
        (
            "--a.b.c -1 --a.b={class_path:K} --d 2 --a my.K",
            "--d 2 --a my.K --a.b={class_path:K} --a.b.c -1",
        ),
        # a class that was named before, what is no class, and lists, whose order counts
        ("--a K --a.b 1 --a L", "--a K --a.b 1 --a L"),
        ("--trainer.x 1 --trainer file.yaml", "--trainer.x 1 --trainer file.yaml"),
        ("--r+ K --r.w 1 --r+ L --r.w 2", "--r+ K --r.w 1 --r+ L --r.w 2"),
        ("--r.w 1 --config f --help", "--r.w 1 --config f --help"),
        ("fit --a.b 1 2 --a.class_path=K", "fit --a.class_path=K --a.b 1 2"),
        # later files win over an option, and so it stays in front of them
        ("--a.b 1 --config f --a K", "--a.b 1 --config f --a K"),
        ("--a.b 1 -c f --a K", "--a.b 1 -c f --a K"),
    ],
)
def test_only_options_without_their_class_move(given: str, expected: str) -> None:
    assert classes_first(given.split()) == expected.split()


def test_old_names_work_in_the_environment_and_say_so(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = ["eval", "--out=x", "--source=GSM8K", "--agents.x=SingleShot"]
    monkeypatch.setenv("SLM_MATH_EVAL_POLICY", "a/b")
    monkeypatch.setenv("SLM_MATH_EVAL_SLOTS", "3")
    monkeypatch.setenv("SLM_MATH_EVAL_SAMPLING__TOP_P", "0.5")
    config = shown(*evaluation)
    assert config["model"] == "a/b"
    assert config["inference"]["slots"] == 3
    assert config["inference"]["sampling"]["top_p"] == 0.5
    assert config["stderr"].count("option policy is now called model") == 1
    assert config["stderr"].count("option sampling is now called inference.sampling") == 1
    monkeypatch.setenv("SLM_MATH_EVAL_MODEL", "c/d")
    assert shown(*evaluation)["model"] == "c/d"
    monkeypatch.setenv("SLM_MATH_FIT__MODEL", "{class_path: GRPOModule, slots: 3}")
    fit = ["--model.policy.path=a/b", "--data=ProblemData", "--data.source=GSM8K"]
    config = shown("fit", *fit)
    assert config["model"]["init_args"]["inference"]["slots"] == 3
    assert config["stderr"].count("option model.slots is now called model.inference.slots") == 1


def test_the_environment_of_the_help_works(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["--help"])
    said = re.findall(r"(SLM_MATH_\w+)=(\d+)", capsys.readouterr().out)
    assert [name.split("_")[2] for name, _ in said] == ["FIT", "EVAL"]
    for name, value in said:
        monkeypatch.setenv(name, value)
    fit = shown(
        "fit",
        "--model=GRPOModule",
        "--model.policy.path=a/b",
        "--data=ProblemData",
        "--data.source=GSM8K",
    )
    evaluation = shown(*EVAL, "--source=GSM8K", "--agents.x=SingleShot")
    assert (fit["trainer"]["max_epochs"], evaluation["samples"]) == (2, 4)
