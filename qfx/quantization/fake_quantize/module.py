"""Fake quantization by an observer: what values become as integers, with gradients passed straight through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from qfx.arguments import checked
from qfx.errors import QConfigError
from qfx.ir.stored import Role, counts_of, require_entries
from qfx.ir.types import QDType, QParams, QScheme
from qfx.quantization.fake_quantize import formula, kernel, statistics
from qfx.quantization.fake_quantize.base import FakeQuantizeBase
from qfx.quantization.fake_quantize.formula import OPEN, Gate, Rounding
from qfx.quantization.observer import FixedQParamsObserver, MinMaxObserver, MovingAverageMinMaxObserver, Observer
from qfx.quantization.observer.base import as_observable, refuse_recording, require_memory, resize_buffer


class Observed(FakeQuantizeBase):
    """Base of the fake-quantize modules that have an observer, whose dtype, scheme and range they take.

    Args:
        observer: Class or factory of the observer.
        quant_min: Lowest integer, with ``quant_max``; the dtype's when left out.
        quant_max: Highest integer.
        **observer_kwargs: Further arguments of the observer.

    Raises:
        QConfigError: ``observer`` builds something that is no observer of a quantized dtype.
    """

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

    def _rounding(self, x: Tensor, gate: Gate) -> Rounding:
        axis = self.ch_axis % max(x.dim(), 1) if self.qscheme.per_channel else None
        return Rounding(self.quant_min, self.quant_max, axis, gate)

    def extra_repr(self) -> str:
        return f"{self.dtype!r}, {self.qscheme!r}, {self.quant_min}..{self.quant_max}"


class FakeQuantize(Observed):
    """Observe, then ``(clamp(rint(x / scale) + zero_point, quant_min, quant_max) - zero_point) * scale``.

    The integers are those of :func:`qfx.ops.arithmetic.quantize`. The gradient is 1 where ``x`` falls within the
    integer range and 0 where it is clamped. NaN stays NaN. Works on any device; on CPUs, observing, rounding and the
    gradient each pass over memory once, in kernels of our own.

    On CUDA and in compiled code values that are not finite leave the statistics as they are, where elsewhere they are
    an error: an error would have to wait for the device.

    State: the switches, ``scale`` float32 and ``zero_point`` int32 (``[1]``, or ``[channels]``), and the observer's
    statistics under ``activation_post_process``.

    Args:
        observer: Class or factory of the observer.
        quant_min: Lowest integer, with ``quant_max``; the dtype's when left out.
        quant_max: Highest integer.
        **observer_kwargs: Further arguments of the observer.

    Attributes:
        synchronize: None, or what makes the statistics of all processes one: it is called with float32
            ``[2, channels]``, minima and negated maxima of a batch, and replaces them in place by the minima over all
            processes. For observers of minimum and maximum; then also called for an empty input.

    Raises:
        QConfigError: ``observer`` builds something that is no observer of a quantized dtype.
    """

    scale: Tensor
    zero_point: Tensor
    synchronize: Callable[[Tensor], None] | None = None

    @checked
    def __init__(
        self,
        observer: Callable[..., Any] = MovingAverageMinMaxObserver,
        quant_min: int | None = None,
        quant_max: int | None = None,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__(observer, quant_min, quant_max, **observer_kwargs)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)`` of the observer, float32 and int64."""
        return self.activation_post_process.calculate_qparams()

    def qparams(self) -> QParams:
        """The observer's qparams, with dtype, axis and the integer range that values are clamped to in training."""
        return replace(self.activation_post_process.qparams(), quant_min=self.quant_min, quant_max=self.quant_max)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` fake-quantized, same shape and dtype; an empty ``x`` passes unchanged."""
        return self._round(x, OPEN, in_place=False)

    def activated(self, x: Tensor, lo: float = -torch.inf, hi: float = torch.inf, in_place: bool = False) -> Tensor:
        """As :meth:`FakeQuantizeBase.activated`, in one pass; ``in_place`` writes over ``x`` where that can be done."""
        return self._round(x, Gate(lo, hi), in_place)

    def rounded(self, x: Tensor) -> Tensor:
        """``x`` fake-quantized with the qparams as they are, whatever the switches say; nothing is observed."""
        return self._run(x, OPEN, observing=False, rounding=True, in_place=False)

    _quantized = rounded

    def _round(self, x: Tensor, gate: Gate, in_place: bool) -> Tensor:
        return self._run(x, gate, self._is_on("observer_enabled"), self._is_on("fake_quant_enabled"), in_place)

    def _run(self, x: Tensor, gate: Gate, observing: bool, rounding: bool, in_place: bool) -> Tensor:
        if not isinstance(x, Tensor) or x.is_nested or x.is_meta != self.scale.is_meta:
            as_observable(self.activation_post_process, x)
        require_memory(x)
        observer = statistics.known(self.activation_post_process) if observing else None
        if x.numel() == 0:
            if observer is not None and self.synchronize is not None:
                self._join(observer, x)
            return x
        if not (observing or rounding):
            return gate.apply(x)
        observes_here = not observing or (observer is not None and statistics.fits(observer, x))
        limits = self._rounding(x, gate)
        if observes_here and kernel.runs(x) and self._state_fits(observer, limits):
            return self._by_kernel(x, observer, limits, rounding, in_place)
        if observing:
            self._observe(x.detach(), gate)
        return formula.fake_quantize(x, self.scale, self.zero_point, limits) if rounding else gate.apply(x)

    def _state_fits(self, observer: MinMaxObserver | None, limits: Rounding) -> bool:
        statistics = () if observer is None else (observer.min_val, observer.max_val)
        return kernel.takes(limits, self.scale, self.zero_point, *statistics)

    def _by_kernel(
        self, x: Tensor, observer: MinMaxObserver | None, limits: Rounding, rounding: bool, in_place: bool
    ) -> Tensor:
        fields, known = None, None
        if observer is not None:
            channels = 1 if limits.axis is None else x.shape[limits.axis]
            self._make_room(observer, channels)
            known = self._synchronized(kernel.extremes(x, limits.axis)) if self.synchronize is not None else None
            fields = statistics.fields_of(observer, known)
        grid = kernel.Grid(self.scale, self.zero_point, limits)
        outcomes: list[int] = []
        if not rounding:
            outcomes.append(kernel.forward(kernel.dense(x.detach()), grid, fields, None, False)[0])
            y = limits.gate.apply(x)
        elif torch.is_grad_enabled() and x.requires_grad:
            y = kernel.Rounded.apply(x, grid, fields, in_place, outcomes)  # type: ignore[no-untyped-call]
        else:
            source = kernel.dense(x)
            y = source if in_place else torch.empty_like(source)
            outcomes.append(kernel.forward(source, grid, fields, y, False)[0])
        if outcomes[0] == kernel.NOT_FINITE:
            self._raise_not_finite(x, known)
        return y

    def _make_room(self, observer: MinMaxObserver, channels: int) -> None:
        statistics.make_room(observer, channels)
        if self.scale.numel() != channels:
            resize_buffer(self, "scale", (channels,)).fill_(1.0)
            resize_buffer(self, "zero_point", (channels,)).zero_()

    def _synchronized(self, extremes: Tensor) -> Tensor:
        assert self.synchronize is not None
        self.synchronize(extremes)
        extremes[1].neg_()
        return extremes

    def _join(self, observer: MinMaxObserver, x: Tensor) -> None:
        """Take part in what the other processes do, with nothing to add."""
        axis = statistics.axis_of(observer, x)
        channels = 1 if axis is None else x.shape[axis]
        extremes = self._synchronized(torch.full((2, channels), torch.inf, device=x.device))
        if bool((extremes[0] <= extremes[1]).all()):
            self._take(statistics.observe(observer, *(e.reshape(observer.min_val.shape or ()) for e in extremes)))

    def _raise_not_finite(self, x: Tensor, known: Tensor | None) -> None:
        observer = self.activation_post_process
        if known is None:
            low, high = torch.aminmax(x.detach())
            raise observer.not_finite(float(low), float(high))
        raise observer.not_finite(float(known[0].min()), float(known[1].max()))

    def _observe(self, x: Tensor, gate: Gate) -> None:
        if not torch.compiler.is_compiling():
            refuse_recording(self.activation_post_process)
        observer = statistics.known(self.activation_post_process)
        if observer is None or not statistics.fits(observer, x) or not _must_not_wait(x, self.synchronize):
            self.activation_post_process.forward(gate.apply(x))
            self._take(self.calculate_qparams())
            return
        low, high = statistics.batch_extremes(observer, x, gate)
        if self.synchronize is not None:
            shape = low.shape
            both = self._synchronized(torch.stack([low.reshape(-1), -high.reshape(-1)]))
            low, high = both[0].reshape(shape), both[1].reshape(shape)
        self._take(statistics.observe(observer, low, high))

    def _take(self, qparams: tuple[Tensor, Tensor]) -> None:
        scale, zero_point = qparams
        resize_buffer(self, "scale", scale.shape).copy_(scale)
        resize_buffer(self, "zero_point", zero_point.shape).copy_(zero_point)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        counts = counts_of(self.qscheme.per_channel)
        low, high = self.quant_min, self.quant_max
        roles = {"scale": Role("scale", counts=counts), "zero_point": Role("zero point", low, high, counts=counts)}
        require_entries(state_dict, prefix, roles)
        for name in ("scale", "zero_point"):
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor):
                resize_buffer(self, name, value.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


class FixedQParamsFakeQuantize(FakeQuantize):
    """Fake quantization with qparams known beforehand, as for sigmoid and tanh.

    Args:
        observer: Factory of a FixedQParamsObserver.

    Raises:
        QConfigError: ``observer`` builds anything else.
    """

    @checked
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


def _must_not_wait(x: Tensor, synchronize: object) -> bool:
    return not x.is_cpu or synchronize is not None or torch.compiler.is_compiling()
