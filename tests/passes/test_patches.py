"""Convolutions of transformers under a dynamic qconfig: which become linear layers, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.lowering.interpreter import interpret_integers

DYNAMIC = {"": qfx.default_dynamic_qconfig}
SAYS = "computed as a linear layer"
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Embeds(nn.Module):
    """A convolution, and an attention over the points of its result."""

    def __init__(self, patch: nn.Module, before: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.patch, self.before = patch, before
        *_, last = (m for m in patch.modules() if isinstance(m, CONVOLUTIONS))
        self.norm, self.out = nn.LayerNorm(last.out_channels), nn.Linear(last.out_channels, last.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.before is None else self.before(x)
        x = self.patch(x).flatten(-self.spatial).transpose(-2, -1)
        y = self.norm(x)
        return x + self.out(F.scaled_dot_product_attention(y, y, y))

    @property
    def spatial(self) -> int:
        layer: Any = next(m for m in self.patch.modules() if isinstance(m, CONVOLUTIONS))
        return len(layer.kernel_size)


class Added(nn.Module):
    """A patch convolution with a residual and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(3, 16, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.one(x) + self.other(x))


def last_and_back(x: Tensor) -> Tensor:
    """Normalized with channels last, as between the stages of a network."""
    return F.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)


def built(make: Callable[[], nn.Module], before: Callable[[Tensor], Tensor] | None = None) -> Embeds:
    torch.manual_seed(3)
    return Embeds(make(), before).eval()


ARE: dict[str, tuple[Callable[[], Embeds], tuple[int, ...], tuple[int, ...]]] = {
    # the network, the example's shape, that of another call
    "squares": (lambda: built(lambda: nn.Conv2d(3, 16, 8, 8)), (2, 3, 32, 24), (1, 3, 16, 48)),
    "squares that leave a rest": (lambda: built(lambda: nn.Conv2d(3, 16, 7, 7)), (2, 3, 32, 24), (3, 3, 20, 36)),
    "rectangles": (lambda: built(lambda: nn.Conv2d(3, 16, (4, 2), (4, 2))), (2, 3, 16, 8), (1, 3, 8, 12)),
    "no bias": (lambda: built(lambda: nn.Conv2d(3, 16, 4, 4, bias=False)), (2, 3, 16, 8), (1, 3, 8, 8)),
    "one channel": (lambda: built(lambda: nn.Conv2d(1, 16, 4, 4)), (2, 1, 16, 8), (1, 1, 8, 8)),
    "points": (lambda: built(lambda: nn.Conv2d(5, 16, 1)), (2, 5, 3, 4), (1, 5, 4, 4)),
    "pieces of a sound": (lambda: built(lambda: nn.Conv1d(2, 16, 10, 10)), (2, 2, 45), (1, 2, 60)),
    "tubes": (lambda: built(lambda: nn.Conv3d(3, 16, (2, 4, 4), (2, 4, 4))), (2, 3, 4, 9, 8), (1, 3, 2, 8, 8)),
    "points dilated": (lambda: built(lambda: nn.Conv2d(5, 16, 1, dilation=2)), (2, 5, 3, 4), (1, 5, 4, 4)),
    "behind a norm": (lambda: built(lambda: nn.Conv2d(8, 16, 2, 2), last_and_back), (2, 8, 5, 6), (1, 8, 4, 4)),
    "points behind a norm": (lambda: built(lambda: nn.Conv2d(8, 16, 1), last_and_back), (2, 8, 5, 6), (1, 8, 4, 4)),
    "behind a function": (
        lambda: built(lambda: nn.Conv2d(3, 16, 4, 4), lambda x: x * 0.5 - 1.0), (2, 3, 8, 8), (1, 3, 8, 4)
    ),
    "batch norm": (
        lambda: built(lambda: nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16))), (2, 3, 8, 8), (1, 3, 8, 4)
    ),
    "activation": (lambda: built(lambda: nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU())), (2, 3, 8, 8), (1, 3, 8, 4)),
    "residual": (lambda: built(Added), (2, 3, 8, 8), (1, 3, 8, 4)),
    "no batch": (lambda: built(lambda: nn.Conv2d(3, 16, 4, 4)), (3, 8, 12), (3, 8, 12)),
    "one behind another": (
        lambda: built(lambda: nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.Conv2d(8, 16, 2, 2))), (2, 3, 8, 8), (1, 3, 8, 4)
    ),
}  # fmt: skip


def meeting(*args: Any, **kwargs: Any) -> Callable[[], Embeds]:
    """A network whose patches share elements, or leave some out."""
    kind = kwargs.pop("kind", nn.Conv2d)
    return lambda: built(lambda: kind(*args, **kwargs))


def stem() -> nn.Module:
    """The first layers of an encoder of sounds."""
    layers = [nn.Conv1d(16, 32, 3, padding=1), nn.GELU(), nn.Conv1d(32, 32, 3, 2, padding=1), nn.GELU()]
    return nn.Sequential(*layers)


def with_residual() -> nn.Module:
    """A block of images around which its input goes."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(32, 32, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x + self.conv(x))

    return nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.SiLU(), Block())


ARE |= {
    "overlap": (meeting(8, 32, 4, 2), (2, 8, 16, 12), (1, 8, 9, 10)),
    "gaps": (meeting(8, 32, 2, 4), (2, 8, 16, 12), (1, 8, 9, 10)),
    "points apart": (meeting(32, 32, 1, 2), (2, 32, 8, 7), (1, 32, 5, 6)),
    "padding": (meeting(4, 32, 4, 4, padding=2), (2, 4, 16, 12), (1, 4, 9, 8)),
    "padding of points": (meeting(32, 32, 1, padding=1), (2, 32, 4, 4), (1, 32, 3, 5)),
    "one side padded": (meeting(8, 32, 3, padding=(0, 1)), (2, 8, 5, 6), (1, 8, 4, 3)),
    "as long as before": (meeting(8, 32, 4, padding="same"), (2, 8, 5, 6), (1, 8, 4, 3)),
    "dilation": (meeting(8, 32, 2, 2, dilation=2), (2, 8, 8, 9), (1, 8, 5, 6)),
    "dilation and padding": (meeting(8, 32, (3, 2), padding=(2, 1), dilation=(2, 3)), (2, 8, 8, 9), (1, 8, 5, 6)),
    "another stride": (meeting(4, 32, (4, 2), (2, 4)), (2, 4, 8, 9), (1, 4, 5, 6)),
    "padding that repeats": (meeting(8, 32, 3, padding=1, padding_mode="replicate"), (2, 8, 5, 6), (1, 8, 4, 3)),
    "sounds": (meeting(16, 32, 3, 2, 1, kind=nn.Conv1d), (2, 16, 20), (1, 16, 15)),
    "films": (meeting(4, 32, (3, 2, 2), (1, 2, 1), kind=nn.Conv3d), (2, 4, 5, 4, 6), (1, 4, 4, 5, 5)),
    "overlap, behind a norm": (
        lambda: built(lambda: nn.Conv2d(8, 32, 3, padding=1), last_and_back), (2, 8, 5, 6), (1, 8, 4, 4)
    ),
    "a stem": (lambda: built(stem), (2, 16, 20), (1, 16, 30)),
    "a stem without a batch": (lambda: built(stem), (16, 20), (16, 30)),
    "a block with a residual": (lambda: built(with_residual), (2, 32, 5, 6), (1, 32, 4, 4)),
}  # fmt: skip


def seeded(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def convolutions(net: nn.Module) -> set[str]:
    return {name for name, m in net.named_modules() if isinstance(m, CONVOLUTIONS)}


def multiplied(model: Any) -> set[str]:
    return {r.module_path for r in model.report if any(SAYS in reason for reason in r.reasons)}


@pytest.mark.parametrize("name", ARE)
def test_convolutions_over_patches_are_linear_layers(name: str) -> None:
    make, shape, other = ARE[name]
    net, x = make(), seeded(*shape)
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(x,))
    assert multiplied(model) == convolutions(net)
    assert {r.decision for r in model.report if r.op == "linear"} == {"int8"}
    assert [part.executable is None for part in model.compiled.segments] == [False]
    for given in (x, seeded(*other)):
        with torch.no_grad():
            want = net(given)
        assert torch.equal(model(given), interpret_integers(model.graph_module(), (given,)).output)
        assert float((model(given) - want).square().sum() / want.square().sum()) < 1e-3


@pytest.mark.parametrize("name", ARE)
def test_the_layer_computes_what_the_convolution_did(name: str) -> None:
    make, shape, other = ARE[name]
    net = make()
    prepared = qfx.prepare_fx(net, DYNAMIC, example_inputs=(seeded(*shape),))
    for given in (seeded(*shape), seeded(*other)):
        torch.testing.assert_close(prepared(given), net(given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frontend", ["export", "torchscript"])
def test_other_frontends_give_the_same_layer(frontend: Any) -> None:
    net, x = ARE["squares that leave a rest"][0](), seeded(2, 3, 32, 24)
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(x,), frontend=frontend)
    assert multiplied(model) == {"patch"}
    assert torch.equal(model(x), qfx.quantize_fx(net, DYNAMIC, example_inputs=(x,))(x))


LEFT: dict[str, Callable[[], nn.Module]] = {
    "groups": lambda: nn.Conv2d(2, 16, 4, 4, groups=2),
    "groups that overlap": lambda: nn.Conv2d(64, 64, 3, groups=2),
    "channels alone": lambda: nn.Conv2d(64, 64, 3, groups=64),
    "few features that overlap": lambda: nn.Conv2d(3, 64, 3),
    "few outputs that overlap": lambda: nn.Conv2d(64, 24, 3),
}


@pytest.mark.parametrize("name", LEFT)
def test_other_convolutions_stay_float(name: str) -> None:
    net = built(LEFT[name])
    x = seeded(2, net.patch.in_channels, 16, 16)  # type: ignore[arg-type]
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(x,))
    assert {r.decision for r in model.report if r.op == "conv"} == {"float"}
    assert not multiplied(model)


def test_convolutions_between_others_stay_with_them() -> None:
    between = [nn.Conv2d(8, 8, 1), nn.SiLU(), nn.Conv2d(8, 32, 3), nn.Conv2d(32, 8, 1)]
    layers = [nn.Conv2d(3, 8, 3), *between, nn.Conv2d(8, 8, 3), nn.Conv2d(8, 32, 3), nn.Conv2d(32, 16, 1)]
    net = built(lambda: nn.Sequential(*layers))
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(seeded(2, 3, 12, 12),))
    assert multiplied(model) == {"patch.6", "patch.7"}
    assert {r.module_path for r in model.report if r.op == "conv"} == {f"patch.{i}" for i in (0, 1, 3, 4, 5)}


def test_networks_without_attention_are_left() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4)).eval()
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(seeded(2, 3, 8, 8),))
    assert [r.decision for r in model.report if r.op == "conv"] == ["float"]


def test_the_qconfig_of_the_convolution_decides() -> None:
    net, x = ARE["squares"][0](), seeded(2, 3, 32, 24)
    for qconfig, op, decision in ((None, "conv", "float"), (qfx.get_default_qconfig(), "conv", "int8")):
        model = qfx.quantize_fx(net, {**DYNAMIC, "module_name": [("patch", qconfig)]}, [x])
        assert {(r.op, r.decision) for r in model.report if r.module_path == "patch" and r.is_layer} == {(op, decision)}
    static = {"": qfx.get_default_qconfig(), "module_name": [("patch", qfx.default_dynamic_qconfig)]}
    assert multiplied(qfx.quantize_fx(net, static, [x])) == {"patch"}


WEIGHTS = {
    "float16": qfx.float16_dynamic_qconfig,
    "bfloat16": qfx.bfloat16_dynamic_qconfig,
    "4 bits": qfx.int4_weight_only_qconfig,
    "a scale a row": qfx.weight_only_qconfig(8, None),
    "a scale a tensor": qfx.per_tensor_dynamic_qconfig,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_stored_as_those_of_linear_layers(name: str) -> None:
    net, x = ARE["squares"][0](), seeded(2, 3, 32, 24)
    model = qfx.quantize_fx(net, {"module_name": [("patch", WEIGHTS[name])]}, [x])
    assert multiplied(model) == {"patch"}
    in_torch = [node.name for p in model.compiled.segments if p.executable is None for node in p.segment.nodes]
    assert "patch" not in in_torch
    torch.testing.assert_close(model(x), interpret_integers(model.graph_module(), (x,)).output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name != "a scale a tensor"])
def test_weights_alone_do_not_pay_for_copies(name: str) -> None:
    net, x = ARE["overlap"][0](), seeded(2, 8, 16, 12)
    model = qfx.quantize_fx(net, {"module_name": [("patch", WEIGHTS[name])]}, [x])
    assert [(r.op, r.decision) for r in model.report if r.module_path == "patch"] == [("conv", "float")]


def test_a_width_that_no_group_divides_leaves_the_convolution() -> None:
    net, x = built(lambda: nn.Conv2d(3, 16, 7, 7)), seeded(2, 3, 28, 28)
    model = qfx.quantize_fx(net, {"": qfx.int4_weight_only_qconfig}, [x])
    assert [r.op for r in model.report if r.module_path == "patch"] == ["conv"]


def test_the_layer_keeps_the_names_of_the_convolution() -> None:
    net, x = ARE["squares"][0](), seeded(2, 3, 32, 24)
    model = qfx.quantize_fx(net, DYNAMIC, [x])
    assert [(r.name, r.op) for r in model.report if r.module_path == "patch"] == [("patch", "linear")]
    assert model.state_dict()["patch.weight"].shape == (16, 3 * 8 * 8)


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("squares", 1), ("points", 1), ("behind a norm", 2), ("points behind a norm", 1), ("a stem", 1),
        ("overlap, behind a norm", 1),
    ],
)  # fmt: skip
def test_elements_move_no_more_than_they_must(name: str, moves: int) -> None:
    """To rows of patches once, of an image that comes with its channels first once more; rows are where they belong."""
    make, shape, _ = ARE[name]
    x = seeded(*shape)
    model = qfx.quantize_fx(make(), DYNAMIC, [x])
    model(x)
    (part,) = model.explain().parts
    assert sum(step.op == "permute" for step in part.steps) == moves  # type: ignore[union-attr]
