"""Rewards: a graded trace to a number, a credit per turn, or a workflow that asks a model."""

from slm_math.rewards.answer import Correct, Format, Length, Overlong, Parsable
from slm_math.rewards.asking import AsksJudge
from slm_math.rewards.attempts import FirstAttempt, Improvement, LastAttempt, SelectorChoice
from slm_math.rewards.base import Reward, check, replies_of, rewarded
from slm_math.rewards.controls import FormatOnly, RandomReward
from slm_math.rewards.credits import Credit, turn_factors
from slm_math.rewards.scores import Scores, part_names, score, total
from slm_math.rewards.work import CodeAgrees, CodeRan, VerifierApproval, VerifierDecision
from slm_math.rewards.worth import TurnWorth

__all__ = [
    "AsksJudge",
    "CodeAgrees",
    "CodeRan",
    "Correct",
    "Credit",
    "FirstAttempt",
    "Format",
    "FormatOnly",
    "Improvement",
    "LastAttempt",
    "Length",
    "Overlong",
    "Parsable",
    "RandomReward",
    "Reward",
    "Scores",
    "SelectorChoice",
    "TurnWorth",
    "VerifierApproval",
    "VerifierDecision",
    "check",
    "part_names",
    "replies_of",
    "rewarded",
    "score",
    "total",
    "turn_factors",
]
