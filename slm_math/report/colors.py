"""The colors of runs and curves."""

# Okabe and Ito 2008, distinguishable for color-blind readers; without black and yellow, which are
# invisible in one of the themes
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
