"""A model loads as its programs, and what torch runs between them; its graph is read when somebody asks for it."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import qfx
from qfx.file import container
from qfx.file.container import Section, pack, unpack
from qfx.file.qdq import graph_sections
from qfx.file.sections import CALL, GRAPH, KNOWN, PARTS, PROGRAM, SERVING, TENSORS
from qfx.file.tensors import TensorWriter
from qfx.lowering.interpreter import interpret_integers
from qfx.runtime import isa_names
from tests.fuzz.hostile import places_of
from tests.nets import small_net

DEFAULT = {"": qfx.get_default_qconfig()}
X, OTHER = torch.randn(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


class Islands(nn.Module):
    """Three programs; between them torch runs functions, methods and modules, on a constant and a float weight too."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.lookup, self.drop = small_net("ResidualNet"), nn.Embedding(64, 10, sparse=True), nn.Dropout(0.5)
        self.fc = nn.Linear(10, 6)
        self.register_buffer("offset", torch.linspace(-1.0, 1.0, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        z = torch.cumsum(y, 1).cumprod(1) + self.lookup(y.argmax(1))
        return self.fc(torch.logaddexp(self.drop(z), self.offset))


def islands() -> nn.Module:
    torch.manual_seed(4)
    return Islands().eval()


NETS: dict[str, Callable[[], nn.Module]] = {"one program": lambda: small_net("ResidualNet"), "islands": islands}


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    return NETS[request.param]()


@pytest.fixture(scope="module")
def model(net: nn.Module) -> Any:
    return quantized(net)


@pytest.fixture(scope="module")
def file(model: Any) -> bytes:
    return written(model)


@pytest.fixture
def loaded(file: bytes) -> Any:
    made = qfx.load(io.BytesIO(file))
    assert is_unread(made)
    return made


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes a program fails."""

    def compiled(*_: Any) -> None:
        raise AssertionError("a program is made")

    monkeypatch.setattr("qfx.lowering.compile.emit_program", compiled)


def quantized(net: nn.Module) -> Any:
    return qfx.quantize_fx(copy.deepcopy(net), DEFAULT, [X], adaptive_rounding=False)


def called_by(parts: Any) -> str:
    """The section that says how a file's model is called."""
    return CALL if CALL in parts else PARTS


def written(model: Any, **options: Any) -> bytes:
    made = io.BytesIO()
    qfx.save(model, made, **options)
    return made.getvalue()


def parts_of(file: bytes) -> dict[str, bytes]:
    return {name: bytes(part) for name, part in unpack(memoryview(file), "it", KNOWN, ()).items()}


def is_unread(model: Any) -> bool:
    return "_graph" not in vars(model) and "_buffers" not in vars(model)


def test_the_parts_of_the_nets_are_what_they_say() -> None:
    whole, parts = (quantized(net()).compiled.segments for net in NETS.values())
    assert [part.segment.in_torch for part in whole] == [False]
    assert [part.segment.in_torch for part in parts] == [False, True] * 2 + [False]
    assert {n.op for part in parts for n in part.segment.nodes if part.segment.in_torch} == {
        "call_function",
        "call_method",
        "call_module",
    }


def test_a_process_that_runs_a_file_loads_no_compiler(tmp_path: Path, model: Any) -> None:
    """What torch runs is looked up in the op table, which is imported for it."""
    qfx.save(model, tmp_path / "model.qfx")
    torch.save((X, model(X)), tmp_path / "expected.pt")
    code = """
import sys, torch, qfx
before = set(sys.modules)
x, expected = torch.load("expected.pt")
model = qfx.load("model.qfx").eval()
assert torch.equal(model(x), expected) and torch.equal(model(x=x), expected)
heavy = ("networkx", "sympy", "qfx.passes", "qfx.patterns", "qfx.frontends", "qfx.quantization", "qfx.ops",
         "qfx.lowering.compile", "qfx.lowering.emit", "qfx.pipeline")
print(*(name for name in {*sys.modules} - before if any(f"{name}.".startswith(f"{one}.") for one in heavy)))
print(len(model.graph.nodes))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    loaded, nodes = run.stdout.splitlines()
    allowed = ("qfx.ops",) if any(part.segment.in_torch for part in model.compiled.segments) else ()
    assert [name for name in loaded.split() if not name.startswith(allowed or ("-",))] == []
    assert nodes == str(len(model.graph.nodes))


@pytest.mark.usefixtures("no_compiler")
def test_nothing_is_compiled_to_run_or_to_look_at_it(model: Any, loaded: Any) -> None:
    assert torch.equal(loaded(OTHER), model(OTHER))
    assert is_unread(loaded)
    assert str(loaded.report) == str(model.report)
    assert not is_unread(loaded)
    assert torch.equal(loaded(X), model(X))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert loaded.state_dict()[name].is_contiguous()


ASKING: dict[str, Callable[[Any], Any]] = {
    "graph": lambda m: m.graph,
    "report": lambda m: m.report,
    "repr": repr,
    "dir": dir,
    "info": lambda m: m.info,
    "state_dict": lambda m: m.state_dict(),
    "parameters": lambda m: list(m.parameters()),
    "buffers": lambda m: list(m.buffers()),
    "children": lambda m: list(m.children()),
    "a child": lambda m: m.fc,
    "explain": lambda m: m.explain(),
    "profile": lambda m: m.profile(X, repeats=1),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": pickle.dumps,
    "to": lambda m: m.to("cpu"),
    "graph_module": lambda m: m.graph_module(),
    "a new attribute": lambda m: setattr(m, "note", 1),
    "a buffer": lambda m: m.register_buffer("more", torch.zeros(1)),
    "a parameter": lambda m: m.register_parameter("more", nn.Parameter(torch.zeros(1))),
    "a module": lambda m: m.add_module("more", nn.ReLU()),
    "a module by attribute": lambda m: setattr(m, "more", nn.ReLU()),
    "without an attribute": lambda m: delattr(m, "fc"),
    "requires_grad_": lambda m: m.requires_grad_(False),
    "inside another": lambda m: nn.Sequential(m).state_dict(),
}


@pytest.mark.parametrize("asked", ASKING)
def test_whatever_asks_for_more_than_a_call_reads_the_rest(model: Any, loaded: Any, asked: str) -> None:
    ASKING[asked](loaded)
    assert not is_unread(loaded)
    assert torch.equal(loaded(OTHER), model(OTHER))
    assert len(loaded.graph.nodes) == len(model.graph.nodes)


def test_it_is_compared_with_the_float_model(net: nn.Module, loaded: Any) -> None:
    assert qfx.compare(copy.deepcopy(net), loaded, [X])
    assert not is_unread(loaded)


def test_what_is_read_in_inference_mode_can_change_later(model: Any, loaded: Any) -> None:
    with torch.inference_mode():
        loaded.state_dict()
    loaded.load_state_dict(model.state_dict())
    assert not any(value.is_inference() for value in loaded.state_dict().values())


def test_an_attribute_that_is_not_there_is_missed(loaded: Any) -> None:
    with pytest.raises(AttributeError, match="nothing_like_this"):
        loaded.nothing_like_this  # noqa: B018
    assert not hasattr(loaded, "nothing_like_this")


def test_what_torch_reads_changes_with_the_model() -> None:
    """As in the model that was saved: modules and constants of the graph are those that calls use."""
    model = quantized(islands())
    loaded = qfx.load(io.BytesIO(written(model)))
    before = loaded(OTHER)
    for each in (model, loaded):
        each.lookup.weight.mul_(-3.0)
    assert torch.equal(loaded(OTHER), model(OTHER))
    assert not torch.equal(loaded(OTHER), before)
    before = loaded(OTHER)
    for each in (model, loaded):
        each.offset.add_(2.0)
    assert torch.equal(loaded(OTHER), model(OTHER))
    assert not torch.equal(loaded(OTHER), before)


class Dropping(nn.Module):
    """A layer of torch's that computes something else each time while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.layer = small_net("ConvBnReluNet"), nn.LSTM(10, 40, 2, dropout=0.5, proj_size=32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cumsum(self.body(x), 1)[:, None])[0]


def test_modules_of_torch_are_in_the_mode_of_the_model() -> None:
    loaded = qfx.load(io.BytesIO(written(quantized(Dropping().eval()))))
    assert torch.equal(loaded(OTHER), loaded(OTHER))
    loaded.train()
    assert not torch.equal(loaded(OTHER), loaded(OTHER))
    assert is_unread(loaded)
    loaded.eval()
    assert torch.equal(loaded(OTHER), loaded(OTHER))
    assert is_unread(loaded)


def test_a_tensor_that_changes_after_loading_makes_another_program(model: Any, loaded: Any) -> None:
    changed = copy.deepcopy(model)
    before = loaded(OTHER)
    for each in (changed, loaded):
        each.fc.weight.neg_().clamp_(min=-127)
    assert torch.equal(loaded(OTHER), changed(OTHER))
    assert not torch.equal(loaded(OTHER), before)


def test_a_state_is_loaded_into_a_model_of_a_file(model: Any, loaded: Any) -> None:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["fc.bias"] = state["fc.bias"] + 1000
    other = copy.deepcopy(model)
    other.load_state_dict(state)
    loaded.load_state_dict(state)
    assert torch.equal(loaded(OTHER), other(OTHER))
    assert not torch.equal(loaded(OTHER), model(OTHER))


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("put", [True, False, None])
def test_a_mode_is_kept_and_put_to_all_parts(model: Any, saved: bool, put: bool | None) -> None:
    made = qfx.load(io.BytesIO(written(copy.deepcopy(model).train(saved))))
    if put is not None:
        assert made.train(put) is made
    assert is_unread(made)
    assert made.training is (saved if put is None else put)
    if made.training is False:
        assert torch.equal(made(OTHER), copy.deepcopy(model).eval()(OTHER))
    assert is_unread(made)
    assert {module.training for module in made.modules()} == {made.training}
    with pytest.raises(ValueError, match="training mode"):
        made.train("yes")


def test_it_loads_for_every_instruction_set(model: Any, file: bytes) -> None:
    for isa in isa_names():
        loaded = qfx.load(io.BytesIO(file), isa=isa)
        assert torch.equal(loaded(OTHER), model(OTHER))
        assert {part.executable.isa for part in loaded._compiled.segments if part.executable} == {isa}
        assert is_unread(loaded)
    with pytest.raises(qfx.RuntimeLoadError, match="sse9"):
        qfx.load(io.BytesIO(file), isa="sse9")


def test_threads_that_run_and_read_at_once(model: Any, file: bytes) -> None:
    expected, names = model(OTHER), model.state_dict().keys()
    for _ in range(5):
        loaded = qfx.load(io.BytesIO(file))
        results: list[Any] = []

        def work(loaded: Any = loaded, results: list[Any] = results) -> None:
            results.append(torch.equal(loaded(OTHER), expected))
            results.append(loaded.state_dict().keys() == names)
            results.append(torch.equal(loaded(OTHER), expected))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 18


TOOLS: dict[str, Callable[[Any], Any]] = {
    "compile": lambda m: torch.compile(m, backend="eager")(OTHER),
    "dynamic sizes": lambda m: torch.compile(m, backend="eager", dynamic=True)(OTHER),
    "trace": lambda m: torch.jit.trace(m, (X,), check_trace=False)(OTHER),
    "export": lambda m: torch.export.export(m, (X,)).module()(OTHER),
    "export with sizes": lambda m: torch.export.export(
        m, (X,), dynamic_shapes={"args": ({0: torch.export.Dim("batch", max=64)},)}, strict=False
    ).module()(OTHER),
    "fx": lambda m: torch.fx.symbolic_trace(nn.Sequential(m))(OTHER),
    "vmap": lambda m: torch.vmap(m)(OTHER[None])[0],
    "inference mode": lambda m: torch.inference_mode()(m)(OTHER),
    "a gradient": lambda m: m(OTHER.clone().requires_grad_()).detach(),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("tool", TOOLS)
def test_tools_of_torch_take_a_model_that_is_not_read(model: Any, loaded: Any, tool: str) -> None:
    assert torch.equal(TOOLS[tool](loaded), model(OTHER))


def test_an_input_that_does_not_fit_is_told_as_by_the_model_that_was_saved(model: Any, loaded: Any) -> None:
    for bad in (torch.zeros(2, 4, 16, 16), torch.zeros(3), torch.zeros(2, 3, 16, 16, dtype=torch.int64), "x", None):
        said = []
        for each in (model, loaded):
            with pytest.raises(qfx.InputError) as error:
                each(bad)
            said.append(str(error.value))
        assert said[0] == said[1]
    for args, kwargs in (((), {}), ((X, X), {}), ((), {"y": X})):
        with pytest.raises(qfx.InputError):
            loaded(*args, **kwargs)
    assert is_unread(loaded)


# ---------------------------------------------------------------- the file behind it


def test_a_file_may_be_replaced_or_removed_under_a_model(tmp_path: Path, model: Any) -> None:
    path = tmp_path / "model.qfx"
    qfx.save(model, path)
    one, two = qfx.load(path), qfx.load(path, mmap=True)
    qfx.save(qfx.quantize_fx(small_net("MobileNet"), DEFAULT, [X]), path)
    three = qfx.load(path)
    path.unlink()
    for each in (one, two):
        assert str(each.report) == str(model.report)
    assert str(three.report) != str(model.report)


@pytest.mark.parametrize("change", ["another model", "cut short", "a byte"])
def test_a_file_that_is_written_over_is_told(tmp_path: Path, model: Any, file: bytes, change: str) -> None:
    path = tmp_path / "model.qfx"
    path.write_bytes(file)
    loaded = qfx.load(path)
    other = written(qfx.quantize_fx(small_net("MobileNet"), DEFAULT, [X]))
    changed = {"another model": other, "cut short": file[:500], "a byte": file[:-1] + bytes([file[-1] ^ 1])}[change]
    with path.open("r+b") as opened:
        opened.write(changed)
        opened.truncate(len(changed))
    with pytest.raises(qfx.InputError, match=r"is damaged|was written over"):
        loaded.state_dict()
    assert torch.equal(loaded(OTHER), model(OTHER))


def test_a_model_is_stored_as_its_program_alone(model: Any, file: bytes) -> None:
    alone = written(model, graph=False)
    assert parts_of(alone).keys() in ({CALL, PROGRAM, SERVING}, {PARTS, PROGRAM, TENSORS})
    assert len(alone) < len(file)
    loaded = qfx.load(io.BytesIO(alone))
    assert torch.equal(loaded(OTHER), model(OTHER))
    for asked in ("graph", "report", "state_dict"):
        with pytest.raises(qfx.InputError, match=r"the program of a model alone[\s\S]*graph=False[\s\S]*qfx\.save"):
            ASKING[asked](loaded)
    assert not hasattr(loaded, "fc")
    assert getattr(loaded, "nothing_like_this", None) is None
    with pytest.raises(qfx.InputError, match="the program of a model alone"):
        loaded.fc  # noqa: B018
    assert torch.equal(loaded(X), model(X))


class Sums(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(x, 1)


def test_what_has_no_program_is_not_stored_without_its_graph() -> None:
    model = qfx.quantize_fx(Sums().eval(), DEFAULT, [X])
    assert parts_of(written(model)).keys() == {GRAPH, TENSORS}
    with pytest.raises(qfx.ConversionError, match=r"without its graph[\s\S]*cumsum[\s\S]*torch runs all of it"):
        written(model, graph=False)


class Sizes(nn.Module):
    """A program that reads the sizes of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 12)

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc(x).reshape(tokens.shape[0], -1)


class Keys(nn.Module):
    """A program without inputs, ready before what torch computes; results of torch's, an input and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.first, self.second = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> dict[str, Any]:
        risen = torch.cumprod(x, 1)
        out = self.first(risen) + torch.cumsum(self.second(self.keys), 0)[:1]
        return {"out": out, "both": (tokens, [risen]), "keys": self.keys}


class Given(nn.Module):
    """One program, beside whose result a constant and an input are returned."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.scale = nn.Linear(6, 6), nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> tuple[Any, ...]:
        return self.fc(x), self.scale, tokens


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("made", [Sizes, Keys, Given])
def test_whatever_goes_in_and_out_is_called_as_in_the_model_that_was_saved(
    made: Callable[[], nn.Module], graph: bool
) -> None:
    torch.manual_seed(6)
    given = torch.randn(4, 6), torch.arange(4)
    model = qfx.quantize_fx(made().eval(), DEFAULT, [given], adaptive_rounding=False)
    loaded = qfx.load(io.BytesIO(written(model, graph=graph)))
    one, other = (pytree.tree_flatten(each(*given)) for each in (model, loaded))
    assert is_unread(loaded)
    assert one[1] == other[1]
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))


def test_float_weights_that_torch_reads_stand_in_a_file_once() -> None:
    model = quantized(islands())
    for file in (written(model), written(model, graph=False)):
        for tensor in (model.lookup.weight, model.offset):
            assert file.count(tensor.detach().numpy().tobytes()) == 1


@pytest.mark.parametrize("net", ["one program"], indirect=True)
def test_weights_stand_in_a_file_once(model: Any, file: bytes) -> None:
    parts = parts_of(file)
    index = json.loads(parts[GRAPH])["tensors"]
    large = [entry for entry in index if entry[0] == "int8" and torch.Size(entry[1]).numel() >= 256]
    assert large
    assert all(len(entry) == 5 for entry in large)
    weights = sum(t.numel() for t in model.state_dict().values() if t.dtype is torch.int8 and t.numel() >= 256)
    assert len(parts[TENSORS]) < weights


def test_a_file_of_the_first_version_is_read(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    monkeypatch.setattr(container, "VERSION", 1)
    old = pack(graph_sections(model, model.info, TensorWriter()))
    assert old[8] == 1
    loaded = qfx.load(io.BytesIO(old))
    assert torch.equal(loaded(OTHER), model(OTHER))
    monkeypatch.undo()
    assert written(loaded) == written(model)


@pytest.mark.usefixtures("no_compiler")
def test_a_file_of_a_version_before_this_one_is_read_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """A convolution and a layer, written when files held whole models' programs only; its graph says what is right."""
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    with caplog.at_level("WARNING", "qfx"):
        loaded = qfx.load(Path(__file__).with_name("one_program.qfx"))
    assert not caplog.records
    y = loaded(x)
    assert is_unread(loaded)
    assert torch.equal(y, interpret_integers(loaded.graph_module(), (x,)).output)


# ---------------------------------------------------------------- made to harm


def _changed(call: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    at = call
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return call


VALUES = (
    None,
    0,
    -1,
    2**62,
    1.5,
    "x",
    "",
    [],
    {},
    [1, 2],
    {"tuple": []},
    {"node": 0},
    {"node": 99},
    {"float": "nan"},
    True,
)


def test_what_a_sealed_call_says_is_refused_or_runs(file: bytes) -> None:
    parts, draw = parts_of(file), random.Random(0)
    ran, said = 0, called_by(parts)
    for _ in range(300):
        call = json.loads(parts[said])
        call = _changed(call, draw.choice([(), *places_of(call)]), copy.deepcopy(draw.choice(VALUES)))
        sealed = pack([Section(n, json.dumps(call).encode() if n == said else part) for n, part in parts.items()])
        try:
            loaded = qfx.load(io.BytesIO(sealed))
            loaded(OTHER)
            ran += 1
        except qfx.QfxError:
            pass
    assert 0 < ran < 300


def _of_torch(call: Any, name: str) -> Any:
    """The record of a node that torch runs."""
    return next(record for part in call["parts"] for record in part.get("nodes", ()) if record[0] == name)


def _swap(items: list[Any]) -> None:
    items[0], items[-1] = items[-1], items[0]


HOSTILE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a function that is not listed": (lambda c: _of_torch(c, "cumsum").__setitem__(2, "torch.load"), "may call"),
    "a method that is not listed": (lambda c: _of_torch(c, "cumprod").__setitem__(2, "numpy"), "the method 'numpy'"),
    "a path into Python": (lambda c: _of_torch(c, "lookup").__setitem__(2, "lookup.__class__"), "no path"),
    "a module that is not there": (lambda c: _of_torch(c, "lookup").__setitem__(2, "offset"), "no Module at 'offset'"),
    "a tensor that is a module": (lambda c: c["constants"][0].__setitem__(2, "lookup"), "no Tensor at 'lookup'"),
    "a constant among the nodes": (lambda c: _of_torch(c, "cumprod").__setitem__(1, "get_attr"), "nothing that torch"),
    "a call among the constants": (
        lambda c: c["constants"].append(["made", "call_function", "torch.zeros", {"tuple": [3]}, {"dict": []}, {}]),
        "nothing that torch",
    ),
    "a name of another": (lambda c: _of_torch(c, "cumprod").__setitem__(0, "cumsum"), "named"),
    "a type too few": (lambda c: c["parts"][1]["types"].pop(), "zip"),
    "parts in another order": (lambda c: _swap(c["parts"]), "no node|said to be|version|its bytes"),
    "a program too long": (lambda c: c["parts"][0].__setitem__("program", 10**9), "is said to be in"),
    "a program of no bytes": (lambda c: c["parts"][0].__setitem__("program", 0), "is said to be in"),
    "bytes that are no program's": (lambda c: c["parts"].pop(), "no node|bytes where there are"),
    "a program that reads what comes later": (lambda c: c["parts"][0].__setitem__("reads", [9]), "node"),
    "a program that reads a constant": (lambda c: c["parts"][2]["reads"].__setitem__(0, 1), "are said to be"),
    "a class of a user's": (lambda c: c["members"][1][1]["module"].__setitem__(0, "tests.Islands"), "no module"),
    "a method for a member": (lambda c: c["members"][1][1]["module"][1].__setitem__("forward", 1), "of its own"),
    "a place of Python's": (lambda c: c["members"][1].__setitem__(0, "__class__"), "no path"),
    "more tensors than there are": (lambda c: c["tensors"].extend(c["tensors"] * 99), "bytes"),
    "a large result": (
        lambda c: _of_torch(c, "cumprod").__setitem__(slice(2, 4), ["repeat", {"tuple": [2**31]}]),
        "asks for",
    ),
}


@pytest.mark.parametrize("harm", HOSTILE)
def test_what_a_sealed_file_says_of_torch_is_checked(harm: str) -> None:
    change, match = HOSTILE[harm]
    parts = parts_of(written(quantized(islands()), graph=False))
    call = json.loads(parts[PARTS])
    change(call)
    sealed = pack([Section(n, json.dumps(call).encode() if n == PARTS else part) for n, part in parts.items()])
    with pytest.raises(qfx.InputError, match="makes sense") as error:
        qfx.load(io.BytesIO(sealed))
    assert re.search(match, str(error.value))


def test_what_is_wrong_with_a_file_is_said_once(tmp_path: Path, file: bytes) -> None:
    parts = parts_of(file)
    del parts[TENSORS]
    sealed = pack([Section(name, part) for name, part in parts.items()])
    (tmp_path / "model.qfx").write_bytes(sealed)
    said = []
    for source in (tmp_path / "model.qfx", io.BytesIO(sealed)):
        with pytest.raises(qfx.InputError, match="is damaged") as error:
            qfx.load(source)
        said.append(str(error.value).replace(repr(str(tmp_path / "model.qfx")), "The file"))
    assert said[0] == said[1]


def test_half_of_a_pair_of_sections_is_refused(file: bytes) -> None:
    parts = parts_of(file)
    for left_out in parts:
        if (left_out == GRAPH and PARTS in parts) or left_out == SERVING:
            continue  # tensors are those of what torch runs, too; and torch needs no word of how to do without it
        with pytest.raises(qfx.InputError, match="is damaged"):
            qfx.load(io.BytesIO(pack([Section(name, part) for name, part in parts.items() if name != left_out])))


def test_a_file_that_says_twice_how_it_is_called_is_refused(file: bytes) -> None:
    parts = parts_of(file)
    both = {CALL: parts[called_by(parts)], PARTS: parts[called_by(parts)], **parts}
    with pytest.raises(qfx.InputError, match="is damaged"):
        qfx.load(io.BytesIO(pack([Section(name, part) for name, part in both.items()])))


def test_a_program_that_is_none_or_takes_something_else_is_refused(model: Any, file: bytes) -> None:
    parts, alone = parts_of(file), parts_of(written(model, graph=False))
    other = parts_of(written(qfx.quantize_fx(nn.Sequential(nn.Linear(4, 4)).eval(), DEFAULT, [torch.randn(2, 4)])))
    size = len(parts[PROGRAM])
    wrong = "dims|are said to be|bytes"
    for given, program, match in (
        (alone, (b"nonsense" * size)[:size], "no program"),
        (alone, other[PROGRAM], wrong),
        (parts, other[PROGRAM], wrong),
    ):
        sealed = pack([Section(n, program if n == PROGRAM else part) for n, part in given.items()])
        with pytest.raises(qfx.InputError, match=match):
            qfx.load(io.BytesIO(sealed))


@pytest.mark.parametrize("where", ["its version", "a step"])
def test_a_program_of_another_version_is_compiled_from_the_graph(
    model: Any, file: bytes, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = parts_of(file)
    program = bytearray(parts[PROGRAM])
    if where == "its version":
        program[8] += 1
    else:  # the tables come first, behind 64 bytes
        tables = 64 + int.from_bytes(program[16:24], "little")
        program[:tables] = program[:tables].replace(b"conv", b"Conv")
    sealed = pack([Section(n, bytes(program) if n == PROGRAM else part) for n, part in parts.items()])
    with caplog.at_level("WARNING", "qfx"):
        loaded = qfx.load(io.BytesIO(sealed))
    assert "its graph is compiled" in caplog.text
    assert torch.equal(loaded(OTHER), model(OTHER))
    assert written(loaded) == file


@pytest.mark.parametrize(
    "shared", [[0, [0, 1, 2]], [10**6, [0, 1, 2, 3]], [-1, [0, 1, 2, 3]], [0, [0, 0, 0, 0]], None, "x"]
)
def test_a_tensor_that_is_no_constant_of_the_program_is_refused(file: bytes, shared: Any) -> None:
    parts = parts_of(file)
    content = json.loads(parts[GRAPH])
    next(entry for entry in content["tensors"] if len(entry) == 5)[4] = shared
    parts[GRAPH] = json.dumps(content).encode()
    loaded = qfx.load(io.BytesIO(pack([Section(name, part) for name, part in parts.items()])))
    with pytest.raises(qfx.InputError, match="makes sense"):
        loaded.state_dict()
