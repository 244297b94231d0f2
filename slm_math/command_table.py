"""The commands of `slm-math`: what runs them, how their options are given, an example of each."""

from __future__ import annotations

TRAINING = {
    "fit": "train a model: SFT or GRPO, with agents evaluated every epoch",
    "validate": "evaluate agents on the validation split",
    "test": "evaluate agents on the test split",
    "predict": "run agents on the test split, transcripts only",
}
# command -> (the function that runs it, what it does); the options are those of the function
COMMANDS = {
    "plan": (
        "slm_math.plan_command:plan",
        "predict memory and time of a run before it starts",
    ),
    "eval": ("slm_math.evaluation.command:evaluate", "evaluate agents with any model or endpoint"),
    "solve": ("slm_math.solving.command:solve", "run an agent on one problem, or chat"),
    "serve-agent": (
        "slm_math.solving.serve:serve_agent",
        "serve an agent as an OpenAI-compatible endpoint",
    ),
    "generate-cot": (
        "slm_math.synthesis.command:generate_cot",
        "make worked solutions by trying teacher models in turn",
    ),
    "export": ("slm_math.exporting:export", "make a model folder of a training checkpoint"),
    "check-export": (
        "slm_math.exporting:check_export",
        "check a model against its certificate, in a fresh process",
    ),
    "grade": ("slm_math.commands:grade_file", "grade saved completions, or verify verdicts"),
    "results": ("slm_math.evaluation.results:results", "print the results of evaluations"),
    "compare": (
        "slm_math.evaluation.compare_table:compare_runs",
        "compare evaluations problem by problem, paired",
    ),
    "ablate": (
        "slm_math.ablation.command:ablate",
        "what a turn was worth: run it again without, or another one",
    ),
    "power": (
        "slm_math.evaluation.power_lines:power",
        "how many problems and samples a comparison needs",
    ),
    "claim": (
        "slm_math.claims.command:claim",
        "make a file of evaluations that anybody can check",
    ),
    "report": (
        "slm_math.report:report",
        "write an HTML report: curves, plots, all transcripts",
    ),
    "watch": (
        "slm_math.watching.serve:watch",
        "follow a training run on a page of this machine",
    ),
    "convert": (
        "slm_math.grading.convert:convert",
        "write an evaluation as a file of lm-eval or Inspect",
    ),
    "overlap": (
        "slm_math.evaluation.overlap_table:overlap_files",
        "find test problems among training problems",
    ),
    "check-data": (
        "slm_math.evaluation.check_data:check_data",
        "find what is wrong with a data set, such as test problems",
    ),
    "twins": (
        "slm_math.synthesis.twins:twins",
        "make unseen twins of problems, for the memorization gap",
    ),
    "tag": (
        "slm_math.evaluation.tag:tag",
        "make tags of evaluations: how often each problem is solved",
    ),
    "build-data": (
        "slm_math.synthesis.building:build_data",
        "build data to train on from evaluations",
    ),
    "sandbox": (
        "slm_math.sandbox.serve:serve",
        "run programs for machines that cannot confine them",
    ),
    "configs": (
        "slm_math.shipped:configs",
        "list, print or copy the configs that come with slm-math",
    ),
    "completion": (
        "slm_math.completing:completion",
        "print what makes a shell complete commands and options",
    ),
    "doctor": ("slm_math.doctor:doctor", "check what works on this machine"),
    "download": (
        "slm_math.commands:download",
        "download the models and data sets that configs name",
    ),
}
# what a newcomer wants of each command; --help begins with it, a test parses it
EXAMPLES = {
    "fit": "--config sft/lora --model.policy.path Qwen/Qwen2.5-0.5B",
    "validate": "--config sft/lora --ckpt_path last",
    "test": "--config sft/lora --ckpt_path last",
    "predict": "--config sft/lora --ckpt_path last",
    "plan": "--config sft/lora --device h100",
    "eval": "--config eval/gsm8k --agents.one SingleShot --limit 200",
    "solve": '"What is 15 % of 80?" --model runs/sft-lora/export',
    "serve-agent": "--model runs/sft-lora/export --agent MajorityVote",
    "generate-cot": "--config cot/gsm8k --limit 100",
    "export": "runs/sft-lora --out models/sft",
    "check-export": "runs/sft-lora/export",
    "grade": "completions.jsonl",
    "results": "runs/eval",
    "compare": "runs/eval/single_shot runs/eval/code_feedback",
    "ablate": "runs/eval/solver_verifier --turn verifier",
    "report": "runs/sft-lora",
    "watch": "runs/sft-lora",
    "convert": "runs/eval/single_shot --to lm-eval --out samples.jsonl",
    "power": "--detect 2% --problems 1319",
    "claim": "runs/eval/one runs/eval/other -o claim.zip",
    "overlap": "train.jsonl GSM8K:test",
    "check-data": "train.jsonl --against GSM8K:test",
    "twins": "problems.jsonl -o twins.jsonl",
    "tag": "runs/eval --out tags.jsonl",
    "build-data": "drafts runs/eval --out data/drafts",
    "sandbox": "--port 8040",
    "configs": "sft/lora --copy",
    "completion": "bash",
    "doctor": "",
    "download": "--config sft/lora",
}
# the commands as the help shows them; one that is in no group is under the last heading
GROUPS = {
    "train": ("plan", "fit", "watch", "validate", "test", "predict"),
    "evaluate": (
        *("power", "eval", "grade", "results", "compare", "ablate", "report", "claim", "convert"),
    ),
    "use a model": ("solve", "serve-agent", "export", "check-export"),
    "make and check data": ("generate-cot", "build-data", "twins", "tag", "check-data", "overlap"),
    "set up": ("configs", "download", "doctor", "sandbox", "completion"),
}
FIRST = {
    "slm-math doctor": "what works on this machine",
    "slm-math fit --config sft/full --config fast": "train a toy in seconds",
    "slm-math report runs/sft-full": "see what it did",
}
AFTER = """\
slm-math COMMAND --help begins with an example; where options are very many, it
has the usual ones, and --help all the others. --print_config shows all values.
The environment sets options, too: SLM_MATH_FIT__TRAINER__MAX_EPOCHS=2 for fit,
SLM_MATH_EVAL_SAMPLES=4 for eval; a dot in an option is two underscores."""
# command -> the options that its positional arguments fill; a star takes all that are left
POSITIONAL = {
    "configs": "name",
    "completion": "shell",
    "solve": "problem",
    "export": "checkpoint",
    "check-export": "folder",
    "grade": "file",
    "results": "folders*",
    "compare": "folders*",
    "ablate": "run",
    "claim": "folders*",
    "report": "folders*",
    "watch": "run",
    "convert": "evaluation",
    "overlap": "train test",
    "check-data": "source",
    "twins": "file",
    "tag": "evaluations*",
    "build-data": "kind folders*",
}
RUNS_AGENTS = ("eval", "generate-cot")  # their manifests hold the whole configuration
ONE_PROBLEM = ("solve", "serve-agent")  # somebody waits in front of them
FLAGS = {
    "grade": ("--verify", "--last_number", "--second_opinion"),
    "export": ("--merge",),
    "solve": ("--interactive", "--json"),
    "plan": ("--json",),
    "build-data": ("--balance",),
}  # options that need no value to be true
# command -> the options that take all values that follow
LISTS = {
    "check-data": ("--against", "--split"),
    "twins": ("--against",),
    "build-data": ("--pass_rate",),
    "power": ("--pilot",),
    "solve": ("--image",),
}
OPTIONAL = {"configs": ("--copy",)}  # options whose value may be left out


def example(command: str) -> str:
    """A command line that shows what a command is for."""
    return f"slm-math {command} {EXAMPLES.get(command, '')}".rstrip()


def form(command: str) -> str:
    """How a command is written: its positional arguments, in capitals, and its options."""
    names = POSITIONAL.get(command, "").split()
    words = [f"[{n[:-1].upper()} ...]" if n.endswith("*") else n.upper() for n in names]
    if command in TRAINING:
        words = ["--config FILE ..."]
    return " ".join(["slm-math", command, *words, "[--option VALUE ...]"])


def usage() -> str:
    """What `slm-math --help` says."""
    texts = TRAINING | {name: text for name, (_, text) in COMMANDS.items()}
    grouped = {name for names in GROUPS.values() for name in names}
    groups = dict(GROUPS)
    *_, last = groups
    groups[last] += tuple(name for name in texts if name not in grouped)
    width = max(map(len, texts))
    lines = ["usage: slm-math COMMAND [--config FILE ...] [--option VALUE ...]", "", "first:"]
    lines += [f"  {command:47} {purpose}" for command, purpose in FIRST.items()]
    for title, names in groups.items():
        lines += ["", f"{title}:", *(f"  {name:{width}}  {texts[name]}" for name in names)]
    return "\n".join([*lines, "", AFTER])
