"""Every alias: normalizes to its row, and computes what the user's spelling computes."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qfx.errors import UnsupportedError
from qfx.frontends import capture, normalize
from qfx.ops import TABLE, is_op
from qfx.ops.index.rows import ROWS
from qfx.ops.spellings import ALIASES, Alias, aliases_of, register_alias

SHAPES = {0: (2, 4, 8, 8), 1: (2, 4, 8), 2: (2, 4, 8, 8), 3: (2, 4, 6, 6, 6)}
CHANNELS = torch.rand(4) + 0.5
STATISTICS = (torch.rand(4), torch.rand(4) + 0.5, torch.rand(4), torch.rand(4))

ARGUMENTS: dict[str, Any] = {
    "conv1d": (torch.randn(6, 2, 3), torch.randn(6), 2, 1, 2, 2),
    "conv2d": (torch.randn(6, 2, 3, 3), None, (1, 2), "valid", 1, 2),
    "conv3d": (torch.randn(5, 4, 3, 3, 3), torch.randn(5)),
    "conv_transpose1d": (torch.randn(4, 3, 3), torch.randn(6), 2, 1, 1, 2, 2),
    "conv_transpose2d": (torch.randn(4, 3, 3, 3), None, (1, 2), 1, (0, 1)),
    "conv_transpose3d": (torch.randn(4, 5, 2, 2, 2), torch.randn(5), 2),
    "linear": (torch.randn(5, 8), torch.randn(5)),
    "batch_norm": STATISTICS,
    "layer_norm": ((8, 8), torch.rand(8, 8)),
    "rms_norm": ((8, 8), torch.rand(8, 8)),
    "group_norm": (2, CHANNELS, CHANNELS),
    "instance_norm": (),
    "scaled_dot_product_attention": (torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 3), torch.randn(8, 5)),
    "embedding": (torch.rand(4, 6),),
    "embedding_bag": (torch.rand(4, 6),),
    "repeat": (1, 2, 1, 3),
    "repeat_interleave": (3, 1),
    "roll": ((1, -3), (2, -1)),
    "unfold": (2, 3, 2),
    "matmul": (torch.randn(8, 3),),
    "mm": (torch.randn(8, 3),),
    "bmm": (torch.randn(8, 8, 3),),
    "addmm": (torch.randn(4, 3), torch.randn(3, 8)),
    "baddbmm": (torch.randn(8, 4, 3), torch.randn(8, 3, 8)),
    "softmax": (1,),
    "log_softmax": (-1,),
    "threshold": (0.7, 0.1),
    "prelu": (CHANNELS,),
    "clamp": (0.6, 0.9),
    "clip": (0.6, 0.9),
    "clamp_min": (0.7,),
    "clamp_max": (0.7,),
    "pow": (3,),
    "floordiv": (2,),
    "addcmul": (torch.rand(8, 8) + 0.5, torch.rand(8) + 0.5),
    "max_pool": (3, 2, 1),
    "avg_pool": (3, 2, 1),
    "adaptive_avg_pool": (3,),
    "adaptive_max_pool": (3,),
    "interpolate": (None, 2.0),
    "pixel_shuffle": (2,),
    "pixel_unshuffle": (2,),
    "channel_shuffle": (2,),
    "pad": ((1, 2),),
    "mean": ((2, 3), True),
    "reshape": (2, -1),
    "view": (2, 32, 8),
    "unflatten": (1, (2, 2)),
    "permute": (0, 2, 3, 1),
    "movedim": (1, -1),
    "moveaxis": ((1, 2), (0, 1)),
    "transpose": (1, -1),
    "swapaxes": (1, 2),
    "swapdims": (1, 2),
    "narrow": (1, 1, 2),
    "chunk": (2, 1),
    "split": (3, 1),
    "getitem": ((slice(None), slice(1, 3), ..., None, -1),),
    "select": (1, -1),
    "unbind": (1,),
    "unsqueeze": (1,),
    "expand": (3, -1, -1, -1, -1),
    "getattr": ("shape",),
    "size": (2,),
    "dropout": (0.5, False),
    "to": (torch.float32,),
}
ARITHMETIC = {"add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "rsub", "truediv"}
ARITHMETIC |= {"iadd", "isub", "imul", "itruediv", "radd", "rmul"}
OF_OPERANDS = {"cat", "concat", "concatenate", "stack"}
MATRICES = {"t": (4, 8), "mm": (4, 8), "addmm": (4, 8), "bmm": (8, 4, 8), "baddbmm": (8, 4, 8)}
MATRICES |= {"EmbeddingBag": (4, 8), "embedding_bag": (4, 8)}
SEQUENCES = {"LSTM": (4, 2, 8), "GRU": (4, 2, 8), "RNN": (4, 2, 8)}
LIKE = {"reshape_as": (4, 2, 8, 8), "view_as": (8, 8, 8), "expand_as": (2, 4, 8, 8), "type_as": (1,)}

MODULES: dict[type[nn.Module], Any] = {
    nn.Conv1d: (4, 6, 3, 2, 1),
    nn.Conv2d: (4, 8, 3, 1, "same", 1, 2),
    nn.Conv3d: (4, 2, 3),
    nn.ConvTranspose1d: (4, 6, 3, 2, 1),
    nn.ConvTranspose2d: (4, 8, 4, 2, 1, 1, 2),
    nn.ConvTranspose3d: (4, 2, 3),
    nn.Linear: (8, 5),
    nn.LSTM: (8, 5, 2),
    nn.GRU: (8, 5),
    nn.RNN: (8, 5),
    nn.modules.linear.NonDynamicallyQuantizableLinear: (8, 5),
    nn.Embedding: (4, 5),
    nn.EmbeddingBag: (4, 5),
    nn.LayerNorm: (8,),
    nn.RMSNorm: (8,),
    nn.GroupNorm: (2, 4),
    nn.PReLU: (4,),
    nn.Threshold: (0.7, 0.1),
    nn.Softmax: (1,),
    nn.LogSoftmax: (1,),
    nn.Upsample: (None, 2.0, "bilinear", True),
    nn.UpsamplingNearest2d: ((10, 12),),
    nn.UpsamplingBilinear2d: (None, 2.0),
    nn.PixelShuffle: (2,),
    nn.PixelUnshuffle: (2,),
    nn.ChannelShuffle: (2,),
    nn.Unflatten: (1, (2, 2)),
    nn.GLU: (1,),
    nn.Unfold: (3, 2, 1, (2, 1)),
}
BY_PREFIX = {"BatchNorm": (4,), "SyncBatchNorm": (4,), "InstanceNorm": (4,), "Adaptive": (3,), "MaxPool": (3, 2, 1)}
BY_PREFIX |= {"AvgPool": (3, 2, 1), "ConstantPad": (1, 0.5)}
BY_PREFIX |= {"ZeroPad": (1,), "ReflectionPad": (1,), "ReplicationPad": (1,), "CircularPad": (1,)}


class Spelled(nn.Module):
    """One call of an alias, on a tensor of known shape."""

    def __init__(self, alias: Alias, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.alias, self.shape = alias, shape
        self.layer = _layer(alias.spelling) if isinstance(alias.spelling, type) else None
        self.other = nn.Parameter(torch.rand(LIKE.get(bare_name(alias), shape)) + 0.5)

    def forward(self, x: Tensor) -> Any:
        x = x.reshape(self.shape)
        result = self.call(x)
        if self.alias.op == "size" and bare_name(self.alias) != "floordiv":
            return x * 1.0
        if bare_name(self.alias) in SEQUENCES:
            return result[0]
        return result[1] if bare_name(self.alias) in ("chunk", "split", "unbind") else result

    def call(self, x: Tensor) -> Any:
        if self.layer is not None:
            return self.layer(x)
        args = self.arguments()
        name = bare_name(self.alias)
        if name == "floordiv":
            return x.reshape(x.shape[0], self.alias.spelling(x.shape[1] * 2, 2), -1)
        if name == "einsum":
            return self.alias.spelling("nchw,cnkw->nchk", x, torch.ones(4, 2, 5, 8))
        if name in OF_OPERANDS:
            return self.alias.spelling([x, x * 2], 1)
        if isinstance(self.alias.spelling, str):
            return getattr(x, self.alias.spelling)(*args)
        return self.alias.spelling(x, *args)

    def arguments(self) -> tuple[Any, ...]:
        name = bare_name(self.alias)
        if name in ARITHMETIC or name in LIKE:
            return (self.other,)
        if self.alias.spelling is torch.batch_norm:
            mean, var, weight, bias = STATISTICS
            return (weight, bias, mean, var, False, 0.1, 1e-5, False)
        if self.alias.spelling is torch.permute:
            return (ARGUMENTS["permute"],)
        if self.alias.spelling is torch.reshape:
            return (ARGUMENTS["reshape"],)
        return ARGUMENTS.get(name, ARGUMENTS.get(name.rstrip("123d"), ()))


def bare_name(alias: Alias) -> str:
    """The spelling's name without underscores for in-place or operator."""
    spelling = alias.spelling
    if spelling in (torch.nn.functional.max_pool1d, torch.nn.functional.max_pool2d, torch.nn.functional.max_pool3d):
        return "max_pool"
    if spelling in [getattr(nn.functional, f"adaptive_max_pool{n}d") for n in (1, 2, 3)]:
        return "adaptive_max_pool"
    name = spelling if isinstance(spelling, str) else spelling.__name__
    name = name.strip("_")
    return "dropout" if "dropout" in name else "matmul" if name == "matmul" else name


def _layer(cls: type[nn.Module]) -> nn.Module:
    args = MODULES.get(cls) or next((v for k, v in BY_PREFIX.items() if cls.__name__.startswith(k)), ())
    layer = cls(*args)
    if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None:
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.5, 2)
    return layer


def spatial_of(alias: Alias) -> int:
    """How many spatial dims the spelling is for; 0 when any."""
    # An address in a function's text may well hold "1d".
    rule = re.sub("0x[0-9a-f]+", "", str(alias.rule))
    for spatial in (1, 2, 3):
        if any(f"{spatial}d" in text for text in (alias.name, rule)):
            return spatial
    bound = getattr(alias.rule, "args", ())
    return bound[0] if bound and isinstance(bound[0], int) else 0


TABLES = {row.name for row in ROWS if row.looks_up}
OF_INTEGERS = {row.name for row in ROWS} - TABLES
WRITTEN = [
    alias
    for alias in ALIASES.values()
    if not isinstance(alias.spelling, torch._ops.OpOverload) and alias.op not in OF_INTEGERS
]
"""The spellings of users; those that exporters leave are tried by the tests of the frontends, those of what takes
integers by tests/lowering/test_integers.py."""


def spelled(alias: Alias) -> tuple[nn.Module, Tensor]:
    """A model that calls ``alias``, and its input: a flat tensor, of integers where it takes those."""
    shape = (MATRICES | SEQUENCES).get(bare_name(alias), SHAPES[spatial_of(alias)])
    x = torch.rand(math.prod(shape)) + 0.5
    return Spelled(alias, shape).eval(), x.long() if alias.op in TABLES else x


@pytest.mark.parametrize("alias", WRITTEN, ids=lambda alias: alias.name)
def test_alias_normalizes_to_its_row(alias: Alias) -> None:
    model, x = spelled(alias)
    normal = normalize(capture(model))
    opaque = [node.meta["opaque_reason"] for node in normal.graph.nodes if "opaque_reason" in node.meta]
    assert not opaque
    if alias.op not in ("", "size"):
        related = {
            "leaky_relu": {"relu"},
            "add": {"channel_affine"},
            "pow_scalar": {"square"},
            "slice": {"mul"},
            "div": {"mul"},
        }
        rows = {alias.op} | related.get(alias.op, set())
        assert any(is_op(node, *rows) for node in normal.graph.nodes), normal.graph
    with torch.no_grad():
        expected = model(x.clone())
        assert close(normal(x.clone()), expected)


def close(actual: Tensor, expected: Tensor) -> bool:
    """Equal within a few roundings of float32 at the magnitude of the largest value."""
    tolerance = 64 * torch.finfo(torch.float32).eps * max(1.0, float(expected.abs().max()))
    return actual.shape == expected.shape and float((actual - expected).abs().max()) <= tolerance


def test_every_alias_names_a_row() -> None:
    assert {alias.op for alias in ALIASES.values()} - {""} <= set(TABLE)


def test_every_row_has_an_alias() -> None:
    reachable = {alias.op for alias in ALIASES.values()}
    by_arguments = {"add_scalar", "rsub_scalar", "mul_scalar", "rdiv_scalar", "square", "instance_norm"}
    by_arguments |= {"causal_softmax", "rotate", "rotary", "gated", "last_state"}
    below_normal = {op.name for op in TABLE.values() if op.qparams == "none"}
    assert set(TABLE) - reachable - below_normal <= by_arguments | {"dropout"}  # only of models to be trained


def test_a_spelling_has_one_row() -> None:
    with pytest.raises(UnsupportedError, match="relu"):
        register_alias(Alias("sigmoid", nn.ReLU, lambda input: input))


def test_relu_has_all_its_spellings() -> None:
    assert {nn.ReLU, torch.relu, torch.relu_, "relu", "relu_"} <= {alias.spelling for alias in aliases_of("relu")}
