"""Mistakes on the command line and in configs: arguments, and what the answer says. DATA, MODEL and
OUT stand for folders.
"""

from cli.configs import CONFIGS, FULL

SOURCE = "--source={class_path: slm_math.data.sources.GSM8K, init_args: {path: DATA/FOLDER}}"
EVAL = [
    "eval",
    f"--config={CONFIGS / 'eval/gsm8k.yaml'}",
    "--agents.one=SingleShot",
    "--model=MODEL",
    "--out=OUT",
]
FIT = ["fit", *FULL]
FULL_SOURCE = ["fit", *FULL, "--data.source=Table", "--data.source.path=DATA/train.jsonl"]
FIT_GRPO = ["fit", f"--config={CONFIGS / 'grpo/solver.yaml'}", "--model.policy.path=MODEL"]
MISTAKES: dict[str, tuple[list[str], list[str]]] = {
    "unknown command": (["evla"], ["evla", "slm-math --help"]),
    "command of another tool": (["train"], ["there is no command 'train': did you mean fit?"]),
    "option before the command": (["--config", "x"], ["command comes before", "fit --config"]),
    "nothing but a command": (["fit"], ["required: --data, --model; for example: slm-math fit "]),
    "nothing to read": (
        ["results"],
        ["error: required: FOLDERS; for example: slm-math results runs"],
    ),
    "config without --config": (
        ["fit", "configs/sft/lora.yaml"],
        ["configs/sft/lora.yaml: did you mean --config configs/sft/lora.yaml?"],
    ),
    "nothing to export": (["export", "--out=OUT"], ["error: required: CHECKPOINT; for example: "]),
    "no checkpoint to export": (
        ["export", "DATA/train.csv", "--out=OUT"],
        ["train.csv is no checkpoint: name a file that training wrote, such as runs/"],
    ),
    "model as a checkpoint": (
        ["export", "MODEL", "--out=OUT"],
        ["MODEL is a model already, which needs no export"],
    ),
    "folder of no run to export": (
        ["export", "DATA", "--out=OUT"],
        ["DATA holds no checkpoint: name the folder of a run, such as runs/sft-lora, or a .ckpt"],
    ),
    "file as an agent of fit": (
        [*FIT_GRPO, "--model.agent=my.py"],
        ["error: model.agent: my.py is a file: name a class in it, such as my.MyClass"],
    ),
    "file as a reward": (
        [*FIT_GRPO, "--model.rewards+=mine/my.py"],
        ["error: model.rewards: mine/my.py is a file: name a class in it, such as mine.my.MyClass"],
    ),
    "file as an agent of eval": (
        [*EVAL, "--agents.x=mine/my.py"],
        ["mine/my.py is a file: name a class in it, such as mine.my.MyClass"],
    ),
    "misspelled help": (["fit", "--hlep"], ["there is no option --hlep: did you mean --help?"]),
    "help of no class": (
        ["fit", "--model.help", "Nope"],
        ["error: --model.help: there is no class Nope (known: GRPOModule, SFTModule;"],
    ),
    "seed of letters": (
        [*FIT, "--seed_everything=abc"],
        ["seed_everything: expected true or false or a whole number, got abc"],
    ),
    "misspelled option of the default agent": (
        ["solve", "1 + 1", "--agent.promt=x", "--model=MODEL"],
        ["there is no option --agent.promt: did you mean --agent.prompt?"],
    ),
    "script as a config of fit": (
        ["fit", "--config=DATA/run.sh"],
        ["config file DATA/run.sh holds a text or a number, and a config holds options by name"],
    ),
    "script as a config of eval": (
        ["eval", "--config=DATA/run.sh"],
        ["config file DATA/run.sh holds a text or a number, and a config holds options by name"],
    ),
    "misspelled in one of many": (
        [*EVAL, "--agents.x=MajorityVote", "--agents.x.kk=3"],
        ["there is no option --agents.x.kk: did you mean --agents.x.k"],
    ),
    "function as a reward": (
        [*FIT_GRPO, "--model.rewards+=json.dumps"],
        [
            "model.rewards: json.dumps is a function, and a reward is a class with one method",
            "`class Dumps(Reward):` with `def __call__(self, graded): return float(",
            "and name json.Dumps;",
        ],
    ),
    "no GPU": (
        [*FIT, "--trainer.accelerator=gpu"],
        ["trainer.accelerator gpu: PyTorch finds no GPU here", "leave the option out"],
    ),
    "folder as a config": (
        ["fit", "--config=DATA"],
        ["--config DATA is a folder, not a YAML file"],
    ),
    "nothing to serve": (
        ["serve-agent", "--port=0"],
        ["serve-agent needs a model: --model FOLDER"],
    ),
    "config of a download": (["download", "sft/lora"], ["did you mean --config sft/lora?"]),
    "argument that nobody takes": (["doctor", "now"], ["unexpected argument now"]),
    "last part of an option": (
        [*EVAL, "--max_new_tokens=5"],
        ["max_new_tokens: did you mean --inference.sampling.max_new_tokens?"],
    ),
    "beginning of a name": (["grade", "x.jsonl", "--comp=x"], ["comp: did you mean --completion?"]),
    "beginning of one of plan": (
        ["plan", f"--config={CONFIGS / 'sft/full.yaml'}", "--devi=cpu"],
        ["there is no option --devi: did you mean --device?"],
    ),
    "hyphen": (
        ["grade", "x.jsonl", "--second-opinion"],
        ["there is no option --second-opinion: did you mean --second_opinion?"],
    ),
    "misspelled inside": (
        [*EVAL, "--inference.sampling.temprature=1"],
        ["inference.sampling.temprature: did you mean --inference.sampling.temperature?"],
    ),
    "one of many": ([*EVAL, "--agent=SingleShot"], ["option --agent: did you mean --agents?"]),
    "no name": (
        [*EVAL, "--agents=SingleShot"],
        ["agents: expected values by name, such as --agents.NAME SingleShot, got SingleShot"],
    ),
    "no choice": ([*EVAL, "--inference.engine=vlm"], ["engine: vlm is none of auto", "mean vllm?"]),
    "choice elsewhere": (["compare", "--over=cost"], ["that is `slm-math results --over cost`"]),
    "name in statistics": (
        ["power", "--n=100"],
        ["there is no option --n: did you mean --problems?"],
    ),
    "no list": (
        [*EVAL, "--inference.sampling.stop=x"],
        ["inference.sampling.stop: expected a list, such as '[x]', got x"],
    ),
    "no pair": (
        [*FIT, "--model.optim.betas=0.9"],
        ["model.optim.betas: expected a list of 2 values, got 0.9"],
    ),
    "hub data": (
        [*EVAL, "--source=openai/gsm8k"],
        ["read with --source Table --source.path openai/gsm8k"],
    ),
    "file of data": ([*EVAL, "--source=mine.csv"], ["--source Table --source.path mine.csv"]),
    "logger": (
        [*FIT, "--trainer.logger=tensorboard"],
        ["there is no class tensorboard: did you mean TensorBoardLogger? (known: CSVLogger, "],
    ),
    "value in a file": (
        [*EVAL, "--config=DATA/value.yaml"],
        ["config file DATA/value.yaml, line 2: limit: expected a whole number, got ten"],
    ),
    "key in a file": ([*EVAL, "--config=DATA/eval.yaml"], ["DATA/eval.yaml, line 1: there is no"]),
    "no config file": ([*FIT, "--config=nowhere.yaml"], ["config file", "nowhere.yaml"]),
    "unknown key": ([*FIT, "--config=DATA/key.yaml"], ["tokens_per_bach", "tokens_per_batch"]),
    "unknown option": ([*FIT, "--trainer.max_epocs=3"], ["max_epocs"]),
    "unknown key of eval": ([*EVAL, "--config=DATA/eval.yaml"], ["limt"]),
    "misspelled module": (
        [*FIT, "--model.class_path=slm_math.modules.sft.SFTModul"],
        ["SFTModul", "SFTModule"],
    ),
    "misspelled callback": (
        [*FIT, "--config=DATA/callback.yaml"],
        ["slm_math.callbacks.AgentEvall", "AgentEval"],
    ),
    "misspelled agent": (
        [*EVAL, "--agents={a: {class_path: slm_math.agents.SingelShot}}"],
        ["SingelShot", "SingleShot"],
    ),
    "misspelled source": (
        [*EVAL, "--source=GSM9K"],
        ["GSM9K", "known: Arithmetic, CLEVRMath, Chats"],
    ),
    "misspelled model": (
        ["fit", "--model=SFTModulee"],
        ["model: there is no class SFTModulee: did"],
    ),
    "misspelled option": ([*FIT_GRPO, "--model.agent.promt=x"], ["model.agent.promt", "prompt?"]),
    "option of training": (
        ["eval", "--trainer.max_epochs=1"],
        ["there is no option --trainer.max_epochs"],
    ),
    "option that a later file overrides": (
        ["eval", "--out=X", "--limit=3", f"--config={CONFIGS / 'eval/gsm8k.yaml'}"],
        ["--out X has no effect before --config ", "sets it to runs/eval: later ones win"],
    ),
    "class that a later file overrides": (
        [*FULL_SOURCE, f"--config={CONFIGS / 'fast.yaml'}"],
        ["--data.source Table has no effect before --config ", "sets it to Arithmetic"],
    ),
    "reinforcement before fine-tuning": (
        ["fit", f"--config={CONFIGS / 'grpo/solver.yaml'}"],
        ["runs/sft-lora/export does not exist: `slm-math fit --config sft/lora` trains it first"],
    ),
    "more processes than cores": (
        [*FIT, "--trainer.devices=4096", "--trainer.accelerator=cpu"],
        ["trainer.devices: there is no GPU, and 4096 processes on "],
    ),
    "misspelled data to check": (
        ["check-data", "GSM9K"],
        ["GSM9K is neither a file nor a data set: did you mean GSM8K?"],
    ),
    "class of a section": (
        ["fit", f"--config={CONFIGS / 'fast.yaml'}", "--model=GRPOModule"],
        [
            "data has no class yet",
            "first: --data ChatData or --data ProblemData, or a configuration with one",
            "such as --config sft/lora, before the file that sets its options",
        ],
    ),
    "data without a class": (
        ["fit", "--data.source=GSM8K", "--model=GRPOModule"],
        ["option source", "name the class first: --data ChatData or --data ProblemData"],
    ),
    "model without a class": (
        ["fit", "--model.agent=SingleShot", "--data=ProblemData"],
        ["option agent", "name the class first: --model GRPOModule"],
    ),
    "agent without a class": (
        [*EVAL, "--agents.x.k=3"],
        ["agents.x has no class yet", "name the class first: --agents.x MajorityVote"],
    ),
    "null for a class": (
        [*EVAL, "--agents.two=null"],
        ["agents: expected an Agent, got null: name a class (known: BackwardCheck, "],
    ),
    "null for an engine": (
        [*FIT_GRPO, "--model.engines.judge=null"],
        ["model.engines: expected an Engine, got null: name a class (known: CheckpointEngine, "],
    ),
    "wrong class": (
        [*FIT_GRPO, "--model.agent=slm_math.rewards.Correct"],
        ["model.agent: slm_math.rewards.Correct is not an Agent (known: BackwardCheck, "],
    ),
    "no options": (["fit", "--data=ProblemData"], ["options are required: --data.source"]),
    "misspelled engine": (
        [*FIT_GRPO, "--model.engines.judge=CheckpointEngin"],
        [
            "did you mean CheckpointEngine",
            "known: CheckpointEngine, OpenAIBatches, OpenAIEngine, VLLMEngine, VLLMS",
        ],
    ),
    "misspelled reward": (
        [*FIT_GRPO, "--model.rewards=[Corect]"],
        ["Corect", "Correct, FirstAttempt, Format"],
    ),
    "option twice": (
        [*EVAL, "--source={class_path: GSM8K, limit: 1, init_args: {limit: 2}}"],
        ["GSM8K", "limit", "both"],
    ),
    "no blank in a mapping": (
        [*FIT_GRPO, "--model.teacher={servers:[http://x]}"],
        ["'{servers:[http://x]}' is not YAML: found unexpected ':' in line 1, column 9", "blank"],
    ),
    "config that is not valid YAML": (
        [*FIT, "--config=DATA/torn.yaml"],
        ["DATA/torn.yaml is not YAML", "in line 2"],
    ),
    "wrong type": ([*FIT, "--data.init_args.batch_size=many"], ["batch_size", "many"]),
    "wrong value": ([*FIT, "--data.init_args.batch_size=0"], ["batch_size must be at least 1"]),
    "negative rate": (
        [*FIT, "--model.optim.lr", "-1e-4"],
        ["optim.lr must be a number above 0, got -0.0001"],
    ),
    "no such model": (
        [*EVAL[:3], "--model=./nowhere", "--out=OUT"],
        ["./nowhere", "does not exist"],
    ),
    "no such model to train": (
        ["fit", FULL[0], "--model.init_args.policy.path=./nowhere"],
        ["./nowhere"],
    ),
    "missing field": (
        [*EVAL, SOURCE.replace("FOLDER", "field")],
        ["test.jsonl", "line 2", "answer"],
    ),
    "broken line": ([*EVAL, SOURCE.replace("FOLDER", "json")], ["test.jsonl", "line 2", "JSON"]),
    "no data": ([*EVAL, SOURCE.replace("FOLDER", "nowhere")], ["DATA/nowhere"]),
    "grade nothing": (["grade", "--file=nowhere.jsonl"], ["nowhere.jsonl", "does not exist"]),
    "grade broken line": (
        ["grade", "--file=DATA/json/test.jsonl"],
        ["test.jsonl", "line 1", "completion"],
    ),
    "no results": (["results", "--folders=[DATA]"], ["holds no evaluation"]),
    "a value like an option": (
        ["power", "--detect", "-1%"],
        ["--detect -1% is read as two options: write --detect=-1%"],
    ),
    "no value": (["power", "--detect"], ["--detect needs a value"]),
    "no checkpoint": ([*FIT, "--ckpt_path=nowhere.ckpt"], ["nowhere.ckpt"]),
    "download nothing": (["download"], ["nothing to download"]),
}
