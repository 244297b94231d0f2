"""What tests give to agents: problems, and results of programs that print nothing."""

from slm_math.types import Image, Problem, RunResult

PROBLEM = Problem("p/1", "What is 3 + 4?")
CHOICE = Problem("p/2", "What is 3 + 4?", "mc", ("5", "7", "9"))
PICTURE = Image("seven.png")
PICTURED = Problem("p/3", "What is 3 + 4?", images=(PICTURE,))
FAILED = RunResult(
    False, error="line 1: NameError: name 'x' is not defined", error_type="NameError"
)
STOPPED = RunResult(False, error="stopped after 5 s", error_type="TimeoutError", timed_out=True)
SILENT = RunResult(True)
