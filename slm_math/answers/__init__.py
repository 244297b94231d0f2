"""From a reply to a verdict: find the final answer, compare it with the reference, say why."""

from slm_math.answers.equivalence import equivalent
from slm_math.answers.extract import Extracted, extract, gold_answer
from slm_math.answers.grade import Verdict, grade, grader_version, judge

__all__ = ["Extracted", "Verdict", "equivalent", "extract", "gold_answer", "grade", "grader_version", "judge"]
