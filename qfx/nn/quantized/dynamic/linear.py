"""A linear layer that quantizes its input at each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qfx.arguments import checked
from qfx.errors import InputError, QuantizationError
from qfx.ir.types import QDType, QParams
from qfx.memory import require_regular
from qfx.nn.quantized.dynamic.seen import Sizes, as_it_is
from qfx.nn.quantized.dynamic.served import ServedWeight
from qfx.nn.quantized.dynamic.weights import SCALE, ZERO_POINT, DynamicModule, dtype_of, require_class
from qfx.runtime import Executable, ProgramBuilder, steps
from qfx.runtime.limits import MOST_FEATURES
from qfx.runtime.writing import write
from qfx.tensor.gradient import without_gradient

Made = TypeVar("Made", bound="Linear")


class Linear(DynamicModule):
    """``x W^T + bias`` as ``torch.nn.Linear``, float32 in and out. Weights are zero until they are loaded.

    With int8 weights each row of the input, or all of it, is quantized to 0..255, with the range of its values and zero
    included, and ``y = float(sum (q - z) (w - z_w)) * (scale * weight_scale) + bias``. With float16 weights everything
    is float32.

    State: ``weight`` int8 ``[O, I]``, ``weight_scale`` float32 and ``weight_zero_point`` int64 (0-d or ``[O]``) and
    ``input_per_row`` bool (0-d), or ``weight`` float16 alone; ``bias`` float32 ``[O]`` if there is one.

    Args:
        in_features: Size of the last dim of the input.
        out_features: Size of the last dim of the result.
        bias_: Whether there is a bias.
        dtype: Of the weights: ``qfx.qint8`` or ``torch.float16``.

    Raises:
        UnsupportedError: Another dtype, or more than 32768 features in float16.
    """

    @checked
    def __init__(self, in_features: int, out_features: int, bias_: bool = True, dtype: Any = QDType.qint8) -> None:
        super().__init__(dtype)
        self.in_features, self.out_features = in_features, out_features
        biases: dict[str, tuple[int, ...]] = {"bias": (out_features,)} if bias_ else {}
        most = MOST_FEATURES if self.dtype is torch.float16 else None
        self.declare({"weight": (out_features, in_features), **biases}, most)

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The quantized version of a float or trained layer.

        Weights are as its qconfig says; without one they are int8 with a scale a row.

        Raises:
            ConversionError: ``mod`` is of another class, or its weights can't be quantized as its qconfig asks.
        """
        require_class(cls, mod, (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear))
        layer: Any = mod
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, dtype_of(mod))
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
        """The weight as a float layer has it: float32 values; called, what is stored, a QTensor or a float16 tensor."""
        shape = (self.out_features, self.in_features)
        return ServedWeight(shape[::-1] if self._transposed else shape, self._stored_weight, self._float_weight)

    _transposed = False
    """Whether the layer that this one stands for has its weight as ``[in_features, out_features]``."""

    def _float_weight(self) -> Tensor:
        stored = self._stored_weight()
        values = stored.to(torch.float32) if stored.dtype is torch.float16 else stored.dequantize()
        return values.t() if self._transposed else values

    def _stored_weight(self) -> Tensor:
        """A qint8 QTensor, per tensor or along axis 0, or a float16 tensor."""
        stored = self._tensor("weight")
        if stored.dtype is torch.float16:
            return stored
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
        """Take another weight, a qint8 QTensor or a float16 tensor as the module's dtype says, and another bias.

        Raises:
            QuantizationError: Their dtypes or shapes do not fit this module.
        """
        qparams: Any = getattr(w, "qparams", None)
        half = self.dtype is torch.float16
        fits = w.dtype is torch.float16 if half else qparams is not None and qparams.dtype is QDType.qint8
        if not fits or (not half and qparams.axis not in (None, 0)):
            raise QuantizationError(
                f"The weight does not fit a dynamic Linear with dtype={self.dtype!r}.",
                remedy="Pass a float16 tensor." if half else "Pass a qint8 QTensor, per tensor or along axis 0.",
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
        shown = f"in_features={self.in_features}, out_features={self.out_features}, dtype={self.dtype!r}"
        shown += "" if self.per_row or self.dtype is torch.float16 else ", per_row=False"
        return shown if "bias" in self._buffers else f"{shown}, bias=False"

    def _build(self) -> Executable:
        b = ProgramBuilder()
        x = b.value("x", "f32", [-1, self.in_features])
        weight = self.weights(b, ["weight"])
        bias = self.biases(b, ["bias"]) if "bias" in self._buffers else None
        if weight.scale is None:
            step = steps.linear_half(x, weight=weight.values, bias=bias)
        else:
            step = steps.linear_dynamic(
                x, per_row=self.per_row, weight=weight.values, weight_scale=weight.scale,
                weight_zero_point=weight.zero_point, bias=bias,
            )  # fmt: skip
        return Executable(b.build([x], write(b, "linear", step, [-1, self.out_features])))
