"""Runs programs that a model wrote, apart from everything else."""

from slm_math.sandbox.executor import Sandbox, SandboxError

__all__ = ["Sandbox", "SandboxError"]
