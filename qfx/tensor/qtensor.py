"""QTensor: a ``torch.Tensor`` that holds plain uint8, int8 or int32 integers and their quantization parameters."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from qfx.arguments import explained
from qfx.errors import InputError, QuantizationError, UnsupportedError, shown
from qfx.ir.types import QArray, QDType, QParams, QScheme
from qfx.memory import is_recorded_by_modes
from qfx.tensor.convert import to_values
from qfx.tensor.gradient import refuse_gradient
from qfx.tensor.uncompiled import uncompiled_members


class QTensor(Tensor):
    """Integers that stand for ``(q - zero_point) * scale``.

    It holds the integers, and makes no copy of them. Functions of torch called on it go to qfx's integer
    implementations or raise; none computes with the bare integers. To what goes past them, as torch's C++ does, it is
    a tensor without memory, of which nothing can be computed.

    Args:
        codes: Plain uint8, int8 or int32 CPU tensor of any shape and strides, the storage of ``qparams.dtype``.
        qparams: One scale and zero point, or tuples of them along ``qparams.axis``.

    Attributes:
        qparams: The quantization parameters; scales count as float32 wherever they enter arithmetic.

    Raises:
        QuantizationError: ``codes`` are not the storage of ``qparams.dtype``, or the parameters do not fit the shape.
    """

    qparams: QParams
    _codes: Tensor

    @staticmethod
    def __new__(cls, codes: Tensor, qparams: QParams) -> QTensor:
        if isinstance(codes, QTensor):
            codes = codes.codes
        if type(codes) is not Tensor and isinstance(codes, Tensor):
            codes = codes.as_subclass(Tensor)
        _check(codes, qparams)
        return wrap(codes, qparams)

    def __init__(self, codes: Tensor, qparams: QParams) -> None:
        super().__init__()

    # ------------------------------------------------------------ what it is

    @property
    def dtype(self) -> QDType:  # type: ignore[override]
        """``qfx.quint8``, ``qfx.qint8`` or ``qfx.qint32``."""
        return self.qparams.dtype

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """Sizes of the dims."""
        return self.codes.shape

    @property
    def is_quantized(self) -> bool:  # type: ignore[override]
        """True.

        Raises:
            UnsupportedError: torch, which asks, records with modes of its dispatcher.
        """
        if is_recorded_by_modes():
            raise _recorded()
        return True

    def qscheme(self) -> QScheme:  # type: ignore[override]
        """``qfx.per_tensor_affine`` or ``qfx.per_channel_affine``."""
        return QScheme.per_tensor_affine if self.qparams.axis is None else QScheme.per_channel_affine

    def q_scale(self) -> float:
        """The scale.

        Raises:
            QuantizationError: It is per channel.
        """
        return self._per_tensor("q_scale", "q_per_channel_scales").per_tensor()[0]

    def q_zero_point(self) -> int:
        """The zero point.

        Raises:
            QuantizationError: It is per channel.
        """
        return self._per_tensor("q_zero_point", "q_per_channel_zero_points").per_tensor()[1]

    def q_per_channel_scales(self) -> Tensor:
        """Scales along the channel axis, float32 ``[C]``.

        Raises:
            QuantizationError: It is per tensor.
        """
        return torch.tensor(
            self._per_channel("q_per_channel_scales", "q_scale").scale, dtype=torch.float32, device="cpu"
        )

    def q_per_channel_zero_points(self) -> Tensor:
        """Zero points along the channel axis, int64 ``[C]``.

        Raises:
            QuantizationError: It is per tensor.
        """
        given = self._per_channel("q_per_channel_zero_points", "q_zero_point")
        return torch.tensor(given.zero_point, dtype=torch.int64, device="cpu")

    def q_per_channel_axis(self) -> int:
        """The channel axis.

        Raises:
            QuantizationError: It is per tensor.
        """
        axis = self._per_channel("q_per_channel_axis", "qscheme").axis
        assert axis is not None
        return axis

    def _per_tensor(self, asked: str, instead: str) -> QParams:
        if self.qparams.axis is not None:
            raise QuantizationError(
                f"{asked}() of a QTensor quantized per channel.", remedy=f"Call {instead}(), which has one a channel."
            )
        return self.qparams

    def _per_channel(self, asked: str, instead: str) -> QParams:
        if self.qparams.axis is None:
            raise QuantizationError(f"{asked}() of a QTensor quantized per tensor.", remedy=f"Call {instead}().")
        return self.qparams

    # ------------------------------------------------------------ its values

    @property
    def codes(self) -> Tensor:
        """The integers: the plain tensor that holds them.

        Raises:
            UnsupportedError: torch records with modes of its dispatcher, which would take them for a constant.
        """
        if is_recorded_by_modes():
            raise _recorded()
        return self._codes

    @property
    def array(self) -> QArray:
        """The operand that an exact integer reference takes; shares memory."""
        given = self.qparams
        scale = torch.tensor(given.scale, dtype=torch.float32, device="cpu")
        return QArray(self.codes, scale, torch.tensor(given.zero_point, dtype=torch.int64, device="cpu"), given.axis)

    def int_repr(self) -> Tensor:
        """A copy of the integers: uint8, int8 or int32, same shape."""
        return self.codes.clone()

    def dequantize(self) -> Tensor:
        """``float32(q - zero_point) * scale``, float32, same shape, fresh memory."""
        value = to_values(self.codes, self.qparams)
        return refuse_gradient(value) if self.severed else value

    def to(self, *args: Any, **kwargs: Any) -> QTensor:
        """Itself, or a copy in another memory format.

        Raises:
            UnsupportedError: Another dtype, or a device that is not the CPU.
        """
        for asked in (*args, *kwargs.values()):
            other = asked.dtype if isinstance(asked, Tensor) else asked
            if isinstance(other, (torch.dtype, QDType)) and other is not self.dtype:
                raise UnsupportedError(
                    f"A {self.dtype!r} tensor can't become {other}.",
                    remedy="Call dequantize() for float32 values, and quantize those anew for other integers.",
                )
            if isinstance(other, (str, torch.device)) and torch.device(other).type not in ("cpu", "meta"):
                raise UnsupportedError(
                    f"A QTensor can't move to {other}.", why="qfx runs on the CPU.", remedy="Move x.dequantize()."
                )
        kept = [a for a in args if not isinstance(a, (QDType, Tensor))]
        given = {k: v for k, v in kwargs.items() if k not in ("dtype", "other")}
        made: Any = super().to(*kept, **given) if kept or given else self
        return made

    severed: bool = False
    """Whether a tensor that required gradients was quantized on the way here."""

    def to_torch(self) -> Tensor:
        """The same values as a tensor of torch's own quantized dtypes, while torch has them.

        Raises:
            UnsupportedError: This torch has no quantized dtypes.
        """
        from qfx.tensor.interchange import to_torch

        return to_torch(self)

    # ------------------------------------------------------------ how torch sees it

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """``func`` of torch on QTensors: the quantized operation where there is one, else an error that says so."""
        from qfx.tensor.dispatch import dispatch

        return dispatch(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> NoReturn:
        """Raises: torch's C++ is about to compute with what it takes for bare integers."""
        raise UnsupportedError(
            f"A QTensor goes to {func} in torch's C++.",
            why="torch.vmap, torch.func, TorchScript and their like would count with its bare integers.",
            remedy="Give them x.dequantize(); what they run may quantize, and dequantize what it returns.",
        )

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:  # type: ignore[override]
        from qfx.tensor.text import describe

        return describe(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> QTensor:
        if id(self) not in memo:
            memo[id(self)] = wrap(copy.deepcopy(self.codes, memo), self.qparams, self.severed)
        twin: QTensor = memo[id(self)]
        return twin

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        given = self.qparams
        fields = (given.scale, given.zero_point, given.dtype.name, given.axis, given.quant_min, given.quant_max)
        return rebuild, (self.codes, *fields)

    # ------------------------------------------------------------ gradients

    def backward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises: quantized values have no gradient."""
        raise _no_gradient("backward()")

    @explained
    def requires_grad_(self, requires_grad: bool = True) -> QTensor:
        """Raises unless ``requires_grad`` is False: quantized values have no gradient."""
        if requires_grad:
            raise _no_gradient("requires_grad_()")
        return self


def _attribute(name: str) -> property:
    """Attribute ``name`` of torch's tensors, also where functions of subclasses are off, as ``torch.compile`` reads."""
    theirs: Any = getattr(Tensor, name)

    def get(self: QTensor) -> Any:
        return QTensor.__torch_function__(theirs.__get__, (QTensor,), (self,))

    def set_(self: QTensor, value: Any) -> None:
        QTensor.__torch_function__(theirs.__set__, (QTensor,), (self, value))

    return property(get, set_)


for computed in ("ndim", "nbytes", "data", "T", "mT", "H", "mH"):
    setattr(QTensor, computed, _attribute(computed))
uncompiled_members(QTensor)
_shell: Any = functools.partial(Tensor._make_wrapper_subclass, QTensor, dispatch_sizes_strides_policy="sizes")
"""A QTensor without its parts: torch's C++, whoever calls it, can't even ask for its size without being refused."""


def wrap(codes: Tensor, qparams: QParams, severed: bool = False) -> QTensor:
    """``codes`` as a QTensor without any check.

    Raises:
        UnsupportedError: torch records with modes of its dispatcher, which lose sight of a tensor that becomes another.
    """
    if is_recorded_by_modes():
        raise _recorded()
    made: QTensor = _shell((0,), dtype=codes.dtype, device=codes.device)
    made._codes, made.qparams = codes.detach(), qparams
    if severed:
        made.severed = True
    return made


def rebuild(
    codes: Tensor, scale: Any, zero_point: Any, dtype: str, axis: int | None, low: int | None, high: int | None
) -> QTensor:
    """A QTensor from what ``pickle`` and ``torch.save`` stored of it.

    Raises:
        QuantizationError: The parts do not fit together.
    """
    return QTensor(codes, QParams(scale, zero_point, QDType.parse(dtype), axis, low, high))


_LARGEST = torch.finfo(torch.float32).max


def _recorded() -> UnsupportedError:
    return UnsupportedError(
        "A QTensor is met while torch records what it computes (make_fx, torch.export, fake tensors).",
        why="They would take it for a constant.",
        remedy="Record what qfx.quantize_fx makes of the model, or record with torch.jit.trace.",
    )


def _no_gradient(asked: str) -> UnsupportedError:
    return UnsupportedError(
        f"{asked} on a QTensor: quantized values have no gradient.",
        why="Only the forward pass is defined on integers.",
        remedy="Train with fake quantization: qfx.quantization.prepare_qat.",
    )


def _check(codes: Tensor, qparams: QParams) -> None:
    if not isinstance(codes, Tensor) or not isinstance(getattr(qparams, "dtype", None), QDType):
        raise QuantizationError(
            f"A QTensor can't be made of {shown(codes)} and {shown(qparams)}.",
            remedy="Pass a tensor of integers, and its qfx.QParams(scale, zero_point, qfx.quint8).",
        )
    if codes.dtype is not qparams.dtype.storage:
        raise QuantizationError(
            f"Integers of {codes.dtype} can't be {qparams.dtype!r}.", remedy=f"Pass a {qparams.dtype.storage} tensor."
        )
    if codes.device.type not in ("cpu", "meta"):
        raise InputError(f"The integers are on {codes.device}.", why="qfx runs on the CPU.", remedy="Pass .cpu().")
    check_qparams(qparams, tuple(codes.shape))


def check_qparams(qparams: QParams, shape: tuple[int, ...]) -> None:
    """Raise unless ``qparams`` can belong to a tensor of ``shape``.

    Raises:
        QuantizationError: A scale that is not positive and finite, a zero point out of range, a wrong axis or count.
    """
    scale, zero_point = qparams.scale, qparams.zero_point
    _require_whole(qparams)
    if qparams.axis is None and type(scale) in (int, float) and type(zero_point) is int:
        _check_single(scale, zero_point, qparams.dtype, qparams.quant_min, qparams.quant_max)
    else:
        _check_all(qparams, shape)


def _require_whole(qparams: QParams) -> None:
    for name in ("axis", "quant_min", "quant_max"):
        value = getattr(qparams, name)
        if value is not None and type(value) is not int:
            raise QuantizationError(f"{name}={shown(value)} is no whole number.", remedy="Pass an int or None.")


@functools.lru_cache(maxsize=1024, typed=True)
def _check_single(*fields: Any) -> None:
    scale, zero_point, dtype, low, high = fields
    _check_all(QParams(scale, zero_point, dtype, None, low, high), ())


def _check_all(qparams: QParams, shape: tuple[int, ...]) -> None:
    scales = qparams.scale if isinstance(qparams.scale, tuple) else (qparams.scale,)
    zeros = qparams.zero_point if isinstance(qparams.zero_point, tuple) else (qparams.zero_point,)
    _check_form(qparams, scales, zeros)
    rounded = np.array([float(scale) for scale in scales]).astype(np.float32)
    if not bool(((rounded > 0) & np.isfinite(rounded)).all()):
        bad = next(s for s, r in zip(scales, rounded.tolist(), strict=True) if not 0 < r < float("inf"))
        raise QuantizationError(
            f"{bad} is not a scale.", why="A scale is a positive, finite float32.", remedy="Choose another scale."
        )
    low, high = qparams.dtype.qmin, qparams.dtype.qmax
    for zero in zeros:
        if not low <= zero <= high:
            raise QuantizationError(
                f"Zero point {zero} is not in {low}..{high}, the integers of {qparams.dtype!r}.",
                remedy="Choose a zero point that the dtype can hold.",
            )
    if qparams.axis is not None:
        _check_axis(qparams, shape, len(scales), len(zeros))


def _check_form(qparams: QParams, scales: tuple[Any, ...], zeros: tuple[Any, ...]) -> None:
    """Raise unless scales and zero points are numbers, one of each for a tensor, and the range of integers is one."""
    wrong = next((z for z in zeros if isinstance(z, bool) or not isinstance(z, int)), None)
    if wrong is not None:
        raise QuantizationError(f"Zero point {wrong!r} is no integer.", remedy="Pass an int.")
    wrong = next((scale for scale in scales if not _is_number(scale)), None)
    if wrong is not None:
        raise QuantizationError(
            f"{wrong!r} is not a scale.", why="A scale is a positive, finite float32.", remedy="Choose another scale."
        )
    if qparams.axis is None and (isinstance(qparams.scale, tuple) or isinstance(qparams.zero_point, tuple)):
        raise QuantizationError(
            f"{len(scales)} scales and {len(zeros)} zero points without a channel axis.", remedy="Give the axis."
        )
    kind = qparams.dtype
    if not kind.qmin <= qparams.qmin < qparams.qmax <= kind.qmax:
        raise QuantizationError(
            f"Integers {qparams.qmin}..{qparams.qmax} of {kind!r}.",
            remedy=f"Choose a range within {kind.qmin}..{kind.qmax}.",
        )


def _is_number(scale: Any) -> bool:
    return isinstance(scale, (int, float)) and not isinstance(scale, bool) and not abs(scale) > _LARGEST


def _check_axis(qparams: QParams, shape: tuple[int, ...], scales: int, zeros: int) -> None:
    axis = qparams.axis
    if axis is None or not 0 <= axis < len(shape):
        raise QuantizationError(
            f"Channel axis {axis} of a tensor of shape {shape}.", remedy=f"Choose one from 0 to {len(shape) - 1}."
        )
    if not scales == zeros == shape[axis]:
        raise QuantizationError(
            f"{scales} scales and {zeros} zero points for {shape[axis]} channels along axis {axis} of {shape}.",
            remedy="Give one scale and one zero point a channel.",
        )
