"""The observer protocol, and what observers of uniform quantization have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from qfx.errors import CalibrationError, InputError, QConfigError, UnsupportedError
from qfx.ir.stored import Role, counts_of, require_entries, require_range
from qfx.ir.types import QDType, QParams, QScheme
from qfx.memory import is_recorded_by_modes, require_values
from qfx.quantization.factory import WithArgs
from qfx.quantization.keeps_precision import no_script
from qfx.tensor.uncompiled import uncompiled

FLOAT32_EPS = torch.finfo(torch.float32).eps
is_fake: Any = torch._subclasses.fake_tensor.is_fake
_OBSERVING = "an observer looks at values as they come; compile without fullgraph=True, or record the converted model"
FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def parse_dtype(dtype: Any) -> QDType | torch.dtype:
    """``dtype`` as a QDType, or itself when it is a float dtype that weights can be stored in."""
    return dtype if any(dtype is kind for kind in FLOAT_DTYPES) else QDType.parse(dtype)


def unobservable(x: object) -> str | None:
    """Why no observer can say what values ``x`` has, or None: it is no dense tensor of real numbers with memory."""
    if not isinstance(x, Tensor):
        return f"is {type(x).__name__}, not a tensor"
    if torch.compiler.is_compiling():
        return None
    if x.is_nested:
        return "is a nested tensor"
    if x.layout is not torch.strided:
        return f"has the layout {x.layout}"
    if x.is_meta or is_fake(x):
        return "has a shape, but no data"
    return None if x.is_floating_point() else f"holds {x.dtype}, not floating point"


def is_recording() -> bool:
    """Whether torch records or transforms what it computes; not where compiled code runs."""
    return bool(
        torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or (torch.compiler.is_exporting() and torch.compiler.is_dynamo_compiling())
        or is_recorded_by_modes()
    )


def refuse_recording(observer: Any) -> None:
    """Raise where torch records or transforms what it computes, and statistics would be those of the recording.

    Raises:
        UnsupportedError: It does; compiled code passes, which collects statistics as it runs.
    """
    if not is_recording():
        return
    raise UnsupportedError(
        f"{type(observer).__name__} observes while torch records or transforms what it computes.",
        where=observer.label,
        source=observer.source,
        why="Statistics change with each call; a recording or a transform has one call, without values of its own.",
        remedy="Take what convert makes of the model, or call disable_observer() on its fake quantization first. "
        "torch.compile without fullgraph=True takes it as it is.",
    )


@partial(uncompiled, why=_OBSERVING)
def as_observable(observer: Any, x: Tensor) -> Tensor:
    """``x`` without its history, in a dtype that every torch operation takes.

    Args:
        observer: What observes it; its ``label`` and ``source`` say which value that is.
        x: The value.

    Raises:
        InputError: It is no dense tensor of real numbers with memory.
        UnsupportedError: torch records or transforms what it computes.
    """
    why = unobservable(x)
    if why is not None:
        raise InputError(
            f"{type(observer).__name__} met a value that {why}.",
            where=observer.label,
            source=observer.source,
            why="Ranges are found from the values of dense floating-point tensors.",
            remedy="Run dense tensors of float32 through the model (x.to_dense(), x.float(), on a device with memory), "
            "or keep this part float with a qconfig of None.",
        )
    refuse_recording(observer)
    require_memory(x)
    x = x.detach()
    if x._is_zerotensor():  # which nothing can be written to
        x = torch.zeros(x.shape, dtype=x.dtype)
    return x if x.dtype in (*FLOAT_DTYPES, torch.float64) else x.float()


def require_memory(x: Tensor) -> None:
    """Raise for a tensor with less memory than its sizes need, which torch would read all the same.

    Raises:
        InputError: How much it has, and needs.
    """
    if torch.compiler.is_compiling():
        return
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = f"tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"A {kind} is to be observed.", remedy="Pass a tensor of floating point.")
    require_values(x, "What is to be observed")


def resize_buffer(module: nn.Module, name: str, shape: Sequence[int]) -> Tensor:
    """Buffer ``name`` of ``module`` with ``shape``; values are undefined where that is another shape.

    ``Tensor.resize_`` fails on what ``torch.load`` made, and a tensor made under inference mode must not be a buffer.
    """
    buffer: Tensor = getattr(module, name)
    if buffer.shape != torch.Size(shape):
        with torch.inference_mode(False):
            buffer = buffer.new_empty(shape)
        setattr(module, name, buffer)
    return buffer


State = Mapping[str, Tensor]
"""An observer's buffers by name."""


class Observer(WithArgs, nn.Module, ABC):
    """Abstract base of every observer: ``forward`` watches and returns its input, ``calculate_qparams`` answers.

    A subclass that defines both works in a QConfig. Where it can say so, a static method ``merged_state(states)`` gives
    the buffers for the data of several processes, and ``united_state(states)``, of the class itself, those for the data
    of several values that come to share their parameters. ``label`` and ``source`` say which value is observed (module
    path or node name, and the user's source line); whoever inserts the observer sets them, errors show them.

    Args:
        dtype: What the observed value becomes: a quantized dtype, or a float dtype.
    """

    label: str | None = None
    source: str | None = None
    enabled: bool = True

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.dtype = parse_dtype(dtype)

    def __prepare_scriptable__(self) -> NoReturn:
        raise no_script(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) if self.enabled else args[0]

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Watch ``x`` and return it unchanged."""

    @abstractmethod
    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``: float32 and int64, shape ``[1]`` per tensor or ``[channels]``."""

    def qparams(self) -> QParams:
        """The result of ``calculate_qparams`` with dtype, axis and integer range.

        Raises:
            CalibrationError: The observer has seen no data.
            QConfigError: The observer's dtype is not a quantized one.
        """
        if not isinstance(self.dtype, QDType):
            raise QConfigError(
                f"{type(self).__name__} observes for {self.dtype}, which has no quantization parameters.",
                where=self.label,
                source=self.source,
                remedy="Give it dtype=qfx.quint8 or qfx.qint8.",
            )
        scale, zero_point = self.calculate_qparams()
        axis = getattr(self, "ch_axis", None)
        bounds = getattr(self, "quant_min", None), getattr(self, "quant_max", None)
        if axis is None:
            return QParams(float(scale), int(zero_point), self.dtype, None, *bounds)
        return QParams(tuple(scale.tolist()), tuple(zero_point.tolist()), self.dtype, axis, *bounds)

    def never_ran(self) -> CalibrationError:
        """The error for an observer that is asked before it has seen data."""
        return CalibrationError(
            f"{type(self).__name__} has seen no data, so it has no quantization parameters.",
            where=self.label,
            source=self.source,
            why="Calibration never reached it, its inputs were all empty, or it was disabled.",
            remedy="Calibrate with inputs that run this part of the model, or keep it float with a qconfig of None.",
        )

    def not_finite(self, low: float, high: float) -> CalibrationError:
        """The error for data with NaN or infinity in it."""
        return CalibrationError(
            f"{type(self).__name__} met a value that is not finite (minimum {low}, maximum {high}).",
            where=self.label,
            source=self.source,
            why="NaN or infinity in the calibration data, or an overflow in the float model before this point.",
            remedy="Check the calibration inputs, and that the float model is finite on them.",
        )


APART = 8
"""Two ranges are apart from this ratio on: where 256 steps cover the wider, the narrower one uses less than 32.

Rounding errors are uniform in a step, so every bit that is lost costs 6 dB: 256 steps give a value about 48 dB, 32 give
it 30 dB, as much as a layer's 8-bit weights and inputs leave. Below that, the range is what limits the value.
"""


def range_width(observer: Observer, qparams: QParams) -> float:
    """The width of the range that ``qparams``, which are ``observer``'s, map to the integers it uses."""
    low = getattr(observer, "quant_min", None)
    high = getattr(observer, "quant_max", None)
    scale, _ = qparams.per_tensor()
    return scale * ((qparams.qmax if high is None else high) - (qparams.qmin if low is None else low))


def quantized_range(dtype: QDType, quant_min: int | None, quant_max: int | None, reduce_range: bool) -> tuple[int, int]:
    """The integers in use: given bounds or the dtype's, halved when ``reduce_range`` (quint8 0..127, qint8 -64..63).

    Raises:
        QConfigError: Only one bound is given, they are out of order, exclude zero, or leave the dtype.
    """
    if (quant_min is None) != (quant_max is None):
        raise QConfigError("quant_min and quant_max go together.", remedy="Give both, or neither.")
    low = dtype.qmin if quant_min is None else quant_min
    high = dtype.qmax if quant_max is None else quant_max
    if not (dtype.qmin <= low <= 0 <= high <= dtype.qmax and low < high):
        raise QConfigError(
            f"quant_min={low}, quant_max={high} is not a range of {dtype!r}.",
            why=f"A range lies within {dtype.qmin}..{dtype.qmax}, contains 0 and is not empty.",
            remedy=f"Give bounds such as {dtype.qmin} and {dtype.qmax}, or none for the whole dtype.",
        )
    return (low // 2, high // 2) if reduce_range else (low, high)


class ObserverBase(Observer):
    """Base of the observers of uniform quantization: dtype, scheme, integer range, and the formula of the qparams.

    With ``low = min(minimum, 0)`` and ``high = max(maximum, 0)``, all in float32::

        affine:     scale = max((high - low) / (quant_max - quant_min), eps)
                    zero_point = clamp(quant_min - round(low / scale), quant_min, quant_max)
        symmetric:  scale = max(max(-low, high) / ((quant_max - quant_min) / 2), eps)
                    zero_point = 0 for signed dtypes, for quint8 the middle of the range: 128, or
                    (quant_min + quant_max) // 2 when quant_min and quant_max are given

    So zero is always exact, and a range of zero width at zero has ``scale = eps``.

    Args:
        dtype: A quantized dtype.
        qscheme: A quantization scheme; per channel only for observers that have ``ch_axis``.
        reduce_range: Map the range found to half of the integers (quint8 0..127, qint8 -64..63).
        quant_min: Lowest integer, with ``quant_max``; the dtype's when left out.
        quant_max: Highest integer.
        eps: Smallest scale.

    Raises:
        QConfigError: Arguments that do not fit together.
    """

    per_channel: ClassVar[bool] = False
    _resizable: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        dtype: Any = QDType.quint8,
        qscheme: Any = QScheme.per_tensor_affine,
        *,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = FLOAT32_EPS,
    ) -> None:
        self.qscheme = QScheme.parse(qscheme)
        parsed = QDType.parse(dtype)
        super().__init__(parsed)
        if self.qscheme.per_channel != self.per_channel:
            kind = "per-channel" if self.per_channel else "per-tensor"
            raise QConfigError(
                f"{type(self).__name__} takes a {kind} scheme, not {self.qscheme!r}.",
                remedy="Use PerChannelMinMaxObserver or MovingAveragePerChannelMinMaxObserver for per-channel schemes.",
            )
        if not eps > 0:
            raise QConfigError(f"eps={eps} is no smallest scale.", remedy="Give a positive number.")
        self.reduce_range = reduce_range
        self.custom_range = quant_min is not None
        self.quant_min, self.quant_max = quantized_range(parsed, quant_min, quant_max, reduce_range)
        self.saturation = quantized_range(parsed, quant_min, quant_max, reduce_range=False)
        self.eps = float(eps)

    def qparams(self) -> QParams:
        """As :meth:`Observer.qparams`. ``reduce_range`` halves what the range found is mapped to, and no more.

        Values beyond that range use the other half: they saturate at the ends of the whole, as in the field's eager
        mode.
        """
        low, high = self.saturation
        return replace(super().qparams(), quant_min=low, quant_max=high)

    def affine(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)`` of the formula above for tensors of minima and maxima, elementwise."""
        low, high = low.float().clamp(max=0.0), high.float().clamp(min=0.0)
        steps = float(self.quant_max - self.quant_min)
        if self.qscheme.symmetric:
            scale = (torch.maximum(-low, high) / (steps / 2)).clamp(min=self.eps)
            return scale, torch.full_like(scale, self._middle(), dtype=torch.int64)
        scale = (high - low) / steps
        scale = torch.where(scale.isinf(), high / steps - low / steps, scale).clamp(min=self.eps)
        zero_point = self.quant_min - torch.round(low / scale).to(torch.int64)
        return scale, zero_point.clamp(self.quant_min, self.quant_max)

    def _middle(self) -> int:
        if self.dtype is not QDType.quint8:
            return 0
        return (self.quant_min + self.quant_max + (0 if self.custom_range else 1)) // 2

    def _roles(self) -> dict[str, Role]:
        """What the buffers are."""
        found = {}
        for name, held in self._buffers.items():
            if held is None:
                continue
            counts = (
                counts_of(self.qscheme.per_channel) if name in ("min_val", "max_val", "scale", "zero_point") else None
            )
            found[name] = Role("statistics", dtype=held.dtype, counts=counts)
            if name == "scale":
                found[name] = Role("scale", counts=counts)
            elif name == "zero_point":
                found[name] = Role("zero point", self.quant_min, self.quant_max, counts=counts)
        return found

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        require_entries(state_dict, prefix, self._roles())
        require_range(state_dict, prefix)
        for name in self._resizable:
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor):
                resize_buffer(self, name, value.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
