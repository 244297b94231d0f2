"""The ladder behind `scripts/table.py`: which steps there are (`plan`), how they run and resume
(`steps`, `driver`, `progress`), and the table that they end in (`table`).
"""
