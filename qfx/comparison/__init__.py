"""Where a quantized model differs from its float model, node by node, and which step of conversion is the cause."""

from qfx.comparison.compare import compare
from qfx.comparison.records import Comparison, Deviation, NodeComparison

__all__ = ["Comparison", "Deviation", "NodeComparison", "compare"]
