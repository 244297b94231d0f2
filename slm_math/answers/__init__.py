"""From a reply to a verdict: find the final answer, compare it with the reference, say why."""

from slm_math.answers.decide import equivalent
from slm_math.answers.equivalence import UNDECIDED, Decision
from slm_math.answers.extract import Extracted, extract, gold_answer
from slm_math.answers.grade import Verdict, grade, grader_version, judge, judged

__all__ = [
    "UNDECIDED",
    "Decision",
    "Extracted",
    "Verdict",
    "equivalent",
    "extract",
    "gold_answer",
    "grade",
    "grader_version",
    "judge",
    "judged",
]
