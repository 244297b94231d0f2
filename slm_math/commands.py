"""The commands `grade` and `download`; the signature of each defines its options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_math.config_files import load
from slm_math.data.base import Source
from slm_math.data.benchmarks import NAMED
from slm_math.data.named import source_names
from slm_math.parsing import Parser
from slm_math.shipped import config_file
from slm_math.types import AnswerType

ENGINES = ("CheckpointEngine", "VLLMEngine", "VLLMServers")  # those whose `path` is a model
ENDPOINTS = ("OpenAIEngine", "OpenAIBatches")  # those that have their `model` elsewhere


def grade_file(
    file: str | None = None,
    completion: str | None = None,
    gold: str = "",  # also a text of --explain: "null" must stay a text
    problem: str = "",
    answer_type: AnswerType | None = None,
    choices: str | None = None,
    tolerance: float | str | None = None,
    last_number: bool = False,
    out: str | None = None,
    workers: int | None = None,
    verify: bool = False,
    verdict: str | None = None,
    expect: int | None = None,
    second_opinion: bool = False,
    explain: str = "",
    format: str | None = None,
    golds: str | None = None,
    records: str | None = None,
    disagreements: int = 5,
    filter: str | None = None,
) -> None:
    """Grades the saved completions of a file, and writes the verdicts beside it: `slm-math grade
    FILE`.

    Files of lm-eval, Inspect, lighteval, evalscope, verl, TRL, open-r1, NeMo-Skills, Qwen2.5-Math,
    OpenCompass, and batch files of OpenAI and vLLM are read as they are. If rows carry verdicts,
    those are compared with ours.

    The exit status is 1 if rows could not be read, or if --verify or --expect found a difference.

    Args:
        file: completions with their reference answers, or the records.jsonl of an evaluation. JSON
            lines, JSON arrays, CSV, TSV, Parquet, and .gz of these. Options name its fields; a path
            reaches into objects and lists: response.body.choices.0.message.content.
        completion: field of the completion: text, a number, a chat (its last assistant message
            counts) or a list of samples; by default completion(s), response(s), output(s),
            generation(s), a name of that kind such as generated_solution or model_response, else
            the first of resps, filtered_resps, code, prediction(s), pred(s), messages,
            conversation, solution. Of two that may be meant, one has to be named.
        gold: field of the reference answer; by default the first of answer, gold, ground_truth, gt,
            gts, target, expected_answer, reference_answer, reward_model.ground_truth, solution. If
            it holds a whole solution, the answer at its end counts (#### 5, a box, "The answer is
            5").
        problem: field of the problem's text; by default the first of problem, question, prompt. An
            expression that a completion copies from the problem is not an answer.
        answer_type: math, mc (a letter) or num (a number with a tolerance), for all rows; by
            default the row's field answer_type, else math.
        choices: field of the choices of mc, a list; by default choices.
        tolerance: of num, for all rows: 0.01 is absolute, 1% relative to the reference; by default
            the row's field tolerance, else exact.
        last_number: accept the last number of a completion that states no answer.
        out: file for the verdicts; by default FILE with the ending .graded.jsonl.
        workers: processes; by default one per core, or only this one for a small file.
        verify: grade again and compare with existing verdicts: those in the file beside it (see
            out), else those in a field of the rows (see verdict); for evaluation records, their
            own.
        verdict: field, or metric, of the rows' own verdict; correct and is_correct, and the
            verdicts of known tools, are found without this option.
        expect: the number of problems that there must be.
        second_opinion: also ask math-verify about every answer; the accuracy is then a range, and
            answers on which the two do not agree are listed.
        explain: a completion whose grading is explained step by step, instead of a file; gold and
            problem are then texts, and choices is a JSON list of texts.
        format: the tool whose rows these are, where two are possible: lm-eval, inspect, lighteval,
            evalscope, qwen2.5-math, nemo-skills, open-r1, verl, trl, batch, opencompass; plain for
            none of them.
        golds: file of reference answers for rows that have none, such as those of a batch: joined
            by id, or else by the text of the problem.
        records: folder for records, as eval writes them, for results, compare and report.
        disagreements: how many samples to show on which the rows' own verdict and ours differ.
        filter: of a file of lm-eval, the filter whose rows count (strict-match): what it left of
            the replies is graded (or the replies themselves, with --completion resps).
    """
    from slm_math.foreign.joining import Golds
    from slm_math.grading.fields import Fields
    from slm_math.grading.recording import Recorder
    from slm_math.grading.saved import Options, grade_saved
    from slm_math.grading.steps import show_steps

    console = Console()
    fields = Fields(
        completion=completion,
        gold=gold or None,
        problem=problem or None,
        answer_type=answer_type,
        choices=choices,
        tolerance=tolerance,
        verdict=verdict,
        last_number=last_number,
        format=format,
        second_opinion=second_opinion,
        filter=filter,
    )
    if bool(file) == bool(explain):
        raise ValueError(
            "give either a file of completions (slm-math grade FILE) or --explain TEXT --gold TEXT"
        )
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if disagreements < 0:
        raise ValueError(f"disagreements must be 0 or more, got {disagreements}")
    if second_opinion and (explain or verify):
        raise ValueError("--second_opinion goes with a file that is graded: leave out the other")
    if not file:
        show_steps(explain, fields, console)
        return
    run = grade_saved
    if verify:
        from slm_math.grading.verify import verify_file as run
    options = Options(
        fields,
        out=Path(out) if out else None,
        workers=workers,
        expect=expect,
        golds=Golds(Path(golds)) if golds else None,
        recorder=Recorder(Path(records), last_number) if records else None,
        disagreements=disagreements,
    )
    if not run(Path(file), options, console):
        sys.exit(1)


def download(config: str | list[str] | None = None, models: str | list[str] | None = None) -> None:
    """Downloads the models and data sets that configs name, so that everything runs offline
    afterwards; an interrupted download is resumed.

    Args:
        config: config file of any command, or the name of one that comes with slm-math, or a list
            of them.
        models: hub id of a further model, or a list of them.
    """
    from slm_math.data.download import download as download_all

    wanted: list[str] = [models] if isinstance(models, str) else list(models or [])
    sources: list[Source] = []
    for file in [config] if isinstance(config, str) else config or []:
        _named_in(load(config_file(file).read_text(encoding="utf-8")), wanted, sources)
    if not wanted and not sources:
        raise ValueError(
            "nothing to download: give --config FILE or --models owner/name (several: '[A, B]')"
        )
    if download_all(wanted, sources):
        sys.exit(1)


def _named_in(node: Any, models: list[str], sources: list[Source]) -> None:
    """Collects the models and data sets that a config names, at any depth."""
    if isinstance(node, list):
        for item in node:
            _named_in(item, models, sources)
    if not isinstance(node, dict):
        return
    name, options = node.get("class_path"), node.get("init_args") or {}
    if name in (*source_names(), *NAMED):
        sources.append(_built(node))
        return
    short = name.rpartition(".")[2] if isinstance(name, str) else ""
    if short in ENDPOINTS:
        return
    engine = short in ENGINES
    keys = ("path",) if engine else ("policy", "model", "frozen", "teacher")
    for key in keys:
        models += _hub_models((options or node if engine else node).get(key))
    for key, item in node.items():
        if key == "where":  # tags of problems, which may be called `source`, too
            continue
        places = {"source": [item], "shots_source": [item]}.get(key, [])
        if key == "sources" and isinstance(item, dict):
            places = list(item.values())
        for place in places or [item]:
            if places and _names_a_class(place):
                sources.append(_built(place))
            else:
                _named_in(place, models, sources)


def _hub_models(value: Any) -> list[str]:
    """The hub ids that the value of an option names: a model, a policy with one, or one for each
    role. An adapter that is here stands for its base.
    """
    if isinstance(value, dict) and "path" in value:
        return _hub_models(value["path"])
    if isinstance(value, dict) and "class_path" in value:  # an agent of that name, perhaps
        return []
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return [one for item in value.values() for one in _hub_models(item)]
    if not isinstance(value, str):
        return []
    from slm_math.policy.adapter_files import base_in
    from slm_math.policy.role_paths import exported_roles

    paths = exported_roles(value).values() or [value]
    # a path such as runs/x/export is the output of an earlier step, not a hub id
    found = dict.fromkeys(map(base_in, paths))
    return [one for one in found if one.count("/") == 1 and not Path(one).parent.is_dir()]


def _names_a_class(node: Any) -> bool:
    return isinstance(node, str) or (isinstance(node, dict) and "class_path" in node)


def _built(source: Any) -> Source:
    """The data set of a config, as `fit` and `eval` build it: one of ours, or one's own."""
    parser = Parser(prog="slm-math download")
    parser.add_argument("--source", type=Source)
    return parser.instantiate_classes(parser.parse_object({"source": source})).source
