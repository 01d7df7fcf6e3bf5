"""docs/extending.md names every file that an addition touches: adding an op as it says, and nowhere else, is enough."""

from __future__ import annotations

import functools
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from qfx.lowering import emitters  # noqa: F401  (fills EMITTERS)
from qfx.lowering.emit import EMITTERS
from qfx.ops import TABLE, Op
from qfx.ops.spellings import aliases_of
from qfx.runtime import _C

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def named_files(addition: str) -> list[str]:
    """The files in the row of the table "What an addition touches"."""
    (row,) = re.findall(rf"^\| {addition} \| (.*) \|$", TEXT, re.MULTILINE)
    return re.findall(r"`([^`]+)`", row)


ADDITIONS = re.findall(r"^\| (?!addition|---)([^|`]+) \| .*`", TEXT, re.MULTILINE)


@pytest.mark.parametrize("addition", ADDITIONS)
def test_every_named_file_is_there(addition: str) -> None:
    for pattern in named_files(addition):
        assert list(ROOT.glob(pattern)), pattern


def test_the_table_is_found() -> None:
    assert {"a function of one value", "an op of several tensors", "an observer", "an instruction set"} <= set(
        ADDITIONS
    )


# ---------------------------------------------------------------- a function of one value

EDITS: dict[str, Callable[[str], str]] = {
    "qfx/ops/pointwise/reference.py": lambda text: text + ATAN,
    "qfx/ops/pointwise/spellings.py": lambda text: text.replace(
        "_UNARY = (\n", '_UNARY = (\n    _unary("atan", [], [torch.atan], "atan", "atan"),\n'
    ),
}
ATAN = '''

@function(np.arctan, floats=None)
def atan(x: Tensor) -> Tensor:
    """Inverse tangent."""
    return torch.atan(x)
'''
START = """
import sys
sys.meta_path = [one for one in sys.meta_path if "Redirecting" not in type(one).__name__]  # of an editable install
import torch
import qfx
from docs.op_coverage import page
from qfx.ops import TABLE
"""
USES = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x):
        return self.second(torch.atan(self.first(x)).atan())

x = torch.randn(64, 8)
model = qfx.quantize_fx(Net().eval(), {"": qfx.get_default_qconfig()}, [x])
assert [r.op for r in model.report.decided("int8")] == ["linear", "atan", "atan", "linear"], model.report
assert len(model.explain().parts) == 1, "all of it is one program"
q = qfx.quantize_per_tensor(x, 0.03, 128, qfx.quint8)
out = qfx.QParams(0.02, 128, qfx.quint8)
y = qfx.eager.run_op("atan", q, out=out)
assert torch.equal(y.int_repr(), TABLE["atan"].integer(q.array, out=out))
(line,) = [line for line in page().splitlines() if line.startswith("| `atan` |")]
assert "`.atan`, `torch.atan` | `atan` | observed" in line, line
"""


def run_edited(folder: Path, edits: dict[str, Callable[[str], str]], code: str) -> None:
    """Runs ``code`` with a copy of the package in ``folder`` in which files are edited."""
    for name in ("qfx", "docs"):
        shutil.copytree(ROOT / name, folder / name, copy_function=os.symlink)
    compiled = Path(_C.__file__)
    if not (folder / "qfx" / "runtime" / compiled.name).exists():
        (folder / "qfx" / "runtime" / compiled.name).symlink_to(compiled)
    for name, edit in edits.items():
        edited = edit((ROOT / name).read_text(encoding="utf-8"))
        assert edited != (ROOT / name).read_text(encoding="utf-8")
        (folder / name).unlink()
        (folder / name).write_text(edited, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", START + code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_function_of_one_value_is_two_edits(tmp_path: Path) -> None:
    assert named_files("a function of one value") == list(EDITS)
    run_edited(tmp_path, EDITS, USES)


# ---------------------------------------------------------------- an op of several tensors

OF_TENSORS: dict[str, Callable[[str], str]] = {
    "qfx/ops/shape/reference.py": lambda text: text + REFERENCE,
    "qfx/ops/shape/integer.py": lambda text: text + INTEGER,
    "qfx/ops/shape/rows.py": lambda text: text.replace("ROWS = with_samples(\n", SHAPE).replace(
        "    _move(reference.dropout", ROW + "    _move(reference.dropout"
    ),
    "qfx/ops/shape/samples.py": lambda text: text + SAMPLES,
    "qfx/ops/shape/spellings.py": lambda text: text.replace("ALIASES: tuple[Alias, ...] = (\n", SPELLING),
    "qfx/lowering/emitters/move.py": lambda text: text + EMITTER,
}
REFERENCE = '''

def beside(x: Tensor, y: Tensor) -> Tensor:
    """``x`` and ``y`` along the last dim."""
    return torch.cat([x, y], -1)
'''
INTEGER = """

def beside(x: QArray, y: QArray, *, out: QParams) -> Tensor:
    return join(shape.cat, [x, y], out=out, dim=-1)
"""
SHAPE = """
def beside_shape(x: Lengths, y: Lengths) -> Lengths:
    return (*x[:-1], x[-1] + y[-1])


ROWS = with_samples(
"""
ROW = """
    Op("beside", reference.beside, ("x", "y"), "share", shape=beside_shape, integer=integer.beside, family="concat",
       floats="fn"),
"""
SAMPLES = """

GOOD["beside"] = lambda: [call(normal(2, 3, 4), normal(2, 3, 5, seed=1))]
BAD["beside"] = lambda: [refused(RuntimeError, "Sizes of tensors must match", normal(2, 3), normal(3, 3))]
"""
SPELLING = '''
def hstack(tensors: Any) -> Term:
    """``torch.hstack`` of two."""
    x, y = tensors
    return term("beside", x, y)


ALIASES: tuple[Alias, ...] = (
    *aliases("beside", hstack, functions=[torch.hstack]),
'''
EMITTER = """

@emits("beside")
def beside(emission: Emission, node: fx.Node) -> Physical:
    given = arguments(op_at(node), node)
    x, y = emission.value(given["x"]), emission.value(given["y"])
    y = emission.in_order(node, y, x.order)
    return emission.step(node, steps.concat([x.id, y.id], axis=x.order.index(x.rank - 1)), x.order, x.dtype)
"""
USES_OF_TENSORS = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4), torch.nn.Linear(12, 3)

    def forward(self, x):
        return self.third(torch.hstack([self.first(x), self.second(x)]))

x = torch.randn(64, 8)
model = qfx.quantize_fx(Net().eval(), {"": qfx.get_default_qconfig()}, [x])
assert [r.op for r in model.report.decided("int8")] == ["linear", "linear", "beside", "linear"], model.report
assert len(model.explain().parts) == 1, "all of it is one program"
qparams = qfx.QParams(0.03, 128, qfx.quint8)
a, b = (qfx.quantize_per_tensor(y, 0.03, 128, qfx.quint8) for y in (x, x[:, :4]))
y = qfx.eager.run_op("beside", a, b, out=qparams)
assert torch.equal(y.int_repr(), TABLE["beside"].integer(a.array, b.array, out=qparams))
(line,) = [line for line in page().splitlines() if line.startswith("| `beside` |")]
assert "`torch.hstack`" in line, line
"""


@pytest.mark.slow
def test_an_op_of_several_tensors_is_edits_in_the_named_files(tmp_path: Path) -> None:
    named = named_files("an op of several tensors") + named_files("a spelling")[:1]
    edited = [name for pattern in named for name in OF_TENSORS if fnmatch(name, pattern)]
    assert sorted(edited) == sorted(OF_TENSORS)  # one file for each that is named
    assert len(edited) == len(named)
    run_edited(tmp_path, OF_TENSORS, USES_OF_TENSORS)


def sources(value: Any) -> Iterator[str]:
    """The file of ``qfx`` in which a function is, or those of a partial's functions."""
    if isinstance(value, functools.partial):
        for part in (value.func, *value.args):
            yield from sources(part)
    elif callable(value) and not isinstance(value, type) and inspect.isfunction(inspect.unwrap(value)):
        yield str(Path(inspect.getsourcefile(inspect.unwrap(value)) or "").relative_to(ROOT))


def files_of(op: Op) -> set[str]:
    cells = (op.fn, op.integer, op.shape, op.samples, op.bad_samples, EMITTERS[op.name].emit)
    return {path for cell in (*cells, *(alias.rule for alias in aliases_of(op.name))) for path in sources(cell)}


GENERAL = {"qfx/ops/table.py", "qfx/ops/epilogue.py", "qfx/ops/spelling.py", "qfx/ops/sample.py"}
"""What rows share: the shape of an operand, the reference of a float op."""


@pytest.mark.parametrize(
    "op", [op for op in TABLE.values() if op.pointwise is None and op.qparams != "none"], ids=lambda op: op.name
)
def test_an_op_of_several_tensors_is_in_the_named_files(op: Op) -> None:
    named = named_files("an op of several tensors") + named_files("a spelling")
    assert not [path for path in files_of(op) - GENERAL if not any(fnmatch(path, pattern) for pattern in named)]


# ---------------------------------------------------------------- a step

STEPS = re.findall(r'Step\.of\(\s+"(\w+)"', (ROOT / "qfx" / "runtime" / "steps.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("step", STEPS)
def test_a_step_is_in_the_named_files(step: str) -> None:
    named = named_files("its step, where the runtime has none")
    texts = {p: p.read_text(encoding="utf-8") for p in (ROOT / "qfx").rglob("*.cc")}
    naming = [str(p.relative_to(ROOT)) for p, text in texts.items() if re.search(rf'[({{]\s*"{step}"', text)]
    assert naming
    assert not [path for path in naming if not any(fnmatch(path, pattern) for pattern in named)]


# ---------------------------------------------------------------- an instruction set

LEVELS = re.compile(r"\b(avx2|avxvnni|avx512vnni|amx|neon|dotprod|i8mm)\b")


def test_levels_are_named_in_the_named_files_only() -> None:
    named = named_files("an instruction set")
    files = [ROOT / "CMakeLists.txt", *(ROOT / "docs").glob("*.py")]
    files += [p for p in (ROOT / "qfx").rglob("*") if p.suffix in (".py", ".cc", ".h", ".inc") and "__" not in p.name]
    naming = {
        str(path.relative_to(ROOT))
        for path in files
        if len(set(LEVELS.findall(path.read_text(encoding="utf-8")))) > 2 and not path.match("kernels/*/*.h")
    }
    assert naming
    assert not [path for path in naming if not any(fnmatch(path, pattern) for pattern in named)]
