"""A linear layer that quantizes its input at each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qfx.arguments import checked
from qfx.errors import InputError, QuantizationError, UnsupportedError
from qfx.ir.types import QDType, QParams
from qfx.lowering.stored import dynamic_grouped_step, linear_step
from qfx.memory import require_regular
from qfx.nn.quantized.dynamic.formats import format_of
from qfx.nn.quantized.dynamic.seen import Sizes, as_it_is
from qfx.nn.quantized.dynamic.served import ServedWeight
from qfx.nn.quantized.dynamic.weights import SCALE, ZERO_POINT, DynamicModule, require_class
from qfx.ops.qdq.decode import StoredWeight
from qfx.quantization.observer.passive import INPUT_GROUPS
from qfx.runtime import Executable, ProgramBuilder, steps
from qfx.runtime.limits import MOST_FEATURES
from qfx.runtime.writing import write
from qfx.tensor.gradient import without_gradient

Made = TypeVar("Made", bound="Linear")


class Linear(DynamicModule):
    """``x W^T + bias`` as ``torch.nn.Linear``, float32 in and out. Weights are zero until they are loaded.

    With int8 weights each row of the input, or all of it, is quantized to 0..255, with the range of its values and zero
    included, and ``y = float(sum (q - z) (w - z_w)) * (scale * weight_scale) + bias``. With weights of 16 bits or by
    groups everything is float32, unless the input has a scale a group, too: then such products are added, a group each.

    State: ``weight`` int8 ``[O, I]``, ``weight_scale`` float32 and ``weight_zero_point`` int64 (0-d or ``[O]``) and
    ``input_per_row`` bool (0-d), or ``weight`` float16 or bfloat16 alone; by groups as :class:`DynamicModule` says;
    ``bias`` float32 ``[O]`` if there is one.

    Args:
        in_features: Size of the last dim of the input.
        out_features: Size of the last dim of the result.
        bias_: Whether there is a bias.
        dtype: Of the weights: ``qfx.qint8``, ``torch.float16`` or ``torch.bfloat16``.
        bits: 8 or 4: weights are integers by groups, and inputs stay float or are quantized by groups.
        group_size: Neighbours in a row of weights that share a scale; None: the whole row.
        symmetric: Groups have no zero points.
        input_group: Neighbours in a row of the input that share a scale, 32, 64 or 128; None, with ``bits``: the input
            stays float.

    Raises:
        UnsupportedError: Another dtype, features that are no whole groups, more than 32768 with a float input, or
            groups of the input without ``bits`` or that do not divide those of weights.
    """

    weights_alone = True
    input_group: int | None = None

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias_: bool = True,
        dtype: Any = QDType.qint8,
        *,
        bits: int | None = None,
        group_size: int | None = None,
        symmetric: bool = True,
        input_group: int | None = None,
    ) -> None:
        super().__init__(dtype, bits, group_size)
        self.in_features, self.out_features = in_features, out_features
        if input_group is not None:
            _require_groups(bits, group_size, input_group)
            self.input_group = input_group
        biases: dict[str, tuple[int, ...]] = {"bias": (out_features,)} if bias_ else {}
        most = None if self.quantizes or input_group is not None else MOST_FEATURES
        self.declare({"weight": (out_features, in_features), **biases}, most, symmetric=symmetric)

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The quantized version of a float or trained layer.

        Weights are as its qconfig says; without one they are int8 with a scale a row.

        Raises:
            ConversionError: ``mod`` is of another class, or its weights can't be quantized as its qconfig asks.
        """
        require_class(cls, mod, (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear))
        layer: Any = mod
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, **format_of(mod))
        made.take(mod, {name: name for name in ("weight", *(("bias",) if layer.bias is not None else ()))})
        made._transposed = bool(getattr(layer, "weight_is_transposed", False))
        return made.train(mod.training)

    @as_it_is
    def forward(self, x: Tensor) -> Tensor:
        """The layer on ``x``, float32 ``[..., in_features]``; the result is float32 ``[..., out_features]``.

        Raises:
            InputError: Another shape or dtype.
        """
        if isinstance(x, Tensor):
            require_regular(x, "The input")
        if not isinstance(x, Tensor) or x.dim() == 0 or x.shape[-1] != self.in_features:
            given = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"{type(self).__name__} got an input of {given}.",
                remedy=f"Pass a float32 tensor whose last dim is {self.in_features}.",
            )
        (y,) = self.seen((), self._rows, self._row_shapes, x.reshape(-1, self.in_features))
        return without_gradient("Linear", y.view(*x.shape[:-1], self.out_features), x)

    def _rows(self, x: Tensor) -> Sequence[Tensor]:
        return self.program((), self._build).run(x)

    def _row_shapes(self, x: Tensor) -> list[Sizes]:
        return [(x.shape[0], self.out_features)]

    @property
    def weight(self) -> ServedWeight:
        """The weight as a float layer has it: float32 values; called, what is stored.

        A QTensor, a tensor of 16 bits, or, by groups, the float32 values again.
        """
        shape = (self.out_features, self.in_features)
        return ServedWeight(shape[::-1] if self._transposed else shape, self._stored_weight, self._float_weight)

    _transposed = False
    """Whether the layer that this one stands for has its weight as ``[in_features, out_features]``."""

    def _float_weight(self) -> Tensor:
        values = self._stored_weight().dequantize() if self.quantizes else self._stored().values()
        return values.t() if self._transposed else values

    def _stored(self) -> StoredWeight:
        return self.stored("weight", (self.out_features, self.in_features))

    def _stored_weight(self) -> Tensor:
        """A qint8 QTensor, per tensor or along axis 0, or a tensor of 16 bits; by groups, the values."""
        stored = self._tensor("weight")
        if not self.quantizes:
            return stored if self.bits is None else self._stored().values()
        from qfx.tensor import QTensor

        scale, zero_point = (self._tensor("weight" + end).tolist() for end in (SCALE, ZERO_POINT))
        if isinstance(scale, list):
            return QTensor(stored, QParams(tuple(scale), tuple(zero_point), QDType.qint8, 0))
        return QTensor(stored, QParams(scale, zero_point, QDType.qint8))

    @property
    def bias(self) -> Any:
        """The bias as a float layer has it; called, the tensor that is stored, float32 ``[O]``, or None."""
        stored = self._buffers.get("bias")
        if stored is None:
            return lambda: None
        return ServedWeight(stored.shape, lambda: stored, lambda: stored)

    def _weight_bias(self) -> tuple[Tensor, Tensor | None]:
        return self._stored_weight(), self._buffers.get("bias")

    def set_weight_bias(self, w: Tensor, b: Tensor | None) -> None:
        """Take another weight, a qint8 QTensor or a tensor of 16 bits as the module's dtype says, and another bias.

        Raises:
            QuantizationError: Their dtypes or shapes do not fit this module.
        """
        qparams: Any = getattr(w, "qparams", None)
        half = isinstance(self.dtype, torch.dtype)
        fits = w.dtype is self.dtype if half else qparams is not None and qparams.dtype is QDType.qint8
        if self.bits is not None or not fits or (not half and qparams.axis not in (None, 0)):
            remedy = f"Pass a {self.dtype} tensor." if half else "Pass a qint8 QTensor, per tensor or along axis 0."
            raise QuantizationError(
                f"The weight does not fit a dynamic Linear with {self.form()}.",
                remedy=remedy if self.bits is None else "Load a state_dict, or make a layer with from_float.",
            )
        wanted = (self.out_features, self.in_features)
        if tuple(w.shape) != wanted or (b is not None and tuple(b.shape) != wanted[:1]):
            raise QuantizationError(f"Weight or bias are not {wanted} and {wanted[:1]}.", remedy="Pass those shapes.")
        with torch.inference_mode(False):
            if half:
                self.keep("weight", w.detach().clone())
            else:
                self.keep("weight", w.int_repr().detach().clone())
                self.keep("weight" + SCALE, torch.tensor(qparams.scale, dtype=torch.float32, device="cpu"))
                self.keep("weight" + ZERO_POINT, torch.tensor(qparams.zero_point, dtype=torch.int64, device="cpu"))
            self._buffers.pop("bias", None)
            if b is not None:
                self.keep("bias", b.detach().to(torch.float32, copy=True))

    def extra_repr(self) -> str:
        shown = f"in_features={self.in_features}, out_features={self.out_features}, {self.form()}"
        shown += ", per_row=False" if self.quantizes and not self.per_row else ""
        shown += "" if self.input_group is None else f", input_group={self.input_group}"
        return shown if "bias" in self._buffers else f"{shown}, bias=False"

    def _build(self) -> Executable:
        b = ProgramBuilder()
        x = b.value("x", "f32", [-1, self.in_features])
        bias = self.biases(b, ["bias"]) if "bias" in self._buffers else None
        if self.input_group is not None:
            step = dynamic_grouped_step(b, x, self._stored(), bias, group=self.input_group)
        elif not self.quantizes:
            step = linear_step(b, x, self._stored(), bias)
        else:
            weight = self.weights(b, ["weight"])
            assert weight.scale is not None
            step = steps.linear_dynamic(
                x, per_row=self.per_row, weight=weight.values, weight_scale=weight.scale,
                weight_zero_point=weight.zero_point, bias=bias,
            )  # fmt: skip
        return Executable(b.build([x], write(b, "linear", step, [-1, self.out_features])))


def _require_groups(bits: int | None, group_size: int | None, input_group: int) -> None:
    whole = group_size is None or group_size % input_group == 0
    if bits is None or input_group not in INPUT_GROUPS or not whole:
        raise UnsupportedError(
            f"Inputs can't have a scale for {input_group} of them where weights have bits={bits}, "
            f"group_size={group_size}.",
            remedy=f"Use bits=8 or bits=4, input_group={' or '.join(map(str, INPUT_GROUPS))}, and a group_size that is "
            "a multiple of it, or None.",
        )
