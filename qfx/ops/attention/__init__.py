"""Attention as one op: in float, or on integers that it makes of its operands row by row."""
