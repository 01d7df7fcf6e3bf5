"""Ops on integers: looking rows up, and integers as floats."""
