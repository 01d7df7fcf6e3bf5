"""Every capability of the inventory (qfx/migrate/names.tsv) has a name, a description and a test that checks it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qfx.migrate.names import Row, rows
from tests.inventory.described import described, resolve
from tests.inventory.marked import checks, marks

INVENTORY = [row for row in rows() if row.id]


def report(problems: list[str], what: str) -> None:
    assert not problems, "\n".join([f"{len(problems)} rows of the inventory {what}:", *problems])


def why_missing(name: str) -> str | None:
    try:
        resolve(name)
    except (ImportError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def test_every_name_can_be_imported() -> None:
    missing = [(row, name, why_missing(name)) for row in rows() if row.kind != "alias" for name in row.new]
    report([f"  {row.id or row.old}: {name}: {why}" for row, name, why in missing if why], "name what does not exist")


def test_after_import_qfx_every_module_is_there() -> None:
    """As after ``import torch``: code that is migrated need not import each package."""
    modules = sorted({row.new[0] for row in rows() if row.kind == "module"})
    program = "\n".join(["import qfx", *(f"{module}.__name__" for module in modules)])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_has_a_docstring() -> None:
    names = [(row, name) for row in INVENTORY for name in row.new if why_missing(name) is None]
    report([f"  {row.id}: {name}" for row, name in names if not described(name)], "have no docstring of their own")


@pytest.mark.inventory("S215")
@pytest.mark.parametrize("package", ["qfx.quantization", "qfx.quantization.observer", "qfx.nn.quantized"])
def test_every_public_name_has_a_docstring(package: str) -> None:
    public = [f"{package}.{name}" for name in resolve(package).__all__]
    assert not [name for name in public if not described(name)]


def test_every_row_is_checked() -> None:
    found, _ = checks()
    report([line(row) for row in INVENTORY if row.id not in found], "have no test marked with them")


def test_every_mark_can_be_read_and_is_of_a_row() -> None:
    found, unread = checks()
    ids = {row.id for row in INVENTORY}
    unknown = [f"  {place}: {name!r}" for name, places in found.items() if name not in ids for place in places]
    assert not unknown, "\n".join(["marks of no row:", *unknown])
    assert not unread, "\n".join(["marks whose rows are no literal strings:", *(f"  {place}" for place in unread)])


def line(row: Row) -> str:
    return f"  {row.id}: {' '.join(row.new)}: {row.what}"


@pytest.mark.parametrize("name", ["qfx.nothing", "qfx.quantization.MinMaxObserver.nothing", "qfx.nothing.at_all"])
def test_a_name_that_does_not_exist_is_found_missing(name: str) -> None:
    assert why_missing(name) is not None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qfx.quantization", True),
        ("qfx.quantization.MinMaxObserver", True),
        ("qfx.quantization.ObserverBase.calculate_qparams", True),
        ("qfx.quantization.MinMaxObserver.cuda", False),
        ("qfx.quantization.qconfig.SMALLEST_SCALE", True),
        ("qfx.quantization.qconfig._own_weight", False),
    ],
)
def test_what_counts_as_a_docstring(name: str, expected: bool) -> None:
    assert described(name) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('@pytest.mark.inventory("S001", "S002")\ndef test_a(): ...', {"S001", "S002"}),
        ('TABLE = {"a": "S003"}\nCASES = [param(k, marks=mark.inventory(TABLE[k])) for k in TABLE]', {"S003"}),
        ('CASES = [("S004", 1)]\n@mark.parametrize("x", [param(x, marks=mark.inventory(i)) for i, x in CASES])\n'
         "def test_a(x): ...", {"S004"}),
        ('OTHER = ["S005"]\n@mark.inventory(row())\ndef test_a(): ...', set()),
        ("@mark.inventory()\ndef test_a(): ...", set()),
    ],
)  # fmt: skip
def test_which_rows_a_mark_names(source: str, expected: set[str]) -> None:
    assert [rows for _, rows in marks(source)] == [expected]
