"""Malformed programs raise an error that names the step; they never crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qfx.errors import InputError, RuntimeLoadError
from qfx.runtime import _C, Executable, ProgramBuilder, isa_names
from tests.runtime.step_programs import one_step, small_network

WEIGHT = np.ones((6, 3, 3, 4), np.int8)


def conv_attributes() -> dict[str, Any]:
    return {
        "ints": {"stride": [1, 1], "x_zero_point": 7, "zero_point": 0, "clamp": [0, 255], "groups": 1},
        "floats": {},
        "constants": {
            "weight": WEIGHT,
            "bias": np.zeros(6, np.int32),
            "multiplier": np.ones(6, np.float32),
        },
    }


def build_conv(change: Callable[[dict[str, Any]], object]) -> None:
    attributes = conv_attributes()
    change(attributes)
    out = attributes.pop("out", ("u8", 4))
    x = attributes.pop("x", np.zeros((1, 5, 5, 4), np.uint8))
    inputs = attributes.pop("inputs", [x])
    Executable(one_step(attributes.pop("op", "conv"), inputs, out, **attributes))


CONV_MISTAKES = {
    "operation": lambda a: a.update(op="convolve"),
    "no inputs": lambda a: a.update(inputs=[]),
    "three inputs": lambda a: a.update(inputs=[np.zeros((1, 5, 5, 4), np.uint8)] * 3),
    "input dtype": lambda a: a.update(x=np.zeros((1, 5, 5, 4), np.float32)),
    "input rank": lambda a: a.update(x=np.zeros((5, 5, 4), np.uint8)),
    "output dtype": lambda a: a.update(out=("s32", 4)),
    "output rank": lambda a: a.update(out=("u8", 3)),
    "unknown attribute": lambda a: a["ints"].update(strides=[1, 1]),
    "attribute of the wrong kind": lambda a: a["floats"].update(stride=[1.0, 1.0]),
    "missing x_zero_point": lambda a: a["ints"].pop("x_zero_point"),
    "missing zero_point": lambda a: a["ints"].pop("zero_point"),
    "x_zero_point out of range": lambda a: a["ints"].update(x_zero_point=256),
    "negative zero_point": lambda a: a["ints"].update(zero_point=-1),
    "two zero points": lambda a: a["ints"].update(zero_point=[0, 0]),
    "clamp order": lambda a: a["ints"].update(clamp=[9, 3]),
    "clamp range": lambda a: a["ints"].update(clamp=[0, 256]),
    "clamp count": lambda a: a["ints"].update(clamp=[0]),
    "zero stride": lambda a: a["ints"].update(stride=[0, 1]),
    "stride count": lambda a: a["ints"].update(stride=[1]),
    "huge stride": lambda a: a["ints"].update(stride=[2**40, 1]),
    "zero dilation": lambda a: a["ints"].update(dilation=[1, 0]),
    "negative padding": lambda a: a["ints"].update(padding_lo=[-1, 0]),
    "zero groups": lambda a: a["ints"].update(groups=0),
    "groups that do not divide": lambda a: a["ints"].update(groups=4),
    "missing weight": lambda a: a["constants"].pop("weight"),
    "missing bias": lambda a: a["constants"].pop("bias"),
    "missing multiplier": lambda a: a["constants"].pop("multiplier"),
    "weight dtype": lambda a: a["constants"].update(weight=WEIGHT.astype(np.uint8)),
    "weight rank": lambda a: a["constants"].update(weight=WEIGHT[:, 0, 0, 0]),
    "empty weight": lambda a: a["constants"].update(weight=WEIGHT[..., :0]),
    "bias size": lambda a: a["constants"].update(bias=np.zeros(5, np.int32)),
    "bias dtype": lambda a: a["constants"].update(bias=np.zeros(6, np.float32)),
    "multiplier size": lambda a: a["constants"].update(multiplier=np.ones(7, np.float32)),
    "multiplier not finite": lambda a: a["constants"].update(multiplier=np.full(6, np.nan, np.float32)),
    "lut size": lambda a: a["constants"].update(lut=np.zeros(255, np.uint8)),
    "weight_zero_point size": lambda a: a["constants"].update(weight_zero_point=np.zeros(1, np.int32)),
    "residual without its zero point": lambda a: a.update(inputs=[np.zeros((1, 5, 5, 4), np.uint8)] * 2),
    "residual in floats, and codes as result": lambda a: a.update(
        inputs=[np.zeros((1, 5, 5, 4), np.uint8), np.zeros((1, 5, 5, 4), np.float32)]
    ),
    "residual_multiplier not finite": lambda a: a["floats"].update(residual_multiplier=float("inf")),
    "f32_clamp is NaN": lambda a: a["floats"].update(f32_clamp=[float("nan"), 1.0]),
    "lut with f32 output": lambda a: (
        a["constants"].update(lut=np.zeros(256, np.uint8)),
        a.update(out=("f32", 4)),
    ),
}


def test_the_unchanged_conv_loads() -> None:
    build_conv(lambda a: None)


@pytest.mark.parametrize("mistake", CONV_MISTAKES)
def test_malformed_conv(mistake: str) -> None:
    with pytest.raises(RuntimeLoadError) as error:
        build_conv(CONV_MISTAKES[mistake])
    assert error.value.where == "the_step"


SIZES = np.ones(4, np.int64)
BYTES, FLOATS = np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.float32)
AVERAGE = {"x_zero_point": 0, "zero_point": 0}
BINARY = {"a_zero_point": 0, "b_zero_point": 0, "zero_point": 0}
ZEROS = {"x_zero_point": 0, "y_zero_point": 0, "zero_point": 0}
PRODUCT: dict[str, Any] = {"ints": ZEROS, "floats": {"multiplier": 1.0}}
SCALES = {"a_multiplier": 1.0, "b_multiplier": 1.0}
CODES, A_ROW, A_GROUP = np.ones((4, 6), np.int8), np.ones(4, np.float32), np.ones((4, 2), np.float32)
TABLE_MISTAKES: dict[str, dict[str, np.ndarray]] = {
    "no scale": {},
    "scales of floats": {"table": np.ones((4, 6), np.float32), "scale": A_ROW},
    "scales of 16 bits": {"table": np.ones((4, 6), np.float16), "scale": A_ROW},
    "scales of other rows": {"scale": A_GROUP[:3]},
    "groups that do not divide": {"scale": np.ones((4, 4), np.float32)},
    "no groups": {"scale": A_GROUP[:, :0]},
    "zero points of another number": {"scale": A_GROUP, "zero_point": np.ones((4, 1), np.int8)},
    "wide zero points a group": {"scale": A_GROUP, "zero_point": np.ones((4, 2), np.int32)},
    "narrow zero points a row": {"scale": A_ROW, "zero_point": np.ones(4, np.int8)},
    "zero points of no code": {"scale": A_ROW, "zero_point": np.full(4, 128, np.int32)},
}

STEP_MISTAKES: dict[str, tuple[str, list[np.ndarray], Any, dict[str, Any]]] = {
    "quantize perm repeats": (
        "quantize",
        [FLOATS],
        ("u8", 4),
        {"ints": {"perm": [0, 1, 1, 2], "zero_point": 0}, "floats": {"scale": 1.0}},
    ),
    "quantize perm length": (
        "quantize",
        [FLOATS],
        ("u8", 4),
        {"ints": {"perm": [0, 1], "zero_point": 0}, "floats": {"scale": 1.0}},
    ),
    "quantize scale zero": (
        "quantize",
        [FLOATS],
        ("u8", 4),
        {"ints": {"perm": [0, 1, 2, 3], "zero_point": 0}, "floats": {"scale": 0.0}},
    ),
    "quantize scale overflows": (
        "quantize",
        [FLOATS],
        ("u8", 4),
        {"ints": {"perm": [0, 1, 2, 3], "zero_point": 0}, "floats": {"scale": 1e300}},
    ),
    "dequantize of floats": (
        "dequantize",
        [FLOATS],
        ("f32", 4),
        {"ints": {"perm": [0, 1, 2, 3], "zero_point": 0}, "floats": {"scale": 1.0}},
    ),
    "add without a multiplier": ("add", [BYTES, BYTES], ("u8", 4), {"ints": BINARY, "floats": {"a_multiplier": 1.0}}),
    "add of one": ("add", [BYTES], ("u8", 4), {"ints": BINARY, "floats": SCALES}),
    "add of mixed dtypes": ("add", [BYTES, FLOATS], ("u8", 4), {"ints": BINARY, "floats": SCALES}),
    "add lut size": (
        "add",
        [BYTES, BYTES],
        ("u8", 4),
        {"ints": BINARY, "floats": SCALES, "constants": {"lut": np.zeros(3, np.uint8)}},
    ),
    "lookup without a table": ("lookup", [BYTES], ("u8", 4), {}),
    "lookup of the wrong dtype": ("lookup", [BYTES], ("u8", 4), {"constants": {"table": np.zeros(256, np.float32)}}),
    "max_pool_f32 of bytes": ("max_pool_f32", [BYTES], ("f32", 4), {"ints": {"kernel": [2, 2]}}),
    "avg_pool_f32 kernel zero": ("avg_pool_f32", [FLOATS], ("f32", 4), {"ints": {"kernel": [0, 1]}}),
    "adaptive_avg_pool_f32 size negative": (
        "adaptive_avg_pool_f32",
        [FLOATS],
        ("f32", 4),
        {"ints": {"output_size": [-1, 2]}},
    ),
    "interpolate_f32 without a mode": (
        "interpolate_f32",
        [FLOATS],
        ("f32", 4),
        {"floats": {"scale_factor": [2.0, 2.0]}},
    ),
    "mean_f32 of a matrix": ("mean_f32", [FLOATS[0, 0]], ("f32", 2), {}),
    "max_pool kernel zero": ("max_pool", [BYTES], ("u8", 4), {"ints": {"kernel": [0, 1]}}),
    "max_pool padding as large as the kernel": (
        "max_pool",
        [BYTES],
        ("u8", 4),
        {"ints": {"kernel": [2, 2], "padding_lo": [2, 0]}},
    ),
    "avg_pool without a ratio": ("avg_pool", [BYTES], ("u8", 4), {"ints": {"kernel": [2, 2], **AVERAGE}}),
    "avg_pool ratio": (
        "avg_pool",
        [BYTES],
        ("u8", 4),
        {"ints": {"kernel": [2, 2], **AVERAGE}, "floats": {"ratio": float("nan")}},
    ),
    "pool of a matrix": ("max_pool", [BYTES[0, 0]], ("u8", 2), {"ints": {"kernel": []}}),
    "adaptive size negative": (
        "adaptive_avg_pool",
        [BYTES],
        ("u8", 4),
        {"ints": {"output_size": [-1, 1], **AVERAGE}, "floats": {"ratio": 1.0}},
    ),
    "mean axis": ("mean", [BYTES], ("u8", 2), {"ints": {"axes": [1, 4], **AVERAGE}, "floats": {"ratio": 1.0}}),
    "mean axes repeat": ("mean", [BYTES], ("u8", 2), {"ints": {"axes": [1, 1], **AVERAGE}, "floats": {"ratio": 1.0}}),
    "mean without axes": ("mean", [BYTES], ("u8", 4), {"ints": {"axes": [], **AVERAGE}, "floats": {"ratio": 1.0}}),
    "mean rank": ("mean", [BYTES], ("u8", 4), {"ints": {"axes": [1], **AVERAGE}, "floats": {"ratio": 1.0}}),
    "interpolate mode": (
        "interpolate",
        [BYTES],
        ("u8", 4),
        {"ints": {"linear": 2, "zero_point": 0}, "exprs": {"size": [2, 2]}},
    ),
    "interpolate without a size": ("interpolate", [BYTES], ("u8", 4), {"ints": {"linear": 0, "zero_point": 0}}),
    "interpolate scale": (
        "interpolate",
        [BYTES],
        ("u8", 4),
        {"ints": {"linear": 0, "zero_point": 0}, "floats": {"scale_factor": [0.0, 1.0]}},
    ),
    "concat axis": ("concat", [BYTES, BYTES], ("u8", 4), {"ints": {"axis": 4}}),
    "concat ranks": ("concat", [BYTES, BYTES[0]], ("u8", 4), {"ints": {"axis": 0}}),
    "concat dtypes": ("concat", [BYTES, FLOATS], ("u8", 4), {"ints": {"axis": 0}}),
    "reshape rank": ("reshape", [BYTES], ("u8", 2), {"exprs": {"shape": [96]}}),
    "reshape dtype": ("reshape", [BYTES], ("f32", 1), {"exprs": {"shape": [96]}}),
    "permute": ("permute", [BYTES], ("u8", 4), {"ints": {"perm": [0, 1, 2, 4]}}),
    "slice axis": ("slice", [BYTES], ("u8", 4), {"ints": {"axis": -1}, "exprs": {"start": [0], "end": [1]}}),
    "slice step": ("slice", [BYTES], ("u8", 4), {"ints": {"axis": 1, "step": 0}, "exprs": {"start": [0], "end": [1]}}),
    "slice without an end": ("slice", [BYTES], ("u8", 4), {"ints": {"axis": 1}, "exprs": {"start": [0]}}),
    "pad mode": ("pad", [BYTES], ("u8", 4), {"ints": {"lo": [0] * 4, "hi": [0] * 4, "mode": 4}}),
    "pad fill": ("pad", [BYTES], ("u8", 4), {"ints": {"lo": [0] * 4, "hi": [0] * 4}, "floats": {"fill": 256.0}}),
    "pad length": ("pad", [BYTES], ("u8", 4), {"ints": {"lo": [0] * 3, "hi": [0] * 4}}),
    "reflect cropping": ("pad", [BYTES], ("u8", 4), {"ints": {"lo": [0, -1, 0, 0], "hi": [0] * 4, "mode": 1}}),
    "windows axes": (
        "windows",
        [BYTES],
        ("u8", 5),
        {"ints": {"axes": [1, 0], "size": [1, 1], "stride": [1, 1], "dilation": [1, 1]}},
    ),
    "windows axis": (
        "windows",
        [BYTES],
        ("u8", 4),
        {"ints": {"axes": [3], "size": [1], "stride": [1], "dilation": [1]}},
    ),
    "windows entries": (
        "windows",
        [BYTES],
        ("u8", 4),
        {"ints": {"axes": [1], "size": [1, 1], "stride": [1], "dilation": [1]}},
    ),
    "windows rank": (
        "windows",
        [BYTES],
        ("u8", 3),
        {"ints": {"axes": [1], "size": [1], "stride": [1], "dilation": [1]}},
    ),
    "expand rank": ("expand", [BYTES], ("u8", 3), {"exprs": {"shape": [4, 4, 3]}}),
    "softmax axis": ("softmax", [FLOATS], ("f32", 4), {"ints": {"axis": 4}}),
    "causal_softmax rank": ("causal_softmax", [np.zeros(4, np.float32)], ("f32", 1), {}),
    "layer_norm ndim": ("layer_norm", [FLOATS], ("f32", 4), {"ints": {"ndim": 5}, "floats": {"eps": 1e-5}}),
    "layer_norm eps": ("layer_norm", [FLOATS], ("f32", 4), {"ints": {"ndim": 1}, "floats": {"eps": -1.0}}),
    "cast rank": ("cast", [FLOATS], ("s64", 3), {}),
    "pairwise function": ("pairwise", [FLOATS, FLOATS], ("f32", 4), {"text": {"function": "pow"}}),
    "where condition": ("where", [FLOATS, FLOATS, FLOATS], ("f32", 4), {}),
    "gather rank": ("gather", [FLOATS, np.zeros(2, np.int64)], ("f32", 4), {"ints": {"axis": 0}}),
    "take rank": ("take", [FLOATS, np.zeros(2, np.int64)], ("f32", 3), {}),
    "arange rank": ("arange", [np.zeros((), np.int64)], ("s64", 2), {"ints": {"step": 1}, "exprs": {"count": [3]}}),
    "cumsum axis": ("cumsum", [np.zeros((2, 3), np.int64)], ("s64", 2), {"ints": {"axis": 2}}),
    "argmax axis": ("argmax", [FLOATS], ("s64", 3), {"ints": {"axis": 4}}),
    "embedding rank": (
        "embedding",
        [np.zeros((2, 3), np.int64)],
        ("f32", 2),
        {"constants": {"table": np.zeros((4, 8), np.float32)}},
    ),
    **{
        f"embedding: {name}": ("embedding", [SIZES], ("f32", 2), {"constants": {"table": CODES, **constants}})
        for name, constants in TABLE_MISTAKES.items()
    },
    "rotate block": ("rotate", [FLOATS], ("f32", 4), {"ints": {"block": 24}}),
    **{
        f"{op}: {name}": (op, inputs, result, {"constants": {"table": CODES, "scale": A_ROW}, "text": {"mode": mode}})
        for op, name, inputs, result, mode in (
            ("embedding_bag", "mode", [SIZES[None]], ("f32", 2), "most"),
            ("embedding_bag", "indices of one dim", [SIZES], ("f32", 2), "sum"),
            ("embedding_bag", "factors of a mean", [SIZES[None], np.ones((1, 4), np.float32)], ("f32", 2), "mean"),
            ("ragged_embedding_bag", "indices of two dims", [SIZES[None], SIZES], ("f32", 2), "sum"),
            ("ragged_embedding_bag", "offsets of two dims", [SIZES, SIZES[None]], ("f32", 2), "sum"),
            ("ragged_embedding_bag", "y of one dim", [SIZES, SIZES], ("f32", 1), "sum"),
        )
    },
    "rotary length": (
        "rotary",
        [FLOATS] * 3,
        ("f32", 4),
        {"ints": {"length": 3, "interleaved": 0, "perm": [0, 1, 2, 3]}},
    ),
    "rotary order": (
        "rotary",
        [FLOATS] * 3,
        ("f32", 4),
        {"ints": {"length": 2, "interleaved": 0, "perm": [0, 1, 1, 3]}},
    ),
    "rotary last dim": (
        "rotary",
        [FLOATS] * 3,
        ("f32", 4),
        {"ints": {"length": 2, "interleaved": 0, "perm": [0, 1, 3, 2]}},
    ),
    "rotary ranks": (
        "rotary",
        [FLOATS[0], FLOATS, FLOATS],
        ("f32", 3),
        {"ints": {"length": 2, "interleaved": 0, "perm": [0, 1, 2]}},
    ),
    "gated function": ("gated_f32", [FLOATS, FLOATS], ("f32", 4), {"text": {"function": "frobnicate"}}),
    "gated ranks": ("gated_f32", [FLOATS, FLOATS[0]], ("f32", 4), {"text": {"function": "silu"}}),
    "rms_norm ndim": ("rms_norm", [FLOATS], ("f32", 4), {"ints": {"ndim": 5}, "floats": {"eps": 1e-5}}),
    "group_norm groups": ("group_norm", [FLOATS], ("f32", 4), {"ints": {"groups": -1}, "floats": {"eps": 1e-5}}),
    "affine sizes": (
        "layer_norm",
        [FLOATS],
        ("f32", 4),
        {
            "ints": {"ndim": 1},
            "floats": {"eps": 1e-5},
            "constants": {"weight": np.ones(3, np.float32), "bias": np.ones(2, np.float32)},
        },
    ),
    "pointwise function": ("pointwise_f32", [FLOATS], ("f32", 4), {"text": {"function": "frobnicate"}}),
    "pointwise without a function": ("pointwise_f32", [FLOATS], ("f32", 4), {}),
    "matmul ranks": ("matmul_f32", [FLOATS, FLOATS[0]], ("f32", 4), {}),
    "matmul of two ranks": ("matmul", [BYTES, BYTES[0]], ("u8", 4), PRODUCT),
    "matmul of vectors": ("matmul", [BYTES[0, 0, 0], BYTES[0, 0, 0]], ("u8", 1), PRODUCT),
    "matmul order": ("matmul", [BYTES, BYTES], ("u8", 4), {**PRODUCT, "ints": ZEROS | {"y_perm": [0, 1, 2, 2]}}),
    "matmul order length": ("matmul", [BYTES, BYTES], ("u8", 4), {**PRODUCT, "ints": ZEROS | {"perm": [0, 1]}}),
    "matmul depth apart": ("matmul", [BYTES, BYTES], ("u8", 4), {**PRODUCT, "ints": ZEROS | {"x_perm": [0, 1, 3, 2]}}),
    "matmul without a zero point": (
        "matmul",
        [BYTES, BYTES],
        ("u8", 4),
        {**PRODUCT, "ints": {"x_zero_point": 0, "y_zero_point": 0}},
    ),
    "matmul of floats": ("matmul", [FLOATS, FLOATS], ("u8", 4), PRODUCT),
    "matmul to another dtype": ("matmul", [BYTES, BYTES], ("s32", 4), PRODUCT),
    "matmul multiplier": ("matmul", [BYTES, BYTES], ("u8", 4), {"ints": ZEROS, "floats": {"multiplier": float("nan")}}),
    "matmul clamp": (
        "matmul",
        [BYTES, BYTES],
        ("f32", 4),
        {"ints": ZEROS, "floats": {"multiplier": 1.0, "f32_clamp": [float("nan"), 1.0]}},
    ),
    "matmul table": (
        "matmul",
        [BYTES, BYTES],
        ("u8", 4),
        {**PRODUCT, "constants": {"lut": np.zeros(3, np.uint8)}},
    ),
    "attention of bytes": ("attention", [BYTES] * 3, ("f32", 4), {"floats": {"factor": 1.0}}),
    "attention of one head": ("attention", [FLOATS[0]] * 3, ("f32", 3), {"floats": {"factor": 1.0}}),
    "attention mask": ("attention", [*[FLOATS] * 3, BYTES], ("f32", 4), {"floats": {"factor": 1.0}}),
    "attention mask of rows": ("attention", [*[FLOATS] * 3, FLOATS[0]], ("f32", 4), {"floats": {"factor": 1.0}}),
    "attention factor": ("attention", [FLOATS] * 3, ("f32", 4), {"floats": {"factor": float("inf")}}),
    "attention columns apart": (
        "attention",
        [FLOATS] * 3,
        ("f32", 4),
        {"floats": {"factor": 1.0}, "ints": {"v_perm": [0, 1, 3, 2]}},
    ),
    "linear_dynamic scale": (
        "linear_dynamic",
        [FLOATS],
        ("f32", 4),
        {"constants": {"weight": np.ones((2, 3), np.int8), "weight_scale": np.ones(3, np.float32)}},
    ),
    "linear_dynamic weight rank": (
        "linear_dynamic",
        [FLOATS],
        ("f32", 4),
        {"constants": {"weight": WEIGHT, "weight_scale": np.ones(6, np.float32)}},
    ),
    "recurrent weights of another layer": (
        "lstm",
        [FLOATS[0, 0], FLOATS[0], FLOATS[0], SIZES],
        [("f32", 2), ("f32", 3), ("f32", 3)],
        {"constants": {"weight_ih": np.ones((8, 3), np.int8), "weight_hh": np.ones((8, 3), np.int8)}},
    ),
    "recurrent weights without a scale": (
        "gru",
        [FLOATS[0, 0], FLOATS[0], SIZES],
        [("f32", 2), ("f32", 3)],
        {"constants": {"weight_ih": np.ones((6, 3), np.int8), "weight_hh": np.ones((6, 2), np.int8)}},
    ),
    "recurrent batch sizes": (
        "rnn_tanh",
        [FLOATS[0, 0], FLOATS[0], FLOATS[0, 0, 0]],
        [("f32", 2), ("f32", 3)],
        {"constants": {"weight_ih": np.ones((2, 3), np.float16), "weight_hh": np.ones((2, 2), np.float16)}},
    ),
    "recurrent batch sizes in a matrix": (
        "rnn_tanh",
        [FLOATS[0, 0], FLOATS[0], SIZES[None]],
        [("f32", 2), ("f32", 3)],
        {"constants": {"weight_ih": np.ones((2, 3), np.float16), "weight_hh": np.ones((2, 2), np.float16)}},
    ),
    "recurrent results in a vector": (
        "rnn_tanh",
        [FLOATS[0, 0], FLOATS[0], SIZES],
        [("f32", 1), ("f32", 3)],
        {"constants": {"weight_ih": np.ones((2, 3), np.float16), "weight_hh": np.ones((2, 2), np.float16)}},
    ),
    "recurrent weights of bytes": (
        "rnn_tanh",
        [FLOATS[0, 0], FLOATS[0], SIZES],
        [("f32", 2), ("f32", 3)],
        {"constants": {"weight_ih": np.ones((2, 3), np.uint8), "weight_hh": np.ones((2, 2), np.uint8)}},
    ),
    "recurrent directions": (
        "rnn_relu",
        [FLOATS[0, 0], FLOATS[0], SIZES],
        [("f32", 2), ("f32", 3)],
        {
            "ints": {"directions": 3},
            "constants": {"weight_ih": np.ones((6, 3), np.float16), "weight_hh": np.ones((6, 2), np.float16)},
        },
    ),
    "linear_half of bytes": ("linear_half", [FLOATS], ("f32", 4), {"constants": {"weight": np.ones((2, 3), np.int8)}}),
    "linear_grouped by what does not divide": (
        "linear_grouped",
        [FLOATS],
        ("f32", 4),
        {"constants": {"weight": np.ones((2, 3), np.int8), "weight_scale": np.ones((2, 2), np.float32)}},
    ),
    "linear_grouped of scales a row": (
        "linear_grouped",
        [FLOATS],
        ("f32", 4),
        {"constants": {"weight": np.ones((2, 3), np.int8), "weight_scale": np.ones(2, np.float32)}},
    ),
    "linear_grouped with zero points of another type": (
        "linear_grouped",
        [FLOATS],
        ("f32", 4),
        {
            "constants": {
                "weight": np.ones((2, 3), np.int8),
                "weight_scale": np.ones((2, 3), np.float32),
                "weight_zero_point": (np.ones(3, np.uint8), "s4", (2, 3)),
            }
        },
    ),
    "linear_dynamic_grouped by groups that weights do not have": (
        "linear_dynamic_grouped",
        [FLOATS],
        ("f32", 4),
        {
            "ints": {"x_group": 2},
            "constants": {"weight": np.ones((2, 3), np.int8), "weight_scale": np.ones((2, 3), np.float32)},
        },
    ),
    "linear_dynamic_grouped by groups too large to sum": (
        "linear_dynamic_grouped",
        [FLOATS],
        ("f32", 4),
        {
            "ints": {"x_group": 32769},
            "constants": {"weight": np.ones((2, 3), np.int8), "weight_scale": np.ones((2, 1), np.float32)},
        },
    ),
    "linear_dynamic_grouped with a residual of another rank": (
        "linear_dynamic_grouped",
        [FLOATS, FLOATS[0]],
        ("f32", 4),
        {
            "ints": {"x_group": 32},
            "constants": {"weight": np.ones((2, 3), np.int8), "weight_scale": np.ones((2, 1), np.float32)},
        },
    ),
}


@pytest.mark.parametrize("mistake", STEP_MISTAKES)
def test_malformed_step(mistake: str) -> None:
    op, inputs, out, attributes = STEP_MISTAKES[mistake]
    with pytest.raises(RuntimeLoadError) as error:
        one_step(op, inputs, out, **attributes)
    assert error.value.where == "the_step"


def lookup(b: ProgramBuilder, x: int, y: int, name: str = "the_step") -> None:
    b.step("lookup", name, [x], y, constants={"table": b.constant(np.zeros(256, np.uint8))})


def test_an_operand_that_does_not_exist() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1,)), b.value("y", "u8", (-1,))
    lookup(b, 17, y)
    with pytest.raises(RuntimeLoadError, match="17"):
        b.build([x], [y])


def test_an_output_that_does_not_exist() -> None:
    b = ProgramBuilder()
    x = b.value("x", "u8", (-1,))
    lookup(b, x, 17)
    with pytest.raises(RuntimeLoadError, match="17"):
        b.build([x], [x])


@pytest.mark.parametrize("count", [0, 2])
def test_more_or_fewer_outputs_than_the_operation_gives(count: int) -> None:
    b = ProgramBuilder()
    x, *outputs = (b.value(name, "u8", (-1,)) for name in "xyz"[: 1 + count])
    b.step("lookup", "the_step", [x], outputs, constants={"table": b.constant(np.zeros(256, np.uint8))})
    with pytest.raises(RuntimeLoadError, match="output") as error:
        b.build([x], [x])
    assert error.value.where == "the_step"


def test_steps_out_of_order() -> None:
    b = ProgramBuilder()
    x, y, z = (b.value(name, "u8", (-1,)) for name in "xyz")
    lookup(b, y, z)
    lookup(b, x, y, "later")
    with pytest.raises(RuntimeLoadError, match="not defined before") as error:
        b.build([x], [z])
    assert error.value.where == "the_step"


def test_a_value_defined_twice() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1,)), b.value("y", "u8", (-1,))
    lookup(b, x, y, "first")
    lookup(b, x, y)
    with pytest.raises(RuntimeLoadError, match="twice"):
        b.build([x], [y])


def test_an_input_listed_twice() -> None:
    b = ProgramBuilder()
    x = b.value("x", "u8", (-1,))
    with pytest.raises(RuntimeLoadError, match="twice"):
        b.build([x, x], [x])


def test_an_input_that_does_not_exist() -> None:
    b = ProgramBuilder()
    with pytest.raises(RuntimeLoadError, match="3"):
        b.build([3], [])


def test_no_outputs() -> None:
    b = ProgramBuilder()
    with pytest.raises(RuntimeLoadError, match="output"):
        b.build([b.value("x", "u8", (-1,))], [])


def test_an_output_that_no_step_makes() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1,)), b.value("y", "u8", (-1,))
    with pytest.raises(RuntimeLoadError, match="never defined"):
        b.build([x], [y])


def test_a_constant_that_does_not_exist() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1,)), b.value("y", "u8", (-1,))
    b.step("lookup", "the_step", [x], y, constants={"table": 4})
    with pytest.raises(RuntimeLoadError, match="constant 4"):
        b.build([x], [y])


def test_an_expression_that_does_not_exist() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1,)), b.value("y", "u8", (-1,))
    b.step("reshape", "the_step", [x], y, exprs={"shape": [9]})
    with pytest.raises(RuntimeLoadError, match="expression 9"):
        b.build([x], [y])


def test_an_expression_over_a_later_value() -> None:
    b = ProgramBuilder()
    x, y, z = (b.value(name, "u8", (-1,)) for name in "xyz")
    b.step("reshape", "the_step", [x], y, exprs={"shape": [b.expr_dim(z, 0)]})
    lookup(b, x, z, "later")
    with pytest.raises(RuntimeLoadError, match="not defined before"):
        b.build([x], [y])


STATES: dict[str, Callable[[ProgramBuilder, dict[str, int]], object]] = {
    "it is fine": lambda b, v: b.state(v["x"], v["y"], b.constant(np.zeros((3, 4), np.uint8))),
    "what it is does not exist": lambda b, v: b.state(99, v["y"]),
    "what it becomes does not exist": lambda b, v: b.state(v["x"], -1),
    "it is no input": lambda b, v: b.state(v["y"], v["y"]),
    "it becomes no output": lambda b, v: b.state(v["x"], v["h"]),
    "it becomes an output that is given twice": lambda b, v: b.state(v["x"], v["twice"]),
    "the types differ": lambda b, v: b.state(v["f"], v["y"]),
    "the ranks differ": lambda b, v: b.state(v["x"], v["flat"]),
    "the sizes differ": lambda b, v: b.state(v["x"], v["five"]),
    "it is there twice": lambda b, v: (b.state(v["x"], v["y"]), b.state(v["x"], v["other"])),
    "two become one": lambda b, v: (b.state(v["x"], v["y"]), b.state(v["z"], v["y"])),
    "two have a name": lambda b, v: (b.state(v["x"], v["y"]), b.state(v["namesake"], v["other"])),
    "no such constant": lambda b, v: b.state(v["x"], v["y"], 99),
    "a constant before the first": lambda b, v: b.state(v["x"], v["y"], -2),
    "a constant of another type": lambda b, v: b.state(v["x"], v["y"], b.constant(np.zeros((3, 4), np.int8))),
    "a constant of another rank": lambda b, v: b.state(v["x"], v["y"], b.constant(np.zeros(4, np.uint8))),
    "a constant of another size": lambda b, v: b.state(v["x"], v["y"], b.constant(np.zeros((3, 5), np.uint8))),
}


@pytest.mark.parametrize("mistake", STATES)
def test_states(mistake: str) -> None:
    """``x``, ``z``, ``namesake`` (named ``x`` too) and ``f`` are inputs, the others but ``h`` outputs."""
    b = ProgramBuilder()
    shapes = {"y": (-1, 4), "other": (-1, 4), "twice": (-1, 4), "h": (-1, 4), "flat": (-1,), "five": (-1, 5)}
    v = {name: b.value(name, "u8", (-1, 4)) for name in ("x", "z")}
    v |= {"namesake": b.value("x", "u8", (-1, 4)), "f": b.value("f", "f32", (-1, 4))}
    for name, shape in shapes.items():
        v[name] = b.value(name, "u8", shape)
        b.step("reshape", name, [v["x"]], v[name], exprs={"shape": [b.expr_const(max(d, 0)) for d in shape]})
    inputs, outputs = ("x", "z", "namesake", "f"), ("y", "other", "twice", "twice", "flat", "five")
    STATES[mistake](b, v)
    built = [v[name] for name in inputs], [v[name] for name in outputs]
    if mistake == "it is fine":
        program = b.build(*built)
        assert [state[:2] for state in program.states] == [(v["x"], v["y"])]
        assert Executable(program).states == ((0, 0),)
        return
    with pytest.raises(RuntimeLoadError, match=r"\bstate\b") as error:
        b.build(*built)
    assert error.value.where in ("states", "x", "z", "f")


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.expr_dim(5, 0),
        lambda b: b.expr_dim(b.value("x", "u8", (-1,)), 1),
        lambda b: b.expr_dim(b.value("x", "u8", (-1,)), -1),
        lambda b: b.expr("add", 0, 1),
        lambda b: b.expr("neg", 0),
        lambda b: b.value("x", "u8", (1,) * 9),
    ],
)
def test_builder_mistakes(call: Callable[[ProgramBuilder], object]) -> None:
    with pytest.raises(RuntimeLoadError):
        call(ProgramBuilder())


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.value("x", "u9", (-1,)),
        lambda b: b.expr("pow", 0, 0),
        lambda b: b.constant(np.zeros(3, np.float64)),
        lambda b: b.step("lookup", "s", ["x"], 0),
    ],
)
def test_builder_type_mistakes(call: Callable[[ProgramBuilder], object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        call(ProgramBuilder())


def test_an_attribute_of_the_wrong_type() -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1,)), b.value("y", "u8", (-1,))
    with pytest.raises(RuntimeLoadError) as error:
        b.step("slice", "the_step", [x], y, ints={"axis": "first"})
    assert error.value.where == "the_step"


def test_constants_are_copied() -> None:
    b = ProgramBuilder()
    table = np.arange(256, dtype=np.uint8)
    x, y = b.value("x", "u8", (-1,)), b.value("y", "u8", (-1,))
    b.step("lookup", "the_step", [x], y, constants={"table": b.constant(table)})
    exe = Executable(b.build([x], [y]))
    table[:] = 0
    codes = np.array([1, 2, 250], np.uint8)
    np.testing.assert_array_equal(exe(codes)[0], codes)


def test_program_describes_itself() -> None:
    program, ids = small_network()
    assert program.inputs == [ids["x"]]
    assert program.input_specs == (("x", "f32", (-1, 3, -1, -1)),)
    assert program.output_specs == (("logits", "f32", (-1, 8)),)
    assert program.step_names[0] == "quantize"


def test_isa_that_does_not_exist() -> None:
    program, _ = small_network()
    with pytest.raises(RuntimeLoadError, match="sse9"):
        Executable(program, "sse9")
    assert Executable(program, isa_names()[-1]).isa == isa_names()[-1]


# Shape-dependent mistakes come with the input, not with the program.
SHAPE_MISTAKES = {
    "channels": ((2, 5, 5, 3), "conv"),
    "window": ((2, 2, 5, 4), "conv"),
}


@pytest.mark.parametrize("mistake", SHAPE_MISTAKES)
def test_shapes_that_a_step_cannot_take(mistake: str) -> None:
    shape, _ = SHAPE_MISTAKES[mistake]
    attributes = conv_attributes()
    program = one_step("conv", [np.zeros((1, 5, 5, 4), np.uint8)], ("u8", 4), **attributes)
    with pytest.raises(InputError, match="the_step"):
        Executable(program)(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("concat", [(2, 3), (3, 3)], {"ints": {"axis": 1}}),
        ("add_f32", [(2, 3), (2, 4)], {}),
        ("matmul_f32", [(2, 3), (4, 2)], {}),
        ("reshape", [(2, 3)], {"exprs": {"shape": [4, -1]}}),
        ("expand", [(2, 3)], {"exprs": {"shape": [4, 3]}}),
        ("windows", [(5,)], {"ints": {"axes": [0], "size": [4], "stride": [1], "dilation": [2]}}),
        ("pad", [(2, 3)], {"ints": {"lo": [0, 3], "hi": [0, 0], "mode": 1}}),
        ("pad", [(2, 3)], {"ints": {"lo": [-2, 0], "hi": [-2, 0]}}),
        ("group_norm", [(2, 3)], {"ints": {"groups": 2}, "floats": {"eps": 1e-5}}),
        ("rotate", [(2, 40)], {"ints": {"block": 16}}),
        ("rotary", [(2, 6), (2, 8), (2, 8)], {"ints": {"length": 8, "interleaved": 0, "perm": [0, 1]}}),
        ("rotary", [(2, 8), (2, 8), (2, 4)], {"ints": {"length": 8, "interleaved": 0, "perm": [0, 1]}}),
        ("rotary", [(2, 8), (2, 6), (2, 6)], {"ints": {"length": 8, "interleaved": 1, "perm": [0, 1]}}),
        ("rotary", [(2, 8), (3, 8), (1, 8)], {"ints": {"length": 8, "interleaved": 0, "perm": [0, 1]}}),
        ("gated_f32", [(2, 3), (2, 1)], {"text": {"function": "silu"}}),
    ],
)
def test_float_shapes_that_a_step_cannot_take(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]
) -> None:
    arrays = [np.zeros(s, np.float32) for s in shapes]
    with pytest.raises(InputError, match="the_step"):
        Executable(one_step(op, arrays, ("f32", 2), **attributes))(*arrays)


def test_every_operation_has_a_mistake_of_its_own() -> None:
    tested = {op for op, *_ in STEP_MISTAKES.values()} | {"conv"}
    alike = {"sub": "add", "mul": "add", "adaptive_max_pool": "adaptive_avg_pool"}
    alike |= {"adaptive_max_pool_f32": "adaptive_avg_pool_f32", "sum_f32": "mean_f32", "amax_f32": "mean_f32"}
    alike |= {"log_softmax": "softmax"} | {f"{op}_f32": "add" for op in ("add", "sub", "mul", "div")}
    assert set(_C.op_names()) - set(alike) == tested
