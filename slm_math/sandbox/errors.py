"""Errors of a sandbox."""


class SandboxError(RuntimeError):
    """The sandbox itself failed. This says nothing about the program."""
