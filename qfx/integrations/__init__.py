"""Quantized networks inside the objects of other libraries: Hugging Face transformers, and what is built around it."""

from qfx.integrations.files import load_encoder
from qfx.integrations.quantize import quantize_encoder

__all__ = ["load_encoder", "quantize_encoder"]
