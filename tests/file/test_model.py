"""A quantized model through a ``.qfx`` file is the same model."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qfx
from qfx.models import QuantizedModel
from qfx.ops.qdq.dynamic import requantize_dynamic
from qfx.ops.table import TABLE
from tests.nets import NETS, settle, small_net

DEFAULT = {"": qfx.get_default_qconfig()}
GENERATOR = torch.Generator().manual_seed(3)
X, OTHER = torch.randn(2, 4, 3, 16, 16, generator=GENERATOR)
IDS = torch.randint(0, 10, (3, 5), generator=GENERATOR)


class Tokens(nn.Module):
    """Modules of torch that stay as they are, functions outside the op table, and a result of many parts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(10, 12), nn.Linear(12, 4)
        self.lstm = nn.LSTM(12, 12, batch_first=True)

    def forward(self, ids: torch.Tensor) -> Any:
        x, _ = self.lstm(self.embed(ids))
        mean = torch.einsum("bik->bk", x) / x.shape[1]
        masked = torch.cumsum(mean, 1)[..., 1:].masked_fill(mean[:, 1:] > 0, -torch.inf)
        return self.fc(x.mean(1)), {"mean": mean}, masked


def _of_net(name: str) -> Callable[[], tuple[QuantizedModel, torch.Tensor]]:
    return lambda: (qfx.quantize_fx(small_net(name), DEFAULT, [X], adaptive_rounding=False), OTHER)


def _trained() -> tuple[QuantizedModel, torch.Tensor]:
    model = qfx.prepare_qat_fx(small_net("MobileNet"), {"": qfx.get_default_qat_qconfig()}, (X,))
    model(X).sum().backward()
    return qfx.convert_fx(model.eval()), OTHER


def _of_codes() -> tuple[QuantizedModel, torch.Tensor]:
    entry = {**DEFAULT, "input_quantized_idxs": [0], "output_quantized_idxs": [0]}
    return qfx.quantize_fx(small_net("ConvBnReluNet"), entry, [X]), torch.randint(0, 256, X.shape, dtype=torch.uint8)


def _mixed() -> tuple[QuantizedModel, torch.Tensor]:
    entry = {"": qfx.default_dynamic_qconfig, "module_name": [("fc", qfx.float16_dynamic_qconfig)]}
    return qfx.quantize_fx(Tokens().eval(), entry), IDS


MODELS: dict[str, Callable[[], tuple[QuantizedModel, torch.Tensor]]] = {
    **{name: _of_net(name) for name in NETS},
    "islands": lambda: (qfx.quantize_fx(Tokens().eval(), DEFAULT, [IDS]), IDS),
    "dynamic": lambda: (qfx.quantize_fx(Tokens().eval(), {"": qfx.default_dynamic_qconfig}), IDS),
    "float16": _mixed,
    "trained": _trained,
    "codes": _of_codes,
    "exported": lambda: (
        qfx.quantize_fx(Tokens().eval(), DEFAULT, [IDS], example_inputs=(IDS,), frontend="export"),
        IDS,
    ),
    "qnnpack": lambda: (
        qfx.quantize_fx(small_net("ResidualNet"), {"": qfx.get_default_qconfig("qnnpack")}, [X]),
        OTHER,
    ),
}


def through(model: Any, **options: Any) -> Any:
    file = io.BytesIO()
    qfx.save(model, file)
    file.seek(0)
    return qfx.load(file, **options)


def written(model: QuantizedModel) -> bytes:
    file = io.BytesIO()
    qfx.save(model, file)
    return file.getvalue()


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(v, theirs[k]) for k, v in ours.items())
    return type(ours) is type(theirs) and len(ours) == len(theirs) and all(map(same, ours, theirs))


@pytest.fixture(scope="module", params=MODELS)
def case(request: pytest.FixtureRequest) -> tuple[QuantizedModel, torch.Tensor]:
    torch.manual_seed(0)
    return MODELS[request.param]()


def test_a_loaded_model_is_the_same_model(case: tuple[QuantizedModel, torch.Tensor]) -> None:
    model, x = case
    loaded = through(model)
    assert type(loaded) is QuantizedModel
    assert not loaded.training
    assert same(loaded(x), model(x))
    assert list(loaded.report) == list(model.report)
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(same(ours[key], theirs[key]) for key in ours)
    assert str(loaded.explain()) == str(model.explain())


def test_the_file_of_a_loaded_model_and_of_its_copies_is_the_same_file(
    case: tuple[QuantizedModel, torch.Tensor],
) -> None:
    model, x = case
    file, loaded = written(model), through(model)
    loaded(x)
    for each in (model, loaded, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert written(each) == file


@pytest.mark.parametrize("mmap", [False, True])
def test_at_a_path(tmp_path: Path, mmap: bool) -> None:
    model, x = MODELS["MobileNet"]()
    path = tmp_path / "model.qfx"
    qfx.save(model, path)
    loaded = qfx.load(str(path), mmap=mmap)
    before = path.read_bytes()
    loaded.load_state_dict({k: torch.zeros_like(v) if k == "fc.weight" else v for k, v in model.state_dict().items()})
    qfx.save(model, str(path))
    assert path.read_bytes() == before  # what is changed in memory does not reach the file
    assert not same(loaded(x), model(x))
    assert same(qfx.load(path)(x), model(x))
    assert [p.name for p in tmp_path.iterdir()] == ["model.qfx"]


def test_loading_in_a_process_that_has_seen_nothing_else(tmp_path: Path) -> None:
    model, x = MODELS["islands"]()
    qfx.save(model, tmp_path / "model.qfx")
    torch.save(x, tmp_path / "x.pt")
    program = "import qfx, sys, torch; print(qfx.load(sys.argv[1])(torch.load(sys.argv[2]))[0].tolist())"
    arguments = [str(tmp_path / "model.qfx"), str(tmp_path / "x.pt")]
    ran = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == str(model(x)[0].tolist())


@pytest.mark.parametrize("reference", ["float", "prepared"])
def test_a_loaded_model_is_compared_like_the_model(reference: str) -> None:
    net = small_net("ResidualNet")
    prepared = qfx.prepare_fx(net, DEFAULT, (X,))
    prepared(X)
    model = qfx.convert_fx(prepared)
    against = net if reference == "float" else prepared
    assert str(qfx.compare(against, through(model), X)) == str(qfx.compare(against, model, X))


def test_a_model_that_knows_no_shapes_yet_learns_them_after_loading() -> None:
    model = qfx.quantize_fx(nn.Sequential(nn.Linear(6, 4), nn.Tanh()).eval(), {"": qfx.default_dynamic_qconfig})
    x = torch.randn(3, 6)
    assert same(through(model)(x), model(x))


def test_tensors_that_are_one_stay_one() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.fc = nn.Embedding(10, 12), nn.Embedding(10, 12), nn.Linear(12, 4)
            self.second.weight = self.first.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.fc((self.first(ids) + self.second(ids + 1)).mean(1))

    loaded = through(qfx.quantize_fx(Tied().eval(), DEFAULT, [IDS % 9]))
    assert loaded.first.weight is loaded.second.weight


def test_preserved_attributes_are_kept() -> None:
    net = small_net("ConvBnReluNet")
    net.labels, net.mean, net.size = ["cat", "dog"], torch.tensor([0.5, 0.25]), {"width": (16, 16), "scale": 0.1}
    entry = {**DEFAULT, "preserved_attributes": ["labels", "mean", "size"]}
    loaded = through(qfx.quantize_fx(net, entry, [X]))
    assert (loaded.labels, loaded.size) == (net.labels, net.size)
    assert torch.equal(loaded.mean, net.mean)


class Transform:
    """A user's own object."""


def test_a_preserved_attribute_of_a_users_class_is_told() -> None:
    net = small_net("ConvBnReluNet")
    net.transform = Transform()
    model = qfx.quantize_fx(net, {**DEFAULT, "preserved_attributes": ["transform"]}, [X])
    with pytest.raises(qfx.ConversionError, match=r"attribute 'transform' of the model holds a .*Transform"):
        written(model)


class Branching(nn.Module):
    """It can't be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.sum()) > 0 else x


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)
        self.part = nn.ModuleDict({"odd": Branching()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part["odd"](self.fc(x))


def test_a_module_that_could_not_be_traced_is_named_with_two_ways_out(tmp_path: Path) -> None:
    model = qfx.quantize_fx(Holder().eval(), DEFAULT, [X])
    with pytest.raises(qfx.ConversionError, match=r"Branching") as raised:
        qfx.save(model, tmp_path / "model.qfx")
    assert raised.value.where == "part.odd"
    assert "so that it traces" in str(raised.value)
    assert "torch.save" in str(raised.value)
    assert not list(tmp_path.iterdir())


def own(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.where(x > y, x, y)


torch.fx.wrap("own")


class Calling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return own(self.fc(x), x)


def test_a_function_of_a_users_own_is_named() -> None:
    model = qfx.quantize_fx(Calling().eval(), DEFAULT, [X])
    with pytest.raises(qfx.ConversionError, match=r"test_model\.own, which can't be stored") as raised:
        written(model)
    assert "qfx.register_op" in str(raised.value)


class OfOp(nn.Module):
    """A layer and a registered op."""

    def __init__(self, op: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.fc, self.op = nn.Linear(16, 16), op

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(self.fc(x))


def stored_by_name(x: torch.Tensor) -> torch.Tensor:
    return x * torch.tanh(x)


@pytest.mark.usefixtures("registries")
def test_a_registered_op_is_stored_by_name_and_asked_for_where_it_is_missing() -> None:
    op = qfx.register_op(lambda x: x * np.tanh(x))(stored_by_name)
    model = qfx.quantize_fx(OfOp(op).eval(), DEFAULT, [X])
    assert same(through(model)(OTHER), model(OTHER))
    file = io.BytesIO(written(model))
    del TABLE["stored_by_name"]  # as in a process that does not import this module
    loaded = qfx.load(file)
    assert same(loaded(OTHER), model(OTHER))  # its program has the op as a table
    with pytest.raises(qfx.InputError, match=r"op 'stored_by_name'[\s\S]*Import the module that registers it"):
        loaded.graph  # noqa: B018


class Doubling(qfx.quantization.MinMaxObserver):
    """An observer of a user's own."""


def test_a_qconfig_with_an_observer_of_ones_own_keeps_its_name() -> None:
    entry = {"": qfx.QConfig(Doubling.with_args(dtype=qfx.quint8), qfx.quantization.default_weight_observer)}
    model = qfx.quantize_fx(small_net("ConvBnReluNet"), entry, [X])
    loaded = through(model)
    assert same(loaded(OTHER), model(OTHER))
    (qconfig,) = {n.meta["qconfig"] for n in loaded.graph.nodes if "qconfig" in n.meta}
    assert qconfig.weight == qfx.quantization.default_weight_observer
    with pytest.raises(qfx.QConfigError, match=r"Doubling is not part of the file"):
        qconfig.activation()


def test_what_is_no_quantized_model_is_saved_as_before(tmp_path: Path) -> None:
    state = small_net("ConvBnReluNet").state_dict()
    qfx.save(state, tmp_path / "state.pt")
    assert same(dict(qfx.load(tmp_path / "state.pt")), dict(torch.load(tmp_path / "state.pt", weights_only=True)))


def test_a_model_is_about_as_large_as_its_integers() -> None:
    class Wide(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(*(nn.Conv2d(3 if i == 0 else 256, 256, 3, padding=1) for i in range(3)))

    model = qfx.quantize_fx(settle(Wide(), 1, 3, 8, 8), DEFAULT, [X[:1]], adaptive_rounding=False)
    integers = sum(t.numel() for t in model.state_dict().values() if t.dtype is torch.int8)
    # A channel brings a scale and a zero point of its weights and of its bias, the bias, and a multiplier of the
    # program: 32 bytes; a tensor at most 64 bytes of alignment.
    assert len(written(model)) < integers + 32 * 3 * 256 + 16_384


@pytest.mark.parametrize("path", ["missing/model.qfx", "."])
def test_a_path_that_can_not_be_written_or_read_is_told(tmp_path: Path, path: str) -> None:
    model, _ = MODELS["ConvBnReluNet"]()
    with pytest.raises(qfx.InputError, match=r"can't be written[\s\S]*what to do"):
        qfx.save(model, tmp_path / path)
    with pytest.raises(qfx.InputError, match=r"can't be read[\s\S]*what to do"):
        qfx.load(tmp_path / path)


def test_for_an_instruction_set() -> None:
    model, x = MODELS["ResidualNet"]()
    scalar = through(model, isa="scalar")
    assert scalar.compiled.segments[0].executable.isa == "scalar"
    assert same(scalar(x), model(x))
    with pytest.raises(qfx.RuntimeLoadError, match="no_such"):
        through(model, isa="no_such")


def test_a_function_of_the_aten_library_is_stored_by_name() -> None:
    from qfx.file.targets import function_name, function_named

    for function in (torch.ops.aten.cumsum.default, torch.ops.aten.add.Tensor, F.pixel_shuffle, torch.topk):
        assert function_named(function_name(function)) is function


def test_a_file_that_knows_of_no_rows_has_one_scale_for_all_of_an_input() -> None:
    net, x = nn.Sequential(nn.Linear(6, 4), nn.Tanh()).eval(), torch.randn(3, 6)
    model = qfx.quantize_fx(net, {"": qfx.per_tensor_dynamic_qconfig}, example_inputs=(x,))
    graph = model.graph_module()
    for node in graph.graph.nodes:
        if node.target is requantize_dynamic:
            node.kwargs = {"reduce_range": False}
    loaded = through(QuantizedModel(graph, {}, "scalar"))
    assert "per_row" not in str([node.kwargs for node in loaded.graph_module().graph.nodes])
    by_rows = qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig}, example_inputs=(x,))
    assert same(loaded(x), model(x))
    assert not same(by_rows(x), model(x))
