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
USES = """
import sys
sys.meta_path = [one for one in sys.meta_path if "Redirecting" not in type(one).__name__]  # of an editable install
import torch
import qfx
from docs.op_coverage import page
from qfx.ops import TABLE

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


@pytest.mark.slow
def test_a_function_of_one_value_is_two_edits(tmp_path: Path) -> None:
    assert named_files("a function of one value") == list(EDITS)
    for folder in ("qfx", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, copy_function=os.symlink)
    compiled = Path(_C.__file__)
    if not (tmp_path / "qfx" / "runtime" / compiled.name).exists():
        (tmp_path / "qfx" / "runtime" / compiled.name).symlink_to(compiled)
    for name, edit in EDITS.items():
        edited = edit((ROOT / name).read_text(encoding="utf-8"))
        assert edited != (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).unlink()
        (tmp_path / name).write_text(edited, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", USES], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


# ---------------------------------------------------------------- an op of several tensors


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
