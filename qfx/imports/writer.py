"""Writes quantize and dequantize into a Captured graph, with the numbers that another tool chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from qfx.errors import ConversionError
from qfx.ir import facts
from qfx.ir.attributes import has_attribute, is_free, set_buffer
from qfx.ir.types import QArray, QDType, QParams
from qfx.ir.user_names import token_path
from qfx.ops import arithmetic, qdq

WEIGHTS_READ = "weights_read"
"""Key of a graph's ``meta``: the integers of each float tensor that stands for quantized ones, by its path."""


class Writer:
    """Rewrites a Captured graph node by node.

    Args:
        gm: The Captured graph, rewritten in place.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        self.gm, self.graph = gm, gm.graph
        self.read: dict[str, QArray] = gm.meta.setdefault(WEIGHTS_READ, {})
        self._made: dict[tuple[fx.Node, QParams], fx.Node] = {}

    def call(self, like: fx.Node, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A call at the insertion point, with the place of ``like``."""
        made = self.graph.call_function(target, args, kwargs)
        made.meta.update(module_path=like.meta.get("module_path", ""), source=like.meta.get("source"))
        return made

    def quantized(self, x: fx.Node, qparams: QParams, like: fx.Node) -> fx.Node:
        """``x`` rounded to integers and back, right behind it: the same nodes for the same numbers.

        Raises:
            ConversionError: The scale is not a positive finite number, or the zero point outside of the range.
        """
        key = (x, qparams)
        if key not in self._made:
            scale, zero = _required(qparams, like)
            with self.graph.inserting_after(x):
                nodes = self._numbers(x, scale, zero)
            given = {"dtype": qparams.dtype.name, "quant_min": qparams.qmin, "quant_max": qparams.qmax}
            with self.graph.inserting_after(nodes[1]):
                code = self.call(like, qdq.quantize, x, *nodes, **given)
            with self.graph.inserting_after(code):
                self._made[key] = self.call(like, qdq.dequantize, code, *nodes)
        return self._made[key]

    def _numbers(self, x: fx.Node, scale: float, zero_point: int) -> tuple[fx.Node, fx.Node]:
        """Nodes of scale and zero point under the path of the module that computes ``x``, or under its name."""
        home = token_path(str(x.meta.get("module_path") or x.name))
        while not (is_free(self.gm, home, "scale") and is_free(self.gm, home, "zero_point")):
            home += "_"
        first = self.constant(f"{home}.scale", torch.tensor(scale, dtype=torch.float32), x)
        with self.graph.inserting_after(first):
            return first, self.constant(f"{home}.zero_point", torch.tensor(zero_point, dtype=torch.int64), x)

    def constant(self, path: str, tensor: Tensor, like: fx.Node) -> fx.Node:
        """A node for a new tensor of the model."""
        set_buffer(self.gm, path, tensor)
        made = self.graph.get_attr(token_path(path))
        made.meta.update(module_path=like.meta.get("module_path", ""), source=None)
        return made

    def weight(self, wanted: str, codes: QArray, like: fx.Node) -> fx.Node:
        """A node for the float values of ``codes``, which a later pass finds again under its path."""
        path = token_path(wanted)
        while has_attribute(self.gm, path):
            path += "_"
        made = self.constant(path, self.values(codes), like)
        self.read[path] = codes
        return made

    @staticmethod
    def values(codes: QArray) -> Tensor:
        """What the integers mean, float32."""
        return arithmetic.dequantize(codes.values, codes.scale, codes.zero_point, codes.axis)

    def replace(self, node: fx.Node, value: fx.Node) -> None:
        """Let what reads ``node`` read ``value``."""
        node.replace_all_uses_with(value, delete_user_cb=lambda user: user is not value)
        self.graph.erase_node(node)


def _required(qparams: QParams, like: fx.Node) -> tuple[float, int]:
    """The scale and zero point, checked."""
    given, zero = qparams.per_tensor()
    scale = float(torch.tensor(given, dtype=torch.float32))
    if not 0.0 < scale < float("inf") or not qparams.qmin <= zero <= qparams.qmax:
        raise ConversionError(
            f"{like.name} quantizes with scale {scale} and zero point {zero}.",
            where=facts.where(like),
            source=facts.source(like),
            why=f"A scale is a positive number, and a zero point one of {qparams.qmin} to {qparams.qmax}.",
            remedy="Calibrate the model again, and convert it anew.",
        )
    return scale, zero


def eight_bits(dtype: Any) -> QDType | None:
    """The quantized dtype of activations that ``dtype`` names, None where it is another."""
    name = str(dtype).rsplit(".", 1)[-1]
    return {"uint8": QDType.quint8, "quint8": QDType.quint8, "int8": QDType.qint8, "qint8": QDType.qint8}.get(name)
