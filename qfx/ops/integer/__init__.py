"""Exact integer references: what the kernels equal bit for bit."""
