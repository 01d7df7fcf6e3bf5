"""Linear layers with calibrated inputs that read a scale a row, where one scale for all rows can't hold them.

A few tokens of a transformer, as the first one or punctuation, may be tens of times larger than the others, most of all
behind the activation of an MLP. A rotation spreads a large channel over its row, not a large row over the others; one
scale for all then leaves most rows few of their digits. Such layers read their input as those of a dynamic qconfig do.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from qfx.ir.nodes import Decision, decide, decision_of
from qfx.ir.types import QDType
from qfx.ops.table import is_op
from qfx.passes.insert import GROUP
from qfx.passes.smoothing import has_range_alone, readers
from qfx.passes.wide import FEW_BITS, bits_kept, keeps_few_bits
from qfx.quantization.observer import HistogramObserver, default_dynamic_quant_observer
from qfx.quantization.qconfig import QConfigDynamic

BY_ROWS = Decision(
    "dynamic", "weights int8, input quantized per call, one scale a row, as rows differ too much in size to share one"
)
"""What is decided for such a layer."""


def scale_rows(gm: fx.GraphModule) -> fx.GraphModule:
    """Let linear layers read a rotated input by rows where calibration says that one scale keeps too few bits of it.

    Behind a rotation no channel dwarfs the others of its row, so rows that differ in size are what is left to cause it.
    """
    for node in list(gm.graph.nodes):
        if is_op(node, "rotate") and GROUP in node.meta and _may_have_rows(node) and _rows_differ(gm, node):
            _read_by_rows(gm, node)
    gm.graph.lint()
    gm.recompile()
    return gm


def _may_have_rows(rotation: fx.Node) -> bool:
    """Whether kernels that quantize rows take all that reads a rotated value's integers."""
    layers = _static_readers(rotation)
    return has_range_alone(rotation) and all(n.meta["qconfig"].weight().dtype is QDType.qint8 for n in layers)


def _static_readers(rotation: fx.Node) -> list[fx.Node]:
    return [node for node in readers(rotation) if decision_of(node).kind == "int8"]


def _rows_differ(gm: fx.GraphModule, rotation: fx.Node) -> bool:
    observer: Any = gm.get_submodule(rotation.meta[GROUP])
    if type(observer) is not HistogramObserver or not bool(observer.histogram.any()):
        return False
    if observer.quant_max - observer.quant_min != _STEPS:
        return False
    whole, _ = observer.affine(observer.min_val.reshape(1), observer.max_val.reshape(1))
    # Steps of the whole range are the widest, and take no search to find.
    return bits_kept(observer, float(whole)) < FEW_BITS and keeps_few_bits(observer, observer.qparams())


_STEPS = 255  # of 8 bits, which rows have


def _read_by_rows(gm: fx.GraphModule, rotation: fx.Node) -> None:
    for layer in _static_readers(rotation):
        layer.meta["qconfig"] = QConfigDynamic(default_dynamic_quant_observer, layer.meta["qconfig"].weight)
        decide(layer, BY_ROWS)
    group = rotation.meta.pop(GROUP)
    for call in [user for user in rotation.users if user.meta.get("observer") == group]:
        call.replace_all_uses_with(rotation)
        gm.graph.erase_node(call)
