"""To and from torch's own quantized tensors, for as long as torch has them: nothing else in qfx knows of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from qfx.arguments import explained
from qfx.errors import QuantizationError, UnsupportedError
from qfx.ir.types import QDType, QParams
from qfx.tensor.qtensor import QTensor, wrap

_PER_TENSOR, _PER_CHANNEL = "_make_per_tensor_quantized_tensor", "_make_per_channel_quantized_tensor"


@explained
def from_torch(tensor: Tensor) -> QTensor:
    """A QTensor with the integers (copied), scales and zero points of a tensor of torch's quantized dtypes.

    Args:
        tensor: Of torch's dtype quint8, qint8 or qint32, per tensor or per channel.

    Raises:
        QuantizationError: ``tensor`` is not quantized, or has another dtype or float zero points.
    """
    if isinstance(tensor, QTensor):
        return tensor
    if not getattr(tensor, "is_quantized", False):
        raise QuantizationError(
            f"{getattr(tensor, 'dtype', type(tensor).__name__)} is not one of torch's quantized dtypes.",
            remedy="Quantize a float tensor with qfx.quantize_per_tensor.",
        )
    with _silently():
        dtype, scheme = QDType.parse(str(tensor.dtype)), str(tensor.qscheme()).rsplit(".", 1)[-1]
        codes = tensor.int_repr()
        if scheme == "per_tensor_affine":
            return wrap(codes, QParams(tensor.q_scale(), tensor.q_zero_point(), dtype))
        if scheme != "per_channel_affine":
            raise QuantizationError(f"{scheme} has no QTensor.", remedy="Dequantize it, and quantize anew.")
        scales, zeros = tensor.q_per_channel_scales().float(), tensor.q_per_channel_zero_points().long()
        return QTensor(
            codes, QParams(tuple(scales.tolist()), tuple(zeros.tolist()), dtype, tensor.q_per_channel_axis())
        )


def to_torch(x: QTensor) -> Tensor:
    """As :meth:`QTensor.to_torch`."""
    given = x.qparams
    name = _PER_TENSOR if given.axis is None else _PER_CHANNEL
    make: Any = getattr(torch, name, None)
    if make is None:
        raise UnsupportedError(
            f"torch {torch.__version__} has no tensors of {given.dtype.name}.", remedy="Use dequantize() or int_repr()."
        )
    with _silently():
        if given.axis is None:
            return make(x.codes, *given.per_tensor())
        return make(x.codes, x.q_per_channel_scales().double(), x.q_per_channel_zero_points(), given.axis)


@contextmanager
def _silently() -> Iterator[None]:
    """Without torch's warning that its quantized dtypes are going away: that is why one converts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
