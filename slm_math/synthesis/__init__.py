"""Data synthesis: traces that are kept, and what they cost."""
