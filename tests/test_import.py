"""What importing qfx brings along."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import qfx

ROOT = Path(__file__).parents[1]


def python(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["qfx", "qfx.runtime", "qfx.errors"])
def test_needs_no_torch(module):
    # None in sys.modules makes any import of that name fail, as if it were not installed.
    program = f"import sys; sys.modules['torch'] = None; import {module}; print('ok')"
    assert python(program) == "ok"


def test_importing_qfx_stays_cheap():
    assert python("import sys, qfx; print('torch' in sys.modules)") == "False"


def test_every_name_that_dir_lists_exists():
    missing = [name for name in dir(qfx) if not hasattr(qfx, name)]
    assert not missing


@pytest.mark.parametrize("package", ["runtime", "advice", "viz", "nn", "errors"])
def test_a_package_needs_no_import_of_its_own(package):
    assert python(f"import qfx; print(qfx.{package}.__name__)") == f"qfx.{package}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="quantise_fx"):
        _ = qfx.quantise_fx


def test_version_is_the_one_of_the_package():
    declared = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert qfx.__version__ == declared[1]


def test_nothing_of_torch_ao_is_used():
    names = re.compile(r"torch\.ao\b|torch\.ops\.quantized|torch\.q(u?int8|int32)\b|torch\.quantize_per")
    # A docstring or comment may name what users come from; code may not.
    used = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in (ROOT / "qfx").rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if names.search(line) and re.match(r"\s*(from|import)\b|.*[=(]\s*torch\.", line)
    ]
    assert not used
