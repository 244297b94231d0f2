"""The commands `results`, `grade` and `download`; the signature of each defines its options."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slm_math.config_files import load
from slm_math.data.base import Source
from slm_math.data.benchmarks import NAMED
from slm_math.data.named import source_names
from slm_math.parsing import Parser
from slm_math.ranges import check_number
from slm_math.shipped import config_file
from slm_math.types import AnswerType

ENGINES = ("CheckpointEngine", "VLLMEngine", "VLLMServers")  # those whose `path` is a model
ENDPOINTS = ("OpenAIEngine", "OpenAIBatches")  # those that have their `model` elsewhere


def results(
    folders: Sequence[str],
    by: str | None = None,
    over: Literal["cost"] | None = None,
    prompt_weight: float = 0.0,
    filter: str | None = None,
) -> None:
    """Prints the results of evaluations side by side: one column per folder, one row per agent.

    Args:
        folders: output folders of `slm-math eval`, training runs (their last evaluation),
            `eval/<epoch>` folders of them, or a folder that holds several of these; or files of
            completions, as `grade` reads them.
        by: also break the results down by this tag of the problems.
        over: with "cost", accuracy against tokens instead: all agents on the same problems, each
            compared with the first one at equal cost. Agents with several samples of a problem
            have votes of 3, 5, ... of them as well.
        prompt_weight: of "cost", what a token of a prompt costs, as a share of a sampled one.
        filter: of files of lm-eval, the filter whose rows count (strict-match): what it left of the
            replies is graded.
    """
    from slm_math.grading.opened import evaluations_of

    console = Console()
    check_number("prompt_weight", prompt_weight, low=0)
    with evaluations_of(folders, console, filter=filter) as paths:
        if over == "cost":
            _over_cost(paths, prompt_weight, console)
        else:
            _results(paths, by, console)


def _over_cost(folders: Mapping[str, Path], prompt_weight: float, console: Console) -> None:
    """As `results --over cost`, of folders by their names."""
    from slm_math.evaluation.costs_table import costs_table
    from slm_math.evaluation.plain import print_line
    from slm_math.evaluation.runs import check_grader, named_folders, read_finished
    from slm_math.records.eval_folders import BESIDE

    found = [
        (folder.rstrip("/"), name, path)
        for folder, place in folders.items()
        for name, path in named_folders(folder, place).items()
        if not name.endswith(BESIDE)  # twins and blind controls are of other problems
    ]
    short = len({name for _, name, _ in found}) == len(found)
    places = {name if short else f"{folder}/{name}": path for folder, name, path in found}
    runs = {name: read_finished(name, path) for name, path in places.items()}
    check_grader(list(runs.values()))
    table, lines = costs_table({n: one.samples for n, one in runs.items()}, prompt_weight)
    console.print(table)
    for line in lines:
        print_line(console, line)


def _results(folders: Mapping[str, Path], by: str | None, console: Console) -> None:
    """As `results`, of folders by their names."""
    from slm_math.evaluation.blind import control_lines
    from slm_math.evaluation.controls import arm_lines
    from slm_math.evaluation.plain import as_name, cell, path_lines, print_line
    from slm_math.evaluation.runs import named_folders
    from slm_math.evaluation.table import calibration_lines, verdicts_table, warning_lines
    from slm_math.evaluation.twins import gap_lines
    from slm_math.metrics.summary import Summary, by_tag, read_summary
    from slm_math.records.eval_folders import run_of
    from slm_math.records.files import read_manifest

    columns: dict[str, dict[str, Summary]] = {}
    paths: dict[str, Path] = {}
    for folder, place in folders.items():
        column = columns.setdefault(folder, {})
        for name, path in named_folders(folder, place).items():
            paths[f"{folder.rstrip('/')}/{name}"] = path
            samples, column[name] = read_summary(path)
            if read_manifest(path).get("partial"):
                print_line(console, f"{path} is partial")
            if by:
                parts = by_tag(samples, by)
                if not parts:
                    raise ValueError(f"no problem of {folder} has a tag {by}")
                column |= {f"{name}, {value}": summary for value, summary in parts.items()}
    width = 26 if len(columns) < 3 else 18  # with n in the same line, or below
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    every_one = list(columns.items())
    fit = max((console.width - 12) // (width + 3), 1)
    for start in range(0, len(every_one), fit):  # the rest in a table below
        some = dict(every_one[start : start + fit])
        more = "" if not start else ", continued"
        table = Table(title=f"accuracy in %, 95 % interval{more}", title_justify="left")
        rest = console.width - 4 - (width + 3) * len(some)
        table.add_column("agent", overflow="fold", max_width=max(rest, 8))
        for folder in some:
            head = Text("\n").join(cell(line, 200) for line in path_lines(folder, width))
            table.add_column(head, justify="right", min_width=width, overflow="fold")
        for name in names:
            shown = (column[name].shown() if name in column else "-" for column in some.values())
            below = width < 26  # an interval with its n is longer
            cells = (each.replace(", n = ", "\nn = ") if below else each for each in shown)
            table.add_row(as_name(name), *cells)
        console.print(table)
    every = {
        f"{folder.rstrip('/')}/{name}": summary
        for folder, column in columns.items()
        for name, summary in column.items()
    }
    if verdicts := verdicts_table(every):
        console.print(verdicts)
    roots = [root for root in map(run_of, folders.values()) if root is not None]
    arms = [line for root in roots for line in arm_lines(root)]
    for line in (*control_lines(paths), *gap_lines(paths), *arms, *calibration_lines(every)):
        print_line(console, line)
    for column in columns.values():
        for line in warning_lines(column):
            console.print(line, markup=False)


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
        recorder=Recorder(Path(records)) if records else None,
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
