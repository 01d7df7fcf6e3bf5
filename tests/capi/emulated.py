"""``qfx-run`` of another architecture, emulated: ``python -m tests.capi.emulated COMMAND...`` (make emulated-library).

Every file of tests/data/steps runs on inputs of numpy's, there and here; each output bit must be the same.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from qfx.runtime import load
from tests.fuzz.served import KEPT


def inputs_of(path: Path) -> dict[str, np.ndarray]:
    """Numbers, and of integers small ones, of the shapes that the arrays of a step's test have or may have."""
    rng, model = np.random.default_rng(0), load(path)
    made = {}
    for value in model.inputs:
        shape = [size if isinstance(size, int) else 4 for size in value.shape]
        numbers = rng.standard_normal(shape) if value.dtype.kind == "f" else rng.integers(0, 2, shape)
        made[value.name] = numbers.astype(value.dtype)
    return made


def main(command: list[str]) -> None:
    tried = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(KEPT.glob("*.qfx")):
            model, given = load(path), inputs_of(path)
            if len(model.outputs) > 1:  # which go into a folder
                continue
            try:
                wanted = model(**given)
            except ValueError:  # the step takes no such sizes
                continue
            for name, array in given.items():
                np.save(Path(folder) / f"{name}.npy", array)
            files = [f"{name}={folder}/{name}.npy" for name in given]
            output = Path(folder) / "output.npy"
            subprocess.run([*command, str(path), *files, "--output", str(output)], check=True, capture_output=True)
            assert np.array_equal(np.load(output), wanted, equal_nan=wanted.dtype.kind == "f"), path.name
            tried += 1
    assert tried > 10, tried
    print(f"{tried} files: the same bits")


if __name__ == "__main__":
    main(sys.argv[1:])
