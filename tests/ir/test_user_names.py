"""No name that a float module allows meets one of ours: all of them at once, in one model, through every stage."""

from __future__ import annotations

import copy
import keyword
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import qfx
from qfx.ir.user_names import MARK, token_path, user_path
from qfx.models import PreparedModel, QuantizedModel
from qfx.training.model import TrainableModel

DEFAULT = {"": qfx.get_default_qconfig()}
X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def attributes() -> set[str]:
    """Everything that an instance of one of our classes, or a GraphModule, has."""
    prepared = qfx.prepare_fx(Plain().eval(), DEFAULT, (X,))
    prepared(X)
    trained = qfx.prepare_qat_fx(Plain(), {"": qfx.get_default_qat_qconfig()}, (X,))
    holders: list[Any] = [prepared, qfx.convert_fx(prepared), trained, fx.symbolic_trace(Plain())]
    for holder in holders:
        holder(X)
    return {name for holder in holders for name in (*dir(holder), *vars(holder))}


ODD = ("self", "1", "a b", "class", "None", "lambda", "x", "torch", "print", "fc_1", "h-w", "ä", "ﬁ",
        "graph_", "_", "args", "kwargs", "root", "output", "relu", "linear", "scale")  # fmt: skip
UNPRINTABLE = ('a"b', "back\\slash", "line\nbreak", "'quoted'", "{brace}", "tab\t", "")


def allowed(name: str) -> bool:
    if name.startswith("__"):  # protocols of Python's, which break the float model
        return False
    try:
        nn.Module().add_module(name, nn.Identity())
    except (KeyError, ValueError):
        return False
    return True


NAMES = sorted({n for n in (*attributes(), *keyword.kwlist, *ODD, *UNPRINTABLE) if allowed(n) and n != "fc"})


def test_the_walk_is_over_what_it_should_be() -> None:
    listed = "graph code report meta info isa compiled profile self level explain bind preserved class running_graph"
    assert set(f"{listed} _compiled _graph _forms recompile".split()) <= set(NAMES)


class Children(nn.Module):
    """A layer under each name; deeper, each name inside a layer of another name."""

    def __init__(self, names: list[str], prefix: str = "", kind: Any = None) -> None:
        super().__init__()
        self.names = [prefix + name for name in names]
        for name in self.names:
            self.add_module(name, nn.Linear(4, 4) if kind is None else kind())

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = self._modules[name](x)
        return x


class Tensors(nn.Module):
    """A buffer or a parameter under each name."""

    def __init__(self, names: list[str], prefix: str = "") -> None:
        super().__init__()
        self.names = [prefix + name for name in names]
        for i, name in enumerate(self.names):
            if i % 2:
                self.register_buffer(name, torch.rand(4))
            else:
                self.register_parameter(name, nn.Parameter(torch.randn(4, 4) / 4))
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for i, name in enumerate(self.names):
            x = x * self._buffers[name] + 1 if i % 2 else torch.nn.functional.linear(x, self._parameters[name]).tanh()
        return self.fc(x)


class Deep(nn.Module):
    def __init__(self, names: list[str], prefix: str = "") -> None:
        super().__init__()
        self.inner = Children(names, prefix)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.inner(x))


MODELS = {"children": Children, "tensors": Tensors, "deep": Deep}


def made(kind: Any, prefix: str = "", names: list[str] = NAMES) -> nn.Module:
    torch.manual_seed(0)
    return kind(names, prefix).eval()


def renamed(key: str) -> str:
    """The key of the model whose names have a prefix, without it."""
    return key.replace("pre_", "")


KINDS = [
    pytest.param(kind, id=name, marks=[] if name == "children" else pytest.mark.slow) for name, kind in MODELS.items()
]


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest) -> tuple[Any, QuantizedModel, QuantizedModel]:
    kind = request.param
    return kind, qfx.quantize_fx(made(kind), DEFAULT, [X]), qfx.quantize_fx(made(kind, "pre_"), DEFAULT, [X])


def test_every_name_gives_the_numbers_and_keys_of_any_other(case: Any) -> None:
    kind, model, other = case
    assert torch.equal(model(X), other(X))
    paths = set(made(kind).state_dict())
    given, expected = set(model.state_dict()) & paths, {renamed(key) for key in other.state_dict()} & paths
    assert given == expected
    assert len(expected) >= len(paths) // 2
    assert not any(MARK in key for key in model.state_dict())


def test_reports_have_the_users_names(case: Any) -> None:
    _, model, other = case
    assert [record.module_path for record in model.report] == [renamed(record.module_path) for record in other.report]
    assert MARK not in str(model.report)


def test_state_and_copies(case: Any, tmp_path: Path) -> None:
    kind, model, _ = case
    expected, state = model(X), model.state_dict()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(X), expected)
        assert list(twin.state_dict()) == list(state)
    fresh = qfx.quantize_fx(made(kind), DEFAULT, [X * 2])
    fresh.load_state_dict(state)
    assert torch.equal(fresh(X), expected)
    held = nn.Sequential(model)
    held.load_state_dict({f"0.{key}": value for key, value in state.items()})
    assert set(held.state_dict()) == {f"0.{key}" for key in state}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(dict(list(state.items())[1:]))


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("kind", MODELS.values(), ids=list(MODELS))
def test_every_frontend(kind: Any, frontend: str) -> None:
    few = ["graph", "code", "self", "class", "_compiled", "report", "a b", 'a"b', "meta"]
    models = [qfx.quantize_fx(made(kind, p, few), DEFAULT, [X], frontend=frontend) for p in ("", "pre_")]
    assert torch.equal(models[0](X), models[1](X))
    assert not any(MARK in key for key in models[0].state_dict())


@pytest.mark.parametrize("kind", MODELS.values(), ids=list(MODELS))
def test_training(kind: Any) -> None:
    few = ["graph", "self", "class", "_forms", "report", "a b", 'a"b', "meta", "float_state_dict"]
    float_model = made(kind, names=few)
    model = qfx.prepare_qat_fx(float_model, {"": qfx.get_default_qat_qconfig()}, (X,))
    assert isinstance(model, TrainableModel)
    model(X).sum().backward()
    assert list(model.float_state_dict()) == list(float_model.state_dict())
    model.load_float_state_dict(float_model.state_dict())
    twin = pickle.loads(pickle.dumps(model.eval()))
    assert torch.equal(qfx.convert_fx(twin)(X), qfx.convert_fx(model.eval())(X))


def test_paths_lead_to_the_users_members() -> None:
    model = qfx.quantize_fx(made(Children), DEFAULT, [X])
    prepared = qfx.prepare_fx(made(Children), DEFAULT, (X,))
    assert isinstance(prepared, PreparedModel)
    state = model.state_dict(keep_vars=True)
    for name in NAMES:
        weight = model.get_buffer(f"{name}.weight")
        assert weight is state[f"{name}.weight"]
        assert model.get_submodule(name).weight is weight
        assert prepared.get_parameter(f"{name}.weight").shape == (4, 4)
    assert isinstance(model.graph, fx.Graph)
    assert model.report.decided("int8")


def test_comparison_pictures_and_rules_of_a_qconfig_dict() -> None:
    few = ["graph", "report", "class", "a b", "self"]
    float_model = made(Children, names=few)
    rules = {"": qfx.get_default_qconfig(), "module_name": [("graph", None), ("class", None)]}
    model = qfx.quantize_fx(float_model, rules, [X])
    assert [record.module_path for record in model.report.decided("float")] == ["graph", "class"]
    assert MARK not in str(qfx.compare(float_model, model, [X]))
    assert MARK not in str(qfx.to_dot(model))


def test_islands_and_whole_models() -> None:
    class Graph(nn.Module):
        """A class whose lowercase name is one of ours, and which does not trace."""

        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 1e9 else x + 1

    few = ["graph", "report", "class", "self", "code"]
    model = made(lambda names, prefix: nn.Sequential(Children(names, prefix, Graph), nn.Linear(4, 4)), names=few)
    quantized = qfx.quantize_fx(model, DEFAULT, [X], frontend="symbolic")
    assert len(quantized.report.decided("float")) >= len(few)
    quantized(X)


def test_preserved_attributes() -> None:
    model = Plain().eval()
    values = {"report": "mine", "graph": 3, "isa": {"a": [1]}, "labels": ("cat", "dog")}
    for name, value in values.items():
        setattr(model, name, value)
    rules = {**DEFAULT, "preserved_attributes": list(values)}
    prepared = qfx.prepare_fx(model, rules, (X,))
    prepared(X)
    quantized = qfx.convert_fx(prepared)
    for kept in (prepared, quantized, copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert kept.preserved == values
        assert kept.labels == values["labels"]
    assert isinstance(quantized.graph, fx.Graph)


def test_names_with_the_mark_are_refused() -> None:
    model = Plain().eval()
    model.add_module(f"graph{MARK}", nn.Linear(4, 4))
    with pytest.raises(qfx.InputError, match="are those of qfx's graphs"):
        qfx.quantize_fx(model, DEFAULT, [X])


@pytest.mark.parametrize("name", NAMES)
def test_tokens_stand_for_one_path(name: str) -> None:
    for path in (name, f"block.{name}", f"{name}.{name}"):
        token = token_path(path)
        assert token_path(token) == token
        assert user_path(token) == path
        assert all(part.isidentifier() or part == user_path(part) or MARK in part for part in token.split("."))


class ReadsFirst(nn.Module):
    """Reads a tensor inside of a module before it calls the module, at two depths."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.deep = nn.Linear(4, 4), nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.linear(x, self.fc.weight) + self.deep[0][0].bias
        return self.deep(self.fc(x))


@pytest.mark.parametrize("frontend", ["symbolic", "export", "torchscript"])
def test_a_module_and_what_is_in_it_are_read_in_any_order(frontend: str) -> None:
    net = ReadsFirst().eval()
    quantized = qfx.quantize_fx(net, DEFAULT, [(X,)], frontend=frontend)
    wanted = net(X)
    assert (quantized(X) - wanted).abs().max() < 0.05 * wanted.abs().max()
