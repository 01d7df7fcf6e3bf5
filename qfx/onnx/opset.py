"""Which operator sets files are written for."""

OLDEST = 21
"""The operator set in which every type and every dequantization that files need is there."""
