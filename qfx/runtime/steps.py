"""The steps of a program, one constructor an operation.

Written by ``python -m docs.program_format`` from the runtime's table of steps; a test compares. Operands, expressions
and constants are ids that a ProgramBuilder gave. What is left out is what the table says.
"""

from __future__ import annotations

from collections.abc import Sequence

from qfx.runtime.writing import Step


def conv(
    x: int,
    residual: int | None = None,
    *,
    x_zero_point: int,
    weight: int,
    bias: int,
    multiplier: int,
    stride: Sequence[int] | None = None,
    padding_lo: Sequence[int] | None = None,
    padding_hi: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    groups: int | None = None,
    zero_point: int | None = None,
    clamp: Sequence[int] | None = None,
    f32_clamp: Sequence[float] | None = None,
    residual_zero_point: int | None = None,
    residual_multiplier: float | None = None,
    weight_zero_point: int | None = None,
    lut: int | None = None,
) -> Step:
    """A convolution of 1 to 3 spatial dims, channels last; with a matrix as weight, a linear layer over the last dim.

    Takes ``x`` u8, ``residual`` u8 or f32 or none. Gives ``y`` u8 or f32.

    Args:
        x_zero_point: A code.
        weight: Constant of s8; [O, spatial..., C / groups].
        bias: Constant of s32; [O].
        multiplier: Constant of f32; [O]: from the accumulator to the result.
        stride: At least 1; else 1.
        padding_lo: At least 0; else 0.
        padding_hi: At least 0; else 0.
        dilation: At least 1; else 1.
        groups: At least 1; else 1.
        zero_point: Of a u8 result, which needs it; a code; or none.
        clamp: The lowest and highest code of a u8 result; 0 to 255; else 0, 255.
        f32_clamp: The bounds of an f32 result; else -inf, inf.
        residual_zero_point: Of a u8 residual, which needs it; a code; or none.
        residual_multiplier: A u8 residual's scale over the result's, which it needs; or none.
        weight_zero_point: Constant of s32; [O]; 0 where it is left out; or none.
        lut: Constant of u8; 256 codes, through which the code of the result goes last; or none.
    """
    return Step.of(
        "conv",
        [x, residual],
        {"y": None},
        ints={
            "stride": stride,
            "padding_lo": padding_lo,
            "padding_hi": padding_hi,
            "dilation": dilation,
            "groups": groups,
            "x_zero_point": x_zero_point,
            "zero_point": zero_point,
            "clamp": clamp,
            "residual_zero_point": residual_zero_point,
        },
        floats={
            "f32_clamp": f32_clamp,
            "residual_multiplier": residual_multiplier,
        },
        constants={
            "weight": weight,
            "bias": bias,
            "multiplier": multiplier,
            "weight_zero_point": weight_zero_point,
            "lut": lut,
        },
    )


def linear_dynamic(
    x: int,
    residual: int | None = None,
    *,
    weight: int,
    weight_scale: int,
    per_row: bool | None = None,
    f32_clamp: Sequence[float] | None = None,
    weight_zero_point: int | None = None,
    bias: int | None = None,
) -> Step:
    """A linear layer that quantizes its operand x.

    Takes ``x`` f32, ``residual`` f32 or none. Gives ``y`` f32.

    Args:
        weight: Constant of s8; [O, C].
        weight_scale: Constant of f32; [O].
        per_row: Whether each row that is quantized has a scale of its own; 0: one for all of them; else 0.
        f32_clamp: The bounds of an f32 result; else -inf, inf.
        weight_zero_point: Constant of s32; [O]; 0 where it is left out; or none.
        bias: Constant of f32; [O]; or none.
    """
    return Step.of(
        "linear_dynamic",
        [x, residual],
        {"y": "f32"},
        ints={
            "per_row": per_row,
        },
        floats={
            "f32_clamp": f32_clamp,
        },
        constants={
            "weight": weight,
            "weight_scale": weight_scale,
            "weight_zero_point": weight_zero_point,
            "bias": bias,
        },
    )


def linear_half(
    x: int,
    *,
    weight: int,
    bias: int | None = None,
) -> Step:
    """A linear layer in float32 with weights of 16 bits.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        weight: Constant of f16 or bf16; [O, C].
        bias: Constant of f32; [O]; or none.
    """
    return Step.of(
        "linear_half",
        [x],
        {"y": "f32"},
        constants={
            "weight": weight,
            "bias": bias,
        },
    )


def linear_grouped(
    x: int,
    *,
    weight: int,
    weight_scale: int,
    weight_zero_point: int | None = None,
    bias: int | None = None,
) -> Step:
    """A linear layer in float32 with integer weights, which have a scale for each group of C / G of them.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        weight: Constant of s8 or s4; [O, C].
        weight_scale: Constant of f32 or f16; [O, G].
        weight_zero_point: Constant of s8 or s4; [O, G], as the weight; 0 where it is left out; or none.
        bias: Constant of f32; [O]; or none.
    """
    return Step.of(
        "linear_grouped",
        [x],
        {"y": "f32"},
        constants={
            "weight": weight,
            "weight_scale": weight_scale,
            "weight_zero_point": weight_zero_point,
            "bias": bias,
        },
    )


def linear_dynamic_grouped(
    x: int,
    residual: int | None = None,
    *,
    x_group: int,
    weight: int,
    weight_scale: int,
    f32_clamp: Sequence[float] | None = None,
    weight_zero_point: int | None = None,
    bias: int | None = None,
) -> Step:
    """A linear layer that quantizes its operand x by groups of each row; weights have a scale for C / G of them.

    Takes ``x`` f32, ``residual`` f32 or none. Gives ``y`` f32.

    Args:
        x_group: Neighbours of a row of x that share a scale; divides C / G, or G is 1; 1 to 32768.
        weight: Constant of s8 or s4; [O, C].
        weight_scale: Constant of f32 or f16; [O, G].
        f32_clamp: The bounds of an f32 result; else -inf, inf.
        weight_zero_point: Constant of s8 or s4; [O, G], as the weight; 0 where it is left out; or none.
        bias: Constant of f32; [O]; or none.
    """
    return Step.of(
        "linear_dynamic_grouped",
        [x, residual],
        {"y": "f32"},
        ints={
            "x_group": x_group,
        },
        floats={
            "f32_clamp": f32_clamp,
        },
        constants={
            "weight": weight,
            "weight_scale": weight_scale,
            "weight_zero_point": weight_zero_point,
            "bias": bias,
        },
    )


def quantize(
    x: int,
    *,
    perm: Sequence[int],
    zero_point: int,
    scale: float,
) -> Step:
    """float32 to codes, in another order of dims.

    Takes ``x`` f32. Gives ``y`` u8.

    Args:
        perm: The operand's dim that each dim of the result is.
        zero_point: A code.
    """
    return Step.of(
        "quantize",
        [x],
        {"y": "u8"},
        ints={
            "perm": perm,
            "zero_point": zero_point,
        },
        floats={
            "scale": scale,
        },
    )


def dequantize(
    x: int,
    *,
    perm: Sequence[int],
    zero_point: int,
    scale: float,
) -> Step:
    """Codes to float32, in another order of dims.

    Takes ``x`` u8. Gives ``y`` f32.

    Args:
        perm: The operand's dim that each dim of the result is.
        zero_point: A code.
    """
    return Step.of(
        "dequantize",
        [x],
        {"y": "f32"},
        ints={
            "perm": perm,
            "zero_point": zero_point,
        },
        floats={
            "scale": scale,
        },
    )


def matmul(
    x: int,
    y: int,
    *,
    x_zero_point: int,
    y_zero_point: int,
    multiplier: float,
    x_perm: Sequence[int] | None = None,
    y_perm: Sequence[int] | None = None,
    perm: Sequence[int] | None = None,
    zero_point: int | None = None,
    clamp: Sequence[int] | None = None,
    f32_clamp: Sequence[float] | None = None,
    lut: int | None = None,
) -> Step:
    """A product of two matrices of codes, or of batches of them that broadcast.

    Takes ``x`` u8, ``y`` u8. Gives ``z`` u8 or f32.

    Args:
        x_zero_point: A code.
        y_zero_point: A code.
        x_perm: Where each dim of [batch..., rows, columns] lies in memory; in order where left out; or none.
        y_perm: Where each dim of [batch..., rows, columns] lies in memory; in order where left out; or none.
        perm: Where each dim of [batch..., rows, columns] lies in memory; in order where left out; or none.
        zero_point: Of a u8 result, which needs it; a code; or none.
        clamp: The lowest and highest code of a u8 result; 0 to 255; else 0, 255.
        f32_clamp: The bounds of an f32 result; else -inf, inf.
        lut: Constant of u8; 256 codes, through which the code of the result goes last; or none.
    """
    return Step.of(
        "matmul",
        [x, y],
        {"z": None},
        ints={
            "x_perm": x_perm,
            "y_perm": y_perm,
            "perm": perm,
            "x_zero_point": x_zero_point,
            "y_zero_point": y_zero_point,
            "zero_point": zero_point,
            "clamp": clamp,
        },
        floats={
            "f32_clamp": f32_clamp,
            "multiplier": multiplier,
        },
        constants={
            "lut": lut,
        },
    )


def matmul_f32(
    x: int,
    y: int,
) -> Step:
    """[..., m, k] times [..., k, n] of one rank, or times a matrix.

    Takes ``x`` f32, ``y`` f32. Gives ``z`` f32.
    """
    return Step.of(
        "matmul_f32",
        [x, y],
        {"z": "f32"},
    )


def attention(
    q: int,
    k: int,
    v: int,
    mask: int | None = None,
    *,
    factor: float,
    causal: bool | None = None,
    q_perm: Sequence[int] | None = None,
    k_perm: Sequence[int] | None = None,
    v_perm: Sequence[int] | None = None,
    perm: Sequence[int] | None = None,
) -> Step:
    """softmax(q @ k' + mask) @ v of each head, quantized as it runs; dims of the mask are full or 1.

    Takes ``q`` f32, ``k`` f32, ``v`` f32, ``mask`` f32 or bool or none. Gives ``y`` f32.

    Args:
        factor: The scale times log2(e).
        causal: Query i sees the keys up to i; else 0.
        q_perm: Where each dim of [batch, heads, rows, columns] lies in memory; in order where left out; or none.
        k_perm: Where each dim of [batch, heads, rows, columns] lies in memory; in order where left out; or none.
        v_perm: Where each dim of [batch, heads, rows, columns] lies in memory; in order where left out; or none.
        perm: Where each dim of [batch, heads, rows, columns] lies in memory; in order where left out; or none.
    """
    return Step.of(
        "attention",
        [q, k, v, mask],
        {"y": "f32"},
        ints={
            "causal": causal,
            "q_perm": q_perm,
            "k_perm": k_perm,
            "v_perm": v_perm,
            "perm": perm,
        },
        floats={
            "factor": factor,
        },
    )


def rotate(
    x: int,
    *,
    block: int,
) -> Step:
    """Blocks of the last dim times the orthonormal Hadamard matrix.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        block: Length of a block: 16, 32, 64 or 128, a divisor of the last dim; 16 to 128.
    """
    return Step.of(
        "rotate",
        [x],
        {"y": "f32"},
        ints={
            "block": block,
        },
    )


def rotary(
    x: int,
    cos: int,
    sin: int,
    *,
    length: int,
    interleaved: bool,
    perm: Sequence[int],
) -> Step:
    """Pairs of the last dim's first numbers turned by angles; those of cos and sin broadcast.

    Takes ``x`` f32, ``cos`` f32, ``sin`` f32. Gives ``y`` f32.

    Args:
        length: How many numbers turn; cos and sin have as many, or one a pair; at least 2.
        interleaved: Whether a pair's numbers are neighbours; 0: half of them apart.
        perm: The dim of x, as cos and sin name it, that each dim in memory is.
    """
    return Step.of(
        "rotary",
        [x, cos, sin],
        {"y": "f32"},
        ints={
            "length": length,
            "interleaved": interleaved,
            "perm": perm,
        },
    )


def add(
    a: int,
    b: int,
    *,
    a_zero_point: int,
    b_zero_point: int,
    zero_point: int,
    a_multiplier: float,
    b_multiplier: float,
    clamp: Sequence[int] | None = None,
    lut: int | None = None,
) -> Step:
    """Codes of a sum; operands broadcast.

    Takes ``a`` u8, ``b`` u8. Gives ``y`` u8.

    Args:
        a_zero_point: A code.
        b_zero_point: A code.
        zero_point: A code.
        clamp: The lowest and highest code of a u8 result; 0 to 255; else 0, 255.
        lut: Constant of u8; 256 codes, through which the code of the result goes last; or none.
    """
    return Step.of(
        "add",
        [a, b],
        {"y": "u8"},
        ints={
            "a_zero_point": a_zero_point,
            "b_zero_point": b_zero_point,
            "zero_point": zero_point,
            "clamp": clamp,
        },
        floats={
            "a_multiplier": a_multiplier,
            "b_multiplier": b_multiplier,
        },
        constants={
            "lut": lut,
        },
    )


def sub(
    a: int,
    b: int,
    *,
    a_zero_point: int,
    b_zero_point: int,
    zero_point: int,
    a_multiplier: float,
    b_multiplier: float,
    clamp: Sequence[int] | None = None,
    lut: int | None = None,
) -> Step:
    """Codes of a difference; operands broadcast.

    Takes ``a`` u8, ``b`` u8. Gives ``y`` u8.

    Args:
        a_zero_point: A code.
        b_zero_point: A code.
        zero_point: A code.
        clamp: The lowest and highest code of a u8 result; 0 to 255; else 0, 255.
        lut: Constant of u8; 256 codes, through which the code of the result goes last; or none.
    """
    return Step.of(
        "sub",
        [a, b],
        {"y": "u8"},
        ints={
            "a_zero_point": a_zero_point,
            "b_zero_point": b_zero_point,
            "zero_point": zero_point,
            "clamp": clamp,
        },
        floats={
            "a_multiplier": a_multiplier,
            "b_multiplier": b_multiplier,
        },
        constants={
            "lut": lut,
        },
    )


def mul(
    a: int,
    b: int,
    *,
    a_zero_point: int,
    b_zero_point: int,
    zero_point: int,
    a_multiplier: float,
    clamp: Sequence[int] | None = None,
    lut: int | None = None,
) -> Step:
    """Codes of a product; operands broadcast.

    Takes ``a`` u8, ``b`` u8. Gives ``y`` u8.

    Args:
        a_zero_point: A code.
        b_zero_point: A code.
        zero_point: A code.
        clamp: The lowest and highest code of a u8 result; 0 to 255; else 0, 255.
        lut: Constant of u8; 256 codes, through which the code of the result goes last; or none.
    """
    return Step.of(
        "mul",
        [a, b],
        {"y": "u8"},
        ints={
            "a_zero_point": a_zero_point,
            "b_zero_point": b_zero_point,
            "zero_point": zero_point,
            "clamp": clamp,
        },
        floats={
            "a_multiplier": a_multiplier,
        },
        constants={
            "lut": lut,
        },
    )


def lookup(
    x: int,
    *,
    table: int,
) -> Step:
    """The entry of a table at each code.

    Takes ``x`` u8. Gives ``y`` u8 or f32.

    Args:
        table: Constant of u8 or f32; 256 entries of the result's type.
    """
    return Step.of(
        "lookup",
        [x],
        {"y": None},
        constants={
            "table": table,
        },
    )


def add_f32(
    a: int,
    b: int,
) -> Step:
    """A sum; operands broadcast.

    Takes ``a`` f32, ``b`` f32. Gives ``y`` f32.
    """
    return Step.of(
        "add_f32",
        [a, b],
        {"y": "f32"},
    )


def sub_f32(
    a: int,
    b: int,
) -> Step:
    """A difference; operands broadcast.

    Takes ``a`` f32, ``b`` f32. Gives ``y`` f32.
    """
    return Step.of(
        "sub_f32",
        [a, b],
        {"y": "f32"},
    )


def mul_f32(
    a: int,
    b: int,
) -> Step:
    """A product; operands broadcast.

    Takes ``a`` f32, ``b`` f32. Gives ``y`` f32.
    """
    return Step.of(
        "mul_f32",
        [a, b],
        {"y": "f32"},
    )


def div_f32(
    a: int,
    b: int,
) -> Step:
    """A quotient; operands broadcast.

    Takes ``a`` f32, ``b`` f32. Gives ``y`` f32.
    """
    return Step.of(
        "div_f32",
        [a, b],
        {"y": "f32"},
    )


def max_pool(
    x: int,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding_lo: Sequence[int] | None = None,
    padding_hi: Sequence[int] | None = None,
    ceil_mode: bool | None = None,
    dilation: Sequence[int] | None = None,
) -> Step:
    """The largest code of each window.

    Takes ``x`` u8. Gives ``y`` u8.

    Args:
        kernel: At least 1.
        stride: At least 1.
        padding_lo: At least 0; else 0.
        padding_hi: At least 0; else 0.
        ceil_mode: Else 0.
        dilation: At least 1; else 1.
    """
    return Step.of(
        "max_pool",
        [x],
        {"y": "u8"},
        ints={
            "kernel": kernel,
            "stride": stride,
            "padding_lo": padding_lo,
            "padding_hi": padding_hi,
            "ceil_mode": ceil_mode,
            "dilation": dilation,
        },
    )


def avg_pool(
    x: int,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    ratio: float,
    x_zero_point: int,
    zero_point: int,
    padding_lo: Sequence[int] | None = None,
    padding_hi: Sequence[int] | None = None,
    ceil_mode: bool | None = None,
    count_include_pad: bool | None = None,
    divisor: int | None = None,
) -> Step:
    """The mean of each window.

    Takes ``x`` u8. Gives ``y`` u8.

    Args:
        kernel: At least 1.
        stride: At least 1.
        ratio: The operand's scale over the result's.
        x_zero_point: A code.
        zero_point: A code.
        padding_lo: At least 0; else 0.
        padding_hi: At least 0; else 0.
        ceil_mode: Else 0.
        count_include_pad: Else 1.
        divisor: 0: as many as there are elements; at least 0; else 0.
    """
    return Step.of(
        "avg_pool",
        [x],
        {"y": "u8"},
        ints={
            "kernel": kernel,
            "stride": stride,
            "padding_lo": padding_lo,
            "padding_hi": padding_hi,
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
            "divisor": divisor,
            "x_zero_point": x_zero_point,
            "zero_point": zero_point,
        },
        floats={
            "ratio": ratio,
        },
    )


def adaptive_avg_pool(
    x: int,
    *,
    output_size: Sequence[int],
    ratio: float,
    x_zero_point: int,
    zero_point: int,
) -> Step:
    """Means of as many windows as asked for.

    Takes ``x`` u8. Gives ``y`` u8.

    Args:
        output_size: 0: as the operand; at least 0.
        ratio: The operand's scale over the result's.
        x_zero_point: A code.
        zero_point: A code.
    """
    return Step.of(
        "adaptive_avg_pool",
        [x],
        {"y": "u8"},
        ints={
            "output_size": output_size,
            "x_zero_point": x_zero_point,
            "zero_point": zero_point,
        },
        floats={
            "ratio": ratio,
        },
    )


def adaptive_max_pool(
    x: int,
    *,
    output_size: Sequence[int],
) -> Step:
    """Largest codes of as many windows as asked for.

    Takes ``x`` u8. Gives ``y`` u8.

    Args:
        output_size: 0: as the operand; at least 0.
    """
    return Step.of(
        "adaptive_max_pool",
        [x],
        {"y": "u8"},
        ints={
            "output_size": output_size,
        },
    )


def max_pool_f32(
    x: int,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding_lo: Sequence[int] | None = None,
    padding_hi: Sequence[int] | None = None,
    ceil_mode: bool | None = None,
    dilation: Sequence[int] | None = None,
) -> Step:
    """The largest of each window.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        kernel: At least 1.
        stride: At least 1.
        padding_lo: At least 0; else 0.
        padding_hi: At least 0; else 0.
        ceil_mode: Else 0.
        dilation: At least 1; else 1.
    """
    return Step.of(
        "max_pool_f32",
        [x],
        {"y": "f32"},
        ints={
            "kernel": kernel,
            "stride": stride,
            "padding_lo": padding_lo,
            "padding_hi": padding_hi,
            "ceil_mode": ceil_mode,
            "dilation": dilation,
        },
    )


def avg_pool_f32(
    x: int,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding_lo: Sequence[int] | None = None,
    padding_hi: Sequence[int] | None = None,
    ceil_mode: bool | None = None,
    count_include_pad: bool | None = None,
    divisor: int | None = None,
) -> Step:
    """The mean of each window.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        kernel: At least 1.
        stride: At least 1.
        padding_lo: At least 0; else 0.
        padding_hi: At least 0; else 0.
        ceil_mode: Else 0.
        count_include_pad: Else 1.
        divisor: 0: as many as there are elements; at least 0; else 0.
    """
    return Step.of(
        "avg_pool_f32",
        [x],
        {"y": "f32"},
        ints={
            "kernel": kernel,
            "stride": stride,
            "padding_lo": padding_lo,
            "padding_hi": padding_hi,
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
            "divisor": divisor,
        },
    )


def adaptive_avg_pool_f32(
    x: int,
    *,
    output_size: Sequence[int],
) -> Step:
    """Means of as many windows as asked for.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        output_size: 0: as the operand; at least 0.
    """
    return Step.of(
        "adaptive_avg_pool_f32",
        [x],
        {"y": "f32"},
        ints={
            "output_size": output_size,
        },
    )


def adaptive_max_pool_f32(
    x: int,
    *,
    output_size: Sequence[int],
) -> Step:
    """The largest of as many windows as asked for.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        output_size: 0: as the operand; at least 0.
    """
    return Step.of(
        "adaptive_max_pool_f32",
        [x],
        {"y": "f32"},
        ints={
            "output_size": output_size,
        },
    )


def mean(
    x: int,
    *,
    axes: Sequence[int],
    ratio: float,
    x_zero_point: int,
    zero_point: int,
    keepdim: bool | None = None,
) -> Step:
    """Over some dims.

    Takes ``x`` u8. Gives ``y`` u8.

    Args:
        axes: At least 0.
        ratio: The operand's scale over the result's.
        x_zero_point: A code.
        zero_point: A code.
        keepdim: Else 0.
    """
    return Step.of(
        "mean",
        [x],
        {"y": "u8"},
        ints={
            "axes": axes,
            "keepdim": keepdim,
            "x_zero_point": x_zero_point,
            "zero_point": zero_point,
        },
        floats={
            "ratio": ratio,
        },
    )


def mean_f32(
    x: int,
) -> Step:
    """[outer, reduced, inner] to [outer, inner].

    Takes ``x`` f32. Gives ``y`` f32.
    """
    return Step.of(
        "mean_f32",
        [x],
        {"y": "f32"},
    )


def sum_f32(
    x: int,
) -> Step:
    """[outer, reduced, inner] to [outer, inner].

    Takes ``x`` f32. Gives ``y`` f32.
    """
    return Step.of(
        "sum_f32",
        [x],
        {"y": "f32"},
    )


def amax_f32(
    x: int,
) -> Step:
    """[outer, reduced, inner] to [outer, inner].

    Takes ``x`` f32. Gives ``y`` f32.
    """
    return Step.of(
        "amax_f32",
        [x],
        {"y": "f32"},
    )


def interpolate(
    x: int,
    *,
    linear: bool,
    zero_point: int,
    align_corners: bool | None = None,
    size: Sequence[int] | None = None,
    scale_factor: Sequence[float] | None = None,
) -> Step:
    """Another number of pixels.

    Takes ``x`` u8. Gives ``y`` u8.

    Args:
        linear: 0: nearest.
        zero_point: A code.
        align_corners: Else 0.
        size: Or none.
        scale_factor: Where there is no size; or none.
    """
    return Step.of(
        "interpolate",
        [x],
        {"y": "u8"},
        ints={
            "linear": linear,
            "align_corners": align_corners,
            "zero_point": zero_point,
        },
        floats={
            "scale_factor": scale_factor,
        },
        exprs={
            "size": size,
        },
    )


def interpolate_f32(
    x: int,
    *,
    linear: bool,
    align_corners: bool | None = None,
    size: Sequence[int] | None = None,
    scale_factor: Sequence[float] | None = None,
) -> Step:
    """Another number of pixels.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        linear: 0: nearest.
        align_corners: Else 0.
        size: Or none.
        scale_factor: Where there is no size; or none.
    """
    return Step.of(
        "interpolate_f32",
        [x],
        {"y": "f32"},
        ints={
            "linear": linear,
            "align_corners": align_corners,
        },
        floats={
            "scale_factor": scale_factor,
        },
        exprs={
            "size": size,
        },
    )


def concat(
    xs: Sequence[int],
    *,
    axis: int,
) -> Step:
    """Operands one behind the other.

    Takes ``xs`` any type of whole bytes, any number of one type. Gives ``y`` of the operand's type.

    Args:
        axis: At least 0.
    """
    return Step.of(
        "concat",
        xs,
        {"y": None},
        ints={
            "axis": axis,
        },
    )


def reshape(
    x: int,
    *,
    shape: Sequence[int],
) -> Step:
    """The same elements in another shape.

    Takes ``x`` any type of whole bytes. Gives ``y`` of the operand's type.

    Args:
        shape: One of them may be -1: what is left.
    """
    return Step.of(
        "reshape",
        [x],
        {"y": None},
        exprs={
            "shape": shape,
        },
    )


def permute(
    x: int,
    *,
    perm: Sequence[int],
) -> Step:
    """Another order of dims.

    Takes ``x`` any type of whole bytes. Gives ``y`` of the operand's type.

    Args:
        perm: The operand's dim that each dim of the result is.
    """
    return Step.of(
        "permute",
        [x],
        {"y": None},
        ints={
            "perm": perm,
        },
    )


def slice(
    x: int,
    *,
    axis: int,
    start: int,
    end: int,
    step: int | None = None,
) -> Step:
    """Every so manieth element along an axis.

    Takes ``x`` any type of whole bytes. Gives ``y`` of the operand's type.

    Args:
        axis: At least 0.
        step: At least 1; else 1.
    """
    return Step.of(
        "slice",
        [x],
        {"y": None},
        ints={
            "axis": axis,
            "step": step,
        },
        exprs={
            "start": start,
            "end": end,
        },
    )


def pad(
    x: int,
    *,
    lo: Sequence[int],
    hi: Sequence[int],
    mode: int | None = None,
    fill: float | None = None,
) -> Step:
    """More elements, or fewer, around each dim.

    Takes ``x`` u8 or f32. Gives ``y`` of the operand's type.

    Args:
        lo: Elements in front of each dim; less than 0: that many fewer.
        hi: Likewise, behind it.
        mode: 0: constant, 1: reflect, 2: replicate, 3: circular; 0 to 3; else 0.
        fill: The constant; of u8 a code; else 0.
    """
    return Step.of(
        "pad",
        [x],
        {"y": None},
        ints={
            "lo": lo,
            "hi": hi,
            "mode": mode,
        },
        floats={
            "fill": fill,
        },
    )


def expand(
    x: int,
    *,
    shape: Sequence[int],
) -> Step:
    """Dims of length 1 repeated, and more of them in front.

    Takes ``x`` any type of whole bytes. Gives ``y`` of the operand's type.

    Args:
        shape: -1: as the operand.
    """
    return Step.of(
        "expand",
        [x],
        {"y": None},
        exprs={
            "shape": shape,
        },
    )


def windows(
    x: int,
    *,
    axes: Sequence[int],
    size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Step:
    """Windows that slide along some axes; their dims are behind the last of these.

    Takes ``x`` any type of whole bytes. Gives ``y`` of the operand's type.

    Args:
        axes: In ascending order; at least 0.
        size: Of a window along each axis; at least 1.
        stride: From one window to the next; at least 1.
        dilation: From one element of a window to the next; at least 1.
    """
    return Step.of(
        "windows",
        [x],
        {"y": None},
        ints={
            "axes": axes,
            "size": size,
            "stride": stride,
            "dilation": dilation,
        },
    )


def cast(
    x: int,
) -> Step:
    """To the nearest f32, to the integer towards 0 (the last one beyond, 0 of NaN), to whether it is not 0.

    Takes ``x`` s32 or f32 or s64 or bool. Gives ``y`` s32 or f32 or s64 or bool.
    """
    return Step.of(
        "cast",
        [x],
        {"y": None},
    )


def pairwise(
    a: int,
    b: int,
    *,
    function: str,
) -> Step:
    """A function of two elements; operands are of one type and broadcast.

    Takes ``a`` s32 or f32 or s64 or bool, ``b`` s32 or f32 or s64 or bool. Gives ``y`` s32 or f32 or s64 or bool.

    Args:
        function: Eq, ne, lt, le, gt or ge, which give bool; of integers add, sub, mul, minimum or maximum, modulo their
            range; of integers and bool and, or or xor.
    """
    return Step.of(
        "pairwise",
        [a, b],
        {"y": None},
        text={
            "function": function,
        },
    )


def where(
    condition: int,
    a: int,
    b: int,
) -> Step:
    """The element of a where the condition holds, else that of b; operands broadcast.

    Takes ``condition`` bool, ``a`` s32 or f32 or s64 or bool, ``b`` s32 or f32 or s64 or bool. Gives ``y`` s32 or f32
        or s64 or bool.
    """
    return Step.of(
        "where",
        [condition, a, b],
        {"y": None},
    )


def embedding(
    indices: int,
    *,
    table: int,
    scale: int | None = None,
    zero_point: int | None = None,
) -> Step:
    """The row of a table at each index; of codes float(code - zero point) * scale.

    Takes ``indices`` s32 or s64. Gives ``y`` f32.

    Args:
        table: Constant of s8 or f32 or f16 or bf16 or s4; [rows, features].
        scale: Constant of f32 or f16; of codes: one, a row's, or [rows, groups]; or none.
        zero_point: Constant of s8 or s32 or s4; as many; by groups of the table's type; 0 where it is left out; or
            none.
    """
    return Step.of(
        "embedding",
        [indices],
        {"y": "f32"},
        constants={
            "table": table,
            "scale": scale,
            "zero_point": zero_point,
        },
    )


def embedding_bag(
    indices: int,
    factors: int | None = None,
    *,
    table: int,
    mode: str,
    scale: int | None = None,
    zero_point: int | None = None,
    padding: int | None = None,
) -> Step:
    """What becomes of the rows of a table at each row of indices.

    Takes ``indices`` s32 or s64, ``factors`` f32 or none. Gives ``y`` f32.

    Args:
        table: Constant of s8 or f32 or f16 or bf16 or s4; [rows, features].
        mode: Sum, mean or max.
        scale: Constant of f32 or f16; of codes: one, a row's, or [rows, groups]; or none.
        zero_point: Constant of s8 or s32 or s4; as many; by groups of the table's type; 0 where it is left out; or
            none.
        padding: An index that no bag counts; -1: none; at least -1; else -1.
    """
    return Step.of(
        "embedding_bag",
        [indices, factors],
        {"y": "f32"},
        ints={
            "padding": padding,
        },
        constants={
            "table": table,
            "scale": scale,
            "zero_point": zero_point,
        },
        text={
            "mode": mode,
        },
    )


def ragged_embedding_bag(
    indices: int,
    offsets: int,
    factors: int | None = None,
    *,
    table: int,
    mode: str,
    scale: int | None = None,
    zero_point: int | None = None,
    padding: int | None = None,
    include_last: bool | None = None,
) -> Step:
    """The same of bags that begin where offsets say in indices of one dim.

    Takes ``indices`` s32 or s64, ``offsets`` s64, ``factors`` f32 or none. Gives ``y`` f32.

    Args:
        table: Constant of s8 or f32 or f16 or bf16 or s4; [rows, features].
        mode: Sum, mean or max.
        scale: Constant of f32 or f16; of codes: one, a row's, or [rows, groups]; or none.
        zero_point: Constant of s8 or s32 or s4; as many; by groups of the table's type; 0 where it is left out; or
            none.
        padding: An index that no bag counts; -1: none; at least -1; else -1.
        include_last: Whether the last offset begins no bag; else 0.
    """
    return Step.of(
        "ragged_embedding_bag",
        [indices, offsets, factors],
        {"y": "f32"},
        ints={
            "padding": padding,
            "include_last": include_last,
        },
        constants={
            "table": table,
            "scale": scale,
            "zero_point": zero_point,
        },
        text={
            "mode": mode,
        },
    )


def gather(
    x: int,
    index: int,
    *,
    axis: int,
) -> Step:
    """The element at the place of each index, along an axis where the index says.

    Takes ``x`` s32 or f32 or s64 or bool, ``index`` s64. Gives ``y`` of the operand's type.

    Args:
        axis: At least 0.
    """
    return Step.of(
        "gather",
        [x, index],
        {"y": None},
        ints={
            "axis": axis,
        },
    )


def take(
    x: int,
    i: int,
    j: int | None = None,
    k: int | None = None,
) -> Step:
    """The parts at indices of the first dims, an operand a dim; they broadcast, and may count from the end.

    Takes ``x`` s32 or f32 or s64 or bool, ``i`` s64, ``j`` s64 or none, ``k`` s64 or none. Gives ``y`` of the operand's
        type.
    """
    return Step.of(
        "take",
        [x, i, j, k],
        {"y": None},
    )


def arange(
    first: int,
    *,
    count: int,
    step: int,
) -> Step:
    """Numbers from the operand's on.

    Takes ``first`` s64. Gives ``y`` s64.

    Args:
        step: Between neighbours.
    """
    return Step.of(
        "arange",
        [first],
        {"y": "s64"},
        ints={
            "step": step,
        },
        exprs={
            "count": count,
        },
    )


def cumsum(
    x: int,
    *,
    axis: int,
) -> Step:
    """Of the elements up to each.

    Takes ``x`` s64. Gives ``y`` s64.

    Args:
        axis: At least 0.
    """
    return Step.of(
        "cumsum",
        [x],
        {"y": "s64"},
        ints={
            "axis": axis,
        },
    )


def argmax(
    x: int,
    *,
    axis: int,
) -> Step:
    """Where along an axis, which y does not have, the first of the largest is; NaN is larger than numbers.

    Takes ``x`` f32 or s64. Gives ``y`` s64.

    Args:
        axis: At least 0.
    """
    return Step.of(
        "argmax",
        [x],
        {"y": "s64"},
        ints={
            "axis": axis,
        },
    )


def gated_f32(
    x: int,
    y: int,
    *,
    function: str,
    args: Sequence[float] | None = None,
) -> Step:
    """A function of each element of x, times y.

    Takes ``x`` f32, ``y`` f32. Gives ``z`` f32.

    Args:
        function: Its name in the op table.
        args: The function's arguments in turn; or none.
    """
    return Step.of(
        "gated_f32",
        [x, y],
        {"z": "f32"},
        floats={
            "args": args,
        },
        text={
            "function": function,
        },
    )


def softmax(
    x: int,
    *,
    axis: int,
) -> Step:
    """Of rows along an axis.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        axis: At least 0.
    """
    return Step.of(
        "softmax",
        [x],
        {"y": "f32"},
        ints={
            "axis": axis,
        },
    )


def causal_softmax(
    x: int,
) -> Step:
    """Of the last dim; row i of the dim before it has i + 1 entries, and then zeros.

    Takes ``x`` f32. Gives ``y`` f32.
    """
    return Step.of(
        "causal_softmax",
        [x],
        {"y": "f32"},
    )


def log_softmax(
    x: int,
    *,
    axis: int,
) -> Step:
    """Of rows along an axis.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        axis: At least 0.
    """
    return Step.of(
        "log_softmax",
        [x],
        {"y": "f32"},
        ints={
            "axis": axis,
        },
    )


def layer_norm(
    x: int,
    *,
    ndim: int,
    eps: float,
    weight: int | None = None,
    bias: int | None = None,
) -> Step:
    """Over the last dims.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        ndim: How many dims; at least 1.
        weight: Constant of f32; or none.
        bias: Constant of f32; or none.
    """
    return Step.of(
        "layer_norm",
        [x],
        {"y": "f32"},
        ints={
            "ndim": ndim,
        },
        floats={
            "eps": eps,
        },
        constants={
            "weight": weight,
            "bias": bias,
        },
    )


def rms_norm(
    x: int,
    *,
    ndim: int,
    eps: float,
    weight: int | None = None,
) -> Step:
    """Over the last dims, to unit mean square.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        ndim: How many dims; at least 1.
        weight: Constant of f32; or none.
    """
    return Step.of(
        "rms_norm",
        [x],
        {"y": "f32"},
        ints={
            "ndim": ndim,
        },
        floats={
            "eps": eps,
        },
        constants={
            "weight": weight,
        },
    )


def group_norm(
    x: int,
    *,
    groups: int,
    eps: float,
    weight: int | None = None,
    bias: int | None = None,
) -> Step:
    """Over groups of channels, which are last.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        groups: 0: as many as channels; at least 0.
        weight: Constant of f32; or none.
        bias: Constant of f32; or none.
    """
    return Step.of(
        "group_norm",
        [x],
        {"y": "f32"},
        ints={
            "groups": groups,
        },
        floats={
            "eps": eps,
        },
        constants={
            "weight": weight,
            "bias": bias,
        },
    )


def pointwise_f32(
    x: int,
    *,
    function: str,
    args: Sequence[float] | None = None,
) -> Step:
    """A function of each element.

    Takes ``x`` f32. Gives ``y`` f32.

    Args:
        function: Its name in the op table.
        args: The function's arguments in turn; or none.
    """
    return Step.of(
        "pointwise_f32",
        [x],
        {"y": "f32"},
        floats={
            "args": args,
        },
        text={
            "function": function,
        },
    )


def lstm(
    x: int,
    h: int,
    c: int,
    batch_sizes: int | None = None,
    *,
    weight_ih: int,
    weight_hh: int,
    directions: int | None = None,
    first: int | None = None,
    per_row: bool | None = None,
    same_state: bool | None = None,
    weight_ih_scale: int | None = None,
    weight_ih_zero_point: int | None = None,
    weight_hh_scale: int | None = None,
    weight_hh_zero_point: int | None = None,
    weight_hr: int | None = None,
    weight_hr_scale: int | None = None,
    weight_hr_zero_point: int | None = None,
    bias_ih: int | None = None,
    bias_hh: int | None = None,
) -> Step:
    """An LSTM layer over packed sequences, or those of equal lengths, in one direction or two.

    Takes ``x`` f32, ``h`` f32, ``c`` f32, ``batch_sizes`` s64 or none. Gives ``y`` f32, ``h`` f32, ``c`` f32.

    Args:
        weight_ih: Constant of s8 or f16; [directions * gates * hidden, inputs].
        weight_hh: Constant of s8 or f16; [directions * gates * hidden, state].
        directions: 1 to 2; else 1.
        first: The first state that is this layer's; at least 0; else 0.
        per_row: Whether each row that is quantized has a scale of its own; 0: one for all of them; else 0.
        same_state: Whether the states are of one sequence, and all begin with them; else 0.
        weight_ih_scale: Constant of f32; a row, of s8; or none.
        weight_ih_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        weight_hh_scale: Constant of f32; a row, of s8; or none.
        weight_hh_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        weight_hr: Constant of s8 or f16; [directions * state, hidden]: the projection; or none.
        weight_hr_scale: Constant of f32; a row, of s8; or none.
        weight_hr_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        bias_ih: Constant of f32; or none.
        bias_hh: Constant of f32; or none.
    """
    return Step.of(
        "lstm",
        [x, h, c, batch_sizes],
        {"y": "f32", "h": "f32", "c": "f32"},
        ints={
            "directions": directions,
            "first": first,
            "per_row": per_row,
            "same_state": same_state,
        },
        constants={
            "weight_ih": weight_ih,
            "weight_ih_scale": weight_ih_scale,
            "weight_ih_zero_point": weight_ih_zero_point,
            "weight_hh": weight_hh,
            "weight_hh_scale": weight_hh_scale,
            "weight_hh_zero_point": weight_hh_zero_point,
            "weight_hr": weight_hr,
            "weight_hr_scale": weight_hr_scale,
            "weight_hr_zero_point": weight_hr_zero_point,
            "bias_ih": bias_ih,
            "bias_hh": bias_hh,
        },
    )


def gru(
    x: int,
    h: int,
    batch_sizes: int | None = None,
    *,
    weight_ih: int,
    weight_hh: int,
    directions: int | None = None,
    first: int | None = None,
    per_row: bool | None = None,
    same_state: bool | None = None,
    weight_ih_scale: int | None = None,
    weight_ih_zero_point: int | None = None,
    weight_hh_scale: int | None = None,
    weight_hh_zero_point: int | None = None,
    bias_ih: int | None = None,
    bias_hh: int | None = None,
) -> Step:
    """A GRU layer over packed sequences, or those of equal lengths, in one direction or two.

    Takes ``x`` f32, ``h`` f32, ``batch_sizes`` s64 or none. Gives ``y`` f32, ``h`` f32.

    Args:
        weight_ih: Constant of s8 or f16; [directions * gates * hidden, inputs].
        weight_hh: Constant of s8 or f16; [directions * gates * hidden, state].
        directions: 1 to 2; else 1.
        first: The first state that is this layer's; at least 0; else 0.
        per_row: Whether each row that is quantized has a scale of its own; 0: one for all of them; else 0.
        same_state: Whether the states are of one sequence, and all begin with them; else 0.
        weight_ih_scale: Constant of f32; a row, of s8; or none.
        weight_ih_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        weight_hh_scale: Constant of f32; a row, of s8; or none.
        weight_hh_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        bias_ih: Constant of f32; or none.
        bias_hh: Constant of f32; or none.
    """
    return Step.of(
        "gru",
        [x, h, batch_sizes],
        {"y": "f32", "h": "f32"},
        ints={
            "directions": directions,
            "first": first,
            "per_row": per_row,
            "same_state": same_state,
        },
        constants={
            "weight_ih": weight_ih,
            "weight_ih_scale": weight_ih_scale,
            "weight_ih_zero_point": weight_ih_zero_point,
            "weight_hh": weight_hh,
            "weight_hh_scale": weight_hh_scale,
            "weight_hh_zero_point": weight_hh_zero_point,
            "bias_ih": bias_ih,
            "bias_hh": bias_hh,
        },
    )


def rnn_tanh(
    x: int,
    h: int,
    batch_sizes: int | None = None,
    *,
    weight_ih: int,
    weight_hh: int,
    directions: int | None = None,
    first: int | None = None,
    per_row: bool | None = None,
    same_state: bool | None = None,
    weight_ih_scale: int | None = None,
    weight_ih_zero_point: int | None = None,
    weight_hh_scale: int | None = None,
    weight_hh_zero_point: int | None = None,
    bias_ih: int | None = None,
    bias_hh: int | None = None,
) -> Step:
    """An Elman layer over packed sequences, or those of equal lengths, in one direction or two.

    Takes ``x`` f32, ``h`` f32, ``batch_sizes`` s64 or none. Gives ``y`` f32, ``h`` f32.

    Args:
        weight_ih: Constant of s8 or f16; [directions * gates * hidden, inputs].
        weight_hh: Constant of s8 or f16; [directions * gates * hidden, state].
        directions: 1 to 2; else 1.
        first: The first state that is this layer's; at least 0; else 0.
        per_row: Whether each row that is quantized has a scale of its own; 0: one for all of them; else 0.
        same_state: Whether the states are of one sequence, and all begin with them; else 0.
        weight_ih_scale: Constant of f32; a row, of s8; or none.
        weight_ih_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        weight_hh_scale: Constant of f32; a row, of s8; or none.
        weight_hh_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        bias_ih: Constant of f32; or none.
        bias_hh: Constant of f32; or none.
    """
    return Step.of(
        "rnn_tanh",
        [x, h, batch_sizes],
        {"y": "f32", "h": "f32"},
        ints={
            "directions": directions,
            "first": first,
            "per_row": per_row,
            "same_state": same_state,
        },
        constants={
            "weight_ih": weight_ih,
            "weight_ih_scale": weight_ih_scale,
            "weight_ih_zero_point": weight_ih_zero_point,
            "weight_hh": weight_hh,
            "weight_hh_scale": weight_hh_scale,
            "weight_hh_zero_point": weight_hh_zero_point,
            "bias_ih": bias_ih,
            "bias_hh": bias_hh,
        },
    )


def rnn_relu(
    x: int,
    h: int,
    batch_sizes: int | None = None,
    *,
    weight_ih: int,
    weight_hh: int,
    directions: int | None = None,
    first: int | None = None,
    per_row: bool | None = None,
    same_state: bool | None = None,
    weight_ih_scale: int | None = None,
    weight_ih_zero_point: int | None = None,
    weight_hh_scale: int | None = None,
    weight_hh_zero_point: int | None = None,
    bias_ih: int | None = None,
    bias_hh: int | None = None,
) -> Step:
    """The same with relu.

    Takes ``x`` f32, ``h`` f32, ``batch_sizes`` s64 or none. Gives ``y`` f32, ``h`` f32.

    Args:
        weight_ih: Constant of s8 or f16; [directions * gates * hidden, inputs].
        weight_hh: Constant of s8 or f16; [directions * gates * hidden, state].
        directions: 1 to 2; else 1.
        first: The first state that is this layer's; at least 0; else 0.
        per_row: Whether each row that is quantized has a scale of its own; 0: one for all of them; else 0.
        same_state: Whether the states are of one sequence, and all begin with them; else 0.
        weight_ih_scale: Constant of f32; a row, of s8; or none.
        weight_ih_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        weight_hh_scale: Constant of f32; a row, of s8; or none.
        weight_hh_zero_point: Constant of s32; a row, of s8; 0 where it is left out; or none.
        bias_ih: Constant of f32; or none.
        bias_hh: Constant of f32; or none.
    """
    return Step.of(
        "rnn_relu",
        [x, h, batch_sizes],
        {"y": "f32", "h": "f32"},
        ints={
            "directions": directions,
            "first": first,
            "per_row": per_row,
            "same_state": same_state,
        },
        constants={
            "weight_ih": weight_ih,
            "weight_ih_scale": weight_ih_scale,
            "weight_ih_zero_point": weight_ih_zero_point,
            "weight_hh": weight_hh,
            "weight_hh_scale": weight_hh_scale,
            "weight_hh_zero_point": weight_hh_zero_point,
            "bias_ih": bias_ih,
            "bias_hh": bias_hh,
        },
    )
