"""Workflows that solve problems: one idea per file."""

from slm_math.agents.base import Agent, Session, parallel
from slm_math.agents.code_as_answer import CodeAsAnswer
from slm_math.agents.code_feedback import CodeFeedback
from slm_math.agents.majority_vote import MajorityVote
from slm_math.agents.python_tools import PythonTools
from slm_math.agents.single_shot import SingleShot
from slm_math.agents.solver_verifier import SolverVerifier

__all__ = [
    "Agent",
    "CodeAsAnswer",
    "CodeFeedback",
    "MajorityVote",
    "PythonTools",
    "Session",
    "SingleShot",
    "SolverVerifier",
    "parallel",
]
