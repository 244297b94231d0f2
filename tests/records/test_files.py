"""Records: what counts as the same evaluation, and what a rerun does."""

import json
from pathlib import Path
from typing import Any

import pytest

from slm_math.agents import SingleShot
from slm_math.engines.base import Engine, EngineError, Request
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.metrics.summary import Summary
from slm_math.records.files import RecordFile, read_records, write_json
from slm_math.rollout.executors import Executors
from slm_math.types import Problem, Reply, Sampling, Task

TASKS = [Task(Problem(f"p/{i}", f"What is {i} + 1?"), str(i + 1)) for i in range(4)]


class Endpoint(Engine):
    """Answers at once; `down` names problems that it cannot answer."""

    def __init__(self, model: str = "a", down: str = "") -> None:
        self.model, self.down, self.asked, self.open = model, down, 0, {}

    def identity(self) -> dict[str, Any]:
        return {"model": self.model}

    def submit(self, request: Request) -> int:
        self.asked += 1
        self.open[self.asked] = request.chat[0].text
        return self.asked

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        done, self.open = self.open, {}
        broken = EngineError("connection refused")
        return [
            (t, broken if self.down and self.down in text else Reply(r"\boxed{1}"))
            for t, text in done.items()
        ]

    def cancel(self, ticket: int) -> None:
        self.open.pop(ticket, None)


def run(folder: Path, engine: Engine, prompt: str = "solve") -> Summary:
    executors = Executors({"default": engine}, {"default": Sampling(0.0)})
    return evaluate(Plan(SingleShot(prompt), TASKS), executors, Output(folder)).summary


def test_finished_records_are_not_run_again(tmp_path: Path) -> None:
    run(tmp_path, Endpoint())
    before = (tmp_path / "records.jsonl").read_bytes()
    second = Endpoint()
    assert run(tmp_path, second).accuracy == 0.25
    assert second.asked == 0
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_another_model_or_prompt_text_is_another_evaluation(tmp_path: Path) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text("A {problem}")
    run(tmp_path / "out", Endpoint(), str(prompt))
    with pytest.raises(ValueError, match=r"engines\.default\.model differ"):
        run(tmp_path / "out", Endpoint("b"), str(prompt))
    prompt.write_text("B {problem}")
    from slm_math.prompts import load

    load.cache_clear()
    with pytest.raises(ValueError, match=r"agent\.prompt_hash differ"):
        run(tmp_path / "out", Endpoint(), str(prompt))


def test_broken_samples_are_tried_again(tmp_path: Path) -> None:
    assert run(tmp_path, Endpoint(down="2 + 1")).errors == 1
    again = Endpoint()
    summary = run(tmp_path, again)
    assert (again.asked, summary.errors, summary.n) == (1, 0, 4)
    assert [record.error for record in read_records(tmp_path / "records.jsonl")] == [None] * 4
    assert json.loads((tmp_path / "manifest.json").read_text())["partial"] is False


def test_records_of_failures_do_not_stay_beside_those_of_the_rerun(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    run(tmp_path, Endpoint(down="2 + 1"))
    run(tmp_path, Endpoint(down="2 + 1"))  # breaks again: one line, not two
    assert path.read_bytes().count(b"\n") == 4
    run(tmp_path, Endpoint())
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == ["p/0", "p/1", "p/2", "p/3"]
    assert [row["error"] for row in rows] == [None] * 4


class NotThere(Endpoint):
    """Fails at the first request, as an engine does whose options are wrong."""

    def submit(self, request: Request) -> int:
        raise ValueError("no such template")


@pytest.mark.parametrize("left", ["", '{"id": "p/0", "samp', "broken manifest"])
def test_an_attempt_without_a_record_does_not_block_the_next(tmp_path: Path, left: str) -> None:
    with pytest.raises(ValueError, match="no such template"):
        run(tmp_path / "out", NotThere("misspelled"))
    if left == "broken manifest":
        (tmp_path / "out" / "manifest.json").write_text("{")
    else:
        (tmp_path / "out" / "records.jsonl").write_text(left)
    assert run(tmp_path / "out", Endpoint()).n == 4
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["identity"]["engines"]["default"] == {"model": "a"}
    assert len(manifest["legs"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_attempt_in_which_everything_broke_does_not_block_the_next(tmp_path: Path) -> None:
    assert run(tmp_path / "out", Endpoint("b", down="What")).errors == 4
    summary = run(tmp_path / "out", Endpoint())
    assert (summary.n, summary.errors) == (4, 0)
    assert len(read_records(tmp_path / "out.replaced-1" / "records.jsonl")) == 4


def test_one_sample_that_came_to_its_end_protects_an_evaluation(tmp_path: Path) -> None:
    run(tmp_path, Endpoint("b", down="1 + 1"))
    with pytest.raises(ValueError, match="holds another evaluation"):
        run(tmp_path, Endpoint())


def test_records_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    run(tmp_path, Endpoint())
    row = json.loads((tmp_path / "records.jsonl").read_text().splitlines()[0])
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(json.dumps(row | {"id": "elsewhere"}) + "\n")
    with pytest.raises(ValueError, match=r"1 records do not belong to this evaluation.*elsewhere"):
        run(tmp_path, Endpoint())


def test_records_without_a_manifest_are_refused(tmp_path: Path) -> None:
    run(tmp_path, Endpoint())
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"contains records\.jsonl but no manifest\.json"):
        run(tmp_path, Endpoint())


def test_records_of_a_newer_schema_are_refused_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    lines = [{"id": "p", "sample": 0}, {"id": "p", "sample": 1, "schema": 9}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=r"records\.jsonl, line 2: a record of schema version 9"):
        read_records(path)


def test_records_of_version_1_are_continued(tmp_path: Path) -> None:
    run(tmp_path, Endpoint())
    path = tmp_path / "records.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        assert row.pop("schema") == 2
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    again = Endpoint()
    assert run(tmp_path, again).n == 4
    assert again.asked == 1


def test_manifest_holds_no_secret_and_another_key_is_the_same_evaluation(tmp_path: Path) -> None:
    for key in ("k-5150", "k-2112"):
        identity = {"engines": {"solver": {"url": "http://host", "api_key": key}}}
        RecordFile(tmp_path / "a", identity, about={"configuration": [{"hf_token": key}]})
        text = (tmp_path / "a/manifest.json").read_text()
        assert key not in text
        assert text.count("***") == 2


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*x\.json'"):
        write_json(tmp_path / "x.json", {"a": 1})
