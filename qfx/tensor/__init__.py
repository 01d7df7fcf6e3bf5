"""Quantized tensors: plain integers with their scale and zero point, behaving as ``torch.Tensor``."""

from qfx.tensor.build import quantize_per_channel, quantize_per_tensor
from qfx.tensor.files import load, save
from qfx.tensor.interchange import from_torch
from qfx.tensor.qtensor import QTensor

__all__ = ["QTensor", "from_torch", "load", "quantize_per_channel", "quantize_per_tensor", "save"]
