"""Ops that are computed in float between 8-bit values: softmax, norms, division."""
