"""The notebooks do what their texts say: every claim is an assertion in a cell."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
NEED_DIGITS = ("first_steps", "losing_accuracy", "qat")


def outputs(notebook: Any, kind: str) -> list[str]:
    """Every output of a kind: ``"image/svg+xml"``, ``"text/html"``, ``"text/plain"``."""
    shown = (output.get("data", {}).get(kind) for cell in notebook["cells"] for output in cell.get("outputs", ()))
    return ["".join(text) for text in shown if text]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq.*", "ignore::DeprecationWarning:jupyter_client.*")
def test_runs(name: str) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    if name in NEED_DIGITS and find_spec("sklearn") is None:
        pytest.skip("the digits come with scikit-learn")
    from notebooks.execute import execute

    fresh, committed = execute(NOTEBOOKS / f"{name}.ipynb"), json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    for kind in ("image/svg+xml", "text/html"):
        assert len(outputs(fresh, kind)) == len(outputs(committed, kind))


@pytest.mark.parametrize("name", NAMES)
def test_is_committed_as_it_ran_from_top_to_bottom_and_knows_nothing_of_the_machine(name: str) -> None:
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])
    text = json.dumps(notebook)
    assert not any(folder in text for folder in ("/home/", "/root/", "/tmp/", "ipykernel_"))
    assert len(text) < 600_000
