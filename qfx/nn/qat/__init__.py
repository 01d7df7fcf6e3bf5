"""Layers for quantization-aware training: float32 with the rounding of int8 simulated."""

from qfx.nn.qat.weighted import Conv1d, Conv2d, Conv3d, Linear, RoundedWeight

__all__ = ["Conv1d", "Conv2d", "Conv3d", "Linear", "RoundedWeight"]
