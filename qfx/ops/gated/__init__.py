"""Gated products: a function of one value times another, as in SwiGLU and GEGLU."""
