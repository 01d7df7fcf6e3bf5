"""Layers and tables whose weights alone are stored in fewer bits, 16 or by groups, and read as float32.

What inputs by groups are multiplied with is stored so, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from qfx.errors import ConversionError
from qfx.ir.nodes import Decision, decision_of
from qfx.ops import arithmetic
from qfx.ops.calls import arguments
from qfx.ops.extents import extent_of
from qfx.ops.qdq.decode import StoredWeight, pack_nibbles
from qfx.ops.table import Op
from qfx.passes.weights import QuantizedWeight, quantize_weight
from qfx.quantization.observer import PerGroupMinMaxObserver
from qfx.quantization.qconfig import QConfig

HALVES = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
"""What weights may be stored as whose values are rounded, and no more; with its name."""

_NORMAL = torch.finfo(torch.float16).smallest_normal
_ARITHMETIC, _LOOKED_UP = "arithmetic in float32", "looked up as float32"


def decide_weight_only(op: Op, node: fx.Node, qconfig: QConfig) -> Decision:
    """What a qconfig that is for weights alone makes of a linear layer, or by groups of a table."""
    observer = qconfig.weight()
    if observer.dtype in HALVES:
        return Decision("weight_only", f"dynamic qconfig: weights stored as {HALVES[observer.dtype]}, {_ARITHMETIC}")
    return decide_groups([extent_of(arguments(op, node)[op.weights[0]], 1)], observer, looks_up=op.looks_up)


def decide_groups(widths: Sequence[int | None], observer: Any, *, looks_up: bool) -> Decision:
    """What an observer of groups makes of weights with so many features."""
    size = observer.group_size
    for width in widths if size is not None else ():
        if width is None or width % size:
            return Decision("float", f"its {width} features are no whole groups of {size}, which share a scale")
    return Decision("weight_only", f"{describe_groups(observer)}, {_LOOKED_UP if looks_up else _ARITHMETIC}")


def describe_groups(observer: Any) -> str:
    """How an observer of groups stores weights."""
    each = "a row" if observer.group_size is None else f"for {observer.group_size} features"
    return f"weights in {observer.bits} bits, one scale {each}"


def is_decoded(op: Op, node: fx.Node) -> bool:
    """Whether the graph decodes the weight of a node: not int8 for rows."""
    if not op.weights:
        return False
    kind = decision_of(node).kind
    if kind == "dynamic":
        return not op.looks_up and node.meta["qconfig"].input_group is not None
    return kind == "weight_only"


def by_groups(node: fx.Node) -> bool:
    """Whether the node's weights are to have a scale for each group of a row."""
    qconfig: QConfig | None = node.meta.get("qconfig")
    return qconfig is not None and qconfig.by_groups


def _stored_by_rows(rounded: QuantizedWeight, *, affine: bool) -> StoredWeight:
    """int8 with a scale a row at most, as the same with one group a row."""
    if rounded.axis not in (None, 0):
        raise ConversionError(
            f"Weights that inputs by groups are multiplied with can't have one scale along axis {rounded.axis}.",
            remedy="Use a weight observer with ch_axis=0, or a per-tensor one.",
        )
    count = len(rounded.values)
    scale, zeros = (t.reshape(-1, 1).expand(count, 1).contiguous() for t in (rounded.scale, rounded.zero_point))
    return StoredWeight(rounded.values, scale, zeros.to(torch.int8) if affine or bool(zeros.any()) else None)


def store_weight(weight: Tensor, observer: Any, *, affine: bool = False) -> StoredWeight:
    """``weight`` as the qconfig with the weight observer ``observer`` stores it; int8 by rows as one group a row.

    Zero points are left out where all are 0, unless ``affine``. 16 bits saturate. Scales are float16 where all of a
    layer's are in the range of its normal numbers, else float32; codes are rounded by the scale that is stored.
    """
    weight = weight.detach().to(torch.float32)
    if observer.dtype in HALVES:
        largest = torch.finfo(observer.dtype).max
        return StoredWeight(weight.clamp(-largest, largest).to(observer.dtype))
    if not isinstance(observer, PerGroupMinMaxObserver):
        return _stored_by_rows(quantize_weight(weight, observer), affine=affine)
    observer(weight)
    scale, zero_point = observer.calculate_qparams()
    scale = scale.to(torch.float16) if bool((scale >= _NORMAL).all() & scale.half().isfinite().all()) else scale
    groups = weight.reshape(*scale.shape, -1)
    bounds = observer.quant_min, observer.quant_max
    codes = arithmetic.quantize(groups, scale.unsqueeze(-1), zero_point.unsqueeze(-1), *bounds).to(torch.int8)
    zeros = zero_point.to(torch.int8) if affine or bool(zero_point.any()) else None
    if observer.bits == 8:
        return StoredWeight(codes.reshape(weight.shape), scale, zeros)
    packed = None if zeros is None else pack_nibbles(zeros)
    return StoredWeight(pack_nibbles(codes), scale, packed, (weight.shape[0], weight.shape[1]))
