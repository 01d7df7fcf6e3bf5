"""Normalization: what graphs of table ops come out, and what stays opaque with which reason."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx import patterns
from qfx.frontends import capture, normalize, record_shapes
from qfx.ops import op_of
from tests.nets import settle

X = torch.randn(2, 4, 8, 8)


class Function(nn.Module):
    """A function of one image batch, behind a convolution so that channels and rank are known."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.stem, self.function = nn.Conv2d(4, 4, 1), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.stem(x))


def normal_of(model: nn.Module) -> fx.GraphModule:
    return normalize(capture(model))


def rows(graph_module: fx.GraphModule) -> Counter[str]:
    """How often each row is called."""
    return Counter(op.name for node in graph_module.graph.nodes if (op := op_of(node)) is not None)


def calls(graph_module: fx.GraphModule) -> list[tuple[str, dict[str, Any]]]:
    """Rows after the stem with their attributes, nodes shown as their names."""
    found = []
    for node in graph_module.graph.nodes:
        op = op_of(node)
        if op is not None and node.meta["module_path"] != "stem":
            extra = [argument for argument in node.args[1:] if not isinstance(argument, fx.Node)]
            found.append((op.name, repr((extra, dict(node.kwargs)))))
    return found


def reasons(graph_module: fx.GraphModule) -> list[str]:
    return [node.meta["opaque_reason"] for node in graph_module.graph.nodes if "opaque_reason" in node.meta]


def check(model: nn.Module, *inputs: Tensor) -> fx.GraphModule:
    """Normalizes and compares with the model."""
    normal = normal_of(model)
    inputs = inputs or (X,)
    with torch.no_grad():
        expected = model.eval()(*copy.deepcopy(inputs))
        torch.testing.assert_close(normal(*copy.deepcopy(inputs)), expected, rtol=1e-5, atol=1e-5)
    return normal


SPELLINGS: dict[str, list[Callable[[Tensor], Any]]] = {
    "relu": [
        nn.ReLU(), nn.ReLU(inplace=True), F.relu, torch.relu, torch.relu_, lambda x: x.relu_(),
        lambda x: F.relu(x, inplace=True), lambda x: F.relu(input=x), lambda x: x.relu(),
    ],
    "relu6": [
        nn.ReLU6(), F.relu6, nn.Hardtanh(0, 6), lambda x: F.hardtanh(x, 0.0, 6.0), lambda x: x.clamp(0, 6),
        lambda x: torch.clamp(x, min=0, max=6), lambda x: x.clip(0.0, max=6.0), lambda x: x.clamp_(0, 6),
        lambda x: torch.clip(x, 0, 6), lambda x: F.hardtanh(x, max_val=6, min_val=0, inplace=True),
    ],
    "add": [
        lambda x: x + x, lambda x: torch.add(x, x), lambda x: x.add(x), lambda x: x.add_(x),
        lambda x: torch.add(input=x, other=x), lambda x: x.add(other=x, alpha=1), lambda x: x.__add__(x),
        lambda x: torch.add(x, x, alpha=1.0), lambda x: x.add(other=x),
    ],
    "add_scalar": [
        lambda x: x + 3, lambda x: 3 + x, lambda x: x.add(3), lambda x: torch.add(x, 3.0), lambda x: x - (-3),
        lambda x: x.sub(-3), lambda x: x.add_(3), lambda x: torch.add(x, 1.5, alpha=2), lambda x: torch.sub(x, -3),
    ],
    "mul_scalar": [
        lambda x: x * 0.5, lambda x: 0.5 * x, lambda x: x / 2, lambda x: x.div(2), lambda x: torch.mul(x, 0.5),
        lambda x: x.mul_(0.5), lambda x: torch.div(x, 2.0), lambda x: x.true_divide(2), lambda x: x.multiply(0.5),
    ],
    "max_pool": [
        nn.MaxPool2d(2), nn.MaxPool2d((2, 2), stride=2), lambda x: F.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2, 2),
        lambda x: F.max_pool2d(x, kernel_size=(2, 2)), lambda x: torch.max_pool2d(x, 2), nn.MaxPool2d([2, 2]),
        lambda x: F.max_pool2d(input=x, kernel_size=2, stride=None), nn.MaxPool2d(2, 2, 0, 1, False, False),
    ],
    "mean": [
        lambda x: x.mean((2, 3)), lambda x: x.mean([2, 3]), lambda x: torch.mean(x, (2, 3)),
        lambda x: torch.mean(x, dim=[2, 3]), lambda x: x.mean(dim=(2, 3), keepdim=False),
        lambda x: torch.mean(input=x, dim=(2, 3)), lambda x: x.mean((2, 3), False),
    ],
    "flatten": [
        nn.Flatten(), nn.Flatten(1, -1), lambda x: x.flatten(1), lambda x: torch.flatten(x, 1),
        lambda x: torch.flatten(x, start_dim=1), lambda x: x.flatten(start_dim=1, end_dim=-1),
    ],
    "cat": [
        lambda x: torch.cat([x, x], 1), lambda x: torch.cat((x, x), dim=1), lambda x: torch.concat([x, x], 1),
        lambda x: torch.cat(tensors=[x, x], dim=1), lambda x: torch.concatenate([x, x], dim=1),
    ],
    "transpose": [
        lambda x: x.transpose(1, 2), lambda x: torch.transpose(x, 1, 2), lambda x: x.swapaxes(1, 2),
        lambda x: torch.swapdims(x, 1, 2), lambda x: x.transpose(dim0=1, dim1=2),
    ],
    "halves": [
        lambda x: x.chunk(2, 1)[1], lambda x: torch.chunk(x, 2, dim=1)[1], lambda x: x.split(2, 1)[1],
        lambda x: torch.split(x, [2, 2], 1)[1], lambda x: x[:, 2:4], lambda x: x.narrow(1, 2, 2),
        lambda x: torch.split(x, split_size_or_sections=2, dim=1)[1], lambda x: torch.narrow(x, 1, 2, 2),
    ],
    "global pool": [
        nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((1, 1)), lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.adaptive_avg_pool2d(x, (1, 1)), lambda x: F.adaptive_avg_pool2d(input=x, output_size=[1, 1]),
    ],
    "upsample": [
        nn.Upsample(scale_factor=2), lambda x: F.interpolate(x, scale_factor=2), nn.UpsamplingNearest2d(scale_factor=2),
        lambda x: F.interpolate(x, scale_factor=(2.0, 2.0), mode="nearest"),
        lambda x: F.interpolate(x, None, 2.0), nn.Upsample(None, 2.0, "nearest"),
    ],
    "no op": [
        nn.Identity(), nn.Dropout(), F.dropout1d if False else nn.Dropout2d(), lambda x: x.contiguous(),
        lambda x: x.clone(), lambda x: x.detach(), lambda x: x.to(torch.float32), lambda x: x.float(),
        lambda x: F.dropout(x, 0.5, False), lambda x: x.to("cpu"), lambda x: x.type_as(x), lambda x: x.cpu(),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "index"), [(family, i) for family, spelled in SPELLINGS.items() for i in range(len(spelled))]
)
def test_spellings_of_one_op_give_one_graph(family: str, index: int) -> None:
    first = calls(normal_of(Function(SPELLINGS[family][0])))
    normal = check(Function(SPELLINGS[family][index]))
    assert calls(normal) == first
    assert not reasons(normal)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: 3 - x, {"rsub_scalar": 1}),
        (lambda x: 2 / (x * x + 1), {"mul": 1, "add_scalar": 1, "rdiv_scalar": 1}),
        (lambda x: x**2, {"square": 1}),
        (lambda x: torch.pow(x.abs(), 0.5), {"abs": 1, "pow_scalar": 1}),
        (lambda x: -x, {"neg": 1}),
        (lambda x: x - 2 * x, {"mul_scalar": 1, "sub": 1}),
        (lambda x: torch.add(x, x, alpha=3), {"mul_scalar": 1, "add": 1}),
        (lambda x: x * F.hardsigmoid(x.mean((2, 3), keepdim=True)), {"mean": 1, "hardsigmoid": 1, "mul": 1}),
        (lambda x: x.view(x.size(0), -1), {"size": 1, "reshape": 1}),
        (lambda x: x.reshape(x.shape[0] * x.shape[2], -1), {"size": 2, "reshape": 1}),
        (lambda x: F.interpolate(x[:, :, ::2, ::2], size=x.shape[2:], mode="bilinear"),
         {"slice": 2, "size": 2, "interpolate": 1}),
        (lambda x: x.unbind(1)[-1], {"select": 1}),
        (lambda x: x[..., None, 1:], {"slice": 1, "unsqueeze": 1}),
        (lambda x: F.glu(x, 1), {"slice": 2, "sigmoid": 1, "mul": 1}),
        (lambda x: torch.cat([x], 1), {}),
        (lambda x: F.pad(x, (1, 2)), {"pad": 1}),
        (lambda x: x.chunk(2, 3)[0], {"size": 1, "slice": 1}),
        (lambda x: torch.stack(x.split(2, 1)), {"slice": 2, "stack": 1}),
        (lambda x: x.permute(0, 2, 3, 1).flatten(1, 2).mT, {"permute": 1, "flatten": 1, "transpose": 1}),
        (lambda x: x.expand(3, *[-1] * 4)[0], {"expand": 1, "select": 1}),
    ],
)  # fmt: skip
def test_expressions(function: Callable[[Tensor], Any], expected: dict[str, int]) -> None:
    normal = check(Function(function))
    assert rows(normal) == {"conv": 1, **expected}
    assert not reasons(normal)


class PaddedConv(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, (3, 5), **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(
    ("options", "padding"),
    [
        ({"padding": "same", "dilation": (2, 1)}, ((2, 2), (2, 2))),
        ({"padding": "valid"}, ((0, 0), (0, 0))),
        ({"padding": (1, 2)}, ((1, 1), (2, 2))),
        ({"padding": (1, 2), "padding_mode": "reflect"}, ((0, 0), (0, 0))),
        ({"padding": "same", "padding_mode": "circular"}, ((0, 0), (0, 0))),
        ({"padding": 1, "padding_mode": "replicate", "groups": 2}, ((0, 0), (0, 0))),
    ],
)
def test_padding_of_convolutions(options: dict[str, Any], padding: tuple[tuple[int, int], ...]) -> None:
    normal = check(PaddedConv(**options))
    conv = next(node for node in normal.graph.nodes if op_of(node) and op_of(node).name == "conv")
    assert conv.kwargs["padding"] == padding
    assert rows(normal)["pad"] == ("padding_mode" in options)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_same_padding_of_an_even_kernel_is_lopsided() -> None:
    normal = check(nn.Sequential(nn.Conv2d(4, 4, 4, padding="same")))
    conv = next(node for node in normal.graph.nodes if op_of(node) is not None)
    assert conv.kwargs["padding"] == ((1, 2), (1, 2))


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_folded_under_its_own_path(affine: bool) -> None:
    model = settle(nn.Sequential(nn.BatchNorm2d(4, affine=affine)), 8, 4, 8, 8)
    normal = check(model)
    assert rows(normal) == {"channel_affine": 1}
    assert list(normal.state_dict()) == ["0.weight", "0.bias"]


def test_batch_norm_of_batch_statistics_stays() -> None:
    normal = check(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)))
    assert reasons(normal) == ["it normalizes by batch statistics"]


class SharedNorm(nn.Module):
    """One norm twice, and its weight read on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.bn(x)) * self.bn.weight.sum()


def test_a_path_with_two_meanings_gets_a_suffix() -> None:
    model = settle(SharedNorm(), 8, 4, 8, 8)
    nn.init.uniform_(model.bn.weight, 1, 2)
    normal = check(model)
    assert {"bn.weight", "bn.bias"} < set(normal.state_dict())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x.mean((2, 3))))


def test_tied_weights_stay_one_tensor() -> None:
    normal = check(Tied())
    tensors = {id(normal.get_parameter(str(n.target))) for n in normal.graph.nodes if n.op == "get_attr"}
    assert len(tensors) == 3


class Standardized(nn.Conv2d):
    """Weight standardization."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def test_weights_computed_from_constants_are_constants() -> None:
    normal = check(nn.Sequential(Standardized(4, 6, 3)))
    assert rows(normal) == {"conv": 1}
    assert not reasons(normal)


def _later_uses(x: Tensor) -> Tensor:
    y = x * 2
    z = y.relu_()
    return y + z


def _augmented(x: Tensor) -> Tensor:
    y = x * 2
    alias = y
    y += 1
    return alias * y


def _clone_is_apart(x: Tensor) -> Tensor:
    y = x * 2
    kept = y.clone()
    y.relu_()
    return kept - y


def _through_an_identity(x: Tensor) -> Tensor:
    y = x * 2
    y.contiguous().relu_()
    return y


@pytest.mark.parametrize("function", [_later_uses, _augmented, _clone_is_apart, _through_an_identity])
def test_changes_in_place(function: Callable[[Tensor], Tensor]) -> None:
    assert not reasons(check(Function(function)))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: torch.cumprod(x, 1), "no table op for torch.cumprod"),
        (lambda x: torch.cumsum(x, 1), "its operand is not known to be of integers"),
        (lambda x: x.sort(1)[0], "no table op for the tensor method sort"),
        (lambda x: F.max_pool2d_with_indices(x, 2)[0], "no table op for torch.nn.functional.max_pool2d_with_indices"),
        (lambda x: F.conv2d(x, x[:1, :, :3, :3]), "its weight is computed from activations"),
        (lambda x: x[:1, (x.argmax(1) * 0).flatten()], "it is indexed by a tensor among other items"),
        (lambda x: x[:, (x.argmax(1) * 0).flatten()], "it is indexed by what is not known to be integers"),
        (lambda x: x.select(1, x.argmax(1).max() * 0), "it is indexed by a tensor"),
        (lambda x: x.half(), "no table op for the tensor method half"),
        (lambda x: torch.softmax(x, 1, dtype=torch.float64), "its dim is not given, or it changes the dtype"),
        (
            lambda x: x * (x.shape[2] // 2) ** -0.5,
            "an operand is a number computed from shapes, not a tensor",
        ),
        (lambda x: x.clamp(min=x.mean()), "its bounds are tensors"),
    ],
)  # fmt: skip
def test_what_the_table_can_not_say_is_opaque(function: Callable[[Tensor], Any], reason: str) -> None:
    assert reason in reasons(check(Function(function)))


def test_unknown_layers_are_opaque() -> None:
    normal = check(nn.Sequential(nn.LPPool2d(2, 3), nn.ReLU()))
    assert reasons(normal) == ["no table op for torch.nn.modules.pooling.LPPool2d"]
    assert rows(normal) == {"relu": 1}


def _asserts(x: Tensor) -> Tensor:
    torch._assert(x.shape[1] == 4, "channels")
    unused = torch.sigmoid(x)
    del unused
    return x * 2


def test_assertions_and_dead_code_disappear() -> None:
    assert rows(check(Function(_asserts))) == {"conv": 1, "mul_scalar": 1}


def test_nodes_remember_how_they_were_spelled() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Function(lambda x: F.relu(x.sigmoid())))
    aliases = {n.meta["alias"]: n.meta.get("module_class") for n in normal_of(model).graph.nodes if op_of(n)}
    assert aliases == {nn.Conv2d: nn.Conv2d, F.relu: None, "sigmoid": None}


def test_the_captured_graph_is_not_changed() -> None:
    captured = capture(Function(_later_uses))
    before = str(captured.graph)
    normalize(captured)
    assert str(captured.graph) == before


def test_opaque_call_gets_real_shapes_and_pieces() -> None:
    normal = check(Function(lambda x: torch.broadcast_to(torch.hstack(x.split(2, 1)), x.shape)))
    assert "a call outside the table reads the whole shape" in reasons(normal)
    assert all("opaque_reason" in n.meta or op_of(n) for n in normal.graph.nodes if n.op.startswith("call"))


class Diamonds(nn.Module):
    """Forty times, two readers of one value meet again."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(40):
            x = torch.tanh(x) + torch.sigmoid(x) * 0.5
        return x.flatten(1).unflatten(1, (4, -1))


def test_diamonds_take_linear_time() -> None:
    assert rows(normal_of(Diamonds()))["add"] == 40


class Resized(nn.Module):
    """What it knows about its input's rank, the layers that read it know."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.layer(x), size=x.shape[2:], mode="bilinear")


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 4, 3, 2), nn.MaxPool2d(2), nn.Sequential(nn.ReLU(), nn.AvgPool2d(3))])
def test_ranks_of_inputs_come_from_their_readers(layer: nn.Module) -> None:
    assert reasons(check(Resized(layer))) == []


def test_ranks_of_inputs_come_from_example_inputs() -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(x.flip(1), size=x.shape[2:], mode="nearest").movedim(1, -1)

    captured = capture(Same())
    assert len(reasons(normalize(captured))) > 1
    normal = normalize(record_shapes(captured, (X,)))
    assert reasons(normal) == ["no table op for the tensor method flip"]
    assert torch.equal(normal(X[:1, :, :5]), Same()(X[:1, :, :5]))


def test_no_size_becomes_a_constant_by_example_inputs() -> None:
    class Sizes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], x.shape[1] * x.shape[2], -1)

    normal = normalize(record_shapes(capture(Sizes()), (X,)))
    assert normal(torch.randn(3, 2, 5, 7)).shape == (3, 10, 7)


def test_flatten_behind_the_batch_gives_a_matrix_whatever_came_before() -> None:
    model = settle(nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.BatchNorm1d(5)), 8, 4, 8, 8)
    folded = patterns.fold_batch_norm(normalize(capture(model)))
    assert rows(folded) == {"flatten": 1, "linear": 1}


@pytest.mark.parametrize(
    ("function", "row"),
    [
        (lambda x: x.sum((2, 3)), "sum"), (lambda x: torch.sum(x, dim=1, keepdim=True), "sum"),
        (lambda x: x.amax((2, 3)), "amax"), (lambda x: torch.amax(x, 1, True), "amax"),
        (lambda x: x.max(1).values, "amax"), (lambda x: torch.max(x, dim=-1, keepdim=True)[0], "amax"),
        (torch.max, "amax"),
    ],
)  # fmt: skip
def test_sums_and_maxima(function: Callable[[Tensor], Tensor], row: str) -> None:
    normal = check(Function(function))
    assert reasons(normal) == []
    assert rows(normal)[row] == 1


@pytest.mark.parametrize(
    "function",
    [lambda x: x.max(1), lambda x: x.max(1)[1], lambda x: x.max(1).indices, lambda x: torch.max(x, x * 2),
     lambda x: x.sum(1, dtype=torch.float64)],
)  # fmt: skip
def test_maxima_with_places_stay_as_they_are(function: Callable[[Tensor], Any]) -> None:
    assert reasons(normal_of(Function(function)))


def test_attention_in_one_call_is_one_op() -> None:
    mask = torch.randn(8, 8)
    normal = check(Function(lambda x: F.scaled_dot_product_attention(x, x * 2, x, mask, scale=0.25)))
    assert reasons(normal) == []
    assert rows(normal) == {"conv": 1, "mul_scalar": 1, "attention": 1}
    causal = check(Function(lambda x: F.scaled_dot_product_attention(x, x * 2, x, is_causal=True, scale=0.25)))
    assert rows(causal) == {"conv": 1, "mul_scalar": 1, "attention": 1}
    assert reasons(normal_of(Function(lambda x: F.scaled_dot_product_attention(x, x, x, mask, is_causal=True))))


@pytest.mark.parametrize(
    ("equation", "moves"),
    [("bhid,bhdj->bhij", 0), ("bhid,bhjd->bhij", 1), ("bihd, bjhd -> bhij", 2), ("bhid,bhjd->bhji", 2),
     ("hbid,hbdj->hbij", 0), ("dabc,eabc->dabe", 3)],
)  # fmt: skip
def test_einsum_of_two_is_a_product(equation: str, moves: int) -> None:
    normal = check(Function(lambda x: torch.einsum(equation, x, x * 2)), torch.randn(4, 4, 4, 4))
    assert reasons(normal) == []
    assert rows(normal)["matmul"] == 1
    assert rows(normal)["permute"] == moves
    check(Function(lambda x: torch.einsum(equation, [x, x * 2])), torch.randn(4, 4, 4, 4))


def test_einsum_without_a_result_sums_what_both_have() -> None:
    assert rows(check(Function(lambda x: torch.einsum("ij, kj", x[0, 0], x[0, 1]))))["matmul"] == 1


@pytest.mark.parametrize(
    "equation", ["nchw,nchw->nchw", "nchw,nchw->n", "nchh,nchk->nck", "...d,...d->...", "nchw,kwij->nchkij"]
)
def test_other_einsums_stay_float(equation: str) -> None:
    (reason,) = reasons(normal_of(Function(lambda x: torch.einsum(equation, x, x))))
    assert equation in reason
    (reason,) = reasons(normal_of(Function(lambda x: torch.einsum("nchw->nc", x))))
    assert reason == "it is not of two operands"


def test_scaled_sums_with_a_product() -> None:
    normal = check(Function(lambda x: torch.baddbmm(x[0], x[1], x[0], beta=0.5, alpha=2)))
    assert rows(normal)["matmul"] == rows(normal)["add"] == 1
    assert rows(normal)["mul_scalar"] == 2
    assert rows(check(Function(lambda x: torch.addmm(x[0, 0], x[0, 1], x[1, 0], beta=0))))["add"] == 0


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_heads_of_pixels_have_a_width_whatever_the_strides_of_the_layers_before(stride: int) -> None:
    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, stride), nn.Conv2d(8, 16, 3, stride, 1)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.second(self.first(x)).flatten(2).transpose(1, 2)
            b, n, _ = tokens.shape
            heads = tokens.reshape(b, n, 2, -1).transpose(1, 2)
            return F.scaled_dot_product_attention(heads, heads, heads)

    normal = normal_of(Pixels().eval())
    assert reasons(normal) == []
    assert rows(normal)["attention"] == 1


def test_queries_share_heads_of_keys() -> None:
    def attend(x: Tensor) -> Tensor:
        keys = x.reshape(-1, 2, 16, 8)
        return F.scaled_dot_product_attention(x.reshape(-1, 4, 8, 8), keys, keys * 2, enable_gqa=True)

    normal = check(Function(attend))
    assert reasons(normal) == []
    assert rows(normal)["attention"] == 1
    as_many = check(Function(lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.25, enable_gqa=True)))
    assert reasons(as_many) == []
    assert rows(normal)["expand"] == rows(as_many)["expand"] == 0


def test_heads_that_cannot_be_shared_say_so() -> None:
    def attend(x: Tensor) -> Tensor:
        keys = x.reshape(-1, 3, 16, 8)
        return F.scaled_dot_product_attention(x.reshape(-1, 4, 8, 8), keys, keys, enable_gqa=True)

    (reason,) = reasons(normal_of(Function(attend)))
    assert "4 heads of queries don't share 3 of keys evenly" in reason


def test_a_tensor_times_a_number_computed_from_shapes_is_a_tensor_to_what_follows() -> None:
    normal = check(Function(lambda x: (x * x.shape[3] ** -0.5).relu() @ x))
    assert len(reasons(normal)) == 2  # the power and the product
    assert rows(normal)["relu"] == rows(normal)["matmul"] == 1
