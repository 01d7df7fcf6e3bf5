"""The notebooks do what their texts say."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
needs_digits = pytest.mark.skipif(find_spec("sklearn") is None, reason="the digits come with scikit-learn")


def run(name: str) -> dict[str, Any]:
    """The names that a notebook's cells define."""
    cells = [
        cell["source"] for cell in json.loads((NOTEBOOKS / name).read_text())["cells"] if cell["cell_type"] == "code"
    ]
    names: dict[str, Any] = {"__name__": Path(name).stem}
    for number, source in enumerate(cells):
        exec(compile("".join(source), f"{name}, cell {number}", "exec"), names)
    return names


@pytest.mark.slow
@needs_digits
def test_first_steps_runs_and_int8_recognizes_the_digits() -> None:
    names = run("first_steps.ipynb")
    # 397 test digits: two of them are 0.5 %.
    assert names["int8_accuracy"] >= names["float_accuracy"] - 0.005
    assert names["float_accuracy"] > 0.9
    assert names["same"]
    assert names["unchanged"]


@pytest.mark.slow
@needs_digits
def test_training_with_quantization_brings_accuracy_back() -> None:
    names = run("qat.ipynb")
    lost = names["float_accuracy"] - names["ptq_accuracy"]
    assert lost > 2.0
    assert names["qat_accuracy"] - names["ptq_accuracy"] > 0.5 * lost
    assert abs(names["qat_accuracy"] - names["last"]) < 0.5
    assert names["Curve"]([1.0, 2.0], 0.5, 3.0)._repr_svg_().startswith("<svg")
