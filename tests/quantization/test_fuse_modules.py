from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import qfx
import qfx.nn.intrinsic as nni
from qfx.errors import ConversionError
from qfx.quantization import fuse_known_modules, fuse_modules
from tests.nets import settle

FUSIONS = [
    pytest.param(("Conv", "ReLU"), marks=pytest.mark.inventory("S190", "S211", "S087")),
    pytest.param(("Conv", "BatchNorm"), marks=pytest.mark.inventory("S190", "S212", "S087")),
    pytest.param(("Conv", "BatchNorm", "ReLU"), marks=pytest.mark.inventory("S190", "S213", "S087")),
]


def net(kinds: tuple[str, ...], dims: int, bias: bool = True) -> nn.Sequential:
    """The layers in a row under "0", "1", "2", with batch norm statistics that are not trivial; in training mode."""
    made = [
        nn.ReLU()
        if kind == "ReLU"
        else getattr(nn, f"Conv{dims}d")(3, 4, 3, padding=1, bias=bias)
        if kind == "Conv"
        else getattr(nn, f"BatchNorm{dims}d")(4)
        for kind in kinds
    ]
    for module in made:
        if "BatchNorm" in type(module).__name__:
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return settle(nn.Sequential(*made), 4, 3, *[7] * dims).train()  # type: ignore[return-value]


def operations(graph: torch.fx.GraphModule) -> int:
    return sum(node.op == "call_function" for node in graph.graph.nodes)


@pytest.mark.parametrize("kinds", FUSIONS)
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
class TestConvolutions:
    def test_evaluation_folds_the_batch_norm(self, kinds: tuple[str, ...], dims: int, bias: bool) -> None:
        model = net(kinds, dims, bias).eval()
        x = torch.randn(4, 3, *[7] * dims)
        fused = fuse_modules(model, [str(i) for i in range(len(kinds))])
        wanted = getattr(nni, f"ConvReLU{dims}d") if "ReLU" in kinds else getattr(nn, f"Conv{dims}d")
        assert type(fused[0]) is wanted
        assert all(type(m) is nn.Identity for m in fused[1:])
        torch.testing.assert_close(fused(x), model(x), rtol=1e-5, atol=1e-5)
        assert not any("BatchNorm" in type(m).__name__ for m in fused.modules())

    def test_training_keeps_it(self, kinds: tuple[str, ...], dims: int, bias: bool) -> None:
        model = net(kinds, dims, bias)
        x = torch.randn(4, 3, *[7] * dims)
        fused = fuse_modules(model, [str(i) for i in range(len(kinds))])
        assert type(fused[0]) is getattr(nni, "".join(kinds).replace("BatchNorm", "Bn") + f"{dims}d")
        assert fused.training
        torch.testing.assert_close(fused(x), model(x), rtol=1e-5, atol=1e-5)

    def test_graph_mode_fuses_the_same(self, kinds: tuple[str, ...], dims: int, bias: bool) -> None:
        model = net(kinds, dims, bias).eval()
        x = torch.randn(4, 3, *[7] * dims)
        graph = qfx.fuse_fx(model)
        assert operations(graph) == 1
        torch.testing.assert_close(graph(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.inventory("S214")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_and_relu(training: bool, bias: bool) -> None:
    model = nn.Sequential(nn.Linear(6, 4, bias=bias), nn.ReLU()).train(training)
    x = torch.randn(3, 6)
    fused = fuse_modules(model, ["0", "1"])
    assert type(fused[0]) is nni.LinearReLU
    assert torch.equal(fused(x), model(x))
    graph = qfx.fuse_fx(model.eval())
    assert operations(graph) == 1
    torch.testing.assert_close(graph(x), model(x), rtol=1e-5, atol=1e-5)


def test_linear_and_batch_norm_fold_in_evaluation_only() -> None:
    model = settle(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), 8, 6)
    x = torch.randn(3, 6)
    fused = fuse_modules(model, ["0", "1"])
    assert type(fused[0]) is nn.Linear
    torch.testing.assert_close(fused(x), model(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ConversionError, match="can't be fused in training"):
        fuse_modules(model.train(), ["0", "1"])


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Sequential(net(("Conv", "BatchNorm"), 2), nn.ReLU()))
        self.fc = nn.Sequential(nn.Linear(7, 5), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.a(x))


LISTS = [["a.0.0.0", "a.0.0.1", "a.0.1"], ["fc.0", "fc.1"]]


@pytest.mark.inventory("S087")
class TestFuseModules:
    def test_lists_of_nested_names(self) -> None:
        model = Nested().eval()
        x = torch.randn(2, 3, 7, 7)
        fused = fuse_modules(model, LISTS)
        assert type(fused.get_submodule("a.0.0.0")) is nni.ConvReLU2d
        assert type(fused.get_submodule("fc.0")) is nni.LinearReLU
        torch.testing.assert_close(fused(x), model(x), rtol=1e-5, atol=1e-5)
        assert type(model.fc[0]) is nn.Linear
        assert {name for name, _ in model.named_modules()} <= {name for name, _ in fused.named_modules()}

    def test_in_place(self) -> None:
        model = Nested().eval()
        assert fuse_modules(model, LISTS, inplace=True) is model
        assert type(model.fc[0]) is nni.LinearReLU

    @pytest.mark.parametrize("training", [False, True])
    def test_a_custom_fuser_is_called_as_torch_calls_it(self, training: bool) -> None:
        called = []

        def fuse(modules: list[nn.Module], is_qat: bool, additional: Any) -> list[nn.Module]:
            called.append((is_qat, additional))
            return [nn.Sequential(*modules), nn.Identity()]

        model = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid()).train(training)
        rules = {(nn.Linear, nn.Tanh): nn.Sequential}
        custom = {"additional_fuser_method_mapping": rules}
        fused = fuse_modules(model, ["0", "1"], fuser_func=fuse, fuse_custom_config_dict=custom)
        assert type(fused[0]) is nn.Sequential
        assert called == [(training, rules)]
        with pytest.raises(ConversionError, match="returned 1 modules for 2"):
            fuse_modules(model, ["0", "1"], fuser_func=lambda modules, is_qat, additional: modules[:1])

    def test_the_default_fuser_by_name(self) -> None:
        fused = fuse_modules(nn.Sequential(nn.Linear(6, 4), nn.ReLU()), ["0", "1"], fuser_func=fuse_known_modules)
        assert type(fused[0]) is nni.LinearReLU

    @pytest.mark.parametrize("training", [False, True])
    def test_a_custom_rule_is_called_as_torch_calls_it(self, training: bool) -> None:
        def fuse(is_qat: bool, linear: nn.Module, sigmoid: nn.Module) -> nn.Module:
            assert is_qat is training
            return nn.Sequential(linear, sigmoid)

        rules = {"additional_fuser_method_mapping": {(nn.Linear, nn.Sigmoid): fuse}}
        model = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid()).train(training)
        fused = fuse_modules(model, ["0", "1"], fuse_custom_config_dict=rules)
        assert type(fused[0]) is nn.Sequential
        x = torch.randn(2, 6)
        assert torch.equal(fused(x), model(x))

    def test_hooks_and_qconfig_move_to_the_fused_module(self) -> None:
        model = Nested().eval()
        seen: list[str] = []
        model.fc[0].register_forward_pre_hook(lambda *_: seen.append("before"))
        model.fc[1].register_forward_hook(lambda *_: seen.append("after"))
        model.fc[0].qconfig = "kept"
        fused = fuse_modules(model, LISTS)
        fused(torch.randn(2, 3, 7, 7))
        assert seen == ["before", "after"]
        assert len(fused.fc[0]._forward_hooks) == 1
        assert fused.fc[0].qconfig == "kept"

    @pytest.mark.parametrize(
        ("layers", "reason"),
        [
            ([nn.ReLU(), nn.Linear(3, 3)], r"\[ReLU, Linear\] can't be fused"),
            ([nn.Conv2d(3, 4, 3), nn.BatchNorm3d(4)], r"\[Conv2d, BatchNorm3d\] can't be fused"),
            ([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)], "of 5 channels can't be folded into a Conv2d of 4"),
            ([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)], "without running statistics"),
            ([nn.Conv2d(3, 4, 3), nn.Sigmoid()], r"\[Conv2d, Sigmoid\] can't be fused"),
            ([nn.Conv2d(3, 4, 3).train(), nn.ReLU()], "not all in the same mode"),
        ],
    )
    def test_what_does_not_fit_raises(self, layers: list[nn.Module], reason: str) -> None:
        for module in layers[1:]:
            module.eval()
        if "mode" not in reason:
            layers[0].eval()
        with pytest.raises(ConversionError, match=reason):
            fuse_known_modules(layers)
        with pytest.raises(ConversionError, match=r"where: 0" if "fused" in reason else reason):
            fuse_modules(nn.Sequential(*layers), ["0", "1"])

    @pytest.mark.parametrize("lists", [["0"], [], [["0", "0"]], "0", [["0"], ["1", "2"]], [0, 1], [["0", 1]]])
    def test_what_is_no_list_of_names_raises(self, lists: Any) -> None:
        if lists == []:
            model = nn.Sequential(nn.Linear(2, 2))
            assert type(fuse_modules(model, lists)[0]) is nn.Linear
            return
        with pytest.raises(ConversionError, match="no list of modules to fuse"):
            fuse_modules(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), lists)

    def test_a_name_that_the_model_does_not_have_raises(self) -> None:
        with pytest.raises(ConversionError, match=r"no module 'fc\.7'"):
            fuse_modules(Nested().eval(), ["fc.0", "fc.7"])
