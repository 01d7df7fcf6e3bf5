"""Models of files, run without torch: every kind of input, result and size; what is refused."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.errors import ConversionError, InputError, RuntimeLoadError
from qfx.file.container import Section, pack, unpack
from qfx.file.sections import KNOWN, PROGRAM, SERVING
from qfx.file.serving import condition_nodes
from qfx.guards import evaluate
from qfx.runtime import _C, Model, Program, isa_names

QCONFIG: dict[str, Any] = {"": qfx.get_default_qconfig()}


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


class Bytes(Images):
    """Takes the bytes of images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float() / 255)


class Texts(nn.Module):
    """Token ids and a mask; a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.last = nn.Embedding(50, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        hidden = F.relu(self.first(self.table(ids))) * mask.unsqueeze(-1)
        return {"logits": self.last(hidden.sum(1)), "rest": (hidden, None)}


class Pair(nn.Module):
    """Two images of one size, and an input that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, left: Tensor, unread: Tensor, right: Tensor) -> list[Tensor]:
        joined = F.relu(self.left(left)) + F.relu(self.right(right))
        return [joined, joined.mean((2, 3))]


class Halved(nn.Module):
    """Branches on a size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y[..., ::2] if x.shape[2] % 2 == 0 else y


def _randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _ids(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).reshape(shape) * 7 % 50


@dataclass(frozen=True)
class Case:
    """A network, an input of calibration, calls of other sizes, and what the file says of inputs and outputs."""

    net: Callable[[], nn.Module]
    example: tuple[Tensor, ...]
    calls: tuple[tuple[Tensor, ...], ...]
    inputs: dict[str, tuple[str, tuple[Any, ...]]]
    outputs: dict[str, tuple[str, tuple[Any, ...]]]
    rules: dict[str, Any] = field(default_factory=dict)
    frontend: str = "auto"


def _image_calls(make: Callable[..., Tensor]) -> tuple[tuple[Tensor, ...], ...]:
    return ((make(1, 3, 16, 16),), (make(3, 3, 21, 10),), (make(2, 16, 16, 3).permute(0, 3, 1, 2),))


IMAGE = ("batch", 3, "x_2", "x_3")
TOKENS = ("batch", "ids_1")
CASES = {
    "images": Case(
        Images, (_randn(4, 3, 16, 16),), _image_calls(_randn),
        {"x": ("float32", IMAGE)}, {"output": ("float32", ("batch", 5))},
    ),
    "bytes of images": Case(
        Bytes, (_ids(4, 3, 16, 16).byte(),), _image_calls(lambda *shape: _ids(*shape).byte()),
        {"x": ("uint8", IMAGE)}, {"output": ("float32", ("batch", 5))},
    ),
    "float64": Case(
        lambda: Images().double(), (_randn(4, 3, 16, 16).double(),), _image_calls(lambda *s: _randn(*s).double()),
        {"x": ("float32", IMAGE)}, {"output": ("float32", ("batch", 5))},
    ),
    "integers out": Case(
        Images, (_randn(4, 3, 16, 16),), _image_calls(_randn),
        {"x": ("float32", IMAGE)}, {"output": ("uint8", ("batch", 5))}, {"output_quantized_idxs": [0]},
    ),
    "texts": Case(
        Texts, (_ids(3, 7), (_ids(3, 7) > 4).float()),
        tuple((_ids(b, n), (_ids(b, n) > 4).float()) for b, n in ((1, 7), (2, 12), (5, 1))),
        {"ids": ("int64", TOKENS), "mask": ("float32", TOKENS)},
        {"logits": ("float32", ("batch", 4)), "rest.0": ("float32", (*TOKENS, 16))},
    ),
    "a pair": Case(
        Pair, (_randn(2, 3, 8, 10), _randn(2, 5), _randn(2, 3, 8, 10)),
        tuple((_randn(*s), _randn(s[0], 5), _randn(*s) * 2) for s in ((1, 3, 8, 8), (3, 3, 5, 12))),
        {"left": ("float32", ("batch", 3, "left_2", "left_3")), "unread": ("float32", ("batch", "unread_1")),
         "right": ("float32", ("batch", 3, "left_2", "left_3"))},
        {"output_0": ("float32", ("batch", 4, "left_2", "left_3")), "output_1": ("float32", ("batch", 4))},
    ),
    "a branch": Case(
        Halved, (_randn(2, 3, 8, 8),), ((_randn(3, 3, 8, 8),), (_randn(1, 3, 10, 6),)),
        {"x": ("float32", IMAGE)}, {"output": ("float32", ("batch", 4, "x_2", "output_3"))}, frontend="export",
    ),
}  # fmt: skip

_RUN = """
import json, sys
sys.modules["torch"] = None  # as if it were not installed
import numpy as np
import qfx.runtime

def flat(value):
    if isinstance(value, dict):
        return [x for key in value for x in flat(value[key])]
    if isinstance(value, (tuple, list)):
        return [x for item in value for x in flat(item)]
    return [] if value is None else [value]

for name, calls in json.load(sys.stdin).items():
    model = qfx.runtime.load(f"{name}.qfx")
    values = [[[v.name, str(v.dtype), v.shape] for v in values] for values in (model.inputs, model.outputs)]
    print(json.dumps([name, *values]))
    for call in range(calls):
        given = np.load(f"{name}.{call}.in.npz")
        made = model(**{key: given[key] for key in given.files})
        wanted = np.load(f"{name}.{call}.out.npz")
        for found, key in zip(flat(made), wanted.files, strict=True):
            assert found.dtype == wanted[key].dtype and np.array_equal(found, wanted[key]), (name, call, key)
assert "torch.nn" not in sys.modules
"""


def quantized(case: Case) -> Any:
    torch.manual_seed(0)
    return qfx.quantize_fx(case.net().eval(), QCONFIG | case.rules, [case.example], frontend=case.frontend)


def _flat(value: Any) -> list[np.ndarray]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [x for item in value for x in _flat(item)]
    return [] if value is None else [value.numpy()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every case, inputs of its calls, and what the model in torch makes of them."""
    folder = tmp_path_factory.mktemp("models")
    for name, case in CASES.items():
        model = quantized(case)
        qfx.save(model, folder / f"{name}.qfx", serving=True)
        for number, call in enumerate(case.calls):
            given = {key: x.numpy() for key, x in zip(case.inputs, call, strict=True)}
            np.savez(folder / f"{name}.{number}.in.npz", **given)
            np.savez(folder / f"{name}.{number}.out.npz", *_flat(model(*call)))
    return folder


def test_files_run_without_torch_and_give_the_same_bits(folder: Path) -> None:
    calls = {name: len(case.calls) for name, case in CASES.items()}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(qfx.__file__).parents[1])!r})\n{_RUN}"],
        input=json.dumps(calls), capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        name, *values = json.loads(line)
        found = [{key: (dtype, tuple(shape)) for key, dtype, shape in rows} for rows in values]
        assert found == [CASES[name].inputs, CASES[name].outputs]
    assert len(done.stdout.splitlines()) == len(CASES)


@pytest.fixture
def model(folder: Path) -> Model:
    return qfx.runtime.load(folder / "images.qfx")


@pytest.fixture
def texts(folder: Path) -> Model:
    return qfx.runtime.load(folder / "texts.qfx")


X = _randn(2, 3, 16, 16).numpy()


def test_a_model_is_read_from_a_path_bytes_or_a_file(folder: Path) -> None:
    path = folder / "images.qfx"
    content = path.read_bytes()
    changed = bytearray(content)
    models = [qfx.runtime.load(source) for source in (path, str(path), content, changed, io.BytesIO(content))]
    changed[:] = bytes(len(changed))  # which the model does not see
    first, *others = [model(X) for model in models]
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("isa", isa_names())
def test_every_level_gives_the_same_bits(folder: Path, isa: str) -> None:
    given = np.load(folder / "texts.1.in.npz")
    loaded = qfx.runtime.load(folder / "texts.qfx", isa=isa)
    assert loaded.isa == isa
    wanted = np.load(folder / "texts.1.out.npz")
    assert np.array_equal(loaded(given["ids"], mask=given["mask"])["logits"], wanted["arr_0"])


def test_results_have_the_structure_of_the_model_s(texts: Model) -> None:
    made = texts(np.zeros((2, 3), np.int64), np.ones((2, 3), np.float32))
    assert made.keys() == {"logits", "rest"}
    assert isinstance(made["rest"], tuple)
    assert made["rest"][1] is None


def test_other_precisions_are_taken(model: Model, texts: Model) -> None:
    assert np.array_equal(model(X.astype(np.float64)), model(X))
    ids, mask = np.arange(6).reshape(2, 3), np.ones((2, 3), np.float16)
    for dtype in (np.int32, np.uint8, np.int16):
        assert np.array_equal(texts(ids.astype(dtype), mask)["logits"], texts(ids, mask)["logits"])


def test_any_strides_are_taken(model: Model) -> None:
    big = np.zeros((2, 3, 32, 32), np.float32)
    for view in (big[..., ::2, ::2], big[..., ::-2, 1::2], big.transpose(0, 1, 3, 2)[..., :16, :16]):
        view[:] = X
        assert np.array_equal(model(view), model(X))
    assert np.array_equal(model(X.astype(X.dtype.newbyteorder())), model(X))


def test_threads_share_a_model(model: Model) -> None:
    wanted, found = model(X), []
    model.threads = 1
    workers = [threading.Thread(target=lambda: found.extend(model(X) for _ in range(20))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    assert all(np.array_equal(wanted, y) for y in found)


def test_shapes_are_known_before_a_call(model: Model) -> None:
    assert model.output_shapes((7, 3, 9, 20)) == ((7, 5),)
    with pytest.raises(InputError, match=r"takes 1: x"):
        model.output_shapes()
    with pytest.raises(InputError, match=r"rank 2[\s\S]*batch, 3, x_2, x_3"):
        model.output_shapes((7, 3))


def test_metadata_travel(folder: Path) -> None:
    told = {"labels": ["a", "b"], "preprocessing": {"mean": [0.5], "size": [16, 16]}, "mine": {"é": None}}
    torch_model = quantized(CASES["images"])
    qfx.save(torch_model, folder / "told.qfx", metadata=told)
    loaded = qfx.runtime.load(folder / "told.qfx")
    assert loaded.metadata == told
    assert (loaded.labels, loaded.preprocessing) == (told["labels"], told["preprocessing"])
    qfx.save(qfx.load(folder / "told.qfx"), folder / "again.qfx")
    assert (folder / "again.qfx").read_bytes() == (folder / "told.qfx").read_bytes()
    bare = qfx.runtime.load(folder / "images.qfx")
    assert (bare.metadata, bare.labels, bare.preprocessing) == ({}, None, None)


@pytest.mark.parametrize("told", [3, {"x": float("nan")}, {"x": object()}, ["labels"]])
def test_metadata_that_no_file_holds_are_refused(told: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"metadata can't be stored[\s\S]*Give a dict"):
        qfx.save(quantized(CASES["images"]), tmp_path / "m.qfx", metadata=told)
    assert not list(tmp_path.iterdir())


REFUSED: dict[str, tuple[Callable[[Model], Any], str]] = {
    "nothing": (lambda m: m(), r"Input 'x' is missing. The model takes 1: x"),
    "too many": (lambda m: m(X, X), r"2 inputs are given. The model takes 1: x"),
    "another name": (lambda m: m(y=X), r"Input 'y' is not known"),
    "twice": (lambda m: m(X, x=X), r"Input 'x' is given twice"),
    "a list": (lambda m: m(X.tolist()), r"Input 'x' is a list[\s\S]*numpy.asarray\(x, dtype=numpy.float32\)"),
    "a tensor": (lambda m: m(torch.from_numpy(X)), r"Input 'x' is a Tensor"),
    "integers": (lambda m: m(X.astype(np.int64)), r"Input 'x' has dtype int64[\s\S]*astype\(numpy.float32\)"),
    "a rank": (lambda m: m(X[0]), r"Input 'x' has rank 3 \(shape \(3, 16, 16\)\)[\s\S]*\(batch, 3, x_2, x_3\)"),
    "channels": (lambda m: m(X[:, :2]), r"Input 'x' has shape \(2, 2, 16, 16\), but the model takes \(batch, 3, x_2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_calls_that_make_no_sense_are_refused(name: str, model: Model) -> None:
    call, match = REFUSED[name]
    with pytest.raises(InputError, match=match):
        call(model)
    assert model(X).shape == (2, 5)


def test_an_id_that_the_table_does_not_have_is_refused(texts: Model) -> None:
    mask = np.ones((1, 3), np.float32)
    with pytest.raises(InputError, match="50"):
        texts(np.array([[0, 50, 1]]), mask)
    assert texts(np.array([[0, 49, 1]]), mask)["logits"].shape == (1, 4)


def test_sizes_that_the_capture_ruled_out_are_refused(folder: Path) -> None:
    branch = qfx.runtime.load(folder / "a branch.qfx")
    with pytest.raises(InputError, match=r"'x' has shape[\s\S]*captured for"):
        branch(np.zeros((1, 3, 7, 8), np.float32))


def test_limits_hold(folder: Path) -> None:
    path = folder / "images.qfx"
    limited = qfx.runtime.load(path, max_memory=10**6, max_products=10**5)
    assert limited(X).shape == (2, 5)
    with pytest.raises(InputError, match=r"bytes of memory, and the limit is 1000000"):
        limited(np.zeros((1, 3, 2000, 2000), np.float32))
    with pytest.raises(InputError, match=r"multiplications, and the limit is 100000"):
        limited(np.zeros((1, 3, 64, 64), np.float32))
    with pytest.raises(InputError, match="the limit is 100"):
        qfx.runtime.load(path, max_memory=100)
    for wrong in (-1, 1.5, "much", True):
        with pytest.raises(InputError, match="max_memory is"):
            qfx.runtime.load(path, max_memory=wrong)  # type: ignore[arg-type]


def test_files_that_are_none_are_refused(tmp_path: Path, folder: Path) -> None:
    other = tmp_path / "other.qfx"
    other.write_bytes(b"hello")
    for source, match in (
        (tmp_path / "absent.qfx", "can't be read"),
        (tmp_path, "folder"),
        (other, "no .qfx file"),
        (b"", "no .qfx file"),
        (3, "3 is no file"),
        ((folder / "images.qfx").read_bytes()[:-1], "damaged"),
    ):
        with pytest.raises(InputError, match=match):
            qfx.runtime.load(source)
    with pytest.raises(RuntimeLoadError, match="z80"):
        qfx.runtime.load(folder / "images.qfx", isa="z80")


class Sorted(Images):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.sort(x, -1)[0])


class ItsInput(Images):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


def test_what_only_torch_can_run_is_refused_at_save_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.qfx"
    for net, match in ((Sorted, r"sort[\s\S]*test_model\.py"), (ItsInput, "returns an input")):
        model = qfx.quantize_fx(net().eval(), QCONFIG, [_randn(2, 3, 16, 16)])
        with pytest.raises(ConversionError, match=match) as caught:
            qfx.save(model, path, serving=True)
        assert "what to do" in str(caught.value)
        assert not path.exists()
        qfx.save(model, path)
        with pytest.raises(InputError, match=r"can't be run without torch[\s\S]*serving=True"):
            qfx.runtime.load(path)
        path.unlink()


_SERVED = """
import os, sys, threading
sys.modules["torch"] = None
import numpy as np
import qfx.runtime
qfx.runtime.set_num_threads(2)

def own():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024

x = {n: np.zeros((n, 3, size, size), np.float32) for n, size in ((1, 64), (16, 256))}
x[16][:] = 1
model = qfx.runtime.load("mixed.qfx")
model(x[1])
small = own()
result = model(x[16])
large = own() - result.nbytes
for _ in range(40):
    model(x[1])
after = own()
pid = os.fork()
if pid == 0:  # a child has none of its parent's threads
    os._exit(0 if np.array_equal(model(x[16]), result) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
before = own()
def serve(k):
    for i in range(150):
        model(x[1][:, :, : 16 + (7 * i + k) % 48])
for _ in range(2):
    workers = [threading.Thread(target=serve, args=(k,)) for k in range(3)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    before, grown = own(), own() - before
print(large - small, after - small, grown)
"""


class Mixed(Images):
    """Whose batch can't be taken apart."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))
        return self.head((y - y.mean(0, keepdim=True)).mean((2, 3)))


def test_memory_is_given_back_and_does_not_grow(folder: Path) -> None:
    """After a large call many small ones; then threads and sizes that vary, the second time as the first."""
    model = qfx.quantize_fx(Mixed().eval(), QCONFIG, [_randn(2, 3, 16, 16)])
    qfx.save(model, folder / "mixed.qfx", serving=True)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(qfx.__file__).parents[1])!r})\n{_SERVED}"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    taken, kept, grown = map(int, done.stdout.split())
    assert taken > 4 << 20
    assert kept < taken / 2
    assert grown < 1 << 20


# ---------------------------------------------------------------- conditions


_UNARY = ("neg", "trunc", "floor", "ceil", "float", "int", "abs", "sqrt", "not")
_BINARY = ("+", "-", "*", "//", "%", "/", "max", "min", "==", "!=", "<", "<=", ">", ">=", "and", "or")


def _condition(rng: random.Random, depth: int) -> Any:
    if depth == 0 or rng.random() < 0.15:
        leaf = rng.randrange(4)
        if leaf == 0:
            return rng.randrange(-6, 40)
        return rng.choice((0.5, -1.5, 7.0, 3e9)) if leaf == 1 else ("size", ("x",), rng.randrange(4))
    if rng.random() < 0.3:
        return (rng.choice(_UNARY), _condition(rng, depth - 1))
    return (rng.choice(_BINARY), _condition(rng, depth - 1), _condition(rng, depth - 1))


def _holds(condition: Any, shape: tuple[int, ...]) -> bool:
    """In Python's numbers; what it can't compute does not hold, and neither do integers beyond 64 bits."""
    try:
        return bool(evaluate(condition, {"x": np.empty(shape, np.int8)}))
    except (ArithmeticError, ValueError):
        return False


def test_conditions_mean_what_they_mean_in_python(folder: Path) -> None:
    """Random ones, of the sizes of an input."""
    file = (folder / "images.qfx").read_bytes()
    parts = unpack(memoryview(file), "it", KNOWN, ())
    rng, seen, program = random.Random(0), set(), Program.from_bytes(bytes(parts[PROGRAM]))
    for _ in range(400):
        condition, shape = _condition(rng, 4), (rng.randrange(1, 5), 3, rng.randrange(8, 20), rng.randrange(8, 20))
        serving = _C.write_signature(
            [("x", "f32", ("n", 3, "h", "w"), 0)], [("output", "f32", ("n", 5), 0)],
            [(condition_nodes(condition, {"x": 0}), "it")], "0", "{}", [shape], program,
        )  # fmt: skip
        changed = [Section(n, serving if n == SERVING else p, n == SERVING) for n, p in parts.items()]
        loaded = qfx.runtime.load(pack(changed))
        wanted = _holds(condition, shape)
        seen.add(wanted)
        try:
            loaded.output_shapes(shape)
        except InputError:
            assert not wanted, condition
        else:
            assert wanted, condition
    assert seen == {True, False}
