"""What the runtime can't hold, for those who decide what it runs."""

MOST_DIMS = 8
"""Dimensions of a value."""

LONGEST_PRODUCT = (2**31 - 1) // 255**2
"""Products of 8-bit integers, their zero points taken off, that 32 bits hold the sum of, whatever they are."""

MOST_FEATURES = 1 << 15
"""Features of a recurrent layer, and of any layer whose weights are float16."""
