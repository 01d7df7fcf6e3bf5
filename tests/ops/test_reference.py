"""Every float reference against torch's own spelling of the op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qfx.ops import TABLE, Op, arithmetic
from qfx.ops.compute.reference import activate

SAMPLES = [pytest.param(op, i, id=f"{op.name}-{i}") for op in TABLE.values() for i in range(len(op.samples()))]


def activated(y: Tensor, activation: Any) -> Tensor:
    if activation is None:
        return y
    _, low, high = activation
    return y.clamp(-torch.inf if low is None else low, torch.inf if high is None else high)


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, **kwargs: Any) -> Tensor:
    rank = weight.dim() - 2
    convolution = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    widths = [side for pair in kwargs["padding"][::-1] for side in pair]
    padded = F.pad(x, widths)
    y = convolution(padded, weight, bias, kwargs["stride"], 0, kwargs["dilation"], kwargs["groups"])
    return activated(y + residual if residual is not None else y, kwargs["activation"])


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = None, activation: Any = None
) -> Tensor:
    y = x @ weight.T
    y = y + bias if bias is not None else y
    return activated(y + residual if residual is not None else y, activation)


def channel_affine(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Any = None) -> Tensor:
    zeros, ones = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
    return activated(F.batch_norm(x, zeros, ones, weight, bias, eps=0.0), activation)


def elementwise(fn: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, y, activation=None: activated(fn(x, y), activation)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **given: Any) -> Tensor:
    if query.dim() > 2:
        key, value = (x[..., [h * x.shape[-3] // query.shape[-3] for h in range(query.shape[-3])], :, :] if x.dim() > 2
                      else x for x in (key, value))  # fmt: skip
    scores = torch.einsum("...id,...jd->...ij", query, key) * given["scale"]
    if mask is not None:
        scores = scores + mask
    if given.get("causal", False):
        scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
    return torch.einsum("...ij,...jd->...id", torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True), value)


def rotate(x: Tensor, *, block: int) -> Tensor:
    signs = [[(-1.0) ** (i & j).bit_count() for j in range(block)] for i in range(block)]
    return torch.einsum("...bj,ij->...bi", x.unflatten(-1, (-1, block)), torch.tensor(signs) / block**0.5).flatten(-2)


def rotary(x: Tensor, cos: Tensor, sin: Tensor, *, length: int, interleaved: bool) -> Tensor:
    half = length // 2
    first = range(0, length, 2) if interleaved else range(half)
    y = x.clone()
    for pair, a in enumerate(first):
        b = a + 1 if interleaved else a + half
        at_a, at_b = (pair, pair) if cos.shape[-1] == half else (a, b)
        y[..., a] = x[..., a] * cos[..., at_a] - x[..., b] * sin[..., at_a]
        y[..., b] = x[..., b] * cos[..., at_b] + x[..., a] * sin[..., at_b]
    return y


def gated(x: Tensor, y: Tensor, *, function: str, approximate: str = "none") -> Tensor:
    if function == "gelu":
        return nn.GELU(approximate)(x) * y
    return torch.sigmoid(x) * (x if function == "silu" else 1.0) * y


def pool(kind: str, **names: str) -> Callable[..., Tensor]:
    """A pooling module of the input's rank, built from the op's keyword arguments under the module's names."""

    def run(x: Tensor, **kwargs: Any) -> Tensor:
        rank = len(kwargs.get("kernel", kwargs.get("output_size", ())))
        arguments = {names.get(k, k): v for k, v in kwargs.items() if v is not None or k == "output_size"}
        if kind == "AvgPool" and rank == 1 and "divisor_override" in arguments:
            divisor = arguments.pop("divisor_override")
            return nn.AvgPool1d(**arguments)(x) * (arguments["kernel_size"][0] / divisor)
        if kind == "AdaptiveAvgPool" and rank == 1:
            arguments = {"output_size": arguments["output_size"][0]}
        module = getattr(nn, f"{kind}{rank}d")
        return module(**arguments)(x)

    return run


def interpolate(x: Tensor, **kwargs: Any) -> Tensor:
    return nn.Upsample(**kwargs)(x)


def mean(x: Tensor, dims: Sequence[int] | None, keepdim: bool) -> Tensor:
    if not dims:
        return x.sum() / x.numel()
    return x.sum(dims, keepdim=keepdim) / torch.tensor([x.shape[d] for d in dims]).prod()


def total(x: Tensor, dims: Sequence[int] | None, keepdim: bool) -> Tensor:
    average = torch.mean(x, dims or None, keepdim=keepdim)
    return average * (x.numel() / average.numel())


def slice_(x: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Tensor:
    return x.index_select(dim, torch.tensor(range(x.shape[dim])[start:end:step]))


def windows(x: Tensor, dims: Any, size: Any, stride: Any, dilation: Any) -> Tensor:
    for dim, length, step, apart in zip([d % x.dim() for d in dims], size, stride, dilation, strict=True):
        last = x.shape[dim] - (length - 1) * apart
        places = [torch.arange(i * apart, last + i * apart, step) for i in range(length)]
        x = torch.stack([x.index_select(dim, place) for place in places], -1)
    return x


def pad(x: Tensor, pad: Sequence[int], mode: str, value: float | None) -> Tensor:
    return F.pad(x, tuple(pad), mode=mode, value=value)


def layer_norm(x: Tensor, weight: Any = None, bias: Any = None, *, normalized_shape: Any, eps: float) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    variance, center = torch.var_mean(x, dims, correction=0, keepdim=True)
    y = (x - center) / (variance + eps).sqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(x: Tensor, weight: Any = None, *, normalized_shape: Any, eps: float) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    y = x * torch.rsqrt(x.pow(2).mean(dims, keepdim=True) + eps)
    return y if weight is None else y * weight


def group_norm(x: Tensor, weight: Any = None, bias: Any = None, *, groups: int, eps: float) -> Tensor:
    rows = x.reshape(x.shape[0], groups, -1)
    y = layer_norm(rows, normalized_shape=rows.shape[-1:], eps=eps).reshape(x.shape)
    channels = [1, -1] + [1] * (x.dim() - 2)
    y = y if weight is None else y * weight.reshape(channels)
    return y if bias is None else y + bias.reshape(channels)


def instance_norm(x: Tensor, weight: Any = None, bias: Any = None, *, eps: float) -> Tensor:
    return group_norm(x, weight, bias, groups=x.shape[1], eps=eps)


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor, **kwargs: Any) -> Tensor:
    dtype = {"quint8": torch.uint8, "qint8": torch.int8, "qint32": torch.int32}[kwargs["dtype"]]
    low = kwargs.get("quant_min", torch.iinfo(dtype).min)
    high = kwargs.get("quant_max", torch.iinfo(dtype).max)
    shape = [1] * x.dim()
    if "axis" in kwargs:
        shape[kwargs["axis"]] = -1
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return (torch.round(x.double() / scale.double()) + zero_point).clamp(low, high).to(dtype)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None = None) -> Tensor:
    if axis is None:
        return (q.int() - zero_point) * scale
    return torch.stack(
        [(part.int() - z) * s for part, s, z in zip(q.unbind(axis), scale, zero_point, strict=True)], axis
    )


def requantize_dynamic(x: Tensor, reduce_range: bool, per_row: bool = False, group_size: int | None = None) -> Tensor:
    if group_size is not None:
        groups = [_by_its_largest(group) for group in x.split(group_size, -1)]
        return torch.cat(groups, -1)
    if per_row:
        rows = [requantize_dynamic(row, reduce_range) for row in x.reshape(-1, x.shape[-1])]
        return torch.stack(rows).reshape(x.shape) if rows else x
    values = [*x.reshape(-1).tolist(), 0.0]
    scale, zero_point = arithmetic.affine_qparams(min(values), max(values), 0, 127 if reduce_range else 255)
    codes = (torch.round(x.double() / scale) + zero_point).clamp(0, 127 if reduce_range else 255)
    return (codes - zero_point).float() * scale


def _by_its_largest(group: Tensor) -> Tensor:
    scale = (group.double().abs().amax(-1, keepdim=True) / 127).float()
    scale[scale == 0] = 1.0
    return torch.round(group.double() / scale.double()).float() * scale


def decode_weight(
    codes: Tensor, scale: Tensor | None = None, zero_point: Tensor | None = None, shape: tuple[int, int] | None = None
) -> Tensor:
    def integers(given: Tensor, shape: Any) -> list[list[int]]:
        if given.dtype is torch.int8:
            return given.tolist()
        halves = [half - 16 if half > 7 else half for byte in given.tolist() for half in (byte % 16, byte // 16)]
        return [halves[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]

    if scale is None:
        return codes.double().float()
    rows = integers(codes, shape)
    zeros = integers(torch.zeros(scale.shape, dtype=torch.int8) if zero_point is None else zero_point, scale.shape)
    each = len(rows[0]) // scale.shape[1]
    decoded = [
        [(q - z[i // each]) * float(s[i // each]) for i, q in enumerate(row)]
        for row, z, s in zip(rows, zeros, scale, strict=True)
    ]
    return torch.tensor(decoded, dtype=torch.float64).float()


def recurrent(kind: type[nn.RNNBase], gates: int, states: int) -> Callable[..., Tensor]:
    """What a layer of torch gives that has the weights of the call."""

    def run(x: Tensor, *given: Any, result: str = "output", **settings: Any) -> Tensor:
        before, tensors = list(given[:states]), given[states:]
        weights = [tensor for tensor in tensors if tensor is not None]
        hidden, directions = len(tensors[0]) // gates, 1 if len(tensors) == 4 else 2
        module: Any = kind(x.shape[2], hidden, bias=tensors[2] is not None, bidirectional=directions == 2, **settings)
        with torch.no_grad():
            for parameter, tensor in zip(module.parameters(), weights, strict=True):
                parameter.copy_(tensor)
            zeros = torch.zeros(directions, x.shape[1], hidden)
            before = [zeros if h is None else h for h in before]
            y, after = module(x, tuple(before) if states == 2 else before[0])
        return after[1] if result == "cell" else y

    return run


def embedding_bag(
    indices: Tensor, weight: Tensor, offsets: Tensor | None = None, factors: Tensor | None = None, *,
    mode: str = "mean", include_last_offset: bool = False, padding_idx: int | None = None,
) -> Tensor:  # fmt: skip
    """A bag at a time."""
    bounds = torch.arange(len(indices)) * indices.shape[-1] if offsets is None else offsets.tolist()
    bounds = [*map(int, bounds), *([] if include_last_offset else [indices.numel()])]
    factors = torch.ones(indices.numel()) if factors is None else factors
    made = []
    for begin, end in pairwise(bounds):
        pairs = zip(indices.reshape(-1)[begin:end].tolist(), factors.reshape(-1)[begin:end], strict=True)
        padding = None if padding_idx is None else padding_idx % len(weight)
        rows = [weight[i] * factor for i, factor in pairs if i != padding]
        bag = torch.stack(rows) if rows else torch.zeros(1, weight.shape[1])
        made.append(bag.amax(0) if mode == "max" else getattr(bag, mode)(0))
    return torch.stack(made)


def last_state(y: Tensor, *, directions: int) -> Tensor:
    hidden = y.shape[2] // directions
    return torch.stack([y[len(y) - 1 if d == 0 else 0, :, d * hidden : (d + 1) * hidden] for d in range(directions)])


EXPECTED: dict[str, Callable[..., Any]] = {
    "conv": conv,
    "linear": linear,
    "channel_affine": channel_affine,
    "add": elementwise(lambda x, y: x + y),
    "sub": elementwise(lambda x, y: x - y),
    "mul": elementwise(lambda x, y: x * y),
    "div": lambda x, y: x / y,
    "attention": attention,
    "matmul": lambda x, y, factor=1.0, activation=None: activated(x @ y * factor, activation),
    "max_pool": pool("MaxPool", kernel="kernel_size"),
    "avg_pool": pool("AvgPool", kernel="kernel_size"),
    "adaptive_avg_pool": pool("AdaptiveAvgPool"),
    "adaptive_max_pool": pool("AdaptiveMaxPool"),
    "interpolate": interpolate,
    "mean": mean,
    "sum": total,
    "amax": lambda x, dims, keepdim: x.max() if not dims else -torch.amin(-x, dims, keepdim),
    "cat": lambda tensors, dim: torch.concat(tensors, dim=dim),
    "stack": lambda tensors, dim: torch.cat([t.unsqueeze(dim) for t in tensors], dim),
    "pad": pad,
    "dropout": nn.Dropout().eval(),
    "pixel_shuffle": lambda x, factor: nn.PixelShuffle(factor)(x),
    "pixel_unshuffle": lambda x, factor: nn.PixelUnshuffle(factor)(x),
    "channel_shuffle": lambda x, groups: torch.stack(x.chunk(groups, 1), 2).flatten(1, 2),
    "permute": torch.permute,
    "transpose": torch.swapdims,
    "reshape": lambda x, shape: x.contiguous().view(shape),
    "flatten": lambda x, start_dim, end_dim: nn.Flatten(start_dim, end_dim)(x),
    "squeeze": lambda x, dim=None: torch.squeeze(x) if dim is None else torch.squeeze(x, dim),
    "unsqueeze": torch.unsqueeze,
    "slice": slice_,
    "select": lambda x, dim, index: x.index_select(dim, torch.tensor([index % x.shape[dim]])).squeeze(dim),
    "expand": lambda x, shape: torch.Tensor.expand(x, *shape),
    "windows": windows,
    "size": lambda x, dim: x.shape[dim],
    "softmax": lambda x, dim: nn.Softmax(dim)(x),
    "causal_softmax": lambda x: (x + torch.full(x.shape[-2:], -torch.inf).triu(1)).softmax(-1),
    "log_softmax": lambda x, dim: nn.LogSoftmax(dim)(x),
    "embedding": lambda indices, weight, padding_idx=None: torch.stack(
        [weight[int(i)] for i in indices.reshape(-1)]
    ).reshape(*indices.shape, weight.shape[1]),
    "embedding_bag": embedding_bag,
    "cast": lambda x, dtype: x.type(dtype),
    "eq": lambda x, y: ~(x != y),
    "ne": lambda x, y: ~(x == y),
    "lt": lambda x, y: ~(x >= y),
    "le": lambda x, y: ~(x > y),
    "gt": lambda x, y: ~(x <= y),
    "ge": lambda x, y: ~(x < y),
    "logical_and": lambda x, y: (x != 0) & (y != 0),
    "logical_or": lambda x, y: (x != 0) | (y != 0),
    "logical_xor": lambda x, y: (x != 0) ^ (y != 0),
    "logical_not": lambda x: x == 0,
    "minimum": lambda x, y: -torch.maximum(-x, -y),
    "maximum": lambda x, y: -torch.minimum(-x, -y),
    "where": lambda condition, x, y: torch.as_tensor(x).where(condition, torch.as_tensor(y)),
    "arange": lambda start, end, step: torch.tensor(range(start, end, step), dtype=torch.int64),
    "full": lambda shape, value, dtype: torch.tensor(value, dtype=dtype).expand(shape),
    "cumsum": lambda x, dim: torch.stack([x.narrow(dim, 0, i + 1).sum(dim) for i in range(x.shape[dim])], dim),
    "argmax": lambda x, dim, keepdim: x.max(dim, keepdim).indices,
    "gather": lambda x, index, dim: torch.take_along_dim(
        x[tuple(slice(None) if d == dim % x.dim() else slice(n) for d, n in enumerate(index.shape))], index, dim
    ),
    "take": lambda x, indices: torch.from_numpy(x.numpy()[tuple(i.numpy() for i in indices)]),
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "lstm": recurrent(nn.LSTM, 4, 2),
    "gru": recurrent(nn.GRU, 3, 1),
    "rnn": recurrent(nn.RNN, 1, 1),
    "last_state": last_state,
    "quantize": quantize,
    "dequantize": dequantize,
    "requantize_dynamic": requantize_dynamic,
    "decode_weight": decode_weight,
    "relu": nn.ReLU(),
    "clamp": lambda x, min=None, max=None: x if min is None and max is None else x.clip(min, max),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "silu": nn.SiLU(),
    "gelu": lambda x, **kwargs: nn.GELU(**kwargs)(x),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardswish": nn.Hardswish(),
    "leaky_relu": lambda x, **kwargs: nn.LeakyReLU(**kwargs)(x),
    "elu": lambda x, **kwargs: nn.ELU(**kwargs)(x),
    "celu": lambda x, **kwargs: nn.CELU(**kwargs)(x),
    "selu": nn.SELU(),
    "softplus": lambda x, **kwargs: nn.Softplus(**kwargs)(x),
    "mish": nn.Mish(),
    "logsigmoid": nn.LogSigmoid(),
    "softsign": nn.Softsign(),
    "tanhshrink": nn.Tanhshrink(),
    "hardshrink": lambda x, **kwargs: nn.Hardshrink(**kwargs)(x),
    "softshrink": lambda x, **kwargs: nn.Softshrink(**kwargs)(x),
    "threshold": lambda x, **kwargs: nn.Threshold(**kwargs)(x),
    "exp": Tensor.exp,
    "log": Tensor.log,
    "sqrt": Tensor.sqrt,
    "rsqrt": Tensor.rsqrt,
    "reciprocal": lambda x: 1 / x,
    "rotate": rotate,
    "rotary": rotary,
    "gated": gated,
    "abs": abs,
    "neg": lambda x: -x,
    "square": lambda x: x**2,
    "pow_scalar": lambda x, exponent: x**exponent,
    "erf": torch.special.erf,
    "sin": Tensor.sin,
    "cos": Tensor.cos,
    "add_scalar": lambda x, value: x + value,
    "rsub_scalar": lambda x, value: value - x,
    "mul_scalar": lambda x, value: x * value,
    "rdiv_scalar": lambda x, value: value / x,
    "floor": Tensor.floor,
    "ceil": Tensor.ceil,
    "round": Tensor.round,
    "sign": Tensor.sign,
}


def test_each_row_has_an_expectation() -> None:
    assert EXPECTED.keys() == TABLE.keys()


@pytest.mark.parametrize(("op", "i"), SAMPLES)
def test_float_reference_equals_torch(op: Op, i: int) -> None:
    sample = op.samples()[i]
    given = [a.clone() if isinstance(a, Tensor) else a for a in sample.args]
    got, expected = op.fn(*sample.args, **sample.kwargs), EXPECTED[op.name](*given, **sample.kwargs)
    torch.testing.assert_close(got, expected)
    for before, after in zip(given, sample.args, strict=True):
        assert not isinstance(before, Tensor) or torch.equal(before, after), "an operand was changed in place"


@pytest.mark.parametrize(
    ("activation", "module"),
    [
        (("clamp", 0.0, None), nn.ReLU()),
        (("clamp", 0.0, 6.0), nn.ReLU6()),
        (("clamp", -1.0, 1.0), nn.Hardtanh()),
        (("clamp", None, None), nn.Identity()),
        (None, nn.Identity()),
    ],
)
def test_activation_has_the_values_and_gradients_of_the_module(activation: Any, module: nn.Module) -> None:
    x = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 6.0, 7.0, float("nan")], requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    y, expected = activate(x, activation), module(twin)
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    y.nansum().backward()
    expected.nansum().backward()
    assert torch.equal(x.grad, twin.grad)


@pytest.mark.parametrize("activation", [("clamp", None, 1.5), ("clamp", 0.5, None), ("clamp", 1.0, -1.0)])
def test_activation_clamps_as_torch(activation: Any) -> None:
    x = torch.linspace(-3.0, 3.0, 25)
    assert torch.equal(activate(x, activation), x.clamp(activation[1], activation[2]))
