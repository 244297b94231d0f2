"""One name per thing: names that were replaced do not come back (see docs/glossary.md)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EVERYWHERE = "."
# folder -> old name -> the name that is used instead
REPLACED = {
    EVERYWHERE: {
        # steps of a rollout and of training
        "Rollouts": "Scheduler, collect",
        "Clock": "PhaseTimer",
        "lap": "PhaseTimer",
        "Sums": "StepMetrics",
        "Notices": "TrainingWarnings",
        "refer": "reference_logprobs",
        "light": "without_texts",
        "olds": "old_logprobs",
        "learnt": "trained",
        "spread": "has_signal",
        "dense": "needs_all_rows",
        "over_ranks": "gather_over_ranks",
        "loss_tokens": "loss_positions",
        # progress
        "beat": "heartbeat",
        "pulse": "heartbeat",
        "watcher": "on_progress",
        # metrics
        "figures": "metrics",
        "agent_figures": "agent_metrics",
        "reward_figures": "reward_metrics",
        "step_figures": "step_metrics",
        "round_marks": "round_observations",
        "sample_marks": "answer_observations",
        "verdict_marks": "verdict_observations",
        # engines
        "computes": "runs_in_poll",
        "follow": "attach_policy",
        "kept": "support",
        "picture": "image",
        "pictures": "images, chat_images",
        "picture_url": "image_url",
        "opened": "open_image",
        "goes_on": "awaits_rest",
        "Said": "Sampled",
        "Asked": "Pending",
        "NoAnswer": "ServerUnavailable",
        # agents
        "heard": "is_usable",
        "stated": "stated_answer",
        "takes": "check_slots",
        "warmth": "temperature",
        "says": "is_complete",
        "trial": "run_check_program",
        "develop": "write_program",
        "labelled": "with_branch",
        # data
        "choose": "choose_engine, same_choice, select_problems",
        # one name per class
        "Unanswered": "AttemptFailed",
        "mismatch_stats": "mismatch_metrics",
        # American spelling
        "Judgement": "Judgment",
        "normalise": "normalize",
        "normalised": "normalized",
        "tokenise": "tokenize",
        "summarise": "summarize",
        "colour": "color",
        # what it is, instead of that it was found or said
        "told": "what it is",
        "said": "what it is",
    },
    "slm_math/engines": {
        "trainable": "returns_logprobs",
        "pushes": "is_sender",
        "alone": "single_trainer",
        "away": "down_since",
        "vain": "failed_pushes",
        "_well": "_healthy",
        "_gone": "_mark_down",
        "_meet": "_handshake",
        "_renew": "_push_weights",
        "cut": "needs_support",
        "Server": "VLLMServer",
    },
    "slm_math/agents": {
        "since": "transcript_since",
        "printed": "program_answer",
        "work": "reply_with_tools",
    },
}
# the same for functions and methods only, as these words are good names of values
REPLACED_FUNCTIONS = {
    "slm_math/modules": {
        "groups": "sample_groups",
        "rollouts": "roll_out",
        "rows": "training_rows",
        "credit": "assign_advantages",
        "batches": "training_batches",
        "report": "log_step",
        "last": "last_rollouts",
        "show": "progress",
        "watch": "progress",
    },
}


@cache
def defined(path: Path) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """The functions and methods that a file defines, and its classes, parameters and attributes,
    as (name, line).
    """
    functions: list[tuple[str, int]] = []
    others: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append((node.name, node.lineno))
        elif isinstance(node, ast.ClassDef):
            others.append((node.name, node.lineno))
            for item in node.body:
                targets = item.targets if isinstance(item, ast.Assign) else []
                targets = [item.target] if isinstance(item, ast.AnnAssign) else targets
                others += [(each.id, each.lineno) for each in targets if isinstance(each, ast.Name)]
        elif isinstance(node, ast.arg):
            others.append((node.arg, node.lineno))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            others.append((node.attr, node.lineno))
    return functions, others


def again(folder: str, replaced: dict[str, str], functions_only: bool) -> list[str]:
    """Where replaced names are defined again in Python files below a folder."""
    roots = ["slm_math", "callbacks"] if folder == EVERYWHERE else [folder]
    places = []
    for path in sorted(path for root in roots for path in (ROOT / root).rglob("*.py")):
        functions, others = defined(path)
        for name, line in functions if functions_only else functions + others:
            if name in replaced:
                where = f"{path.relative_to(ROOT)}:{line}"
                places.append(f"{where}: {name} was replaced by {replaced[name]}")
    return places


@pytest.mark.parametrize("folder", REPLACED)
def test_replaced_names_are_gone(folder: str) -> None:
    assert again(folder, REPLACED[folder], functions_only=False) == []


@pytest.mark.parametrize("folder", REPLACED_FUNCTIONS)
def test_replaced_functions_are_gone(folder: str) -> None:
    assert again(folder, REPLACED_FUNCTIONS[folder], functions_only=True) == []


def test_all_kinds_of_names_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "class A:\n"
        "    b: int = 0\n"
        "    c = 1\n"
        "    def d(self, e, *, f=0):\n"
        "        self.g = local = 1\n"
        "async def h(): pass\n"
    )
    functions, others = defined(file)
    assert [name for name, _ in functions] == ["h", "d"]
    assert sorted(name for name, _ in others) == ["A", "b", "c", "e", "f", "g", "self"]
