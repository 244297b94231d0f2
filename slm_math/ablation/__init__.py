"""What a turn of a workflow was worth: the workflow without it, and with other draws of it."""
