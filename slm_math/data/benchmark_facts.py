"""What is known of the benchmarks of text: the file on the hub, its fields, the size, the license.

A revision of 40 hexadecimal digits is a commit that public code pins; the file and the fields are
those that such code reads at it. `unconfirmed` says what no such code confirms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from slm_math.data.files import HubFile

# how the reference answer is read: as it is written; the integer of an AIME problem; a list of all
# answers with a unit and an allowed error beside it; an answer with its unit in brackets; a mixed
# number 8_1/2; a measured quantity; whether a draft is right
Reading = Literal["plain", "aime", "olympiad", "unit", "mixed", "measured", "draft"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_BRANCH = "refs/convert/parquet"  # of every repository: the hub's own copy of its splits
_NONCOMMERCIAL = "CC BY-NC-SA 4.0"
_SYMBOLIC = "93b5b3758d9d9841ffe81d6cd2ae2b030685b078"
_PROCESS = "3bdcd5371ed567559a78f559c01c13a6deee7604"
_SVAMP = "5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef"
_MAWPS = "38c10053efeafd20ab6ff4e08c3ec17de26c19b7"
_HMMT = "data/train-00000-of-00001.parquet"


@dataclass(frozen=True)
class Facts:
    """One benchmark.

    Args:
        title: what it is called.
        file: the file of its test problems.
        size: the number of test problems that are used.
        license: of the file; "" where its page names none that could be confirmed.
        text: the names that the field of the question may have, the hub's first.
        body: the names of a field whose text stands before the question.
        gold: the names that the field of the reference answer may have.
        reading: how the reference answer is read.
        tags: tag -> field.
        train: the file of its training problems; None for a set that is only tested on.
        left_out: (field, value, reason) of rows that cannot be graded.
        unconfirmed: what of the file no public code confirms.
    """

    title: str
    file: HubFile
    size: int
    license: str
    text: tuple[str, ...] = ("question", "problem")
    body: tuple[str, ...] = ()
    gold: tuple[str, ...] = ("answer",)
    reading: Reading = "plain"
    tags: Mapping[str, str] = field(default_factory=dict)
    train: HubFile | None = None
    left_out: tuple[str, str, str] | None = None
    unconfirmed: str = ""

    @property
    def test_only(self) -> bool:
        return self.train is None

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which no one can change."""
        return _COMMIT.fullmatch(self.file.revision) is not None


def _hmmt(month: str, repo: str, revision: str, size: int) -> Facts:
    return Facts(
        f"HMMT {month}",
        HubFile(f"MathArena/{repo}", _HMMT, revision),
        size,
        _NONCOMMERCIAL,
        text=("problem",),
    )


def _symbolic(title: str, part: str, size: int) -> Facts:
    return Facts(
        title,
        HubFile("apple/GSM-Symbolic", f"{part}/test.jsonl", _SYMBOLIC),
        size,
        "CC BY-NC-ND 4.0",
        tags={"template": "id", "instance": "instance"},
    )


def _process(part: str, size: int) -> Facts:
    return Facts(
        f"ProcessBench, {part}",
        HubFile("Qwen/ProcessBench", f"{part}.json", _PROCESS),
        size,
        "Apache 2.0",
        text=("problem",),
        gold=("final_answer_correct",),
        reading="draft",
        tags={"generator": "generator"},
    )


BENCHMARKS: dict[str, Facts] = {
    "aime24": Facts(
        "AIME 2024",
        HubFile(
            "math-ai/aime24",
            "test-00000-of-00001.parquet",
            "83a7f387baaa524a8bda0022eac0541582297103",
        ),
        30,
        "Apache 2.0",
        text=("problem",),
        gold=("answer", "solution"),
        reading="aime",
    ),
    "aime25": Facts(
        "AIME 2025",
        HubFile("math-ai/aime25", "test.jsonl", "563bb8404243c5f09de6ec262f2db674fe5bce9b"),
        30,
        "Apache 2.0",
        text=("problem",),
        reading="aime",
    ),
    "aime26": Facts(
        "AIME 2026",
        HubFile("math-ai/aime26", "aime2026.jsonl", "79037aebdb6580008fb960d17cb21fd3099083e3"),
        30,
        "Apache 2.0",
        text=("problem",),
        reading="aime",
    ),
    "amc23": Facts(
        "AMC 12, 2023",
        HubFile(
            "math-ai/amc23",
            "test-00000-of-00001.parquet",
            "80815d37005feb82cd7f8fbc6901d5d3eff43057",
        ),
        40,
        "none declared",
    ),
    "hmmt_feb25": _hmmt(
        "February 2025", "hmmt_feb_2025", "6fdc4277120810ff75aa22d2d5489b91f7a262a1", 30
    ),
    "hmmt_nov25": _hmmt(
        "November 2025", "hmmt_nov_2025", "118dbfb45c4c9467c672268ed55166642897aa46", 30
    ),
    "hmmt_feb26": _hmmt(
        "February 2026", "hmmt_feb_2026", "02fba4f74d8e68e73e66a02d540fd979c05c274c", 33
    ),
    "olympiadbench": Facts(
        "OlympiadBench, mathematics in English without images",
        HubFile(
            "Hothan/OlympiadBench",
            "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet",
            "91184b52131e7fc9455fef848035173aea8cc01a",
        ),
        674,
        "Apache 2.0",
        text=("question",),
        body=("context",),
        gold=("final_answer",),
        reading="olympiad",
        tags={"subject": "subfield", "kind": "answer_type"},
    ),
    "minerva_math": Facts(
        "Minerva's problems of MIT OpenCourseWare",
        HubFile("math-ai/minervamath", "test.jsonl", "ee46ddc498933b1977577953250ca5c66be64f96"),
        272,
        "",
        gold=("answer", "solution"),
        reading="measured",
        tags={"subject": "type"},
    ),
    "svamp": Facts(
        "SVAMP",
        HubFile("ChilleD/SVAMP", "test.json", _SVAMP),
        300,
        "MIT",
        text=("Question",),
        body=("Body",),
        gold=("Answer",),
        tags={"kind": "Type"},
        train=HubFile("ChilleD/SVAMP", "train.json", _SVAMP),
    ),
    "asdiv": Facts(
        "ASDiv",
        HubFile(
            "EleutherAI/asdiv",
            "asdiv/validation-00000-of-00001.parquet",
            "8f95807222d87b4c688c3c22a6ba2801e1fa03e2",
        ),
        2215,
        "CC BY-NC 4.0",
        text=("question",),
        body=("body",),
        reading="unit",
        tags={"kind": "solution_type"},
        left_out=("answer", ";", "ask for several things at once"),
    ),
    "mawps": Facts(
        "MAWPS",
        HubFile("MU-NLPC/Calc-mawps", "data/test-00000-of-00001-5a59f3fc4b0d9c98.parquet", _MAWPS),
        520,
        "MIT",
        text=("question", "input"),
        gold=("result", "target"),
        reading="mixed",
        tags={"kind": "type"},
        train=HubFile(
            "MU-NLPC/Calc-mawps", "data/train-00000-of-00001-4bb1451333aad61c.parquet", _MAWPS
        ),
        unconfirmed="size",
    ),
    "gsm_plus": Facts(
        "GSM-Plus",
        HubFile(
            "qintongli/GSM-Plus",
            "data/test-00000-of-00001.jsonl",
            "3b708db57b96a16e8e3368ed2956990c0809440e",
        ),
        9233,
        "CC BY-SA 4.0, not to be trained on",
        tags={"kind": "perturbation_type", "template": "seed_question"},
        left_out=("answer", "None", "lack a quantity that the answer needs"),
    ),
    "gsm8k_platinum": Facts(
        "GSM8K-Platinum",
        HubFile(
            "madrylab/gsm8k-platinum",
            "main/test-00000-of-00001.parquet",
            "e762492455a1cf7967de89f05b6bef72fc713b66",
        ),
        1209,
        "CC BY-SA 4.0",
        tags={"cleaning": "cleaning_status"},
    ),
    "gsm_symbolic": _symbolic("GSM-Symbolic", "main", 5000),
    "gsm_symbolic_p1": _symbolic("GSM-Symbolic with a clause more", "p1", 5000),
    "gsm_symbolic_p2": _symbolic("GSM-Symbolic with two clauses more", "p2", 2500),
    "college_math": Facts(
        "CollegeMath",
        HubFile("realtreetune/college_math", "default/test/0000.parquet", _BRANCH),
        2818,
        "",
        text=("problem", "question"),
        unconfirmed="file, revision",
    ),
    "gaokao_en": Facts(
        "Gaokao 2023 in English",
        HubFile("MARIO-Math-Reasoning/Gaokao2023-Math-En", "default/train/0000.parquet", _BRANCH),
        383,
        "",
        left_out=("answer", "", "have no reference answer"),
        unconfirmed="file, revision, size",
    ),
    "processbench_gsm8k": _process("gsm8k", 400),
    "processbench_math": _process("math", 1000),
    "processbench_olympiadbench": _process("olympiadbench", 1000),
    "processbench_omnimath": _process("omnimath", 1000),
}
