"""The errors that qfx raises for a user's input; everything else is our own bug and an ``assert``."""

from __future__ import annotations

import reprlib
from typing import Any


def shown(value: Any) -> str:
    """What a user passed, for an error: short, and without a look at what a tensor's memory holds."""
    try:
        if hasattr(type(value), "untyped_storage"):
            return f"a {type(value).__name__} of shape {tuple(value.shape)}"
        return reprlib.repr(value)
    except Exception:
        return f"a {type(value).__name__}"


class QfxError(Exception):
    """Base of every error qfx raises on purpose.

    The message says what happened, where (module path and the user's source line), why, and what to do.

    Args:
        what: One sentence naming the problem and the node, key or tensor it concerns.
        where: Module path of the node (``"layer1.0.conv1"``), if there is one.
        source: The user's source line (``"model.py:12, in forward: y = self.conv(x)"``), if known.
        why: The cause, when it is not evident from ``what``.
        remedy: What the user can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        source: str | None = None,
        why: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.source, self.why, self.remedy = what, where, source, why, remedy
        parts = [what]
        parts += [f"  {label}: {text}" for label, text in self._details() if text]
        super().__init__("\n".join(parts))

    def _details(self) -> tuple[tuple[str, str | None], ...]:
        return (
            ("where", self.where),
            ("source", self.source),
            ("why", self.why),
            ("what to do", self.remedy),
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.source, self.why, self.remedy)


def _rebuild(
    kind: type[QfxError], what: str, where: str | None, source: str | None, why: str | None, remedy: str | None
) -> QfxError:
    return kind(what, where=where, source=source, why=why, remedy=remedy)


class CaptureError(QfxError):
    """The model can't be traced to a graph."""


class QConfigError(QfxError):
    """A qconfig or qconfig_dict is malformed, or names something that the model does not have."""


class UnusedEntryWarning(QConfigError, UserWarning):
    """A :class:`qfx.QConfigMapping` gives a type of operation a qconfig, and the model has no such operation.

    In a qconfig_dict it is an error.
    """


class CalibrationError(QfxError):
    """Calibration data is empty, not finite, or never reached a part of the model."""


class UncalibratedWarning(CalibrationError, UserWarning):
    """Values whose observers saw no data are converted with scale 1 and zero point 0, for a state that is loaded next.

    It is an error where warnings are.
    """


class StaysFloatWarning(UserWarning):
    """Eager mode converts layers that have no quantized version to ones that compute in float between int8 values."""


class ConversionError(QfxError):
    """A prepared model can't be converted."""


class UnsupportedError(QfxError):
    """An operation, dtype or device that qfx does not support, with ``strict=True`` or at a hard limit."""


class InputError(QfxError, ValueError):
    """A call's inputs have the wrong number, dtype, rank, shape or device."""


class InputSumsError(InputError):
    """A call's inputs are so large that 32 bits may not hold the sums of an int8 product."""


class QuantizationError(QfxError, ValueError):
    """Quantization parameters or quantized tensors are invalid or do not fit together."""


class RuntimeLoadError(QfxError):
    """A program can't be loaded on this machine."""
