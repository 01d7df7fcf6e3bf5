"""Layers that train with the rounding of their weights: float layers that fake-quantize the weight they multiply."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qfx.errors import QConfigError
from qfx.ir.computed import baked, refresh
from qfx.nn.recast import recast, require_kind
from qfx.quantization.fake_quantize import FakeQuantizeBase
from qfx.quantization.propagate import require_qconfig
from qfx.quantization.qconfig import QConfig

Made = TypeVar("Made", bound="RoundedWeight")


class RoundedWeight(nn.Module):
    """Mixin before a float layer: its constructor arguments and ``qconfig``, whose weight factory rounds the weight.

    By position, ``qconfig`` comes before device and dtype.

    The gradient passes the rounding straight through. The result is fake-quantized by the child
    ``activation_post_process`` that ``prepare_qat`` adds.

    Raises:
        QConfigError: No qconfig, or one whose weight factory does not fake-quantize.
    """

    source: ClassVar[Any]
    """The class that ``from_float`` takes and ``to_float`` returns."""

    computes_weights: ClassVar[bool] = True
    """Whether ``from_float`` takes layers whose weights are computed at each call, and they stay so."""

    weight: Any
    bias: Any
    weight_fake_quant: Any
    qconfig: QConfig

    def __init__(self, *args: Any, qconfig: QConfig | None = None, **kwargs: Any) -> None:
        count = self._layer_arguments()
        if len(args) > count:
            qconfig, args = args[count], (*args[:count], *args[count + 1 :])
        super().__init__(*args, **kwargs)
        self._configure(qconfig)

    @classmethod
    def _layer_arguments(cls) -> int:
        """How many of the float layer's arguments come before ``qconfig``: all but device and dtype."""
        return len(inspect.signature(cls._layer_class()).parameters) - 2

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The trained version of ``mod``, which shares its parameters and must have a ``.qconfig``.

        Raises:
            ConversionError: ``mod`` is of another class.
            QConfigError: Its qconfig is missing, or does not fake-quantize.
        """
        require_kind(cls, mod, (cls.source,))
        qconfig = require_qconfig(mod)
        made = cls._of_members(mod)
        made._configure(qconfig)
        return made

    def to_float(self) -> nn.Module:
        """The float layer with these parameters, not rounded."""
        return recast(self, self._layer_class())

    def plain(self) -> nn.Module:
        """The float convolution or linear that is quantized: with any batch norm folded in, before any activation."""
        return baked(recast(self, self._layer_class()))

    def rounded_weight(self) -> Tensor:
        """The weight that evaluation multiplies: rounded, any batch norm folded in. Statistics stay as they are."""
        refresh(self)
        observing = self.weight_fake_quant.observer_enabled.clone()
        self.weight_fake_quant.disable_observer()
        try:
            with torch.no_grad():
                return self._rounded()
        finally:
            self.weight_fake_quant.observer_enabled.copy_(observing)

    def _rounded(self) -> Tensor:
        rounded: Tensor = self.weight_fake_quant(self.weight)
        return rounded

    @classmethod
    def _of_members(cls: type[Made], mod: Any) -> Made:
        return recast(mod[0] if isinstance(mod, nn.Sequential) else mod, cls)

    @classmethod
    def _layer_class(cls) -> type[nn.Module]:
        return next(base for base in cls.__mro__ if base.__module__.startswith("torch.nn.modules."))

    def _configure(self, qconfig: QConfig | None) -> None:
        if qconfig is not None:
            self.qconfig = qconfig
        rounding = require_qconfig(self).weight()
        if not isinstance(rounding, FakeQuantizeBase):
            raise QConfigError(
                f"{type(self).__name__} needs a weight factory of fake-quantize modules, not of "
                f"{type(rounding).__name__}.",
                why="An observer alone does not round, so training would not see the quantization.",
                remedy="Use qfx.quantization.get_default_qat_qconfig(), or weight=FakeQuantize.with_args(...).",
            )
        rounding.to(next(self.parameters()).device)  # not the weight's, which may be computed
        self.weight_fake_quant = rounding

    def _multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self, nn.Linear):
            return F.linear(x, weight, bias)
        convolve: Any = self._conv_forward
        result: Tensor = convolve(x, weight, bias)
        return result

    def forward(self, input: Tensor) -> Tensor:
        """The float layer's result with its weight rounded to what integers can hold."""
        return self._multiply(input, self._rounded(), self.bias)


class Conv1d(RoundedWeight, nn.Conv1d):
    """``nn.Conv1d`` with a fake-quantized weight; arguments of the float layer and ``qconfig``."""

    source: ClassVar[Any] = nn.Conv1d


class Conv2d(RoundedWeight, nn.Conv2d):
    """``nn.Conv2d`` with a fake-quantized weight; arguments of the float layer and ``qconfig``."""

    source: ClassVar[Any] = nn.Conv2d


class Conv3d(RoundedWeight, nn.Conv3d):
    """``nn.Conv3d`` with a fake-quantized weight; arguments of the float layer and ``qconfig``."""

    source: ClassVar[Any] = nn.Conv3d


class Linear(RoundedWeight, nn.Linear):
    """``nn.Linear`` with a fake-quantized weight; arguments of the float layer and ``qconfig``."""

    source: ClassVar[Any] = nn.Linear
