"""Pools, reductions and interpolation."""
