"""What a call leaves for the next one, wherever it is kept: refused by name, or without effect; put back always."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import CaptureError
from qfx.frontends import symbolic
from qfx.frontends.dependence import changes_of_a_call
from qfx.frontends.select import capture
from qfx.frontends.state import Snapshot
from tests.frontends.kept_in_script import Counts, Fills, Holds, Keeps, Shows

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
EVERYTHING = {"": qfx.get_default_qconfig()}
FRONTENDS = ["symbolic", "export", "torchscript"]


class Base(nn.Module):
    """A layer; ``start`` makes what a kind keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.start()

    def start(self) -> None:
        """Nothing to keep."""


MATTERS: dict[str, type[Base]] = {}
DOES_NOT: dict[str, type[Base]] = {}


def matters(kind: type[Base]) -> type[Base]:
    """``kind`` keeps something on which later results depend, under the name in its docstring."""
    MATTERS[kind.__name__] = kind
    return kind


def does_not_matter(kind: type[Base]) -> type[Base]:
    """``kind`` keeps something on which no result depends."""
    DOES_NOT[kind.__name__] = kind
    return kind


@matters
class Recurrent(Base):
    """h"""

    def start(self) -> None:
        self.h = torch.zeros(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.h = torch.tanh(self.fc(x) + self.h)
        return self.h


@matters
class Counter(Base):
    """n"""

    def start(self) -> None:
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return self.fc(x) * self.n


@matters
class WarmUp(Base):
    """n"""

    def start(self) -> None:
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return self.fc(x) * 2 if self.n < 100 else self.fc(x)


@matters
class Toggle(Base):
    """odd"""

    def start(self) -> None:
        self.odd = False

    def forward(self, x: Tensor) -> Tensor:
        self.odd = not self.odd
        return self.fc(x) if self.odd else -self.fc(x)


@matters
class History(Base):
    """cache"""

    def start(self) -> None:
        self.cache: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        self.cache.append(self.fc(x))
        return sum(self.cache)  # type: ignore[return-value]


@matters
class Window(Base):
    """window"""

    def start(self) -> None:
        self.window: Any = collections.deque(maxlen=2)

    def forward(self, x: Tensor) -> Tensor:
        self.window.append(self.fc(x))
        return torch.stack(list(self.window)).mean(0)


@matters
class Past(Base):
    """past"""

    def start(self) -> None:
        self.past: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        before, self.past["y"] = self.past.get("y", 0), y
        return y + before


@matters
class Difference(Base):
    """previous; the first call and one with the same input return zeros alike."""

    def start(self) -> None:
        self.previous: Any = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        before, self.previous = (y if self.previous is None else self.previous), y
        return y - before


@matters
class KeyFrames(Base):
    """key; each eighth call makes it."""

    def start(self) -> None:
        self.n, self.key = 0, None

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        self.key = y if self.n % 8 == 0 else self.key
        self.n += 1
        return y + self.key


@matters
class EachFifth(Base):
    """n; it looks after it counts."""

    def start(self) -> None:
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return self.fc(x) if self.n % 5 else self.fc(x) * 2


@matters
class EachHundredth(Base):
    """n; it looks before it counts."""

    def start(self) -> None:
        self.n = 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x) * 2 if self.n % 100 == 0 else self.fc(x)
        self.n += 1
        return y


@matters
class EachSeventhDown(Base):
    """left; it counts down."""

    def start(self) -> None:
        self.left = -1

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        return self.fc(x) * 2 if self.left % 7 == 0 else self.fc(x)


@matters
class EachFifthByATensor(Base):
    """n"""

    def start(self) -> None:
        self.n = torch.zeros((), dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        self.n = self.n + 1
        return self.fc(x) * (1 + (self.n % 5 == 0))


@matters
class Initialized(Base):
    """scale"""

    def start(self) -> None:
        self.ready, self.scale = False, torch.ones(())

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        if not self.ready:
            self.ready, self.scale = True, y.abs().mean()
        return y / self.scale


@dataclasses.dataclass
class Memory:
    """An object."""

    h: Any = None
    nested: Any = None


@matters
class InADataclass(Base):
    """memory"""

    def start(self) -> None:
        self.memory = Memory()

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        y = y if self.memory.h is None else y + self.memory.h
        self.memory.h = y
        return y


@matters
class Deep(Base):
    """memory"""

    def start(self) -> None:
        self.memory = ({"inner": Memory(nested=SimpleNamespace(values=[0]))},)

    def forward(self, x: Tensor) -> Tensor:
        values = self.memory[0]["inner"].nested.values
        values[0] += 1
        return self.fc(x) * values[0]


class Slotted:
    """An object without a dict."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


@matters
class InASlot(Base):
    """memory|n"""

    def start(self) -> None:
        self.memory = Slotted()

    def forward(self, x: Tensor) -> Tensor:
        self.memory.n += 1
        return self.fc(x) * self.memory.n


@matters
class InASet(Base):
    """seen"""

    def start(self) -> None:
        self.seen: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add(len(self.seen))
        return self.fc(x) * len(self.seen)


@matters
class InAnArray(Base):
    """table"""

    def start(self) -> None:
        self.table = np.ones(4, np.float32)

    def forward(self, x: Tensor) -> Tensor:
        self.table += 1
        return self.fc(x) * float(self.table[0])


@matters
class InATensor(Base):
    """table"""

    def start(self) -> None:
        self.table = torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        self.table.add_(1)
        return self.fc(x) * self.table


@matters
class InATensorByAValue(Base):
    """table"""

    def start(self) -> None:
        self.table = torch.ones(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        self.table.add_(y.mean(0))
        return y * self.table


@matters
class OfTheClass(Base):
    """total"""

    total = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).total += 1
        return self.fc(x) * self.total


@matters
class ListOfTheClass(Base):
    """items"""

    items: list[int] = []  # noqa: RUF012  (that it is shared is the point)

    def forward(self, x: Tensor) -> Tensor:
        self.items.append(1)
        return self.fc(x) * len(self.items)


CALLS = {"n": 0}
COUNTED = 0


def count() -> int:
    """How often it was called."""
    CALLS["n"] += 1
    return CALLS["n"]


@matters
class InAGlobalDict(Base):
    """CALLS"""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * count()


@matters
class InAGlobal(Base):
    """COUNTED"""

    def forward(self, x: Tensor) -> Tensor:
        global COUNTED  # noqa: PLW0603  (that it is global is the point)
        COUNTED += 1
        return self.fc(x) * COUNTED


def counting() -> Any:
    """A function that counts its calls."""
    calls = 0

    def times(y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return y * calls

    return times


@matters
class InAClosure(Base):
    """calls"""

    def start(self) -> None:
        self.times = counting()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.times(self.fc(x))
        return result


@matters
class InADefault(Base):
    """inner"""

    def inner(self, y: Tensor, calls: list[int] = []) -> Tensor:  # noqa: B006  (that it is shared is the point)
        calls.append(1)
        return y * len(calls)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.fc(x))


@matters
class InAnIterator(Base):
    """numbers"""

    def start(self) -> None:
        self.numbers = iter([1, 2, 3, 4, 5, 6, 7, 8, 9])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * next(self.numbers)


@matters
class InAParameter(Base):
    """gain"""

    def start(self) -> None:
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        self.gain.data.mul_(0.5)
        return self.fc(x) * self.gain


@does_not_matter
class Watched(Base):
    def start(self) -> None:
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.fc(x)
        return self.last * 1


@does_not_matter
class Statistics(Base):
    def start(self) -> None:
        self.calls, self.maps = 0, []

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        self.calls += 1
        self.maps.append(y)
        return y


@does_not_matter
class Table(Base):
    def start(self) -> None:
        self.table: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.arange(4.0)
        return self.fc(x) + self.table


@does_not_matter
class TableOfSizes(Base):
    def start(self) -> None:
        self.table: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.arange(x.shape[1])
        return self.fc(x) + self.table


@does_not_matter
class TablesByLength(Base):
    def start(self) -> None:
        self.tables: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if 4 not in self.tables:
            self.tables[4] = torch.linspace(0, 1, 4)
        return self.fc(x) * self.tables[4]


@does_not_matter
class CachedProperty(Base):
    @functools.cached_property
    def table(self) -> Tensor:
        """Made once."""
        return torch.arange(4.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + self.table


@does_not_matter
class Collected(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.steps = [self.fc(x)]
        self.steps.append(self.steps[-1] * 2)
        return self.steps[0] + self.steps[1]


ACTIVATIONS: dict[str, Any] = {}


@does_not_matter
class Hooked(Base):
    def start(self) -> None:
        self.fc.register_forward_hook(lambda module, args, y: ACTIVATIONS.__setitem__("fc", y))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.fc(x))


@does_not_matter
class SetAnew(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.options = {"scale": 2, "memory": Memory(1), "shift": np.zeros(2), "size": x.shape}
        return self.fc(x) * self.options["scale"]


@pytest.fixture(autouse=True)
def _globals() -> Iterator[None]:
    """Whatever a float call leaves in classes and globals is gone after each test."""
    kinds = nn.ModuleList(kind() for kind in (*MATTERS.values(), *DOES_NOT.values()))
    before = Snapshot(kinds)
    yield
    before.restore()


def captured(net: nn.Module, frontend: str) -> Any:
    return capture(net, frontend=frontend, example=((X,), {}))


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("name", MATTERS)
def test_what_the_next_call_reads_is_refused_by_name(name: str, frontend: str) -> None:
    net = MATTERS[name]().eval()
    before = Snapshot(net)
    with pytest.raises(CaptureError, match=rf"\b({(net.__doc__ or '').split(';')[0]})\b"):
        captured(net, frontend)
    assert before.changes() == []


@pytest.mark.parametrize("name", MATTERS)
def test_without_example_inputs_too(name: str) -> None:
    net = MATTERS[name]().eval()
    with pytest.raises(CaptureError, match=rf"\b({(net.__doc__ or '').split(';')[0]})\b"):
        symbolic.capture(net)


class Around(nn.Module):
    """A part between layers."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Linear(4, 4), part, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.part(self.first(x)))
        return result


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("name", ["Recurrent", "History", "KeyFrames", "Deep", "InASlot", "InATensor", "InAParameter"])
def test_a_part_with_state_stays_float_and_starts_where_the_model_was(name: str, frontend: str) -> None:
    torch.manual_seed(0)
    net = Around(MATTERS[name]()).eval()
    quantized = qfx.quantize_fx(net, EVERYTHING, [X, X.flip(0), X * 0.5], frontend=frontend)
    decisions = {record.module_path: record.decision for record in quantized.report if record.module_path}
    assert (decisions["first"], decisions["last"]) == ("int8", "int8")
    assert any(decision == "float" for path, decision in decisions.items() if path.startswith("part"))
    for x in (X, X.flip(0), X * 0.5):
        with torch.no_grad():
            wanted = net(x)
        assert (quantized(x) - wanted).abs().max() < 0.1 * wanted.abs().max()


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("name", DOES_NOT)
def test_what_nothing_reads_is_no_state(name: str, frontend: str) -> None:
    net = DOES_NOT[name]().eval()
    before = Snapshot(net)
    found = captured(net, frontend)
    assert before.changes() == []
    with torch.no_grad():
        for x in (X, X.flip(0)):
            torch.testing.assert_close(found(x), net(x))


@pytest.mark.parametrize("name", DOES_NOT)
def test_nor_without_example_inputs(name: str) -> None:
    symbolic.capture(DOES_NOT[name]().eval())


def test_a_part_beside_one_with_state_may_keep_what_nothing_reads() -> None:
    net = nn.Sequential(Watched(), Counter(), Statistics()).eval()
    for frontend in ("symbolic", "export"):
        islands = [n.target for n in captured(net, frontend).graph.nodes if "island_reason" in n.meta]
        assert islands == ["1"]


def test_the_error_says_where_and_what_to_do() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(nn.Sequential(nn.Linear(4, 4), Counter()).eval(), frontend="symbolic", strict=True)
    assert caught.value.where == "1"
    assert "in forward: self.n += 1" in (caught.value.source or "")
    assert "1.n is not the same after a call" in (caught.value.why or "")
    assert "an input and an output" in (caught.value.remedy or "")


def test_a_snapshot_finds_and_puts_back_everything() -> None:
    for kind in (*MATTERS.values(), *DOES_NOT.values()):
        net = kind().eval()
        before = Snapshot(net)
        with torch.no_grad():
            net(X)
        assert before.changes(), kind
        before.restore()
        assert before.changes() == [] or kind is InAnIterator, kind


class Made(collections.OrderedDict[str, Any]):
    """Gives a new object of the class that it holds, as tables of activations do."""

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(key)()


class Counted(dict[str, Any]):
    """Counts what is asked of it."""

    asked = 0

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("nobody asks for keys")

    def keys(self) -> Any:
        raise AssertionError("nobody asks for keys")

    def clear(self) -> None:
        raise AssertionError("nothing is taken away")


class Ordered(list[Any]):
    """Shows its elements the other way round."""

    def __iter__(self) -> Iterator[Any]:
        return reversed(self)

    def __len__(self) -> int:
        return 1


class Few(set[Any]):
    """Shows none of its elements."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Fixed(tuple[Any, ...]):
    """Shows none of its elements."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


@pytest.mark.parametrize("changes", [False, True])
def test_containers_with_a_mind_of_their_own_are_left_as_they_are(changes: bool) -> None:
    net = Base()
    kept = {"made": Made(relu=nn.ReLU), "counted": Counted(a=1), "ordered": Ordered([1, 2]), "few": Few({1, 2})}
    for name, container in kept.items():
        setattr(net, name, container)
    net.fixed = Fixed((kept["ordered"],))
    snapshot = Snapshot(net)
    if changes:
        dict.__setitem__(kept["made"], "relu", nn.ReLU())
        dict.__setitem__(kept["counted"], "b", 2)
        list.append(kept["ordered"], 3)
        set.add(kept["few"], 3)
    assert {place.attribute for place in snapshot.changes()} == (kept.keys() if changes else set())
    snapshot.restore()
    assert dict.__getitem__(kept["made"], "relu") is nn.ReLU
    assert isinstance(kept["made"]["relu"], nn.ReLU)
    assert [*dict.__iter__(kept["counted"])] == ["a"]
    assert [*list.__iter__(kept["ordered"])] == [1, 2]
    assert {*set.__iter__(kept["few"])} == {1, 2}


def test_the_same_values_anew_are_no_change() -> None:
    net = SetAnew().eval()
    with torch.no_grad():
        net(X)
    assert changes_of_a_call(net, Snapshot(net), ((X,), {})) == []


def test_iterators_count() -> None:
    net = Base()
    net.numbers = itertools.count()
    before = Snapshot(net)
    next(net.numbers)
    assert [place.path for place in before.changes()] == ["numbers"]


SCRIPTED = [Counts, Holds, Keeps, Fills]


@pytest.mark.parametrize("kind", SCRIPTED)
def test_scripted_code_that_reads_what_it_keeps_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(CaptureError, match=r"attribute (n|h|cache|table)\b") as caught:
        capture(torch.jit.script(kind().eval()), frontend="torchscript")
    assert "in forward: self." in (caught.value.source or "")


@pytest.mark.parametrize("kind", SCRIPTED)
def test_a_scripted_part_with_state_starts_where_the_model_was(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = torch.jit.script(Around(kind()).eval())
    alone = copy.deepcopy(net)
    quantized = qfx.quantize_fx(net, EVERYTHING, [X, X.flip(0), X])
    for x in (X, X.flip(0), X):
        wanted = alone(x)
        assert (quantized(x) - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_scripted_code_may_keep_what_nothing_reads() -> None:
    net = Shows().eval()
    found = capture(torch.jit.script(net), frontend="torchscript")
    torch.testing.assert_close(found(X), net(X))
