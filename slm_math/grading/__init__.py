"""Grade saved completions: the command `slm-math grade`."""
