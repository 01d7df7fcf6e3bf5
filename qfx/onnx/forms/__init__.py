"""The forms, one file a family of ops."""

from qfx.onnx.forms import compute, index, move, pointwise, pool, quantize, recurrent, rows
from qfx.onnx.table import FORMS

__all__ = ["FORMS", "compute", "index", "move", "pointwise", "pool", "quantize", "recurrent", "rows"]
