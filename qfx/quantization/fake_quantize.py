"""Fake quantization: values rounded to what integers can hold, with gradients passed straight through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from qfx.errors import QConfigError
from qfx.ir.types import QDType, QParams, QScheme
from qfx.quantization.factory import WithArgs
from qfx.quantization.observer import (
    FixedQParamsObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    Observer,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
)
from qfx.quantization.observer.base import resize_buffer


class FakeQuantizeBase(WithArgs, nn.Module, ABC):
    """Abstract base: two switches kept as buffers, so that they travel with state_dict and to replicas.

    State: ``fake_quant_enabled`` and ``observer_enabled``, uint8 ``[1]``.
    """

    fake_quant_enabled: Tensor
    observer_enabled: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fake_quant_enabled", torch.ones(1, dtype=torch.uint8))
        self.register_buffer("observer_enabled", torch.ones(1, dtype=torch.uint8))

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Observe ``x`` and return it fake-quantized, as the switches say."""

    @abstractmethod
    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``, as an observer's."""

    def qparams(self) -> QParams:
        """The result of ``calculate_qparams``, with dtype, axis and integer range as far as attributes give them."""
        scale, zero_point = self.calculate_qparams()
        dtype = QDType.parse(getattr(self, "dtype", QDType.quint8))
        bounds = getattr(self, "quant_min", None), getattr(self, "quant_max", None)
        if scale.numel() == 1:
            return QParams(float(scale), int(zero_point), dtype, None, *bounds)
        axis = int(getattr(self, "ch_axis", 0))
        return QParams(tuple(scale.tolist()), tuple(zero_point.tolist()), dtype, axis, *bounds)

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Switch quantization of the values on or off."""
        self.fake_quant_enabled.fill_(int(enabled))

    def disable_fake_quant(self) -> None:
        """Let values pass unchanged."""
        self.enable_fake_quant(False)

    def enable_observer(self, enabled: bool = True) -> None:
        """Switch the collection of statistics on or off."""
        self.observer_enabled.fill_(int(enabled))

    def disable_observer(self) -> None:
        """Keep scale and zero point as they are."""
        self.enable_observer(False)


class FakeQuantize(FakeQuantizeBase):
    """Observe, then ``(clamp(rint(x / scale) + zero_point, quant_min, quant_max) - zero_point) * scale``.

    The gradient is 1 where ``x`` falls within the integer range and 0 where it is clamped. Works on any device.

    State: the switches, ``scale`` float32 and ``zero_point`` int32 (``[1]``, or ``[channels]``), and the observer's
    statistics under ``activation_post_process``.

    Args:
        observer: Class or factory of the observer.
        quant_min: Lowest integer, with ``quant_max``; the dtype's when left out.
        quant_max: Highest integer.
        **observer_kwargs: Further arguments of the observer.

    Raises:
        QConfigError: ``observer`` builds something that is no observer of a quantized dtype.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        observer: Callable[..., Any] = MovingAverageMinMaxObserver,
        quant_min: int | None = None,
        quant_max: int | None = None,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__()
        if quant_min is not None or quant_max is not None:
            observer_kwargs.update(quant_min=quant_min, quant_max=quant_max)
        built = observer(**observer_kwargs)
        if not isinstance(built, Observer) or not isinstance(built.dtype, QDType):
            raise QConfigError(
                f"{type(self).__name__} needs an observer of a quantized dtype, but {observer!r} builds {built!r}.",
                remedy="Pass an observer class or factory, such as MovingAverageMinMaxObserver.",
            )
        self.activation_post_process = built
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))

    @property
    def label(self) -> str | None:
        """Where the value is, for errors: the observer's label."""
        return self.activation_post_process.label

    @label.setter
    def label(self, label: str | None) -> None:
        self.activation_post_process.label = label

    @property
    def source(self) -> str | None:
        """The user's source line, for errors: the observer's."""
        return self.activation_post_process.source

    @source.setter
    def source(self, source: str | None) -> None:
        self.activation_post_process.source = source

    @property
    def dtype(self) -> QDType:
        """The quantized dtype."""
        return QDType.parse(self.activation_post_process.dtype)

    @property
    def qscheme(self) -> QScheme:
        """The quantization scheme."""
        return QScheme.parse(getattr(self.activation_post_process, "qscheme", QScheme.per_tensor_affine))

    @property
    def ch_axis(self) -> int:
        """The channel dimension, -1 when per tensor."""
        return int(getattr(self.activation_post_process, "ch_axis", -1))

    @property
    def quant_min(self) -> int:
        """Lowest integer."""
        return int(getattr(self.activation_post_process, "quant_min", self.dtype.qmin))

    @property
    def quant_max(self) -> int:
        """Highest integer."""
        return int(getattr(self.activation_post_process, "quant_max", self.dtype.qmax))

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)`` of the observer, float32 and int64."""
        return self.activation_post_process.calculate_qparams()

    def qparams(self) -> QParams:
        """The observer's qparams, with dtype, axis and the integer range that values are clamped to in training."""
        return replace(self.activation_post_process.qparams(), quant_min=self.quant_min, quant_max=self.quant_max)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` fake-quantized, same shape and dtype; an empty ``x`` passes unchanged."""
        if x.numel() == 0:
            return x
        if self.observer_enabled[0] == 1:
            self._observe(x.detach())
        return self._quantized(x) if self.fake_quant_enabled[0] == 1 else x

    def _observe(self, x: Tensor) -> None:
        self.activation_post_process.forward(x)
        scale, zero_point = self.calculate_qparams()
        resize_buffer(self, "scale", scale.shape).copy_(scale)
        resize_buffer(self, "zero_point", zero_point.shape).copy_(zero_point)

    def _quantized(self, x: Tensor) -> Tensor:
        bounds = self.quant_min, self.quant_max
        if self.qscheme.per_channel:
            axis = self.ch_axis % x.dim()
            return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, axis, *bounds)
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, *bounds)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name in ("scale", "zero_point"):
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor):
                resize_buffer(self, name, value.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{self.dtype!r}, {self.qscheme!r}, {self.quant_min}..{self.quant_max}"


class FixedQParamsFakeQuantize(FakeQuantize):
    """Fake quantization with qparams known beforehand, as for sigmoid and tanh.

    Args:
        observer: Factory of a FixedQParamsObserver.

    Raises:
        QConfigError: ``observer`` builds anything else.
    """

    def __init__(self, observer: Callable[..., Any]) -> None:
        super().__init__(observer)
        fixed = self.activation_post_process
        if not isinstance(fixed, FixedQParamsObserver):
            raise QConfigError(
                f"{type(self).__name__} needs a FixedQParamsObserver, not {type(fixed).__name__}.",
                remedy="Pass FixedQParamsObserver.with_args(scale=..., zero_point=...).",
            )
        self.scale.copy_(fixed.scale)
        self.zero_point.copy_(fixed.zero_point)


default_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=QDType.quint8, reduce_range=True
)
"""Activations: quint8 by a moving average of minimum and maximum."""
default_weight_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=QDType.qint8,
    qscheme=QScheme.per_tensor_symmetric,
)
"""Weights: qint8, symmetric, one scale, by a moving average."""
default_per_channel_weight_fake_quant = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=QDType.qint8,
    qscheme=QScheme.per_channel_symmetric,
    ch_axis=0,
)
"""Weights: qint8, symmetric, one scale a channel, by a moving average."""
default_fixed_qparams_range_0to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_0to1_observer
)
"""Of values in 0..1, as sigmoid gives."""
default_fixed_qparams_range_neg1to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_neg1to1_observer
)
"""Of values in -1..1, as tanh gives."""
