"""Reference pages from signatures and docstrings, see `build_reference.py`."""
