"""Spellings of the ops that are computed in float: softmax and the norms."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from qfx.ops.compute.spellings import batch_norm, normalized
from qfx.ops.extents import extent_of, rank_of
from qfx.ops.spelling import Alias, aliases, aten, first, ntuple, require, require_tensor
from qfx.ops.terms import Attr, Term, term


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Term:
    """``F.layer_norm``."""
    require_tensor(input)
    shape = ntuple(normalized_shape, 1)
    require(all(isinstance(entry, int) for entry in shape), "its normalized shape is not constant")
    return term("layer_norm", input, weight, bias, normalized_shape=shape, eps=eps)


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Term:
    """``F.rms_norm``, whose ``eps`` is what float32 can tell from 1 unless it is given."""
    require_tensor(input)
    shape = ntuple(normalized_shape, 1)
    require(all(isinstance(entry, int) for entry in shape), "its normalized shape is not constant")
    given = torch.finfo(torch.float32).eps if eps is None else eps
    return term("rms_norm", input, weight, normalized_shape=shape, eps=given)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Term:
    """``F.group_norm``."""
    require_tensor(input)
    return term("group_norm", input, weight, bias, groups=num_groups, eps=eps)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Term:
    """``F.instance_norm``: group norm with a group a channel when the number of channels is known."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    require_tensor(input)
    channels = extent_of(weight, 0) or extent_of(input, 1)
    if channels is None:
        return term("instance_norm", input, weight, bias, eps=eps)
    return term("group_norm", input, weight, bias, groups=channels, eps=eps)


def instance_norm_module(module: Any, input: Any) -> Term:
    """``nn.InstanceNorm{1,2,3}d``, of a batch or of one input without a batch dim."""
    require_tensor(input)
    spatial = next(n for n, cls in _INSTANCE_NORMS.items() if isinstance(module, cls))
    if rank_of(input) == spatial + 1:
        return term("squeeze", _instance_norm_of_batch(module, term("unsqueeze", input, dim=0)), dim=0)
    return _instance_norm_of_batch(module, input)


def _instance_norm_of_batch(module: Any, x: Any) -> Term:
    weight, bias = (Attr(name) if getattr(module, name) is not None else None for name in ("weight", "bias"))
    if not module.track_running_stats:
        return term("group_norm", x, weight, bias, groups=module.num_features, eps=module.eps)
    return normalized(x, weight, bias, Attr("running_mean"), Attr("running_var"), module.eps)


_INSTANCE_NORMS = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def softmax(op: str, input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Term:
    """``F.softmax`` and ``F.log_softmax``."""
    require_tensor(input)
    require(isinstance(dim, int) and dtype in (None, torch.float32), "its dim is not given, or it changes the dtype")
    return term(op, input, dim=dim)


def torch_softmax(op: str, input: Any, dim: Any, dtype: Any = None) -> Term:
    """``torch.softmax`` and the method."""
    return softmax(op, input, dim, 3, dtype)


def softmax2d(input: Any) -> Term:
    """``nn.Softmax2d``: over channels."""
    return term("softmax", input, dim=-3)


def aten_layer_norm(
    input: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *flags: Any
) -> Term:
    """``aten.layer_norm``."""
    return layer_norm(input, shape, weight, bias, eps)


def aten_rms_norm(input: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Term:
    """``aten.rms_norm``."""
    return rms_norm(input, shape, weight, eps)


def aten_group_norm(
    input: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *flags: Any
) -> Term:
    """``aten.group_norm``."""
    return group_norm(input, groups, weight, bias, eps)


def _native_group_norm(
    input: Any, weight: Any, bias: Any, n: Any, c: Any, inner: Any, groups: int, eps: float
) -> Term:  # fmt: skip
    return group_norm(input, groups, weight, bias, eps)


def aten_instance_norm(
    input: Any, weight: Any, bias: Any, mean: Any, var: Any, use_input_stats: bool, momentum: float, eps: float,
    *flags: Any,
) -> Term:  # fmt: skip
    """``aten.instance_norm``."""
    return instance_norm(input, mean, var, weight, bias, use_input_stats, momentum, eps)


def _aten_softmax(op: str, input: Any, dim: int, half_to_float: bool) -> Term:
    require(not half_to_float, "it changes the dtype")
    return torch_softmax(op, input, dim)


ALIASES: tuple[Alias, ...] = (
    *aliases("layer_norm", layer_norm, functions=[F.layer_norm, torch.layer_norm], modules=[nn.LayerNorm],
             attributes="normalized_shape weight bias eps"),
    *aliases("rms_norm", rms_norm, functions=[F.rms_norm, torch.rms_norm], modules=[nn.RMSNorm],
             attributes="normalized_shape weight eps"),
    *aliases("group_norm", group_norm, functions=[F.group_norm, torch.group_norm], modules=[nn.GroupNorm],
             attributes="num_groups weight bias eps"),
    *aliases("group_norm", instance_norm, functions=[F.instance_norm]),
    *aliases("group_norm", instance_norm_module, modules=_INSTANCE_NORMS.values(),
             takes_module=True),
    *aliases("softmax", partial(softmax, "softmax"), functions=[F.softmax], modules=[nn.Softmax], attributes="dim"),
    *aliases("softmax", partial(torch_softmax, "softmax"), functions=[torch.softmax], methods="softmax"),
    *aliases("softmax", softmax2d, modules=[nn.Softmax2d]),
    *aliases("log_softmax", partial(softmax, "log_softmax"), functions=[F.log_softmax], modules=[nn.LogSoftmax],
             attributes="dim"),
    *aliases("log_softmax", partial(torch_softmax, "log_softmax"), functions=[torch.log_softmax],
             methods="log_softmax"),
    *aten("layer_norm", aten_layer_norm, "layer_norm"),
    *aten("layer_norm", first(aten_layer_norm), "native_layer_norm"),
    *aten("rms_norm", aten_rms_norm, "rms_norm"),
    *aten("rms_norm", first(aten_rms_norm), "_fused_rms_norm"),
    *aten("group_norm", aten_group_norm, "group_norm"),
    *aten("group_norm", first(_native_group_norm), "native_group_norm"),
    *aten("group_norm", aten_instance_norm, "instance_norm"),
    *aten("softmax", partial(torch_softmax, "softmax"), "softmax.int"),
    *aten("softmax", partial(_aten_softmax, "softmax"), "_softmax"),
    *aten("log_softmax", partial(torch_softmax, "log_softmax"), "log_softmax.int"),
    *aten("log_softmax", partial(_aten_softmax, "log_softmax"), "_log_softmax"),
)  # fmt: skip
