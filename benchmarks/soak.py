"""Serving for a while: ``python -m benchmarks.soak [network ...] [--seconds 60] [--threads 4]``.

A process without torch loads every network's file; threads call them at once with batches and, where these are free,
sizes that change from call to call, and compare each result with what the first call of that kind gave. In between a
child is forked that calls, too, and a model is loaded anew. What is printed are calls, results that differ, and the
memory that no file backs: at the end of the first tenth, when every kind of call has been made, and at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import qfx
from benchmarks import contenders
from benchmarks.report import header, row
from benchmarks.workloads import ENCODERS, workload

_SERVE = """
import gc, itertools, json, os, sys, threading, time
sys.modules["torch"] = None
import numpy as np
import qfx.runtime

folder, seconds, threads, *names = sys.argv[1:]
seconds, threads = float(seconds), int(threads)
qfx.runtime.set_num_threads(1)

def own():
    gc.collect()
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024

def flat(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [x for item in value for x in flat(item)] if isinstance(value, (list, tuple)) else [value]

models = {name: qfx.runtime.load(f"{folder}/{name}.qfx") for name in names}
given = {name: dict(np.load(f"{folder}/{name}.npz")) for name in names}
kinds = [(name, batch, cut) for name in names for batch in (1, 2, 3) for cut in (0, 1, 2)]
wanted, calls, wrong = {}, [0] * threads, [0]
end = time.monotonic() + seconds
marks = []

def inputs(name, batch, cut):
    made = {}
    for key, x in given[name].items():
        x = x[:batch]
        for d, size in enumerate(next(v for v in models[name].inputs if v.name == key).shape):
            if d and isinstance(size, str):
                x = np.take(x, range(x.shape[d] - 8 * cut), d)
        made[key] = np.ascontiguousarray(x)
    return made

def call(kind):
    return flat(models[kind[0]](**inputs(*kind)))

for kind in kinds:
    wanted[kind] = call(kind)

def serve(number):
    for kind in itertools.islice(itertools.cycle(kinds), number, None):
        if time.monotonic() > end:
            return
        if not all(np.array_equal(a, b) for a, b in zip(call(kind), wanted[kind], strict=True)):
            wrong[0] += 1
        calls[number] += 1

workers = [threading.Thread(target=serve, args=(n,)) for n in range(threads)]
[worker.start() for worker in workers]
forks = 0
while time.monotonic() < end:
    time.sleep(seconds / 10)
    marks.append(own())
    pid = os.fork()
    if pid == 0:
        same = all(np.array_equal(a, b) for a, b in zip(call(kinds[forks % len(kinds)]),
                                                        wanted[kinds[forks % len(kinds)]], strict=True))
        os._exit(0 if same else 1)
    wrong[0] += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    forks += 1
    qfx.runtime.load(f"{folder}/{names[forks % len(names)]}.qfx")
[worker.join() for worker in workers]
print(json.dumps([sum(calls), forks, wrong[0], marks[0], own()]))
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["mobilenet_v2", "minilm"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for network in options.networks:
            made = workload(network)
            own = contenders.quantize_dynamic if network in ENCODERS else contenders.quantize
            qfx.save(own(made), Path(folder) / f"{network}.qfx", graph=False, serving=True)
            inputs = {name: x.numpy() for name, x in zip(made.takes, made.inputs(3), strict=True)}
            np.savez(Path(folder) / f"{network}.npz", **inputs)
        line = [sys.executable, "-c", _SERVE, folder, str(options.seconds), str(options.threads), *options.networks]
        calls, forks, wrong, first, last = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout)
    header("calls", "forks", "wrong", "own MB at a tenth", "at the end")
    row(calls, forks, wrong, f"{first:.1f}", f"{last:.1f}")


if __name__ == "__main__":
    main()
