"""Rotary embedding: pairs of channels turned by an angle for each position."""
