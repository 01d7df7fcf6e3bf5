"""The examples: every name that they import is there. `make demo` runs them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_imports(path: Path) -> None:
    assert "main" in runpy.run_path(str(path), run_name="imported")
