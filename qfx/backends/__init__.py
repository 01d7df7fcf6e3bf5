"""Backends: which engine's numerics default qconfigs follow. The kernels are chosen by the CPU alone."""

from qfx.backends import quantized

__all__ = ["quantized"]
