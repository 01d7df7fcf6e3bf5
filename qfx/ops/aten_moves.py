"""The aten spellings of pools, of ops that move elements, and of calls that disappear."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import fx

from qfx.ops.pool import spellings as pool
from qfx.ops.shape import spellings as shape
from qfx.ops.spelling import Alias, aten, first, is_number, require_tensor
from qfx.ops.terms import Pieces, Term

_LAST = 2**62
"""Ends from here on mean the end of the dim: exporters write the largest integer."""


def _upsample_vec(mode: str, input: Any, output_size: Any, *rest: Any) -> Term:
    """Overload ``vec``: ``align_corners`` where the mode has it, then the scale factors or None."""
    return pool.interpolate(input, output_size, rest[-1] if output_size is None else None, mode, *rest[:-1])


def _upsample(mode: str, aligned: bool, input: Any, output_size: Any, *rest: Any) -> Term:
    scales = [scale for scale in rest[aligned:] if scale is not None]
    align = rest[0] if aligned else None
    return pool.interpolate(input, None if scales else output_size, scales or None, mode, align)


def _constant_pad(input: Any, pad: Any, value: float = 0.0) -> Any:
    return pool.pad(input, pad, "constant", float(value))


def _pad(mode: str, input: Any, padding: Any) -> Any:
    return pool.pad(input, padding, mode)


def _mean_of_all(input: Any, *, dtype: Any = None) -> Term:
    return pool.mean(input, dtype=dtype)


def _sum_of_all(input: Any, *, dtype: Any = None) -> Term:
    return pool.sum_(input, dtype=dtype)


def slice_(input: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """``aten.slice.Tensor``."""
    require_tensor(input)
    end = None if is_number(end) and end >= _LAST else end
    return shape.slice_dim(input, dim, slice(start, end, step))


def expand(input: Any, size: Any, *, implicit: bool = False) -> Term:
    """``aten.expand``."""
    return shape.expand(input, size)


def split(input: Any, size: Any, dim: int = 0) -> Pieces:
    """``aten.split``."""
    return shape.split(input, size, dim)


def to(input: Any, *targets: Any, **options: Any) -> Any:
    """The overloads of ``aten.to``: dtypes and devices among their arguments, flags that do not matter, None."""
    options = {name: value for name, value in options.items() if name in ("dtype", "device", "other")}
    given = [
        value for value in (*targets, *options.values()) if isinstance(value, (torch.dtype, torch.device, fx.Node))
    ]
    return shape.convert(input, *(given or ("cpu",)))


def _same(input: Any, *unused: Any, **options: Any) -> Any:
    return shape.same(input)


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
    *(row for n in (1, 2, 3) for row in (
        *aten("max_pool", partial(pool.max_pool, n), f"max_pool{n}d"),
        *aten("max_pool", first(partial(pool.max_pool, n), 2), f"max_pool{n}d_with_indices"),
        *aten("avg_pool", partial(pool.avg_pool, n), f"avg_pool{n}d"),
        *aten("adaptive_avg_pool", partial(pool.adaptive_avg_pool, n), f"adaptive_avg_pool{n}d"),
        *aten("adaptive_max_pool", first(partial(pool.adaptive_max_pool, n), 2), f"adaptive_max_pool{n}d"),
        *aten("pad", partial(_pad, "reflect"), f"reflection_pad{n}d"),
        *aten("pad", partial(_pad, "replicate"), f"replication_pad{n}d"),
    )),
    *aten("adaptive_avg_pool", partial(pool.adaptive_avg_pool, 2), "_adaptive_avg_pool2d"),
    *aten("adaptive_avg_pool", partial(pool.adaptive_avg_pool, 3), "_adaptive_avg_pool3d"),
    *aten("mean", _mean_of_all, "mean"),
    *aten("mean", pool.mean, "mean.dim"),
    *aten("sum", _sum_of_all, "sum"),
    *aten("sum", pool.sum_, "sum.dim_IntList"),
    *aten("amax", pool.amax, "amax"),
    *aten("amax", pool.max_, "max max.dim max.other"),
    *(row for mode, name, ranks, aligned in _MODES for n in ranks for row in (
        *aten("interpolate", partial(_upsample_vec, mode), f"{name}{n}d.vec"),
        *aten("interpolate", partial(_upsample, mode, aligned), f"{name}{n}d"),
    )),
    *aten("pixel_shuffle", partial(pool.pixel_shuffle, "pixel_shuffle"), "pixel_shuffle"),
    *aten("pixel_unshuffle", partial(pool.pixel_shuffle, "pixel_unshuffle"), "pixel_unshuffle"),
    *aten("channel_shuffle", pool.channel_shuffle, "channel_shuffle native_channel_shuffle"),
    *aten("pad", pool.pad, "pad"),
    *aten("pad", _constant_pad, "constant_pad_nd"),
    *aten("cat", shape.cat, "cat concat concatenate"),
    *aten("stack", shape.stack, "stack"),
    *aten("reshape", shape.reshape, "view reshape _unsafe_view view.dtype"),
    *aten("reshape", shape.reshape_as, "view_as reshape_as"),
    *aten("reshape", shape.unflatten, "unflatten.int"),
    *aten("flatten", shape.flatten, "flatten.using_ints"),
    *aten("permute", shape.permute, "permute"),
    *aten("permute", shape.movedim, "movedim.int movedim.intlist moveaxis.int moveaxis.intlist"),
    *aten("transpose", shape.transpose, "transpose.int swapaxes swapdims"),
    *aten("transpose", shape.matrix_transpose, "t numpy_T"),
    *aten("transpose", partial(shape.transpose, dim0=-2, dim1=-1), "mT"),
    *aten("slice", slice_, "slice.Tensor"),
    *aten("slice", shape.narrow, "narrow"),
    *aten("slice", shape.chunk, "chunk unsafe_chunk"),
    *aten("slice", split, "split.Tensor split.sizes split_with_sizes unsafe_split.Tensor unsafe_split_with_sizes"),
    *aten("slice", shape.glu, "glu"),
    *aten("select", shape.select, "select.int"),
    *aten("select", shape.unbind, "unbind.int"),
    *aten("squeeze", shape.squeeze, "squeeze squeeze.dim squeeze.dims"),
    *aten("unsqueeze", shape.unsqueeze, "unsqueeze"),
    *aten("expand", expand, "expand"),
    *aten("expand", shape.expand_as, "expand_as"),
    *aten("size", shape.size, "sym_size.int size.int"),
    *aten("", shape.dropout, "dropout dropout_ feature_dropout alpha_dropout feature_alpha_dropout"),
    *aten("", _same, "clone contiguous detach detach_ alias lift lift_fresh lift_fresh_copy"),
    *aten("", to, "to.dtype to.device to.other to.dtype_layout to.prim_Device to.prim_dtype _to_copy type_as"),
)  # fmt: skip
