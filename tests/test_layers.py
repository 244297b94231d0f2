"""Imports point one way, and the layers before the engines work without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"ranges", "shortening", "stopping", "visible", "collection", "extras"},
    {"starting", "listening", "spelling", "patterns", "lazy"},
    {"sampling"},
    {"types", "images"},
    {"sandbox"},
    {"answers", "prompts"},
    {"agents"},
    {"testing"},
    {"rewards"},
    {"records"},
    {"metrics"},
    {"losses"},
    {"data"},
    {"foreign"},
    {"policy"},
    {"engines"},
    {"rollout"},
    {"modules", "checkpoint_files"},
    {"evaluation", "synthesis", "grading"},
    {"report", "claims"},
    {"solving", "watching", "planning"},
    {
        *("short_names", "messages", "config_files", "parsing", "signatures", "early"),
        *("early_paths", "shipped", "command_table", "everyday", "named_classes"),
        *("option_names", "settings", "completing", "expected_values"),
    },
    {"exports", "ablation"},
    {
        "cli",
        "commands",
        "control_arms",
        "doctor",
        "eval_options",
        "exporting",
        "plan_command",
        "logged_tables",
        "run_loggers",
        "trackio_logger",
        "training",
        "resuming",
        "__main__",
        "callbacks",
    },
]
PAGE = 45  # lines
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = [path for folder in ("slm_math", "callbacks") for path in (ROOT / folder).rglob("*.py")]


def name_of(path: Path) -> str:
    """The dotted name of a file's module; slm_math/callbacks is a link to the folder callbacks."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return f"slm_math.{name}" if name.partition(".")[0] == "callbacks" else name


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "slm_math" and len(parts) > 1 else None


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {room(name) for name in names}
    return found - {None, "__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    mine = room(name_of(path))
    if mine is None:
        return
    wrong = {name for name in imported(path) if RANK[name] > RANK[mine]}
    assert not wrong, f"{mine} must not import {wrong}"


def test_every_room_has_a_layer() -> None:
    assert {room(name_of(path)) for path in FILES} - {None} <= set(RANK)


def test_layers_before_the_engines_import_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "import slm_math.types, slm_math.answers, slm_math.prompts, slm_math.agents, "
        "slm_math.testing, slm_math.rewards, slm_math.sandbox"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_files_of_other_tools_are_graded_compared_and_reported_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "import slm_math.commands, slm_math.foreign.shapes, slm_math.grading.saved, "
        "slm_math.grading.convert, slm_math.evaluation.compare_table, slm_math.report.assemble"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {name_of(path): path for path in FILES}
    graph = {name: needed(path, set(modules)) - {name} for name, path in modules.items()}
    while leaves := {name for name, names in graph.items() if not names & set(graph)}:
        graph = {name: names for name, names in graph.items() if name not in leaves}
    assert not graph, f"these modules are in a circle, or import one: {sorted(graph)}"


def needed(path: Path, modules: set[str]) -> set[str]:
    """The modules of the project that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            # what is no module is a name in the module itself
            names |= {name if name in modules else node.module for name in inside}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & modules


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def test_a_training_step_is_read_in_a_glance() -> None:
    """`training_step`, and each method of the module that it calls, is at most a page long."""
    methods = {}
    for name in ("rollouts", "taught", "grpo"):  # the module's bases first
        source = (ROOT / f"slm_math/modules/{name}.py").read_text(encoding="utf-8")
        [module] = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)]
        methods |= {n.name: n for n in module.body if isinstance(n, ast.FunctionDef)}
    step = methods["training_step"]
    called = {n.attr for n in ast.walk(step) if isinstance(n, ast.Attribute)} & set(methods)
    assert called >= {"sample_groups", "reference_logprobs", "signals", "updates", "log_step"}
    lengths = {name: methods[name].end_lineno - methods[name].lineno for name in called}
    assert max(lengths.values()) <= PAGE, lengths
    assert step.end_lineno - step.lineno <= PAGE // 3


# these take any number of values
VARIADIC = {"pack", "uname_result", "_call", "_only_of", "add_row", "save_for_backward"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_calls_with_many_arguments_name_them(path: Path) -> None:
    unnamed = [
        f"{path}:{call.lineno} {ast.unparse(call.func)}"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and len(call.args) > 4
        and ast.unparse(call.func).rpartition(".")[2] not in VARIADIC
    ]
    assert unnamed == []
