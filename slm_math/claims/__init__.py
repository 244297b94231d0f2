"""Claims: evaluations frozen into one file that a stranger can check."""
