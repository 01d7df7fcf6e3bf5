"""Runs notebooks and keeps what they show: ``python -m notebooks.execute [NAME ...]``, from the top of the repository.

A notebook is committed with its outputs, so that pictures and tables show where it is read. What depends on the machine
in them, such as times, is an example; what the text claims is asserted in the cells.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
_MOST_SECONDS = 300


def execute(path: Path) -> Any:
    """The notebook at ``path`` with the outputs of a run in a kernel of its own.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    root = str(FOLDER.parent)
    path_of_python = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path_of_python, "OMP_NUM_THREADS": "1"}  # small nets; the same numbers anywhere
    client = NotebookClient(
        notebook, timeout=_MOST_SECONDS, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    )  # fmt: skip
    client.execute(env=env)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main(names: list[str]) -> None:
    """Run the notebooks ``names``, all when there are none, and write them with their outputs."""
    for path in [FOLDER / f"{Path(name).stem}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(execute(path), path)
        print(path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
