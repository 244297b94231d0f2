"""The commands of `slm-math`: what runs them, and how their options are given."""

from __future__ import annotations

TRAINING = {
    "fit": "train a model: SFT or GRPO, with agents evaluated every epoch",
    "validate": "evaluate agents on the validation split",
    "test": "evaluate agents on the test split",
    "predict": "run agents on the test split, transcripts only",
}
# command -> (the function that runs it, what it does); the options are those of the function
COMMANDS = {
    "eval": ("slm_math.evaluation.command:evaluate", "evaluate agents with any model or endpoint"),
    "solve": ("slm_math.solving.command:solve", "run an agent on one problem, or chat"),
    "serve-agent": (
        "slm_math.solving.serve:serve_agent",
        "serve an agent as the model of an OpenAI-compatible endpoint",
    ),
    "generate-cot": (
        "slm_math.synthesis.command:generate_cot",
        "make a data set of worked solutions by trying teacher models in turn",
    ),
    "export": ("slm_math.exporting:export", "make a model folder of a training checkpoint"),
    "check-export": (
        "slm_math.exporting:check_export",
        "check an exported model against its certificate, in a fresh process",
    ),
    "grade": ("slm_math.commands:grade_file", "grade saved completions, or verify verdicts"),
    "results": ("slm_math.commands:results", "print the results of evaluations"),
    "compare": (
        "slm_math.evaluation.compare_table:compare_runs",
        "compare evaluations problem by problem: paired difference, McNemar, flipped problems",
    ),
    "power": (
        "slm_math.evaluation.power_lines:power",
        "how many problems and samples a comparison needs, or what it can see",
    ),
    "claim": (
        "slm_math.claims.command:claim",
        "freeze evaluations into a file that anybody can check, or check one",
    ),
    "report": (
        "slm_math.report:report",
        "write an HTML report of evaluations, with plots and all transcripts",
    ),
    "overlap": (
        "slm_math.evaluation.overlap_table:overlap_files",
        "find test problems among training problems",
    ),
    "check-data": (
        "slm_math.evaluation.check_data:check_data",
        "find what is wrong with a data set: golds, duplicates, lengths, test problems",
    ),
    "tag": (
        "slm_math.evaluation.tag:tag",
        "make tags of evaluations: how often each problem is solved",
    ),
    "build-data": (
        "slm_math.synthesis.building:build_data",
        "build data to train on from evaluations: drafts, corrections, trajectories, preferences",
    ),
    "sandbox": (
        "slm_math.sandbox.serve:serve",
        "run programs for machines that cannot confine them",
    ),
    "configs": (
        "slm_math.shipped:configs",
        "list, print or copy the configs that come with slm-math",
    ),
    "doctor": ("slm_math.doctor:doctor", "check what works on this machine"),
    "download": (
        "slm_math.commands:download",
        "download the models and data sets that configs name, for offline use",
    ),
}
# command -> the options that its positional arguments fill; a star takes all that are left
POSITIONAL = {
    "configs": "name",
    "solve": "problem",
    "export": "checkpoint",
    "check-export": "folder",
    "grade": "file",
    "results": "folders*",
    "compare": "folders*",
    "claim": "folders*",
    "report": "folders*",
    "overlap": "train test",
    "check-data": "source",
    "tag": "evaluations*",
    "build-data": "kind folders*",
}
RUNS_AGENTS = ("eval", "generate-cot")  # their manifests hold the whole configuration
ONE_PROBLEM = ("solve", "serve-agent")  # somebody waits in front of them
FLAGS = {
    "grade": ("--verify", "--last_number"),
    "export": ("--merge",),
    "solve": ("--interactive", "--json"),
    "build-data": ("--balance",),
}  # options that need no value to be true
# command -> the options that take all values that follow
LISTS = {
    "check-data": ("--against", "--split"),
    "build-data": ("--pass_rate",),
    "power": ("--pilot",),
    "solve": ("--image",),
}
OPTIONAL = {"configs": ("--copy",)}  # options whose value may be left out
