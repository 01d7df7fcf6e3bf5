"""The aten spellings of pools, of ops that move elements, and of calls that disappear."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import fx

from qfx.ops.aten import first, rows
from qfx.ops.pool import spellings as pool
from qfx.ops.shape import spellings as shape
from qfx.ops.spelling import Alias, is_number, require_tensor
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
        *rows("max_pool", partial(pool.max_pool, n), f"max_pool{n}d"),
        *rows("max_pool", first(partial(pool.max_pool, n), 2), f"max_pool{n}d_with_indices"),
        *rows("avg_pool", partial(pool.avg_pool, n), f"avg_pool{n}d"),
        *rows("adaptive_avg_pool", partial(pool.adaptive_avg_pool, n), f"adaptive_avg_pool{n}d"),
        *rows("adaptive_max_pool", first(partial(pool.adaptive_max_pool, n), 2), f"adaptive_max_pool{n}d"),
        *rows("pad", partial(_pad, "reflect"), f"reflection_pad{n}d"),
        *rows("pad", partial(_pad, "replicate"), f"replication_pad{n}d"),
    )),
    *rows("adaptive_avg_pool", partial(pool.adaptive_avg_pool, 2), "_adaptive_avg_pool2d"),
    *rows("adaptive_avg_pool", partial(pool.adaptive_avg_pool, 3), "_adaptive_avg_pool3d"),
    *rows("mean", _mean_of_all, "mean"),
    *rows("mean", pool.mean, "mean.dim"),
    *rows("sum", _sum_of_all, "sum"),
    *rows("sum", pool.sum_, "sum.dim_IntList"),
    *rows("amax", pool.amax, "amax"),
    *rows("amax", pool.max_, "max max.dim max.other"),
    *(row for mode, name, ranks, aligned in _MODES for n in ranks for row in (
        *rows("interpolate", partial(_upsample_vec, mode), f"{name}{n}d.vec"),
        *rows("interpolate", partial(_upsample, mode, aligned), f"{name}{n}d"),
    )),
    *rows("pixel_shuffle", partial(pool.pixel_shuffle, "pixel_shuffle"), "pixel_shuffle"),
    *rows("pixel_unshuffle", partial(pool.pixel_shuffle, "pixel_unshuffle"), "pixel_unshuffle"),
    *rows("channel_shuffle", pool.channel_shuffle, "channel_shuffle native_channel_shuffle"),
    *rows("pad", pool.pad, "pad"),
    *rows("pad", _constant_pad, "constant_pad_nd"),
    *rows("cat", shape.cat, "cat concat concatenate"),
    *rows("stack", shape.stack, "stack"),
    *rows("reshape", shape.reshape, "view reshape _unsafe_view view.dtype"),
    *rows("reshape", shape.reshape_as, "view_as reshape_as"),
    *rows("reshape", shape.unflatten, "unflatten.int"),
    *rows("flatten", shape.flatten, "flatten.using_ints"),
    *rows("permute", shape.permute, "permute"),
    *rows("permute", shape.movedim, "movedim.int movedim.intlist moveaxis.int moveaxis.intlist"),
    *rows("transpose", shape.transpose, "transpose.int swapaxes swapdims"),
    *rows("transpose", shape.matrix_transpose, "t numpy_T"),
    *rows("transpose", partial(shape.transpose, dim0=-2, dim1=-1), "mT"),
    *rows("slice", slice_, "slice.Tensor"),
    *rows("slice", shape.narrow, "narrow"),
    *rows("slice", shape.chunk, "chunk unsafe_chunk"),
    *rows("slice", split, "split.Tensor split.sizes split_with_sizes unsafe_split.Tensor unsafe_split_with_sizes"),
    *rows("slice", shape.glu, "glu"),
    *rows("select", shape.select, "select.int"),
    *rows("select", shape.unbind, "unbind.int"),
    *rows("squeeze", shape.squeeze, "squeeze squeeze.dim squeeze.dims"),
    *rows("unsqueeze", shape.unsqueeze, "unsqueeze"),
    *rows("expand", expand, "expand"),
    *rows("expand", shape.expand_as, "expand_as"),
    *rows("size", shape.size, "sym_size.int size.int"),
    *rows("", shape.dropout, "dropout dropout_ feature_dropout alpha_dropout feature_alpha_dropout"),
    *rows("", _same, "clone contiguous detach detach_ alias lift lift_fresh lift_fresh_copy"),
    *rows("", to, "to.dtype to.device to.other to.dtype_layout to.prim_Device to.prim_dtype _to_copy type_as"),
)  # fmt: skip
