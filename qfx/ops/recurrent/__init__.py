"""Recurrent layers: in float, or on integers that they make of their operands row by row."""
