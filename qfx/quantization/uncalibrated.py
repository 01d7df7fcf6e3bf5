"""What takes the place of an observer that saw no data, where a model is converted for a state that is loaded next."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from qfx.errors import CalibrationError, UncalibratedWarning
from qfx.quantization.observer import FixedQParamsObserver


def saw_data(observer: Any) -> bool:
    """Whether ``observer`` has quantization parameters to give."""
    try:
        observer.qparams()
    except CalibrationError:
        return False
    return True


def default_observer(observer: Any) -> FixedQParamsObserver:
    """An observer of ``observer``'s dtype and integers that answers scale 1 and zero point 0."""
    own = getattr(observer, "quant_min", None), getattr(observer, "quant_max", None)
    low, high = getattr(observer, "saturation", own)
    return FixedQParamsObserver(1.0, 0, observer.dtype, quant_min=low, quant_max=high)


def warn_of_default(unseen: Sequence[str], *, stacklevel: int) -> None:
    """Warn, once, of the values at the paths ``unseen``, if any.

    Args:
        unseen: What no data was seen of.
        stacklevel: As of ``warnings.warn``, for the caller of this function.
    """
    if not unseen:
        return
    more = f" and {len(unseen) - 8} more" if len(unseen) > 8 else ""
    warnings.warn(
        UncalibratedWarning(
            f"{len(unseen)} observers saw no data: their scale is 1 and their zero point 0.",
            where=", ".join(unseen[:8]) + more,
            why="No calibration data ran through these parts of the model.",
            remedy="Load the state_dict of a converted model next, or calibrate before conversion; set the qconfig of "
            "a module that never runs to None.",
        ),
        stacklevel=stacklevel + 1,
    )
