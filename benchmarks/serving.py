"""From a file to the first result without torch: ``python -m benchmarks.serving [network ...] [--rounds 15]``.

Each run is a fresh process of one thread: numpy is imported, then the clock runs over importing the package, loading
the file and the first inference. Contenders take turns; medians. Memory is the most that the process held (VmHWM), and
what of it is its own after the first result: pages that no file backs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import qfx
from benchmarks import contenders, peers
from benchmarks.artefacts import artefact
from benchmarks.report import header, row
from benchmarks.workloads import ENCODERS, Workload, workload

_MEASURE = """
import json, sys, time
import numpy as np
given = dict(np.load(sys.argv[2]))
started = time.perf_counter()
{load}
loaded = time.perf_counter()
y = {call}
done = time.perf_counter()
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
kb = [int(lines[name].split()[0]) for name in ("VmHWM", "RssAnon")]
print(json.dumps([(loaded - started) * 1e3, (done - started) * 1e3, kb[0] / 1024, kb[1] / 1024]))
"""
_QFX = _MEASURE.format(
    load="import qfx.runtime\nmodel = qfx.runtime.load(sys.argv[1])\nmodel.threads = 1", call="model(**given)"
)
_ONNXRUNTIME = _MEASURE.format(
    load="import onnxruntime as ort\noptions = ort.SessionOptions()\noptions.intra_op_num_threads = 1\n"
    "options.log_severity_level = 3\nsession = ort.InferenceSession(sys.argv[1], options, "
    'providers=["CPUExecutionProvider"])\nused = {x.name for x in session.get_inputs()}',
    call="session.run(None, {name: x for name, x in given.items() if name in used})",
)
_COLUMNS = ("loaded ms", "first result ms", "peak MB", "own MB")


def files(given: Workload, folder: Path) -> dict[str, tuple[str, Path]]:
    """What measures each contender, and its file."""
    ours = folder / f"{given.name}.qfx"
    qfx.save(contenders.quantize(given), ours, graph=False, serving=True)
    made = {"qfx": (_QFX, ours)}
    if not peers.missing("onnxruntime int8"):
        kind, make = "int8", peers.quantize_onnx
        if given.name in ENCODERS:
            kind, make = "dynamic", peers.quantize_onnx_dynamic
        theirs = artefact(given, kind, ["torch", "onnx", "onnxruntime"], lambda to: make(given, to))
        made["onnxruntime"] = (_ONNXRUNTIME, theirs / "model.onnx")
    return made


def measured(code: str, path: Path, inputs: Path) -> list[float]:
    """One process."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(inputs)], env=env, capture_output=True, check=True
    )
    found: list[float] = json.loads(done.stdout)
    return found


def medians(made: Mapping[str, tuple[str, Path]], inputs: Path, rounds: int) -> dict[str, list[float]]:
    """Of each contender, the medians of what a process measures."""
    runs = [{name: measured(*how, inputs) for name, how in made.items()} for _ in range(rounds + 1)][1:]
    return {name: [statistics.median(run[name][i] for run in runs) for i in range(len(_COLUMNS))] for name in made}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["mobilenet_v2", "minilm"])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    header("network", "", *_COLUMNS, "file MB")
    for network in options.networks:
        given = workload(network)
        with tempfile.TemporaryDirectory() as folder:
            inputs = Path(folder) / "inputs.npz"
            np.savez(inputs, **{name: x.numpy() for name, x in zip(given.takes, given.inputs(1), strict=True)})
            made = files(given, Path(folder))
            for name, figures in medians(made, inputs, options.rounds).items():
                size = made[name][1].stat().st_size / 1e6
                row(network, name, *(f"{figure:.1f}" for figure in figures), f"{size:.2f}")


if __name__ == "__main__":
    main()
