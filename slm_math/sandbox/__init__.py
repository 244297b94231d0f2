"""Run programs that a model wrote, isolated from everything else."""

from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.executor import Sandbox
from slm_math.sandbox.remote import RemoteSandbox

__all__ = ["RemoteSandbox", "Sandbox", "SandboxError"]
