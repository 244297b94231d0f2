"""Checks of an engine against plain transformers: `check_vllm.py` prints them, tests hold them to
their bars.
"""
