"""Spellings of the ops over windows and whole dims: pooling, mean, interpolation, shuffles, padding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from qfx.ops.extents import is_dim, origin_of, rank_of
from qfx.ops.spelling import Alias, aliases, aten, dims_of, first, is_number, ntuple, require, require_tensor
from qfx.ops.table import TABLE
from qfx.ops.terms import Pieces, Shape, Term, term

_INDICES = "it returns indices"


def max_pool(
    spatial: int,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Term:
    """``F.max_pool{spatial}d``."""
    require_tensor(input)
    require(not return_indices, _INDICES)
    kernel = ntuple(kernel_size, spatial)
    if _is_whole(kernel, input) and _all(padding, 0) and _all(dilation, 1):
        return term("adaptive_max_pool", input, output_size=(1,) * spatial)
    return term(
        "max_pool", input, kernel=kernel, stride=ntuple(stride, spatial) if stride not in (None, [], ()) else kernel,
        padding=ntuple(padding, spatial), dilation=ntuple(dilation, spatial), ceil_mode=bool(ceil_mode),
    )  # fmt: skip


def avg_pool(
    spatial: int,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Term:
    """``F.avg_pool{spatial}d``."""
    require_tensor(input)
    kernel = ntuple(kernel_size, spatial)
    if _is_whole(kernel, input) and _all(padding, 0) and divisor_override is None:
        return term("adaptive_avg_pool", input, output_size=(1,) * spatial)
    return term(
        "avg_pool", input, kernel=kernel, stride=ntuple(stride, spatial) if stride not in (None, [], ()) else kernel,
        padding=ntuple(padding, spatial), ceil_mode=bool(ceil_mode), count_include_pad=bool(count_include_pad),
        divisor_override=divisor_override,
    )  # fmt: skip


def _all(values: Any, number: int) -> bool:
    return all(isinstance(value, int) and value == number for value in ntuple(values, 1))


def _is_whole(kernel: tuple[Any, ...], input: Any) -> bool:
    """Whether a window has the size of the input, as in ``F.avg_pool2d(x, x.size()[2:])``."""
    return all(is_extent(size, input, dim - len(kernel)) for dim, size in enumerate(kernel))


def is_extent(value: Any, x: Any, dim: int) -> bool:
    """Whether ``value`` is the length of ``dim`` of ``x``, as a node or a term."""
    if isinstance(value, Term):
        return value.op == "size" and origin_of(x, dim) == origin_of(value.args[0], value.kwargs["dim"])
    if not is_dim(value) or value.target is not TABLE["size"].fn:
        return False
    return bool(origin_of(x, dim) == origin_of(value.args[0], value.kwargs["dim"]))


def _output_size(input: Any, output_size: Any, spatial: int) -> tuple[int | None, ...]:
    """Lengths; None where one is the input's own, as users write it."""
    given = ntuple(output_size, spatial)
    sizes = tuple(None if is_extent(size, input, dim - spatial) else size for dim, size in enumerate(given))
    require(all(size is None or isinstance(size, int) for size in sizes), "its output size is computed")
    return sizes


def adaptive_avg_pool(spatial: int, input: Any, output_size: Any) -> Term:
    """``F.adaptive_avg_pool{spatial}d``."""
    require_tensor(input)
    return term("adaptive_avg_pool", input, output_size=_output_size(input, output_size, spatial))


def adaptive_max_pool(spatial: int, input: Any, output_size: Any, return_indices: bool = False) -> Term:
    """``F.adaptive_max_pool{spatial}d``."""
    require_tensor(input)
    require(not return_indices, _INDICES)
    return term("adaptive_max_pool", input, output_size=_output_size(input, output_size, spatial))


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Term:
    """``torch.mean``."""
    return _reduction("mean", input, dim, keepdim, dtype)


def sum_(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Term:
    """``torch.sum``."""
    return _reduction("sum", input, dim, keepdim, dtype)


def amax(input: Any, dim: Any = (), keepdim: bool = False) -> Term:
    """``torch.amax``."""
    return _reduction("amax", input, dim, keepdim)


def max_(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """``torch.max`` of one tensor: the values; the indices have no row."""
    if dim is None:
        return _reduction("amax", input, None, keepdim)
    require(isinstance(dim, int), "it is the elementwise maximum of two tensors")

    def piece(index: int) -> Term:
        require(index == 0, "its indices are used")
        return _reduction("amax", input, dim, keepdim)

    return Pieces(piece, 2, ("values", "indices"))


def vector_norm(input: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Term:
    """``torch.linalg.vector_norm``: the Euclidean length."""
    require(is_number(ord) and ord == 2, "its norm is not the Euclidean one")
    total = _reduction("sum", input, dim, keepdim, dtype)
    return term("sqrt", Term(total.op, (term("square", input),), total.kwargs))


def normalize(input: Any, p: Any = 2.0, dim: Any = 1, eps: Any = 1e-12, out: Any = None) -> Term:
    """``F.normalize``: over the length, as it expands."""
    require_tensor(input)
    require(out is None, "it writes into a tensor of the caller")
    require(is_number(eps), "its eps is not a constant number")
    length = term("clamp", vector_norm(input, p, dim, keepdim=True), min=float(eps), max=None)
    return term("div", input, term("expand", length, Shape(input).entries()))


def _reduction(op: str, input: Any, dim: Any, keepdim: Any, dtype: Any = None) -> Term:
    require_tensor(input)
    require(dtype in (None, torch.float32), "it changes the dtype")
    dims = None if dim is None or dim in ((), []) else tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    require(dims is None or all(isinstance(entry, int) for entry in dims), "its dims are computed")
    return term(op, input, dims=dims, keepdim=bool(keepdim))


_SPATIAL_OF_MODE = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Term:
    """``F.interpolate``."""
    require_tensor(input)
    require(not antialias, "antialiased interpolation has no row")
    require(not recompute_scale_factor, "it recomputes its scale factor")
    rank = rank_of(input)
    spatial = _SPATIAL_OF_MODE.get(mode, None if rank is None else rank - 2)
    if size is not None:
        sizes = dims_of((size,))
        size = ntuple(sizes if len(sizes) > 1 else sizes[0], spatial or len(sizes))
    if scale_factor is not None:
        factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,)
        require(all(is_number(factor) for factor in factors), "its scale factor is computed")
        require(spatial is not None or len(factors) > 1, "the rank of its operand is unknown")
        scale_factor = tuple(float(factor) for factor in ntuple(factors, spatial or len(factors)))
    if mode == "area" and size is not None and all(isinstance(entry, int) for entry in size):
        return term("adaptive_avg_pool", input, output_size=size)
    align = bool(align_corners) if mode in _SPATIAL_OF_MODE else None
    return term("interpolate", input, size=size, scale_factor=scale_factor, mode=mode, align_corners=align)


def upsample_module(module: Any, input: Any) -> Term:
    """``nn.Upsample`` and its two subclasses."""
    scale = None if module.size is not None else module.scale_factor
    return interpolate(input, module.size, scale, module.mode, module.align_corners, module.recompute_scale_factor)


def pixel_shuffle(op: str, input: Any, factor: int) -> Term:
    """``F.pixel_shuffle`` and ``F.pixel_unshuffle``."""
    require_tensor(input)
    return term(op, input, factor=factor)


def _pixel_shuffle_module(op: str, attribute: str, module: Any, input: Any) -> Term:
    return pixel_shuffle(op, input, getattr(module, attribute))


def channel_shuffle(input: Any, groups: int) -> Term:
    """``F.channel_shuffle``."""
    require_tensor(input)
    return term("channel_shuffle", input, groups=groups)


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """``F.pad``."""
    require_tensor(input)
    require(not isinstance(pad, Shape) and not any(is_dim(amount) for amount in pad), "its amounts depend on a shape")
    require(all(isinstance(amount, int) for amount in pad), "its amounts are computed")
    if not any(pad):
        return input
    fill = float(value or 0.0) if mode == "constant" else None
    return term("pad", input, pad=tuple(pad), mode=mode, value=fill)


def pad_module(mode: str, module: Any, input: Any) -> Any:
    """``nn.{Zero,Constant,Reflection,Replication,Circular}Pad{1,2,3}d``."""
    return pad(input, module.padding, mode, getattr(module, "value", None))


def _modules(name: str) -> list[type[nn.Module]]:
    return [getattr(nn, f"{name}{spatial}d") for spatial in (1, 2, 3) if hasattr(nn, f"{name}{spatial}d")]


def _windows(op: str, rule: Callable[..., Any], module: str, attributes: str) -> list[Alias]:
    """The rows of a pool for 1 to 3 dims. ``torch.adaptive_max_pool1d`` returns a pair, so it is no alias."""
    rows: list[Alias] = []
    for spatial in (1, 2, 3):
        name = f"{op}{spatial}d"
        places = (F, torch) if name in vars(torch) and op != "adaptive_max_pool" else (F,)
        functions = dict.fromkeys(getattr(place, name) for place in places)
        modules = [getattr(nn, f"{module}{spatial}d")]
        rows += aliases(op, partial(rule, spatial), functions=functions, modules=modules, attributes=attributes)
    return rows


_MAX = "kernel_size stride padding dilation ceil_mode return_indices"
_AVG = "kernel_size stride padding ceil_mode count_include_pad"


def _avg_module(module: Any, input: Any) -> Term:
    divisor = getattr(module, "divisor_override", None)
    spatial = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}
    rank = next(length for cls, length in spatial.items() if isinstance(module, cls))
    window = (module.kernel_size, module.stride, module.padding, module.ceil_mode, module.count_include_pad)
    return avg_pool(rank, input, *window, divisor)


def _upsample_vec(mode: str, input: Any, output_size: Any, *rest: Any) -> Term:
    """Overload ``vec``: ``align_corners`` where the mode has it, then the scale factors or None."""
    return interpolate(input, output_size, rest[-1] if output_size is None else None, mode, *rest[:-1])


def _upsample(mode: str, aligned: bool, input: Any, output_size: Any, *rest: Any) -> Term:
    scales = [scale for scale in rest[aligned:] if scale is not None]
    align = rest[0] if aligned else None
    return interpolate(input, None if scales else output_size, scales or None, mode, align)


def _constant_pad(input: Any, pad: Any, value: float = 0.0) -> Any:
    return pad(input, pad, "constant", float(value))


def _pad(mode: str, input: Any, padding: Any) -> Any:
    return pad(input, padding, mode)


def _mean_of_all(input: Any, *, dtype: Any = None) -> Term:
    return mean(input, dtype=dtype)


def _sum_of_all(input: Any, *, dtype: Any = None) -> Term:
    return sum_(input, dtype=dtype)


_MODES = (
    ("nearest", "upsample_nearest", (1, 2, 3), False),
    ("nearest-exact", "_upsample_nearest_exact", (1, 2, 3), False),
    ("linear", "upsample_linear", (1,), True),
    ("bilinear", "upsample_bilinear", (2,), True),
    ("bicubic", "upsample_bicubic", (2,), True),
    ("trilinear", "upsample_trilinear", (3,), True),
)
"""Mode, op without its number of dims, those numbers, whether it takes ``align_corners``."""


ALIASES: tuple[Alias, ...] = (
    *_windows("max_pool", max_pool, "MaxPool", _MAX),
    *(row for spatial in (1, 2, 3) for row in aliases(
        "avg_pool", partial(avg_pool, spatial), functions={getattr(F, f"avg_pool{spatial}d")})),
    *aliases("avg_pool", _avg_module, modules=_modules("AvgPool"), takes_module=True),
    *_windows("adaptive_avg_pool", adaptive_avg_pool, "AdaptiveAvgPool", "output_size"),
    *_windows("adaptive_max_pool", adaptive_max_pool, "AdaptiveMaxPool",
              "output_size return_indices"),
    *aliases("mean", mean, functions=[torch.mean], methods="mean"),
    *aliases("sum", sum_, functions=[torch.sum], methods="sum"),
    *aliases("amax", amax, functions=[torch.amax], methods="amax"),
    *aliases("amax", max_, functions=[torch.max], methods="max"),
    *aliases("interpolate", interpolate, functions=[F.interpolate]),
    *aliases("interpolate", upsample_module, modules=[nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d],
             takes_module=True),
    *aliases("pixel_shuffle", partial(pixel_shuffle, "pixel_shuffle"), functions=[F.pixel_shuffle]),
    *aliases("pixel_shuffle", partial(_pixel_shuffle_module, "pixel_shuffle", "upscale_factor"),
             modules=[nn.PixelShuffle], takes_module=True),
    *aliases("pixel_unshuffle", partial(pixel_shuffle, "pixel_unshuffle"), functions=[F.pixel_unshuffle]),
    *aliases("pixel_unshuffle", partial(_pixel_shuffle_module, "pixel_unshuffle", "downscale_factor"),
             modules=[nn.PixelUnshuffle], takes_module=True),
    *aliases("channel_shuffle", channel_shuffle, functions=[F.channel_shuffle], modules=[nn.ChannelShuffle],
             attributes="groups"),
    *aliases("pad", pad, functions=[F.pad]),
    *aliases("pad", partial(pad_module, "constant"), modules=_modules("ZeroPad") + _modules("ConstantPad"),
             takes_module=True),
    *aliases("pad", partial(pad_module, "reflect"), modules=_modules("ReflectionPad"), takes_module=True),
    *aliases("pad", partial(pad_module, "replicate"), modules=_modules("ReplicationPad"), takes_module=True),
    *aliases("pad", partial(pad_module, "circular"), modules=_modules("CircularPad"), takes_module=True),
    *(row for n in (1, 2, 3) for row in (
        *aten("max_pool", partial(max_pool, n), f"max_pool{n}d"),
        *aten("max_pool", first(partial(max_pool, n), 2), f"max_pool{n}d_with_indices"),
        *aten("avg_pool", partial(avg_pool, n), f"avg_pool{n}d"),
        *aten("adaptive_avg_pool", partial(adaptive_avg_pool, n), f"adaptive_avg_pool{n}d"),
        *aten("adaptive_max_pool", first(partial(adaptive_max_pool, n), 2), f"adaptive_max_pool{n}d"),
        *aten("pad", partial(_pad, "reflect"), f"reflection_pad{n}d"),
        *aten("pad", partial(_pad, "replicate"), f"replication_pad{n}d"),
    )),
    *aten("adaptive_avg_pool", partial(adaptive_avg_pool, 2), "_adaptive_avg_pool2d"),
    *aten("adaptive_avg_pool", partial(adaptive_avg_pool, 3), "_adaptive_avg_pool3d"),
    *aten("mean", _mean_of_all, "mean"),
    *aten("mean", mean, "mean.dim"),
    *aten("sum", _sum_of_all, "sum"),
    *aten("sum", sum_, "sum.dim_IntList"),
    *aten("amax", amax, "amax"),
    *aliases("sqrt", vector_norm, functions=[torch.linalg.vector_norm]),
    *aliases("div", normalize, functions=[F.normalize]),
    *aten("sqrt", vector_norm, "linalg_vector_norm"),
    *aten("amax", max_, "max max.dim"),
    *(row for mode, name, ranks, aligned in _MODES for n in ranks for row in (
        *aten("interpolate", partial(_upsample_vec, mode), f"{name}{n}d.vec"),
        *aten("interpolate", partial(_upsample, mode, aligned), f"{name}{n}d"),
    )),
    *aten("pixel_shuffle", partial(pixel_shuffle, "pixel_shuffle"), "pixel_shuffle"),
    *aten("pixel_unshuffle", partial(pixel_shuffle, "pixel_unshuffle"), "pixel_unshuffle"),
    *aten("channel_shuffle", channel_shuffle, "channel_shuffle native_channel_shuffle"),
    *aten("pad", pad, "pad"),
    *aten("pad", _constant_pad, "constant_pad_nd"),
)  # fmt: skip
