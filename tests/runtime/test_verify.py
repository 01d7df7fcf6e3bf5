"""The certificate of a file: one hash, whatever runs it."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qfx.runtime import isa_names, load
from tests.fuzz.served import HASHES, KEPT

ROOT = Path(__file__).parents[2]
KNOWN = dict(line.split("\t") for line in HASHES.read_text().splitlines())


def numbers(seed: int) -> Iterator[int]:
    """SplitMix64."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) % 2**64
        yield z ^ z >> 31


def floats(index: int, *shape: int) -> np.ndarray:
    """What every machine gives a model as its input of that number."""
    made = [((z >> 40) - 2**23) * 2.0**-22 for z, _ in zip(numbers(index), range(int(np.prod(shape))), strict=False)]
    return np.array(made, np.float32).reshape(shape)


@pytest.mark.parametrize("name", sorted(KNOWN))
@pytest.mark.parametrize("isa", isa_names())
def test_kept_files_have_the_hash_that_they_had(name: str, isa: str) -> None:
    for threads in (1, 2):
        model = load(KEPT / f"{name}.qfx", isa=isa)
        model.threads = threads
        assert model.verify().hash == KNOWN[name]


def test_the_hash_is_of_outputs_for_inputs_that_are_the_same_everywhere() -> None:
    model = load(KEPT / "network.qfx")
    (given,) = model.inputs
    y = model(floats(0, 2, *given.shape[1:2], 5, 4))
    said = hashlib.sha256(b"f32" + struct.pack("<2q", *y.shape) + y.tobytes()).hexdigest()
    assert model.verify().hash == said


def test_the_command_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from qfx.cli import main; sys.exit(main(sys.argv[1:]))"
    path = KEPT / "network.qfx"
    for options in ([], ["--threads", "2"], ["--isa", "scalar"]):
        command = [sys.executable, "-c", code, "verify", str(path), "--json", *options]
        made = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        told = json.loads(made.stdout)
        assert told["hash"] == KNOWN["network"]
        assert (told["memory"], told["products"]) == load(path).verify()[1:]
