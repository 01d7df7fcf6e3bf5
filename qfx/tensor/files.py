"""Saving and loading whatever holds QTensors."""

from __future__ import annotations

import pickle
from typing import Any

import torch

from qfx.errors import ConversionError
from qfx.tensor.qtensor import rebuild

torch.serialization.add_safe_globals([rebuild])


def save(obj: Any, file: Any) -> None:
    """``torch.save(obj, file)``: QTensors, state_dicts, modules, and containers of them.

    Integers are stored in their own dtype; tensors that share memory share it again after loading.

    Args:
        obj: What to save.
        file: A path or a writable binary file.

    Raises:
        ConversionError: ``obj`` holds what can't be pickled.
    """
    try:
        torch.save(obj, file)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise ConversionError(
            f"A {type(obj).__name__} can't be saved.",
            why=f"{type(error).__name__}: {error}",
            remedy="Save its state_dict, or define what is named at the top of a module.",
        ) from error


def load(file: Any, *, weights_only: bool = True) -> Any:
    """What :func:`save` wrote.

    Importing :mod:`qfx.tensor` (which any use of QTensor does) also lets ``torch.load(file)`` load QTensors.

    Args:
        file: A path or a readable binary file.
        weights_only: Accept tensors and plain containers only. False loads whole modules, and runs whatever code the
            file brings: pass it for files that you trust.
    """
    return torch.load(file, weights_only=weights_only)
