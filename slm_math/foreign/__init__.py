"""Files of other tools: their shapes, their containers, reference answers for them, and exports."""
