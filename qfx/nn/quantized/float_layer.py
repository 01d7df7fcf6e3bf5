"""A layer without a quantized version, among quantized ones: QTensors in and out, float32 inside."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qfx.arguments import checked
from qfx.ir.types import QDType, QParams
from qfx.nn.quantized.output import QuantizedModule, observed_qparams
from qfx.quantization.hooks import detach_observer, take_hooks, take_pre_hooks
from qfx.tensor import QTensor
from qfx.tensor.build import quantize

Made = TypeVar("Made", bound="FloatLayer")


class FloatLayer(QuantizedModule):
    """``layer`` in float32 between QTensors: each input is dequantized, each floating-point result quantized.

    Where no input is a QTensor, it is the float layer.

    The first result, such as the output of a recurrent layer, has ``scale`` and ``zero_point``; others, such as its
    states, have the range of their values at each call.

    Args:
        layer: Any module.
        scale: Of the first result.
        zero_point: Of the first result.

    Raises:
        QuantizationError: Scale or zero point is not valid.
    """

    observed = True
    stays_float = True

    @checked
    def __init__(self, layer: nn.Module, scale: Any = 1.0, zero_point: Any = 0) -> None:
        super().__init__(scale, zero_point)
        self.layer = layer

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The layer of an observed module, over the same tensors.

        Raises:
            ConversionError: ``mod`` has no observer.
            CalibrationError: Its observer saw no data.
        """
        qparams = observed_qparams(cls, mod)
        layer = copy.copy(mod)
        for table in ("_modules", "_forward_hooks", "_forward_pre_hooks"):
            layer.__dict__[table] = copy.copy(getattr(mod, table))
        detach_observer(layer)
        take_pre_hooks(layer)
        take_hooks(layer)
        layer.__dict__.pop("qconfig", None)
        made = cls(layer.requires_grad_(False))
        made.set_qparams(qparams)
        return made.train(mod.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns; its tensors of floats are QTensors if an input is one."""
        among_codes = any(isinstance(leaf, QTensor) for leaf in pytree.tree_leaves((args, kwargs)))
        args, kwargs = pytree.tree_map_only(QTensor, lambda x: x.dequantize(), (args, kwargs))
        with torch.no_grad():
            result = self.layer(*args, **kwargs)
        if not among_codes:
            return result
        leaves, spec = pytree.tree_flatten(result)
        first = next((i for i, leaf in enumerate(leaves) if _is_float(leaf)), None)
        codes = [
            quantize(leaf, self.qparams if i == first else _range_of(leaf)) if _is_float(leaf) else leaf
            for i, leaf in enumerate(leaves)
        ]
        return pytree.tree_unflatten(codes, spec)


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _range_of(x: Tensor) -> QParams:
    """quint8 parameters of the values at hand, with zero."""
    low, high = (float(bound) for bound in torch.aminmax(torch.cat([x.reshape(-1), x.new_zeros(1)])))
    scale = max((high - low) / 255.0, torch.finfo(torch.float32).eps)
    return QParams(scale, min(max(round(-low / scale), 0), 255), QDType.quint8)
