"""The rows of layers, products and arithmetic, and the shapes of their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qfx.ops.compute import integer, reference, samples
from qfx.ops.dims import Length, Lengths, applied
from qfx.ops.table import Epilogue, Function, Op, Spread, with_samples


def window(length: Length, reach: Length, padding: int, stride: int) -> Length:
    """How often a window fits: ``(length + padding - reach) // stride + 1``."""
    return (length + padding - reach) // stride + 1


def conv_shape(
    x: Lengths,
    weight: Lengths,
    *operands: Any,
    stride: Sequence[int],
    padding: Sequence[Sequence[int]],
    dilation: Sequence[int],
    **attributes: Any,
) -> Lengths:
    """Of ``[N, C, *spatial]`` or ``[C, *spatial]``."""
    spatial = len(stride)
    if len(x) not in (spatial + 1, spatial + 2):
        raise ValueError(f"a convolution over {spatial} dims of a value of rank {len(x)}")
    sizes = [
        window(length, d * (k - 1) + 1, sum(p), s)
        for length, k, s, p, d in zip(x[-spatial:], weight[2:], stride, padding, dilation, strict=True)
    ]
    return (*x[: -spatial - 1], weight[0], *sizes)


def linear_shape(x: Lengths, weight: Lengths, *operands: Any, **attributes: Any) -> Lengths:
    if not x:
        raise ValueError("a linear layer of a number")
    return (*x[:-1], weight[0])


def channel_affine_shape(x: Lengths, weight: Lengths, *operands: Any, **attributes: Any) -> Lengths:
    return (x[0], joint_length(x[1], weight[0]), *x[2:])


def joint_length(a: Length, b: Length) -> Length:
    """The length of a dim in which two operands are broadcast against each other."""
    if b in (a, 1):
        return a
    if a == 1:
        return b
    known = [length for length in (a, b) if isinstance(length, int)]
    return max(known) if known else applied(joint_length, *sorted((a, b), key=str))


def broadcast_shape(x: Lengths, y: Lengths, **attributes: Any) -> Lengths:
    rank = max(len(x), len(y))
    x, y = (1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y
    return tuple(map(joint_length, x, y))


def matmul_shape(x: Lengths, y: Lengths, **attributes: Any) -> Lengths:
    """As ``torch.matmul``: a vector is a matrix of one row or column, which the result does not have."""
    rows, columns = x[-2:-1], y[-1:] if len(y) > 1 else ()
    if not x or not y:
        raise ValueError("a product of numbers")
    return (*broadcast_shape(x[:-2], y[:-2]), *rows, *columns)


# ---------------------------------------------------------------- rows

_CLAMP: frozenset[Epilogue] = frozenset({"clamp", "table"})
_RESIDUAL: frozenset[Epilogue] = _CLAMP | {"residual"}
_GEMM = "gemm: QFX_GEMM QFX_GEMM_S8 QFX_GEMM_STREAMS"
_CONV = f"{_GEMM} QFX_GEMM_PAIRED, conv: QFX_CONV_DEPTHWISE QFX_CONV_SLIDE QFX_CONV_AFFINE"


def _product_spread(x: object, y: object, **attributes: object) -> Spread | None:
    return "expands" if x is y else None


def _matrix(fn: Function, exact: Function, shape: Function, **cells: Any) -> Op:
    cells = {"tensors": ("x", "residual"), "epilogues": _RESIDUAL, "kernels": _CONV, **cells}
    return Op(fn.__name__, fn, qparams="own", weights=("weight",), shape=shape, integer=exact, family="conv", **cells)


def _binary(fn: Function, exact: Function, **cells: Any) -> Op:
    cells = {"shape": broadcast_shape, "floats": "fn", "functional": fn.__name__, **cells}
    return Op(
        fn.__name__, fn, ("x", "y"), "own", keeps_dtype=True, epilogues=_CLAMP, integer=exact, family=fn.__name__,
        **cells,
    )  # fmt: skip


def _arithmetic(fn: Function, exact: Function, **cells: Any) -> Op:
    return _binary(fn, exact, any_rank=True, kernels="elementwise: Binary Lookup", **cells)


ROWS = with_samples(
    samples.GOOD,
    samples.BAD,
    _matrix(
        reference.conv, integer.conv, conv_shape, sums="weights", layout="image", any_rank=True,
        functional="conv1d, conv2d or conv3d",
    ),
    _matrix(
        reference.linear, integer.linear, linear_shape, sums="weights", layout="rows", any_rank=True,
        functional="linear",
    ),
    _matrix(
        reference.channel_affine, integer.channel_affine, channel_affine_shape, tensors=("x",),
        epilogues=_CLAMP, floats="fn", layout="image", functional="batch_norm",
    ),
    _arithmetic(reference.add, integer.add, of_truth="or"),
    _arithmetic(reference.sub, integer.sub),
    _arithmetic(reference.mul, integer.mul, spread=_product_spread, has_outliers=True, of_truth="and"),
    _binary(
        reference.matmul, integer.matmul, shape=matmul_shape, floats="integer", sums="operands",
        layout="rows", by_lengths=True, follows_layout=False, kernels=_GEMM,
    ),
)  # fmt: skip
