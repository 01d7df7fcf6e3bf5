"""From a file to the first result without torch: ``python -m benchmarks.serving [network ...] [--rounds 15]``.

Each run is a fresh process of one thread: numpy is imported, then the clock runs over importing the package, loading
the file and the first inference. Contenders take turns; medians. ``qfx, packed`` is a file with weights packed for this
CPU; ``qfx-run`` the command of that name, from its start to its end, where ``build/library`` has it (make library).
Peak is the most memory that the process held; own what loading added that no file backs, which no other process
shares. The file is compared with the weights, biases and tables that it holds, and 64 KiB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import qfx
from benchmarks import contenders, peers
from benchmarks.artefacts import artefact
from benchmarks.report import header, row
from benchmarks.workloads import ENCODERS, Workload, workload
from qfx.models import QuantizedModel

_MEASURE = """
import json, sys, time
import numpy as np

def megabytes(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) / 1024

given = dict(np.load(sys.argv[2]))
started = time.perf_counter()
{imports}
before, imported = megabytes("RssAnon"), time.perf_counter()
{load}
loaded = time.perf_counter()
own = megabytes("RssAnon") - before
again = time.perf_counter()
y = {call}
done = time.perf_counter()
load, first = loaded - started, loaded - started + done - again
print(json.dumps([load * 1e3, first * 1e3, megabytes("VmHWM"), own]))
"""
_QFX = _MEASURE.format(
    imports="import qfx.runtime\nfrom qfx.runtime import load",
    load="model = load(sys.argv[1])\nmodel.threads = 1",
    call="model(**given)",
)
_ONNXRUNTIME = _MEASURE.format(
    imports="import onnxruntime as ort",
    load="options = ort.SessionOptions()\noptions.intra_op_num_threads = 1\n"
    "options.log_severity_level = 3\nsession = ort.InferenceSession(sys.argv[1], options, "
    'providers=["CPUExecutionProvider"])\nused = {x.name for x in session.get_inputs()}',
    call="session.run(None, {name: x for name, x in given.items() if name in used})",
)
_COLUMNS = ("loaded ms", "first result ms", "peak MB", "own MB")
_COMMAND = Path("build/library/install/bin/qfx-run")
Run = Callable[[], list[float]]
"""Measures one process."""


@dataclass(frozen=True)
class Contender:
    """Who runs which file.

    Attributes:
        run: One process.
        file: The file.
        weights: Bytes of weights, biases and tables in it; 0 where nobody counts them.
    """

    run: Run
    file: Path
    weights: int = 0


def contestants(given: Workload, folder: Path) -> dict[str, Contender]:
    """Everyone, by the name that the table prints."""
    inputs = {name: x.numpy() for name, x in zip(given.takes, given.inputs(1), strict=True)}
    np.savez(folder / "inputs.npz", **inputs)
    model = contenders.quantize(given)
    plain, packed = folder / "plain.qfx", folder / "packed.qfx"
    qfx.save(model, plain, graph=False, serving=True)
    qfx.save(model, packed, graph=False, packed_for=[qfx.cpu_info()["isa"]])
    made = {
        "qfx": Contender(partial(python, _QFX, plain, folder), plain, weights_of(model)),
        "qfx, packed": Contender(partial(python, _QFX, packed, folder), packed),
    }
    if _COMMAND.exists():
        made["qfx-run"] = Contender(partial(command, packed, inputs, folder), packed)
    if not peers.missing("onnxruntime int8"):
        kind, make = "int8", peers.quantize_onnx
        if given.name in ENCODERS:
            kind, make = "dynamic", peers.quantize_onnx_dynamic
        theirs = artefact(given, kind, ["torch", "onnx", "onnxruntime"], lambda to: make(given, to)) / "model.onnx"
        made["onnxruntime"] = Contender(partial(python, _ONNXRUNTIME, theirs, folder), theirs)
    return made


def weights_of(model: QuantizedModel) -> int:
    """Bytes of integers and of what stays float, less scales and zero points."""
    state = model.state_dict()
    return sum(t.numel() * t.element_size() for name, t in state.items() if not name.endswith(("scale", "zero_point")))


def python(code: str, path: Path, folder: Path) -> list[float]:
    """One process of Python's."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    line = [sys.executable, "-c", code, str(path), str(folder / "inputs.npz")]
    found: list[float] = json.loads(subprocess.run(line, env=env, capture_output=True, check=True).stdout)
    return found


def command(path: Path, inputs: Mapping[str, np.ndarray], folder: Path) -> list[float]:
    """One process of qfx-run."""
    for name, array in inputs.items():
        np.save(folder / f"{name}.npy", array)
    given = [f"{name}={folder / name}.npy" for name in inputs]
    started = time.perf_counter()
    with subprocess.Popen([str(_COMMAND), str(path), *given, "--threads", "1"], stdout=subprocess.DEVNULL) as process:
        _, status = os.waitpid(process.pid, 0)
        done = time.perf_counter()
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return [float("nan"), (done - started) * 1e3, float("nan"), float("nan")]  # a child begins with its parent's peak


def medians(made: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Of each contender, the medians of what a process measures; the first round is for the caches of the system."""
    runs = [{name: contender.run() for name, contender in made.items()} for _ in range(rounds + 1)][1:]
    return {name: [statistics.median(run[name][i] for run in runs) for i in range(len(_COLUMNS))] for name in made}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["mobilenet_v2", "minilm"])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    header("network", "", *_COLUMNS, "file MB", "file / weights")
    for network in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            made = contestants(workload(network), Path(folder))
            for name, figures in medians(made, options.rounds).items():
                size, weights = made[name].file.stat().st_size, made[name].weights
                share = f"{size / (weights + 65536):.3f}" if weights else ""
                row(network, name, *(f"{figure:.1f}" for figure in figures), f"{size / 1e6:.2f}", share)


if __name__ == "__main__":
    main()
