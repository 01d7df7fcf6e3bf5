"""The notebook does what its text says."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "first_steps.ipynb"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sklearn") is None, reason="the digits come with scikit-learn")
def test_first_steps_runs_and_int8_recognizes_the_digits():
    cells = [cell["source"] for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "first_steps"}
    for number, source in enumerate(cells):
        exec(compile("".join(source), f"first_steps.ipynb, cell {number}", "exec"), names)
    # 397 test digits: two of them are 0.5 %.
    assert names["int8_accuracy"] >= names["float_accuracy"] - 0.005
    assert names["float_accuracy"] > 0.9
    assert names["same"]
    assert names["unchanged"]
