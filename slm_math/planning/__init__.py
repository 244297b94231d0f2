"""What a run will need before it starts: memory by phase, tokens and time of a step."""
