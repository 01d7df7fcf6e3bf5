"""torch.ao's observers, as a peer to compare with; they warn on construction and on use."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_FOREIGN = {"dtype": torch.__dict__, "qscheme": torch.__dict__}


def peer_module(name: str, **kwargs: Any) -> Any:
    """``torch.ao.quantization.<name>(**kwargs)``; dtypes and schemes are given by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.quantization as ao

        return getattr(ao, name)(**foreign(kwargs))


def foreign(kwargs: dict[str, Any]) -> dict[str, Any]:
    """``kwargs`` with the names of dtypes and schemes replaced by torch's own objects."""
    return {k: _FOREIGN[k][v] if k in _FOREIGN else v for k, v in kwargs.items()}


def peer_qparams(module: Any, batches: Iterable[Tensor]) -> tuple[list[float], list[int]]:
    """Scales and zero points of ``module`` after ``batches``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in batches:
            module(batch)
        scale, zero_point = module.calculate_qparams()
    return scale.tolist(), zero_point.tolist()


def own_qparams(module: Any, batches: Iterable[Tensor]) -> tuple[list[float], list[int]]:
    """The same for one of ours, with the promised dtypes checked."""
    for batch in batches:
        assert module(batch) is batch
    scale, zero_point = module.calculate_qparams()
    assert scale.dtype == torch.float32
    assert zero_point.dtype == torch.int64
    return scale.tolist(), zero_point.tolist()
