"""Workflows that solve problems: one idea per file."""

from slm_math.agents.backward_check import BackwardCheck
from slm_math.agents.base import Agent, parallel
from slm_math.agents.code_as_answer import CodeAsAnswer
from slm_math.agents.code_feedback import CodeFeedback
from slm_math.agents.coding import Session, program
from slm_math.agents.few_shot import FewShot
from slm_math.agents.judge import Judge
from slm_math.agents.majority_vote import MajorityVote
from slm_math.agents.plan_and_reflect import PlanAndReflect
from slm_math.agents.python_tools import PythonTools
from slm_math.agents.replies import stated_answer, usable_reply
from slm_math.agents.selector import Selector
from slm_math.agents.self_correction import SelfCorrection
from slm_math.agents.single_shot import SingleShot
from slm_math.agents.solver_checker import SolverChecker
from slm_math.agents.solver_coder import SolverCoder
from slm_math.agents.solver_verifier import SolverVerifier
from slm_math.agents.step_by_step_code import StepByStepCode
from slm_math.answers.verdicts import verdict

__all__ = [
    "Agent",
    "BackwardCheck",
    "CodeAsAnswer",
    "CodeFeedback",
    "FewShot",
    "Judge",
    "MajorityVote",
    "PlanAndReflect",
    "PythonTools",
    "Selector",
    "SelfCorrection",
    "Session",
    "SingleShot",
    "SolverChecker",
    "SolverCoder",
    "SolverVerifier",
    "StepByStepCode",
    "parallel",
    "program",
    "stated_answer",
    "usable_reply",
    "verdict",
]
