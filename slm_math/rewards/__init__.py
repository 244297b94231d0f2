"""Rewards: small functions from a task and what happened to one number, combined by weights."""

from slm_math.rewards.answer import Correct, Format, Length, Overlong, Parsable
from slm_math.rewards.base import Reward, check, score, total
from slm_math.rewards.work import CodeAgrees, CodeRan, VerifierApproval, VerifierDecision

__all__ = [
    "CodeAgrees",
    "CodeRan",
    "Correct",
    "Format",
    "Length",
    "Overlong",
    "Parsable",
    "Reward",
    "VerifierApproval",
    "VerifierDecision",
    "check",
    "score",
    "total",
]
