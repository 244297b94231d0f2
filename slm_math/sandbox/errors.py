"""What can go wrong with a sandbox."""


class SandboxError(RuntimeError):
    """The sandbox itself failed; says nothing about the program."""
