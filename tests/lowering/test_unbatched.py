"""Values without a batch dim, of every op that torch takes them for: as graphs, and one op at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.errors import InputError
from qfx.ir.types import QDType
from qfx.lowering.emitters import emittable
from qfx.lowering.interpreter import interpret_integers
from qfx.ops import TABLE, Op, Sample
from qfx.tensor import QTensor
from tests.eager.test_run_op import eager
from tests.fuzz.networks import require_as_near_as_graph
from tests.lowering.test_views import OfOneMap, OneResult
from tests.ops.quantized_samples import quantized

DEFAULT = {"": qfx.get_default_qconfig()}
SPATIAL = {1: (9,), 2: (7, 6), 3: (5, 6, 5)}
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


# ---------------------------------------------------------------- every row of the table


def without_batch(op: Op, sample: Sample) -> Sample | None:
    """The sample with the first element of each activation in the place of a batch; None where torch refuses that."""
    sizes = {len(a) if a.dim() else 0 for a in _activations(op, sample)}
    if len(sizes) != 1 or min(sizes) == 0:
        return None
    args = [_first(a) if a is not None and _is_activation(op, i) else a for i, a in enumerate(sample.args)]
    alone = dataclasses.replace(sample, args=tuple(args))
    try:
        expected = op.fn(*alone.args, **alone.kwargs)
    except Exception:
        return None
    return alone if isinstance(expected, Tensor) else None


def _is_activation(op: Op, index: int) -> bool:
    return index == 0 or (bool(op.weights) and index == 3) or (op.name in ("add", "sub", "mul", "matmul"))


def _activations(op: Op, sample: Sample) -> list[Tensor]:
    given = [a for i, a in enumerate(sample.args) if _is_activation(op, i)]
    return [t for a in given for t in (a if isinstance(a, list) else [a]) if isinstance(t, Tensor)]


def _first(value: Any) -> Any:
    return [item[0] for item in value] if isinstance(value, list) else value[0]


UNBATCHED = [
    pytest.param(op, sample, id=f"{op.name}-{i}")
    for op in TABLE.values()
    if op.qparams in ("own", "share") and emittable(op.name, coded=True)
    for i, given in enumerate(op.samples())
    if (sample := without_batch(op, given)) is not None
]


@pytest.mark.parametrize(("op", "sample"), UNBATCHED)
def test_integers_of_every_row_are_those_of_the_reference(op: Op, sample: Sample) -> None:
    case = quantized(op, sample)
    y = eager(case, QDType.quint8, case.out)
    assert isinstance(y, QTensor)
    assert torch.equal(y.int_repr(), case.run(case.out))


def test_the_walk_is_over_many_rows() -> None:
    walked = {param.values[0].name for param in UNBATCHED}
    windows = {"conv", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"}
    moves = {"pixel_shuffle", "pixel_unshuffle", "pad", "cat", "stack", "flatten", "reshape", "linear"}
    assert windows | moves <= walked
    assert len(walked) > 30


# ---------------------------------------------------------------- graphs


def _window_cases(n: int) -> dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    conv, shape = CONVS[n], SPATIAL[n]
    transposed = getattr(nn, f"ConvTranspose{n}d")
    plain = conv(3, 8, 1)

    def pool(name: str) -> Callable[..., Tensor]:
        function: Callable[..., Tensor] = getattr(F, f"{name}{n}d")
        return function

    return {
        "conv": (conv(3, 8, 3, padding=1), torch.relu),
        "conv reflect": (conv(3, 8, 3, padding=1, padding_mode="reflect"), torch.relu),
        "conv depthwise": (conv(3, 3, 3, padding="same", groups=3), F.silu),
        "conv strided": (conv(3, 8, 3, stride=2, dilation=2, padding=2), torch.tanh),
        "conv conv": (nn.Sequential(plain, nn.ReLU(), conv(8, 4, 3)), lambda y: y),
        "residual": (plain, lambda y: torch.relu(y + y.sigmoid())),
        "transposed": (transposed(3, 8, 3, stride=2, output_padding=1), torch.relu),
        "transposed dense": (transposed(3, 8, 3, padding=1), torch.relu),
        "max_pool": (plain, lambda y: pool("max_pool")(y, 2, 1, 1)),
        "avg_pool": (plain, lambda y: pool("avg_pool")(y, 2, 2, 1, True)),
        "lp_pool": (plain, lambda y: pool("lp_pool")(y, 2.0, 2)),
        "adaptive_avg_pool": (plain, lambda y: pool("adaptive_avg_pool")(y, 2)),
        "adaptive_max_pool": (plain, lambda y: pool("adaptive_max_pool")(y, 3)),
        "global average": (plain, lambda y: pool("adaptive_avg_pool")(y, 1).flatten()),
        "pad": (plain, lambda y: F.pad(y, (1, 2) * n)),
        "pad reflect": (plain, lambda y: F.pad(y, (1, 2) * n, "reflect")),
        "pad replicate": (plain, lambda y: F.pad(y, (1, 2) * n, "replicate")),
        "pad circular": (plain, lambda y: F.pad(y, (1, 2) * n, "circular")),
        "instance norm": (nn.Sequential(plain, getattr(nn, f"InstanceNorm{n}d")(8, affine=True)), torch.relu),
        "tracked instance norm": (_tracked(plain, n), torch.relu),
        "softmax": (plain, lambda y: y.softmax(-n - 1)),
        "prelu": (nn.Sequential(plain, nn.PReLU(shape[0])), lambda y: y),
        "channel factor": (plain, lambda y: y * torch.arange(1.0, 9.0).reshape(8, *[1] * n)),
        "join of channels": (plain, lambda y: torch.cat([y, y.tanh()], 0)),
        "channel mean": (plain, lambda y: y.mean(0)),
    }


def _tracked(plain: nn.Module, n: int) -> nn.Module:
    norm = getattr(nn, f"InstanceNorm{n}d")(8, affine=True, track_running_stats=True)
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        tensor.uniform_(0.5, 1.5)
    return nn.Sequential(plain, norm)


def check(net: nn.Module, shape: tuple[int, ...], frontend: str = "symbolic") -> qfx.QuantizedModel:
    """Quantize on two inputs of ``shape``; the result is the interpreter's, in the float model's shape, and near it."""
    batches = [torch.randn(shape) for _ in range(2)]
    model = qfx.quantize_fx(net.eval(), DEFAULT, batches, frontend=frontend)
    x = batches[0]
    assert model(x).shape == net(x).shape
    assert torch.allclose(model(x), interpret_integers(model.graph_module(), (x,)).output, rtol=1e-4, atol=1e-5)
    require_as_near_as_graph(OneResult(net), OneResult(model), x)
    return model


@pytest.mark.parametrize("name", _window_cases(1))
@pytest.mark.parametrize("n", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_windows(n: int, name: str) -> None:
    layer, function = _window_cases(n)[name]
    model = check(OfOneMap(layer, function), (3, *SPATIAL[n]))
    assert any(record.decision == "int8" and record.op == "conv" for record in model.report)


@pytest.mark.parametrize("name", ["conv", "transposed", "max_pool", "instance norm", "pad reflect", "prelu"])
def test_windows_of_an_exported_program(name: str) -> None:
    check(OfOneMap(*_window_cases(2)[name]), (3, *SPATIAL[2]), "export")


ITEMS: dict[str, Callable[[Tensor], Tensor]] = {
    "pixel_shuffle": lambda y: F.pixel_shuffle(y[0], 2),
    "pixel_unshuffle": lambda y: F.pixel_unshuffle(y[0], 2),
    "pixel_shuffle of more dims": lambda y: F.pixel_shuffle(y.unsqueeze(1), 2),
    "pixel_unshuffle of more dims": lambda y: F.pixel_unshuffle(y[:, None, None, None], 2),
    "pool": lambda y: F.max_pool2d(y[1], 2),
    "channel_shuffle": lambda y: F.channel_shuffle(y[0], 2),
    "softmax of channels": lambda y: y[0].softmax(-3),
}


@pytest.mark.parametrize("name", ITEMS)
def test_one_image_of_a_batch(name: str) -> None:
    check(OfOneMap(nn.Conv2d(3, 8, 1), ITEMS[name]), (2, 3, 4, 6))


ROWS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "softmax": lambda y: y.softmax(-1),
    "layer norm": lambda y: F.layer_norm(y, (8,)),
    "residual": lambda y: y + y.sigmoid(),
    "dot product": lambda y: y @ y,
    "outer product": lambda y: y[:, None] @ y[None],
    "glu": lambda y: F.glu(y, -1),
    "mean": torch.mean,
    "maximum": torch.amax,
    "join": lambda y: torch.cat([y, y.tanh()]),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_vector_through_a_linear_layer(name: str) -> None:
    check(OfOneMap(nn.Sequential(nn.Linear(6, 8), nn.PReLU()), ROWS[name]), (6,))


class Norms(nn.Module):
    """A batch norm that normalizes what is no channel of the convolution before it."""

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 8, 1), (3, 8)),
        (nn.Conv2d(3, 8, 1), (3, 8, 8)),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2)), (3, 4, 4)),
        (nn.ConvTranspose2d(3, 8, 2, stride=2), (3, 4, 4)),
    ],
)
def test_a_batch_norm_behind_one_image_is_not_folded_along_its_channels(
    layer: nn.Module, shape: tuple[int, ...]
) -> None:
    norm = nn.BatchNorm1d(8)
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        assert isinstance(tensor, Tensor)
        tensor.uniform_(0.5, 1.5)
    check(Norms(layer, norm), shape)


@pytest.mark.parametrize("shape", [(0, 3, 7, 6), (0, 3, 9, 9)])
@pytest.mark.parametrize("name", ["conv", "transposed", "max_pool", "avg_pool", "pad reflect", "residual", "softmax"])
def test_an_empty_batch(name: str, shape: tuple[int, ...]) -> None:
    net = OfOneMap(*_window_cases(2)[name]).eval()
    if name == "softmax":
        net = OfOneMap(nn.Conv2d(3, 8, 1), lambda y: y.softmax(1)).eval()
    model = qfx.quantize_fx(net, DEFAULT, [torch.randn(2, 3, 7, 6)])
    assert model(torch.randn(shape)).shape == net(torch.randn(shape)).shape


@pytest.mark.parametrize("shape", [(2, 3, 0, 6), (2, 3, 6, 1), (2, 3, 0, 0)])
def test_what_torch_refuses_is_an_input_error(shape: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    model = qfx.quantize_fx(net, DEFAULT, [torch.randn(2, 3, 7, 6)])
    with pytest.raises(RuntimeError, match=r"Kernel size|non-zero"):
        net(torch.randn(shape))
    with pytest.raises(InputError):
        model(torch.randn(shape))


def test_a_model_prepared_without_inputs_takes_values_without_a_batch() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2)).eval()
    prepared = qfx.prepare_fx(net, DEFAULT)
    prepared(torch.randn(3, 7, 6))
    assert qfx.convert_fx(prepared)(torch.randn(3, 7, 6)).shape == (8, 2, 2)


def calibrated(prepared: qfx.PreparedModel, x: Tensor) -> qfx.PreparedModel:
    prepared(x)
    return prepared


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8)),
        nn.Sequential(nn.Conv2d(3, 7, 1), nn.BatchNorm1d(7)),
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 4, 2, (2, 1))),
    ],
)
def test_where_a_batch_makes_a_difference_it_is_told_and_the_remedy_works(net: nn.Module) -> None:
    prepared = qfx.prepare_fx(net.eval(), DEFAULT)
    x = torch.randn(3, 7, 7)
    with pytest.raises(InputError, match=r"without a batch dimension|does not run") as error:
        qfx.convert_fx(calibrated(prepared, x))
    assert "example_inputs" in str(error.value.remedy)
    prepared = qfx.prepare_fx(net, DEFAULT, x)
    prepared(x)
    assert qfx.convert_fx(prepared)(x).shape == net(x).shape
