"""Each operation of the program format against numpy, on each ISA of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
import torch

from qfx.ops.float_ops import integer
from qfx.ops.gated.integer import gated
from qfx.ops.pointwise import float32
from qfx.ops.rotary.integer import rotary
from qfx.ops.rotation.integer import rotate
from qfx.runtime import _C, Executable, Program, isa_names
from tests.attention_definition import attention
from tests.runtime import recurrent_reference
from tests.runtime import step_reference as ref
from tests.runtime.step_programs import one_step, outs_of

F = np.float32


@dataclass(frozen=True)
class Case:
    """A step over ``inputs``; ``expected`` computes its result, or a tuple of them. Floats may differ by ``ulps``."""

    op: str
    inputs: tuple[np.ndarray, ...]
    expected: Callable[..., Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    ulps: int = 0
    label: str = ""

    def results(self) -> tuple[np.ndarray, ...]:
        made = self.expected(*self.inputs)
        return made if isinstance(made, tuple) else (made,)

    def program(self) -> Program:
        return one_step(self.op, self.inputs, outs_of(self.results()), **self.attributes)


RNG = np.random.default_rng(1)


def u8(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def f32(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(F)


def table_lookup(dtype: type) -> Case:
    table = RNG.integers(0, 256, 256).astype(dtype)
    return Case("lookup", (u8(3, 7, 5),), lambda x: table[x], {"constants": {"table": table}}, label=dtype.__name__)


def conv_case(
    spatial: int,
    *,
    groups: int = 1,
    residual: Literal["", "u8", "f32"] = "",
    to_f32: bool = False,
    lut: bool = False,
    weight_zero_point: bool = False,
) -> Case:
    c_in, c_out, kernel = 4 * groups, 6 * groups, (3, 2, 3)[:spatial]
    w = RNG.integers(-128, 128, (c_out, *kernel, c_in // groups), dtype=np.int8)
    bias = RNG.integers(-3000, 3000, c_out, dtype=np.int32)
    m = RNG.uniform(1e-4, 3e-3, c_out).astype(F)
    lo, hi, stride, dilation = [1] * spatial, [0, 1, 1][:spatial], [2, 1, 1][:spatial], [1, 2, 1][:spatial]
    table = RNG.integers(0, 256, 256, dtype=np.uint8)
    zw = RNG.integers(-5, 6, c_out, dtype=np.int32) if weight_zero_point else None
    ints: dict[str, Any] = {"stride": stride, "padding_lo": lo, "padding_hi": hi, "dilation": dilation}
    ints |= {"groups": groups, "x_zero_point": 7}
    ints |= {} if to_f32 else {"zero_point": 120, "clamp": [20, 230]}
    floats: dict[str, Any] = {"f32_clamp": [-2.0, 3.0]} if to_f32 else {}
    if residual == "u8":
        ints["residual_zero_point"], floats["residual_multiplier"] = 9, 0.37
    constants = {"weight": w, "bias": bias, "multiplier": m}
    constants |= {"lut": table} if lut else {}
    constants |= {} if zw is None else {"weight_zero_point": zw}
    x = u8(2, *(8, 9, 5)[:spatial], c_in)

    def expected(x: np.ndarray, r: np.ndarray | None = None) -> np.ndarray:
        window = {"stride": stride, "lo": lo, "hi": hi, "dilation": dilation}
        v = ref.conv_acc(x, w, bias, 7, **window, groups=groups, w_zero_point=zw).astype(F) * m
        if r is not None:
            v = v + (r if r.dtype == F else (r.astype(np.int64) - 9).astype(F) * F(0.37))
        if to_f32:
            return np.clip(v, F(-2), F(3))
        q = ref.requantize(v, 120, 20, 230)
        return table[q] if lut else q

    inputs = (x, {"u8": u8, "f32": f32}[residual](*expected(x).shape)) if residual else (x,)
    attributes = {"ints": ints, "floats": floats, "constants": constants}
    flags = [
        k
        for k, on in ((f"{residual} residual", residual), ("f32", to_f32), ("lut", lut), ("zw", weight_zero_point))
        if on
    ]
    return Case("conv", inputs, expected, attributes, label="-".join([f"{spatial}d", f"g{groups}", *flags]))


def linear_case(op: str) -> Case:
    w, bias = RNG.integers(-128, 128, (6, 20), dtype=np.int8), RNG.integers(-3000, 3000, 6, dtype=np.int32)
    m = RNG.uniform(1e-4, 3e-3, 6).astype(F)

    def expected(x: np.ndarray) -> np.ndarray:
        acc = (x.astype(np.int64) - 7) @ w.T.astype(np.int64) + bias
        return ref.requantize(acc.astype(F) * m, 30)

    constants = {"weight": w, "bias": bias, "multiplier": m}
    attributes = {"ints": {"x_zero_point": 7, "zero_point": 30}, "constants": constants}
    return Case(op, (u8(2, 5, 20),), expected, attributes, label="linear")


def linear_dynamic_case(*, residual: bool = False, f32_clamp: tuple[float, ...] = (), **ints: int) -> Case:
    w, bias = RNG.integers(-128, 128, (6, 20), dtype=np.int8), f32(6)
    scale = RNG.uniform(1e-3, 2e-3, 6).astype(F)

    def expected(x: np.ndarray, r: Any = 0.0) -> np.ndarray:
        axis = -1 if ints.get("per_row") else None
        low, high = (f(x.astype(np.float64), axis, keepdims=True, initial=0.0) for f in (np.min, np.max))
        s = ((high - low) / 255).astype(F)
        z = np.rint(-low / s)
        q = np.clip(np.rint(x.astype(np.float64) / s) + z, 0, 255) - z
        y = (q @ w.T.astype(np.float64)).astype(F) * (s * scale) + bias + r
        return np.clip(y, *np.array(f32_clamp, F)) if f32_clamp else y

    constants = {"weight": w, "weight_scale": scale, "bias": bias}
    attributes = {"ints": ints, "floats": {"f32_clamp": f32_clamp} if f32_clamp else {}, "constants": constants}
    inputs = (f32(3, 4, 20), f32(3, 4, 6)) if residual else (f32(3, 4, 20),)
    named = [*ints, *(["residual"] if residual else []), *(["clamp"] if f32_clamp else [])]
    return Case("linear_dynamic", inputs, expected, attributes, label="-".join(named))


def linear_dynamic_grouped_case(
    weight: np.ndarray, constants: dict[str, Any], name: str, *, ends: bool, group: int
) -> Case:
    """``weight``: what the constants decode to, whose integers are less their zero points."""
    bias, scale = f32(9), constants["weight_scale"].astype(F)
    of_features = scale.repeat(21 // scale.shape[1], 1)
    integers = np.rint(weight.astype(np.float64) / of_features)

    def expected(x: np.ndarray, r: Any = 0.0) -> np.ndarray:
        y = np.zeros((*x.shape[:-1], 9), F)
        for first in range(0, 21, group):
            part = x[..., first : first + group]
            s = np.abs(part).max(-1, keepdims=True) / F(127)
            codes = np.rint(part.astype(np.float64) / s)
            acc = codes @ integers[:, first : first + group].T
            y = y + acc.astype(F) * (s * of_features[:, first])
        return np.clip(y + bias + r, F(-1), F(2)) if ends else y + bias

    attributes: dict[str, Any] = {"ints": {"x_group": group}, "constants": {**constants, "bias": bias}}
    attributes |= {"floats": {"f32_clamp": (-1.0, 2.0)}} if ends else {}
    inputs = (f32(3, 4, 21), f32(3, 4, 9)) if ends else (f32(3, 4, 21),)
    label = f"{name}-{group}{'-ends' if ends else ''}"
    return Case("linear_dynamic_grouped", inputs, expected, attributes, label=label)


def linear_dynamic_grouped_cases() -> Iterator[Case]:
    for weight, constants, name in grouped_weights():
        for ends in (False, True):
            own = 21 // constants["weight_scale"].shape[1]
            yield linear_dynamic_grouped_case(weight, constants, name, ends=ends, group=8 if own == 21 else own)


def matmul_cases() -> list[Case]:
    """``[heads, rows, depth] @ [heads, depth, columns]``, also with operands and result in another order in memory."""
    quant = {"x_zero_point": 7, "y_zero_point": 130}
    table = RNG.integers(0, 256, 256, dtype=np.uint8)

    def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return ((x.astype(np.int64) - 7) @ (y.astype(np.int64) - 130)).astype(F) * F(2e-4)

    def codes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return ref.requantize(product(x, y), 120, 20, 230)

    ints = quant | {"zero_point": 120, "clamp": [20, 230]}
    floats = {"multiplier": 2e-4}
    orders = {"x_perm": [1, 0, 2], "y_perm": [1, 2, 0], "perm": [1, 0, 2]}
    return [
        Case("matmul", (u8(2, 5, 21), u8(2, 21, 9)), codes, {"ints": ints, "floats": floats}, label="codes"),
        Case("matmul", (u8(3, 5, 21), u8(1, 21, 9)), codes, {"ints": ints, "floats": floats}, label="broadcast"),
        Case(
            "matmul", (u8(2, 5, 21), u8(2, 21, 9)), lambda x, y: table[codes(x, y)],
            {"ints": ints, "floats": floats, "constants": {"lut": table}}, label="lut",
        ),
        Case(
            "matmul", (u8(5, 2, 64), u8(9, 2, 64)),
            lambda x, y: codes(x.transpose(1, 0, 2), y.transpose(1, 2, 0)).transpose(1, 0, 2),
            {"ints": ints | orders, "floats": floats}, label="orders",
        ),
        Case(
            "matmul", (u8(2, 5, 21), u8(2, 21, 9)), lambda x, y: np.clip(product(x, y), F(-2), F(3)),
            {"ints": quant, "floats": floats | {"f32_clamp": [-2.0, 3.0]}}, label="f32",
        ),
    ]  # fmt: skip


def attention_cases() -> list[Case]:
    def seen(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        return attention(q, k, v, mask, factor=float(F(0.4)), causal=mask is None)

    operands = f32(2, 4, 21, 16), f32(2, 2, 40, 16), f32(2, 2, 40, 24)
    floats = {"factor": float(F(0.4))}
    mask = RNG.random((2, 1, 21, 40)) < 0.7
    return [
        Case("attention", operands, seen, {"floats": floats, "ints": {"causal": 1}}, label="causal"),
        Case("attention", (*operands, mask), seen, {"floats": floats}, label="mask"),
    ]


def binary_case(op: str, a: np.ndarray, b: np.ndarray) -> Case:
    ints = {"a_zero_point": 3, "b_zero_point": 200, "zero_point": 50, "clamp": [10, 240]}
    floats = {"a_multiplier": 0.011} if op == "mul" else {"a_multiplier": 0.7, "b_multiplier": 0.4}

    def expected(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        p, q = a.astype(np.int64) - 3, b.astype(np.int64) - 200
        if op == "mul":
            v = (p * q).astype(F) * F(0.011)
        else:
            v = p.astype(F) * F(0.7) + (1 if op == "add" else -1) * (q.astype(F) * F(0.4))
        return ref.requantize(v, 50, 10, 240)

    label = f"{'x'.join(map(str, a.shape))},{'x'.join(map(str, b.shape))}"
    return Case(op, (a, b), expected, {"ints": ints, "floats": floats}, label=label)


def pool_cases() -> list[Case]:
    window = {"kernel": [3, 2], "stride": [2, 1], "padding_lo": [1, 0], "padding_hi": [1, 1]}
    average = {"x_zero_point": 5, "zero_point": 40}

    def max_pool(x: np.ndarray) -> np.ndarray:
        apply = ref.windows(x, window["kernel"], window["stride"], window["padding_lo"], window["padding_hi"])
        return apply(lambda w: np.nanmax(w, axis=1)).astype(np.uint8)

    def avg_pool(x: np.ndarray) -> np.ndarray:
        apply = ref.windows(x, window["kernel"], window["stride"], window["padding_lo"], window["padding_hi"])
        return ref.average(apply(lambda w: np.nansum(w - 5, axis=1)), 6, 0.8, 40)

    def adaptive(x: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.stack([reduce(x[:, i * 2 : i * 2 + 2].reshape(2, -1, 4)) for i in range(3)], 1)[:, :, None]

    def mean(x: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> np.ndarray:
        count = int(np.prod([x.shape[a] for a in axes]))
        return ref.average((x.astype(np.int64) - 5).sum(axes, keepdims=keepdim), count, 0.8, 40)

    cases = [
        Case("max_pool", (u8(2, 9, 8, 4),), max_pool, {"ints": window}),
        Case("avg_pool", (u8(2, 9, 8, 4),), avg_pool, {"ints": window | average, "floats": {"ratio": 0.8}}),
        Case(
            "adaptive_max_pool",
            (u8(2, 6, 4, 4),),
            lambda x: adaptive(x, lambda w: w.max(1)),
            {"ints": {"output_size": [3, 1]}},
        ),
        Case(
            "adaptive_avg_pool",
            (u8(2, 6, 4, 4),),
            lambda x: adaptive(x, lambda w: ref.average((w.astype(np.int64) - 5).sum(1), 8, 0.8, 40)),
            {"ints": {"output_size": [3, 1]} | average, "floats": {"ratio": 0.8}},
        ),
    ]
    for axes, keepdim in (
        ((1, 2), False),
        ((1, 2), True),
        ((3,), False),
        ((1, 3), False),
        ((0, 2), True),
        ((0,), True),
    ):
        ints = {"axes": list(axes), "keepdim": int(keepdim)} | average
        cases.append(
            Case(
                "mean",
                (u8(2, 3, 5, 4),),
                lambda x, a=axes, k=keepdim: mean(x, a, k),
                {"ints": ints, "floats": {"ratio": 0.8}},
                label=f"{axes}-{keepdim}",
            )
        )
    return cases


def float_pool_cases() -> list[Case]:
    """The float forms: float64 sums, rounded once; infinities and NaN pass."""
    window = {"kernel": [3, 2], "stride": [2, 1], "padding_lo": [1, 0], "padding_hi": [1, 1]}
    x = f32(2, 9, 8, 4)
    with_nan = x.copy()
    with_nan[0, 4, 3, 1], with_nan[1, 0, 0, 2] = np.nan, np.inf

    def over_windows(x: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        apply = ref.windows(x, window["kernel"], window["stride"], window["padding_lo"], window["padding_hi"])
        return apply(reduce)

    def adaptive(x: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return np.stack([reduce(x[:, i * 2 : i * 2 + 2].reshape(2, -1, 4)) for i in range(3)], 1)[:, :, None].astype(F)

    def halfway(x: np.ndarray) -> np.ndarray:
        """Twice the length of dim 1, corners not aligned."""
        wide = np.concatenate([x[:, :1], x, x[:, -1:]], 1).astype(np.float64)
        low, high = wide[:, :-1], wide[:, 1:]
        return np.stack([low * 0.75 + high * 0.25, low * 0.25 + high * 0.75], 2).reshape(2, -1, 4)[:, 1:-1].astype(F)

    return [
        Case("max_pool_f32", (x,), lambda x: over_windows(x, lambda w: np.nanmax(w, axis=1)).astype(F),
             {"ints": window}),
        Case("max_pool_f32", (with_nan,), lambda x: x.max(2, keepdims=True),
             {"ints": {"kernel": [1, 8], "stride": [1, 8]}}, label="nan"),
        Case("avg_pool_f32", (x,), lambda x: (over_windows(x, lambda w: np.nansum(w, axis=1)) / 6).astype(F),
             {"ints": window}),
        Case("avg_pool_f32", (x,), lambda x: over_windows(x, lambda w: np.nanmean(w, axis=1)).astype(F),
             {"ints": window | {"count_include_pad": 0}}, label="inside"),
        Case("avg_pool_f32", (x,), lambda x: (over_windows(x, lambda w: np.nansum(w, axis=1)) / 5).astype(F),
             {"ints": window | {"divisor": 5}}, label="divisor"),
        Case("adaptive_max_pool_f32", (f32(2, 6, 4, 4),), lambda x: adaptive(x, lambda w: w.max(1)),
             {"ints": {"output_size": [3, 1]}}),
        Case("adaptive_avg_pool_f32", (f32(2, 6, 4, 4),),
             lambda x: adaptive(x.astype(np.float64), lambda w: w.mean(1)), {"ints": {"output_size": [3, 1]}}),
        *(Case(f"{name}_f32", (f32(2, 7, inner),), lambda x, r=reduce: r(x.astype(np.float64), 1).astype(F),
               label=f"{inner}")
          for name, reduce in (("mean", np.mean), ("sum", np.sum), ("amax", np.max)) for inner in (1, 70)),
        Case("interpolate_f32", (f32(2, 3, 4, 5),), lambda x: x.repeat(2, 1).repeat(2, 2),
             {"ints": {"linear": 0}, "exprs": {"size": [6, 8]}}, label="nearest"),
        Case("interpolate_f32", (f32(2, 6, 4),), halfway, {"ints": {"linear": 1}, "floats": {"scale_factor": [2]}},
             label="linear"),
    ]  # fmt: skip


def move_cases() -> list[Case]:
    def interpolate(x: np.ndarray) -> np.ndarray:
        return x.repeat(2, 1).repeat(2, 2)

    cases = [
        Case(
            "interpolate",
            (u8(2, 3, 4, 5),),
            interpolate,
            {"ints": {"linear": 0, "zero_point": 0}, "exprs": {"size": [6, 8]}},
            label="size",
        ),
        Case(
            "interpolate",
            (u8(2, 3, 4, 5),),
            interpolate,
            {"ints": {"linear": 0, "zero_point": 0}, "floats": {"scale_factor": [2, 2]}},
            label="scale",
        ),
    ]
    for make in (u8, f32):
        kind = make.__name__
        fill: dict[str, Any] = {"floats": {"fill": 9.0}}
        pads = {"lo": [0, 1, 2], "hi": [0, 2, 0], "mode": 0}
        cases += [
            Case(
                "concat",
                (make(2, 3, 4), make(2, 1, 4), make(2, 2, 4)),
                lambda *x: np.concatenate(x, 1),
                {"ints": {"axis": 1}},
                label=kind,
            ),
            Case("concat", (make(2, 3, 4),), lambda x: x, {"ints": {"axis": 1}}, label=f"single-{kind}"),
            Case(
                "reshape", (make(2, 6, 4),), lambda x: x.reshape(2, 3, 8), {"exprs": {"shape": [2, -1, 8]}}, label=kind
            ),
            Case(
                "permute", (make(2, 6, 4),), lambda x: x.transpose(2, 0, 1), {"ints": {"perm": [2, 0, 1]}}, label=kind
            ),
            Case(
                "permute",
                (make(2, 1, 4),),
                lambda x: x.transpose(0, 2, 1),
                {"ints": {"perm": [0, 2, 1]}},
                label=f"view-{kind}",
            ),
            Case(
                "slice",
                (make(2, 9, 4),),
                lambda x: x[:, 1:-2:3],
                {"ints": {"axis": 1, "step": 3}, "exprs": {"start": [1], "end": [-2]}},
                label=kind,
            ),
            Case(
                "slice",
                (make(4, 64),),
                lambda x: x[2:],
                {"ints": {"axis": 0}, "exprs": {"start": [-2], "end": [99]}},
                label=f"view-{kind}",
            ),
            Case(
                "slice",
                (make(4, 3),),
                lambda x: x[3:1],
                {"ints": {"axis": 0}, "exprs": {"start": [3], "end": [1]}},
                label=f"empty-{kind}",
            ),
            Case(
                "pad",
                (make(2, 3, 4),),
                lambda x: np.pad(x, [(0, 0), (1, 2), (2, 0)], constant_values=9),
                {**fill, "ints": pads | fill.get("ints", {})},
                label=kind,
            ),
            Case(
                "pad",
                (make(2, 3, 4),),
                lambda x: np.pad(x, [(0, 0), (1, 2), (2, 0)], mode="reflect"),
                {"ints": pads | {"mode": 1}},
                label=f"reflect-{kind}",
            ),
            Case(
                "pad",
                (make(2, 3, 4),),
                lambda x: np.pad(x, [(0, 0), (1, 2), (2, 0)], mode="edge"),
                {"ints": pads | {"mode": 2}},
                label=f"replicate-{kind}",
            ),
            Case(
                "pad",
                (make(2, 3, 4),),
                lambda x: np.pad(x, [(0, 0), (1, 2), (2, 0)], mode="wrap"),
                {"ints": pads | {"mode": 3}},
                label=f"circular-{kind}",
            ),
            Case(
                "expand",
                (make(3, 1),),
                lambda x: np.broadcast_to(x, (2, 3, 4)).copy(),
                {"exprs": {"shape": [2, -1, 4]}},
                label=kind,
            ),
            *(
                Case("windows", (make(2, 9, 3),), *sliding(*window), label=f"{kind}-{window}")
                for window in [(1, 3, 1, 1), (1, 4, 2, 2), (1, 1, 3, 1), (2, 2, 1, 1), (0, 2, 1, 1)]
            ),
            Case(
                "windows",
                (make(2, 5, 6, 3),),
                lambda x: (
                    np.lib.stride_tricks.sliding_window_view(x, (2, 5), (1, 2))[:, ::3, :, :, :, ::4]
                    .transpose(0, 1, 2, 4, 5, 3)
                    .copy()
                ),
                {"ints": {"axes": [1, 2], "size": [2, 2], "stride": [3, 1], "dilation": [1, 4]}},
                label=f"two axes-{kind}",
            ),
        ]
    return cases


def sliding(axis: int, size: int, stride: int, dilation: int) -> tuple[Callable[[np.ndarray], np.ndarray], Any]:
    """Windows along one axis: what numpy computes, and the step's attributes."""

    def of(x: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(x, (size - 1) * dilation + 1, axis)[..., ::dilation]
        return np.moveaxis(windows.take(range(0, windows.shape[axis], stride), axis), -1, axis + 1).copy()

    return of, {"ints": {"axes": [axis], "size": [size], "stride": [stride], "dilation": [dilation]}}


def of_tensors(reference: Callable[..., torch.Tensor], **attributes: Any) -> Callable[..., np.ndarray]:
    return lambda *xs: reference(*map(torch.from_numpy, xs), **attributes, out=None).numpy()


def row_norm_cases() -> list[Case]:
    cases = []
    for n in (8, 31, 100, 2100):
        x, weight, bias = f32(2, 3, n) + F(n % 7), f32(n), f32(n)
        tensors = {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}
        attributes: dict[str, Any] = {"ints": {"ndim": 1}, "floats": {"eps": 1e-5}}
        shared: dict[str, Any] = {"normalized_shape": (n,), "eps": 1e-5}
        layer = of_tensors(integer.layer_norm, **shared, **tensors)
        rms = of_tensors(integer.rms_norm, **shared, weight=tensors["weight"])
        cases += [
            Case(
                "layer_norm", (x,), layer, {**attributes, "constants": {"weight": weight, "bias": bias}}, label=f"{n}"
            ),
            Case("layer_norm", (x,), of_tensors(integer.layer_norm, **shared), attributes, label=f"{n} plain"),
            Case("rms_norm", (x,), rms, {**attributes, "constants": {"weight": weight}}, label=f"{n}"),
        ]
    return cases


def rotation_cases() -> list[Case]:
    return [
        Case("rotate", (f32(2, 3, 128),), of_tensors(rotate, block=block), {"ints": {"block": block}}, label=f"{block}")
        for block in (16, 32, 64, 128)
    ]


def rotary_cases() -> list[Case]:
    """Heads that share the angles of their positions, in front of them in memory and behind them."""
    cases = []
    for length, interleaved, per_pair in ((16, False, False), (16, True, True), (10, False, True), (10, True, False)):
        width = length // 2 if per_pair else length
        angles = f32(2, 1, 5, width), f32(1, 1, 5, width)
        turned = of_tensors(rotary, length=length, interleaved=interleaved)
        ints = {"length": length, "interleaved": int(interleaved)}
        x, label = f32(2, 3, 5, 16), f"{length} {interleaved} {per_pair}"
        moved = np.ascontiguousarray(x.transpose(0, 2, 1, 3))
        cases += [
            Case("rotary", (x, *angles), turned, {"ints": {**ints, "perm": [0, 1, 2, 3]}}, label=label),
            Case(
                "rotary",
                (moved, *angles),
                lambda y, cos, sin, turned=turned: turned(
                    np.ascontiguousarray(y.transpose(0, 2, 1, 3)), cos, sin
                ).transpose(0, 2, 1, 3),
                {"ints": {**ints, "perm": [0, 2, 1, 3]}},
                label=f"{label} moved",
            ),
        ]
    return cases


def gated_cases() -> list[Case]:
    return [
        Case(
            "gated_f32",
            (f32(3, n), f32(3, n)),
            of_tensors(gated, function=function),
            {"text": {"function": function}, **({"floats": {"args": [0.0]}} if function == "gelu" else {})},
            label=f"{function} {n}",
        )
        for function in ("silu", "gelu", "sigmoid")
        for n in (7, 1024, 1500)
    ]


def float_cases() -> list[Case]:
    def norm(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        x = x.astype(np.float64)
        return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)

    def group_norm(x: np.ndarray, groups: int) -> np.ndarray:
        n, h, w, c = x.shape
        return norm(x.reshape(n, h * w, groups, c // groups), (1, 3)).reshape(x.shape) * weight + bias

    weight, bias = f32(8), f32(8)
    affine = {"constants": {"weight": weight, "bias": bias}}
    cases = [
        Case("softmax", (f32(2, 5, 3),), of_tensors(integer.softmax, dim=1), {"ints": {"axis": 1}}),
        Case("softmax", (f32(2, 3, 2100),), of_tensors(integer.softmax, dim=2), {"ints": {"axis": 2}}, label="rows"),
        Case("causal_softmax", (f32(2, 5, 3),), of_tensors(integer.causal_softmax), {}),
        Case("log_softmax", (f32(2, 5, 3),), of_tensors(integer.log_softmax, dim=2), {"ints": {"axis": 2}}),
        *row_norm_cases(),
        *rotation_cases(),
        *rotary_cases(),
        *gated_cases(),
        Case(
            "group_norm",
            (f32(2, 3, 4, 8),),
            lambda x: group_norm(x, 2),
            {"ints": {"groups": 2}, "floats": {"eps": 1e-5}, **affine},
            ulps=1,
        ),
        Case(
            "group_norm",
            (f32(2, 3, 4, 8),),
            lambda x: group_norm(x, 8),
            {"ints": {"groups": 0}, "floats": {"eps": 1e-5}, **affine},
            ulps=1,
            label="instance",
        ),
        Case("pointwise_f32", (f32(2, 9),), float32.silu, {"text": {"function": "silu"}}),
        Case("matmul_f32", (f32(2, 3, 1), f32(2, 1, 5)), lambda a, b: a @ b),
        Case("matmul_f32", (f32(2, 3, 1), f32(1, 5)), lambda a, b: a @ b, label="matrix"),
    ]
    for op, f in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide)):
        cases.append(Case(f"{op}_f32", (f32(2, 3, 4), f32(3, 1)), f))
    return cases


def layout_cases() -> list[Case]:
    perm = [0, 2, 3, 1]
    attributes = {"ints": {"perm": perm, "zero_point": 30}, "floats": {"scale": 0.07}}
    x = f32(2, 3, 5, 4) * 10
    x[0, 0, 0, :3] = np.nan, np.inf, -np.inf

    def quantize(x: np.ndarray) -> np.ndarray:
        return ref.quantize(np.nan_to_num(x, nan=0.0, posinf=1e6, neginf=-1e6), perm, 0.07, 30)

    back = {"ints": {"perm": [0, 3, 1, 2], "zero_point": 30}, "floats": {"scale": 0.07}}
    return [
        Case("quantize", (x,), quantize, attributes),
        Case("dequantize", (u8(2, 5, 4, 3),), lambda q: ref.dequantize(q, [0, 3, 1, 2], 0.07, 30), back),
    ]


def halves(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float16)


def recurrent_case(
    op: str, directions: int = 1, *, half: bool = False, per_row: bool = False, equal: bool = False, same: bool = False
) -> Case:
    """``equal``: sequences of equal lengths, without batch sizes; ``same``: which all begin with one state."""
    inputs, hidden, sizes = 6, 18, (3, 3, 3 if equal else 2)
    rows, batch = directions * recurrent_reference.GATES[op] * hidden, sizes[0]
    shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden)}
    constants = {"bias_ih": f32(rows), "bias_hh": f32(rows)}
    for name, shape in shapes.items():
        constants[name] = halves(*shape) if half else RNG.integers(-128, 128, shape, dtype=np.int8)
        if not half:
            constants[f"{name}_scale"] = RNG.uniform(1e-3, 5e-3, rows).astype(F)
            constants[f"{name}_zero_point"] = RNG.integers(-9, 9, rows, dtype=np.int32)
    count = 2 if op == "lstm" else 1
    states = [f32(directions, 1 if same else batch, hidden) for _ in range(count)]

    def expected(x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
        before = [np.repeat(h, batch // h.shape[1], 1) for h in others[:count]]
        rows = x.reshape(-1, inputs)
        y, *ends = recurrent_reference.layer(op, rows, before, list(sizes), constants, directions, per_row)
        return y.reshape(*x.shape[:-1], -1), *ends

    ints = {"directions": directions, "per_row": int(per_row), "same_state": int(same)}
    attributes = {"constants": constants, "ints": ints}
    x = f32(len(sizes), batch, inputs) if equal else f32(sum(sizes), inputs)
    given = (x, *states) if equal else (x, *states, np.array(sizes))
    names = {"half": half, "rows": per_row, "equal": equal, "same": same}
    label = "-".join([str(directions), *(name for name, is_so in names.items() if is_so)])
    return Case(op, given, expected, attributes, label=label)


def index_cases() -> list[Case]:
    table, codes = f32(9, 5), RNG.integers(-128, 128, (9, 5), dtype=np.int8)
    scale, zero = RNG.uniform(1e-3, 2e-3, 9).astype(F), RNG.integers(-9, 9, 9, dtype=np.int32)
    indices = RNG.integers(0, 9, (2, 3))

    def rows(i: np.ndarray) -> np.ndarray:
        return (codes[i].astype(np.int32) - zero[i][..., None]).astype(F) * scale[i][..., None]

    of_rows = {"table": codes, "scale": scale, "zero_point": zero}
    whole = {"table": codes, "scale": scale[:1]}
    return [
        Case("embedding", (indices,), lambda i: table[i], {"constants": {"table": table}}),
        Case(
            "embedding", (indices.astype(np.int32),), lambda i: table[i], {"constants": {"table": table}}, label="s32"
        ),
        Case("embedding", (indices,), rows, {"constants": of_rows}, label="rows"),
        Case("embedding", (indices[:0],), rows, {"constants": of_rows}, label="empty"),
        Case("embedding", (indices,), lambda i: codes[i].astype(F) * scale[0], {"constants": whole}, label="one-scale"),
        *grouped_table_cases(),
        *(Case("embedding", (indices,), table.__getitem__, {"constants": {"table": stored}}, label=label)
          for label, table, stored in tables_of_halves()),
        *bag_cases(),
    ]  # fmt: skip


def tables_of_halves() -> Iterator[tuple[str, np.ndarray, Any]]:
    """Of every sign and exponent, zeros, subnormal numbers and infinities among them; their values, as constants."""
    bits = RNG.permutation(2**16).astype(np.uint16)[: 9 * 5000].reshape(9, -1)
    for label, values, stored in (
        ("f16", bits.view(np.float16).astype(F), bits.view(np.float16)),
        ("bf16", (bits.astype(np.uint32) << 16).view(F), (bits, "bf16", bits.shape)),
    ):
        numbers = ~np.isnan(values)
        kept = np.where(numbers, bits, 0)
        yield label, np.where(numbers, values, F(0)), kept.view(np.float16) if label == "f16" else (kept, *stored[1:])


def bag_cases() -> Iterator[Case]:
    """Rows one after the other in float32, of every form of a table."""
    table, indices, factors = f32(9, 181), RNG.integers(0, 9, (4, 40)), f32(4, 40)
    tables: list[tuple[str, np.ndarray, dict[str, Any]]] = [("f32", table, {"table": table})]
    for weight, constants, label in grouped_weights():
        tables.append((label, weight, {key.removeprefix("weight_"): c for key, c in constants.items()}))
        tables[-1][2]["table"] = tables[-1][2].pop("weight")
    tables += [(label, w[:, :8], {"table": half(w[:, :8])}) for label, w, _ in tables_of_halves() if label == "f16"]
    offsets = np.array([0, 5, 5, 150])
    for (form, weight, constants), mode, padding in product(tables, ("sum", "mean", "max"), (-1, 3)):
        about = {"constants": constants, "text": {"mode": mode}, "ints": {"padding": padding}}
        taken = partial(bags, weight, mode, padding)
        label = f"{form}-{mode}-{padding}"
        yield Case("embedding_bag", (indices,), lambda i, taken=taken: taken(i), about, label=label)
        yield Case("ragged_embedding_bag", (indices.reshape(-1), offsets), taken, about, label=label)
    about = {"constants": {"table": table}, "text": {"mode": "sum"}}
    taken = partial(bags, table, "sum", -1)
    last = {**about, "ints": {"include_last": 1}}
    flat = indices.reshape(-1).astype(np.int32)
    yield Case("embedding_bag", (indices, factors), lambda i, w: taken(i, None, w), about, label="factors")
    yield Case("ragged_embedding_bag", (flat, offsets, factors.reshape(-1)), taken, about, label="factors-s32")
    yield Case("ragged_embedding_bag", (flat, offsets), lambda i, o: taken(i[: o[-1]], o[:-1]), last, label="last")
    yield Case("ragged_embedding_bag", (flat, offsets[:0]), lambda i, o: f32(0, 181), about, label="no bag")
    yield Case("embedding_bag", (indices[:, :0],), lambda i: np.zeros((4, 181), F), about, label="empty bags")


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16)


def bags(
    weight: np.ndarray, mode: str, padding: int, indices: np.ndarray, offsets: np.ndarray | None = None,
    factors: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """What bags become, a row at a time."""
    if offsets is None:
        offsets = np.arange(len(indices)) * indices.shape[1]
    flat, by = indices.reshape(-1), np.ones(indices.size, F) if factors is None else factors.reshape(-1)
    made = np.zeros((len(offsets), weight.shape[1]), F)
    for y, begin, end in zip(made, offsets, [*offsets[1:], flat.size], strict=True):
        counted = [i for i in range(begin, end) if flat[i] != padding]
        for place, i in enumerate(counted):
            row = weight[flat[i]] * by[i]
            y[:] = y + row if mode != "max" else np.where((place == 0) | (row > y), row, y)
        y[:] = y / F(len(counted)) if mode == "mean" and counted else y
    return made


def grouped_table_cases() -> list[Case]:
    """Rows and groups that begin within a byte are among them."""
    made = []
    for weight, constants, label in grouped_weights():
        table = {key.removeprefix("weight_"): value for key, value in constants.items()}
        indices = RNG.integers(0, len(weight), (2, 3))
        given = {"constants": {"table": table.pop("weight"), **table}}
        made.append(Case("embedding", (indices,), weight.__getitem__, given, label=label))
    return made


NUMBERS = np.array([0, -3, 2**24 + 1, 2**24 + 3, -(2**31)])
FUNCTIONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "minimum": np.minimum, "maximum": np.maximum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


def cast_cases() -> list[Case]:
    beyond = np.array([0.0, -0.75, 2.5, 3e9, -1e10, 1e20, -1e20, np.inf, -np.inf, np.nan], F)

    def whole(dtype: type, x: np.ndarray) -> np.ndarray:
        limits = np.iinfo(dtype)
        numbers = [0 if np.isnan(v) else max(limits.min, min(limits.max, v)) for v in x.astype(float)]
        return np.array([int(v) for v in numbers], dtype)

    return [
        Case("cast", (np.append(NUMBERS, [2**53 + 1, 2**62]),), lambda x: x.astype(F)),
        Case("cast", (NUMBERS.astype(np.int32),), lambda x: x.astype(F), label="s32-f32"),
        Case("cast", (np.array([[True, False, True]]),), lambda x: x.astype(F), label="bool-f32"),
        Case("cast", (beyond,), partial(whole, np.int64), label="f32-s64"),
        Case("cast", (beyond,), partial(whole, np.int32), label="f32-s32"),
        Case("cast", (beyond,), lambda x: x != 0, label="f32-bool"),
        Case("cast", (NUMBERS,), lambda x: x != 0, label="s64-bool"),
        Case("cast", (NUMBERS * 3,), lambda x: x.astype(np.int32), label="s64-s32"),
        Case("cast", (NUMBERS,), lambda x: x, label="nothing"),
    ]


def pairwise_cases() -> list[Case]:
    made = []
    small = {d: RNG.integers(-2, 3, (3, 1, 4)).astype(d) for d in (F, np.int32, np.int64, np.bool_)}
    large = {d: RNG.integers(np.iinfo(d).min, np.iinfo(d).max, (2, 1), d, endpoint=True) for d in (np.int32, np.int64)}
    for name, function in FUNCTIONS.items():
        bits, compares = name in ("and", "or", "xor"), name in ("eq", "ne", "lt", "le", "gt", "ge")
        for dtype, a in small.items():
            if (dtype is F and not compares) or (dtype is np.bool_ and not (bits or compares)):
                continue
            b = large[dtype] if dtype in large else a[:2].reshape(2, 4)[:, :1]
            made.append(Case("pairwise", (a, b), function, {"text": {"function": name}}, label=f"{name}-{a.dtype}"))
    return made


def whole_cases() -> list[Case]:
    x, condition = RNG.integers(-9, 9, (2, 3, 4)), RNG.integers(0, 2, (3, 1)).astype(bool)
    places = np.moveaxis(np.array([[0, 1, 1], [2, 2, 0]]), 0, 1)
    nan = np.array([[1.0, np.nan, 3.0, np.nan], [4.0, 4.0, -1.0, 2.0]], F)
    picked = np.array([[[1, -2]], [[0, 1]]])
    other = np.array([[0], [-3], [2]])
    return [
        Case("where", (condition, f32(2, 3, 4), f32(1, 4)), np.where),
        Case("where", (condition, x, x[:1, :1]), np.where, label="s64"),
        Case("where", (condition, x > 0, condition), np.where, label="bool"),
        Case("arange", (np.array(3),), lambda a: a + 2 * np.arange(5), {"exprs": {"count": [5]}, "ints": {"step": 2}}),
        Case("arange", (np.array(3),), lambda a: a + np.arange(0), {"exprs": {"count": [0]}, "ints": {"step": -1}},
             label="none"),
        Case("cumsum", (x,), lambda a: np.cumsum(a, 1), {"ints": {"axis": 1}}),
        Case("cumsum", (x[:, :0],), lambda a: np.cumsum(a, 0), {"ints": {"axis": 0}}, label="empty"),
        Case("argmax", (x,), lambda a: np.argmax(a, 1), {"ints": {"axis": 1}}),
        Case("argmax", (nan,), lambda a: np.argmax(a, 1), {"ints": {"axis": 1}}, label="nan"),
        Case("gather", (x[0], places), lambda a, i: np.take_along_axis(a[:, :2], i, 0), {"ints": {"axis": 0}}),
        Case("gather", (x[0] > 0, np.zeros((3, 0), np.int64)), lambda a, i: a[:, :0], {"ints": {"axis": 1}},
             label="empty"),
        Case("take", (f32(2, 3, 4), picked), lambda a, i: a[i]),
        Case("take", (x, picked, other), lambda a, i, j: a[i, j], label="two"),
        Case("take", (x > 0, picked, other, other), lambda a, i, j, k: a[i, j, k], label="three"),
        Case("take", (x, np.zeros(0, np.int64)), lambda a, i: a[i], label="none"),
    ]  # fmt: skip


def in_order_case(op: str, weight: np.ndarray, constants: dict[str, Any], label: str = "") -> Case:
    """A linear layer in float32, products added in the order of the features."""
    bias = f32(len(weight))

    def expected(x: np.ndarray) -> np.ndarray:
        flat = recurrent_reference.in_order(x.reshape(-1, x.shape[-1]), weight) + bias
        return flat.reshape(*x.shape[:-1], -1)

    inputs = (f32(2, 5, weight.shape[1]),)
    return Case(op, inputs, expected, {"constants": {**constants, "bias": bias}}, label=label)


def linear_half_cases() -> list[Case]:
    half, full = halves(20, 7), f32(20, 7).view(np.uint32) >> 16
    brain = (full << 16).view(F)
    constant = (full.astype(np.uint16), "bf16", (20, 7))
    return [
        in_order_case("linear_half", half.astype(F), {"weight": half}),
        in_order_case("linear_half", brain, {"weight": constant}, "bf16"),
    ]


def nibbles(codes: np.ndarray) -> tuple[np.ndarray, str, tuple[int, ...]]:
    """A constant of s4: two a byte, the first in the low half."""
    low, high = np.append(codes.reshape(-1), [0] * (codes.size % 2)).reshape(-1, 2).T & 15
    return (low | high << 4).astype(np.uint8), "s4", codes.shape


def grouped_weights() -> Iterator[tuple[np.ndarray, dict[str, Any], str]]:
    """What weights by groups decode to, the constants of a step, and a name."""
    for bits, groups, scales, affine in (
        (8, 3, F, False),
        (8, 7, np.float16, True),
        (4, 3, np.float16, True),
        (4, 1, F, False),
    ):
        codes, zeros = (RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (9, n)) for n in (21, groups))
        scale = RNG.uniform(0.01, 0.1, (9, groups)).astype(scales)
        zeros = zeros if affine else np.zeros_like(zeros)
        each = 21 // groups
        weight = (codes - zeros.repeat(each, 1)).astype(F) * scale.astype(F).repeat(each, 1)
        stored = nibbles if bits == 4 else lambda values: values.astype(np.int8)
        constants = {"weight": stored(codes), "weight_scale": scale}
        constants |= {"weight_zero_point": stored(zeros)} if affine else {}
        yield weight, constants, f"{bits}-{groups}{'-affine' if affine else ''}"


CASES = [
    *layout_cases(),
    *linear_half_cases(),
    *(in_order_case("linear_grouped", *given) for given in grouped_weights()),
    *linear_dynamic_grouped_cases(),
    *(recurrent_case(op, d, half=half) for op in recurrent_reference.GATES for d, half in ((1, False), (2, True))),
    *(recurrent_case(op, per_row=True) for op in recurrent_reference.GATES),
    *(recurrent_case(op, 2, equal=True, same=same) for op in recurrent_reference.GATES for same in (False, True)),
    *(conv_case(d) for d in (1, 2, 3)),
    conv_case(2, groups=2),
    conv_case(2, residual="u8"),
    conv_case(2, to_f32=True, residual="u8"),
    conv_case(2, to_f32=True, residual="f32"),
    conv_case(2, groups=2, to_f32=True, residual="f32"),
    conv_case(2, lut=True, weight_zero_point=True),
    linear_case("conv"),
    linear_dynamic_case(),
    linear_dynamic_case(per_row=1),
    linear_dynamic_case(residual=True),
    linear_dynamic_case(residual=True, f32_clamp=(-1.0, 2.0), per_row=1),
    *(binary_case(op, u8(2, 3, 5), u8(2, 3, 5)) for op in ("add", "sub", "mul")),
    *(binary_case(op, u8(2, 3, 5), u8(5)) for op in ("add", "sub", "mul")),
    binary_case("mul", u8(2, 1, 1, 6), u8(2, 4, 4, 6)),
    table_lookup(np.uint8),
    table_lookup(np.float32),
    *pool_cases(),
    *float_pool_cases(),
    *move_cases(),
    *index_cases(),
    *cast_cases(),
    *pairwise_cases(),
    *whole_cases(),
    *float_cases(),
    *matmul_cases(),
    *attention_cases(),
]


def test_every_operation_has_a_case() -> None:
    assert {case.op for case in CASES} == set(_C.op_names())


@pytest.mark.inventory("S175", "S176")
@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op}-{c.label}" if c.label else c.op)
def test_step_equals_numpy(case: Case, isa: str) -> None:
    results = Executable(case.program(), isa)(*case.inputs)
    for y, expected in zip(results, case.results(), strict=True):
        assert y.shape == expected.shape
        if case.ulps:
            np.testing.assert_array_max_ulp(y, expected.astype(F), case.ulps)
        else:
            np.testing.assert_array_equal(y, expected)
