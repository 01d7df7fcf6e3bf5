"""Changes in place, and tensors made like another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qfx.errors import QuantizationError, UnsupportedError
from qfx.ir.types import QParams
from qfx.tensor.convert import to_codes
from qfx.tensor.gradient import severs
from qfx.tensor.order import same_qparams
from qfx.tensor.qtensor import QTensor
from qfx.tensor.views import Args, Kwargs, bare, require_per_tensor, wrapped


def codes_for(value: Any, qparams: QParams) -> Tensor:
    """Integers of ``qparams`` for a number, a float tensor, or a QTensor: its own where they mean the same."""
    if isinstance(value, QTensor):
        if same_qparams(value.qparams, qparams):
            return value.codes
        value = value.dequantize().detach()
    return to_codes(torch.as_tensor(value, dtype=torch.float32), qparams)


def copy_(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """From floats: quantized with own parameters. From a QTensor of the same dtype: its integers and parameters.

    Where other tensors hold the same memory, as a view's base does, ``x`` keeps its parameters, and what is copied is
    requantized to them: the others know of no change.
    """
    x, source = args[0], (*args[1:], *kwargs.values())[0]
    if not isinstance(x, QTensor):
        raise UnsupportedError("A QTensor is copied into a float tensor.", remedy="Copy its dequantize().")
    if not isinstance(source, QTensor):
        bare(Tensor.copy_, (x, codes_for(source.expand(x.shape), x.qparams)), {})
        x.severed = x.severed or severs(source)
        return x
    if source.qparams.dtype is not x.qparams.dtype:
        raise QuantizationError(
            f"{source.qparams.dtype!r} integers are copied into a {x.qparams.dtype!r} tensor.",
            remedy="Copy source.dequantize(), which requantizes.",
        )
    if source.qparams.axis is not None and source.shape != x.shape:
        raise QuantizationError(
            f"A QTensor of shape {tuple(source.shape)}, quantized per channel, is copied into {tuple(x.shape)}.",
            remedy="Copy source.dequantize(), which requantizes.",
        )
    if not same_qparams(x.qparams, source.qparams) and _is_shared(x):
        given = source if source.shape == x.shape else source.expand(x.shape)
        bare(Tensor.copy_, (x, codes_for(given, x.qparams)), {})
        x.severed = x.severed or source.severed
        return x
    bare(Tensor.copy_, (x, source), {})
    x.qparams, x.severed = source.qparams, source.severed
    return x


def _is_shared(x: QTensor) -> bool:
    """Whether another tensor that is still alive holds ``x``'s memory."""
    storage = bare(Tensor.untyped_storage, (x,), {})
    holders: int = torch._C._storage_Use_Count(storage._cdata)
    return holders > 2  # x, and ``storage`` itself


def set_item(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> None:
    """``x[index] = value``: the value quantized with ``x``'s parameters."""
    x, index, value = args
    if not isinstance(x, QTensor):
        if isinstance(value, QTensor):
            raise UnsupportedError("A QTensor is assigned into a float tensor.", remedy="Assign its dequantize().")
        bare(func, args, kwargs)
        return
    require_per_tensor(x, "Assignment to a part")
    bare(func, (x, index, codes_for(value, x.qparams)), kwargs)
    x.severed = x.severed or severs(value)


_CONSTANT = {"zero_": 0.0, "zeros_like": 0.0, "ones_like": 1.0}


def fill_(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Functions whose last argument, or a constant of their own, is one value to fill with."""
    x, name = args[0], func.__name__
    require_per_tensor(x, f"{name}()")
    if kwargs.get("dtype") is not None:
        raise UnsupportedError(f"{name}(dtype=...) of a QTensor.", remedy="Call it on x.dequantize().")
    given = dict(kwargs)
    if name in _CONSTANT:
        value: Any = _CONSTANT[name]
    else:
        key = next((k for k in ("value", "fill_value") if k in given), None)
        args, value = (args, given.pop(key)) if key else (args[:-1], args[-1])
    code = int(codes_for(value, x.qparams))
    filler: Any = {"zero_": Tensor.fill_, "zeros_like": torch.full_like, "ones_like": torch.full_like}.get(name, func)
    return wrapped(bare(filler, (*args, code), given), x)


def empty_like(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Memory for as many integers, with the same parameters."""
    if kwargs.get("dtype") is not None:
        raise UnsupportedError("empty_like(dtype=...) of a QTensor.", remedy="Call torch.empty(x.shape, dtype=...).")
    return wrapped(bare(func, args, kwargs), args[0])


def resize_(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """In place to another size; new elements are undefined."""
    if isinstance(args[0], QTensor):
        require_per_tensor(args[0], "resize_()")
    return bare(func, args, kwargs)


def no_gradient(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> None:
    """Whatever asks for gradients."""
    if getattr(func, "__name__", "") == "__set__" and not args[1]:
        return
    raise UnsupportedError(
        "A QTensor is asked for gradients.",
        why="Only the forward pass is defined on integers.",
        remedy="Train with fake quantization: qfx.quantization.prepare_qat.",
    )
