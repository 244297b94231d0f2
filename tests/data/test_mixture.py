"""A mixture has every problem once, in one split, and draws its parts by their weights."""

import json
from pathlib import Path

import pytest
from cli.configs import CONFIGS
from data.published import write_jsonl

from slm_math.cli import run
from slm_math.data import Chats, Mixture, Table
from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.chats import write_chats
from slm_math.types import Problem, Task, assistant, user


class Fixed(Source):
    """Given texts in each split."""

    def __init__(self, name: str, **texts: list[str]) -> None:
        self.name, self.texts = name, texts

    def tasks(self, split: Split) -> list[Task]:
        if split not in self.texts:
            raise FileNotFoundError(f"no {split} split here")
        return [
            Task(Problem(f"{self.name}/{split}/{n}", text), "1", f"{self.name} says 1")
            for n, text in enumerate(self.texts[split])
        ]


A = Fixed("a", train=["one", "two", "three"], validation=["four"], test=["five"])
B = Fixed("b", train=["Two!", "five", "six", "four"], validation=["one"])


def ids(source: Source, split: Split) -> list[str]:
    return [task.problem.id for task in read_tasks(source, split)]


def test_a_problem_is_taken_from_the_first_part_and_stays_in_one_split() -> None:
    mixture = Mixture({"a": A, "b": B})
    assert ids(mixture, "train") == ["a/train/1", "a/train/2", "b/train/2"]
    assert ids(mixture, "validation") == ["a/validation/0", "b/validation/0"]
    assert ids(mixture, "test") == ["a/test/0"]


def test_the_tag_source_names_the_part() -> None:
    tags = [task.problem.tags["source"] for task in Mixture({"a": A, "b": B}).tasks("train")]
    assert tags == ["a", "a", "b"]


def test_what_is_left_out_is_said() -> None:
    about = Mixture({"a": A, "b": B}).about("train")
    assert about == "mixture/train: left out, since another part or split has them: 1 of a, 3 of b"


def test_limits_and_weights_of_nothing() -> None:
    assert ids(Mixture({"a": A, "b": B}, limits={"a": 1}), "train") == ["a/train/1", "b/train/2"]
    alone = Mixture({"a": A, "b": B}, weights={"a": 0, "b": 1})
    assert ids(alone, "train") == ["b/train/0", "b/train/1", "b/train/2", "b/train/3"]


def test_dialogues_are_those_of_the_problems_that_are_left(tmp_path: Path) -> None:
    talk = user("Hi") + assistant("Hello")
    write_chats([talk, talk], tmp_path / "x.jsonl")
    chats = Chats(str(tmp_path / "x.jsonl"), validation=0)
    dialogues = Mixture({"a": A, "b": B, "chats": chats}).dialogues("train")
    said = [dialogue[-1].text for dialogue in dialogues]
    assert said == ["a says 1", "a says 1", "b says 1", "Hello"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": {"a": 1, "c": 1}}, "Mixture.weights names c; the sources are a, b"),
        ({"limits": {"c": 1}}, "Mixture.limits names c"),
        ({"weights": {"a": 1}}, "Mixture.weights has none for b"),
        ({"weights": {"a": -1, "b": 2}}, "must be positive numbers"),
    ],
)
def test_wrong_options_are_named(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Mixture({"a": A, "b": B}, **options)


@pytest.mark.parametrize("kind", ["sft/full.yaml", "grpo/solver.yaml"])
def test_a_mixture_trains_and_its_shares_are_stored(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"{n} + {n}?", "answer": f"#### {2 * n}"} for n in range(12)]
    more = [
        {"question": f"{n} * {n}?", "ground_truth": n * n, "solution": str(n)} for n in range(24)
    ]
    paths = {
        name: str(write_jsonl(tmp_path / f"{name}.jsonl", own))
        for name, own in {"gsm8k": rows, "worked": more}.items()
    }
    source = {
        "class_path": "Mixture",
        "sources": {
            "gsm8k": {"class_path": "GSM8K", "path": paths["gsm8k"], "validation": 0},
            "worked": {"class_path": "CoT", "path": paths["worked"], "validation": 0},
        },
        "weights": {"gsm8k": 1, "worked": 3},
    }
    files = [f"--config={CONFIGS / name}" for name in (kind, "fast.yaml")]
    options = [f"--data.source={json.dumps(source)}", "--data.batch_size=4"]
    if kind.startswith("grpo"):
        options += ["--model.group_size=2", "--model.inference.sampling.max_new_tokens=4"]
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    run(["fit", *files, *options, "--trainer.callbacks={class_path: ExportHF, check: false}", root])
    assert "mixture/train, an epoch: gsm8k 12 rows drawn 9 times (25.0%)" in capsys.readouterr().out
    shares = json.loads((tmp_path / "run" / "manifest.json").read_text())["shares"]
    assert shares == {"gsm8k": {"items": 12, "draws": 9}, "worked": {"items": 24, "draws": 27}}


def test_chats_about_a_problem_that_is_tested_on_are_not_trained_on(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "It is 3."}
    chats = [{"messages": [{"role": "user", "content": q}, said]} for q in ("Seen?", "Fresh?")]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    (tmp_path / "test.jsonl").write_text('{"question": "Seen?", "answer": "3"}\n')
    (tmp_path / "train.jsonl").write_text('{"question": "Other?", "answer": "4"}\n')
    mixture = Mixture(
        {
            "table": Table([str(tmp_path / f"{n}.jsonl") for n in ("train", "test")], validation=0),
            "chats": Chats(str(tmp_path / "chats.jsonl"), validation=0),
        }
    )
    [chat] = mixture.parts()["chats"].dialogues("train")
    assert chat[0].text == "Fresh?"
    assert "since another part or split has them: 1 of chats" in mixture.about("train")


def test_a_limit_does_not_hide_what_is_left_out() -> None:
    about = Mixture({"a": A, "b": B}, limits={"b": 1}).about("train")
    assert about == "mixture/train: left out, since another part or split has them: 1 of a, 3 of b"


def test_two_parts_with_the_same_ids_are_named(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(f'{{"question": "{name}?", "answer": "3"}}\n')
    parts: dict[str, Source] = {n: Table(str(tmp_path / f"{n}.jsonl"), validation=0) for n in "ab"}
    with pytest.raises(
        ValueError, match=r"sources a and b both have .*sources\.b\.init_args\.name"
    ):
        Mixture(parts).tasks("train")
