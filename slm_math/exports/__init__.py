"""Exports that are proven: certificates, model cards, other formats, the hub."""
