"""Checks of tiny models of many architectures: `check_models.py` prints what they find."""
