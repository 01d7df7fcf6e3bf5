"""From a file to the first result: ``python -m benchmarks.load_time [model ...] [--runs 7]``.

Each run is a process of its own, one thread, torch imported before the clock starts; runs with the file's programs and
with its graph alone, which is compiled, take turns. ``NAME+torch`` is a network of timm's with a node before its head
that torch runs, so that it is two programs. Memory is what the process holds after the first result beyond what
it held before ``qfx.load``, over the bytes of the int8 weights.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import qfx
from benchmarks import photos, zoo
from benchmarks.report import header, row
from qfx.file import qdq
from qfx.file.container import pack
from qfx.file.tensors import TensorWriter
from qfx.models import QuantizedModel

_TORCH = "+torch"
_RUN = """
import gc, json, sys, time
import torch
torch.set_num_threads(1)
import qfx

def held():
    gc.collect()
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["RssAnon"].split()[0]) * 1024

x = torch.load(sys.argv[2])
before, started = held(), time.perf_counter()
model = qfx.load(sys.argv[1])
loaded = time.perf_counter()
y = model(x)
done = time.perf_counter()
print(json.dumps([loaded - started, done - started, held() - before]))
"""


class Interrupted(nn.Module):
    """A network of timm's with a node before its head that torch runs."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> Any:
        return self.net.forward_head(torch.roll(self.net.forward_features(x), 1, 1))


def network(name: str) -> nn.Module:
    """The network of a name, which may end in ``+torch``."""
    net = zoo.load(name.removesuffix(_TORCH))
    return Interrupted(net).eval() if name.endswith(_TORCH) else net


def graph_alone(model: QuantizedModel) -> bytes:
    """The file of a model without its program."""
    return pack(qdq.graph_sections(model, model.info, TensorWriter()))


def measured(path: Path, x: Path) -> list[float]:
    """Seconds to the model, seconds to the first result, and bytes."""
    command = [sys.executable, "-c", _RUN, str(path), str(x)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    found: list[float] = json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet50", "efficientnet_lite0", "resnet50+torch"])
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args(arguments)
    header("model", "file", "file MB", "load s", "first result s", "of the graph's", "weights' copies")
    for name in options.models:
        model = qfx.quantize_fx(network(name), {"": qfx.get_default_qconfig()}, photos.calibration(16))
        weights = sum(t.numel() for t in model.state_dict().values() if t.dtype is torch.int8)
        with tempfile.TemporaryDirectory() as folder:
            files = {"graph": Path(folder) / "graph.qfx", "program": Path(folder) / "program.qfx"}
            files["graph"].write_bytes(graph_alone(model))
            qfx.save(model, files["program"])
            x = Path(folder) / "x.pt"
            torch.save(photos.crops(1, photos.TIMING_SEED), x)
            runs = [{kind: measured(path, x) for kind, path in files.items()} for _ in range(options.runs)]
            medians = {k: [statistics.median(run[k][i] for run in runs) for i in range(3)] for k in files}
            for kind, path in files.items():
                load, first, held = medians[kind]
                share = f"{first / medians['graph'][1]:.2f}"
                row(
                    name,
                    kind,
                    f"{path.stat().st_size / 1e6:.2f}",
                    f"{load:.3f}",
                    f"{first:.3f}",
                    share,
                    f"{held / weights:.2f}",
                )


if __name__ == "__main__":
    main()
