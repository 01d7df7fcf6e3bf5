"""Programs of one step, built from numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qfx.runtime import Program, ProgramBuilder, dtypes

DTYPES = {np.dtype(row.numpy): row.name for row in dtypes.DTYPES.values() if row.numpy}
Out = tuple[str, int]
Constant = np.ndarray | tuple[np.ndarray, str, tuple[int, ...]]
"""An array, or bytes with the dtype and the shape that they stand for."""


def constant(b: ProgramBuilder, given: Constant) -> int:
    """A constant of a program."""
    return b.constant(*given) if isinstance(given, tuple) else b.constant(given)


def one_step(
    op: str,
    arrays: Sequence[np.ndarray],
    out: Out | Sequence[Out],
    *,
    exprs: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, Constant] | None = None,
    **attributes: Any,
) -> Program:
    """``op`` over program inputs like ``arrays``; ``out``: dtype and rank, or of each; ``exprs`` as plain numbers."""
    b = ProgramBuilder()
    inputs = [b.value(f"x{i}", DTYPES[a.dtype], [-1] * a.ndim) for i, a in enumerate(arrays)]
    outs = [out] if isinstance(out[0], str) else out
    outputs = [b.value(f"y{i}", dtype, [-1] * rank) for i, (dtype, rank) in enumerate(outs)]  # type: ignore[misc,has-type]
    b.step(
        op,
        "the_step",
        inputs,
        outputs,
        exprs={k: [b.expr_const(e) for e in v] for k, v in (exprs or {}).items()},
        constants={k: constant(b, v) for k, v in (constants or {}).items()},
        **attributes,
    )
    return b.build(inputs, outputs)


def outs_of(arrays: Sequence[np.ndarray]) -> list[Out]:
    """What ``one_step`` needs to know of results like these; references may compute floats more exactly."""
    return [("f32" if a.dtype == np.float64 else DTYPES[a.dtype], a.ndim) for a in arrays]


def small_network(channels: int = 8, blocks: int = 2, seed: int = 0) -> tuple[Program, dict[str, int]]:
    """quantize, convolutions with residual additions, mean, dequantize; with the ids of the values."""
    rng = np.random.default_rng(seed)
    b = ProgramBuilder()
    ids: dict[str, int] = {}

    def value(name: str, dtype: str, shape: Sequence[int]) -> int:
        ids[name] = b.value(name, dtype, shape)
        return ids[name]

    def conv(name: str, x: int, c_in: int) -> int:
        y = value(name, "u8", (-1, -1, -1, channels))
        constants = {
            "weight": b.constant(rng.integers(-127, 128, (channels, 3, 3, c_in), dtype=np.int8)),
            "bias": b.constant(rng.integers(-2000, 2000, channels, dtype=np.int32)),
            "multiplier": b.constant(rng.uniform(1e-4, 2e-3, channels).astype(np.float32)),
        }
        ints = {"padding_lo": [1, 1], "padding_hi": [1, 1], "x_zero_point": 10, "zero_point": 10}
        b.step("conv", name, [x], y, ints=ints, constants=constants)
        return y

    x = value("x", "f32", (-1, 3, -1, -1))
    h = value("quantized", "u8", (-1, -1, -1, 3))
    b.step("quantize", "quantize", [x], h, ints={"perm": [0, 2, 3, 1], "zero_point": 10}, floats={"scale": 0.02})
    h = conv("stem", h, 3)
    for i in range(blocks):
        g = conv(f"conv{i}", h, channels)
        y = value(f"add{i}", "u8", (-1, -1, -1, channels))
        zero_points = {"a_zero_point": 10, "b_zero_point": 10, "zero_point": 10}
        b.step("add", f"add{i}", [h, g], y, ints=zero_points, floats={"a_multiplier": 0.5, "b_multiplier": 0.5})
        h = y
    m = value("mean", "u8", (-1, channels))
    b.step("mean", "mean", [h], m, ints={"axes": [1, 2], "x_zero_point": 10, "zero_point": 0}, floats={"ratio": 1.5})
    y = value("logits", "f32", (-1, channels))
    b.step("dequantize", "dequantize", [m], y, ints={"perm": [0, 1], "zero_point": 0}, floats={"scale": 0.125})
    return b.build([x], [y]), ids
