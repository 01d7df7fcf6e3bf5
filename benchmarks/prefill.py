"""Prefill of a decoder beside OpenVINO: ``python -m benchmarks.prefill [--tokens 512] [--rounds 5]``.

A text of so many tokens to the logits of its last position, batch 1. OpenVINO has the same network with weights of 8
bits (NNCF's ``compress_weights``, as its GenAI exports have them) and activations quantized as its runtime does by
default. Each contender is a process of its own that waits while the other works; medians of turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from benchmarks import decoder_models, photos
from benchmarks.artefacts import CACHE
from benchmarks.report import header, row

DECODER = "smollm2"
SECONDS = 2.0
"""Of a turn."""

Run = Callable[[Tensor], object]


def quantized(path: Path) -> None:
    """Write qfx's model with the default dynamic qconfig, without calibration."""
    import qfx

    ids = decoder_models.windows(2, photos.CALIBRATION_SEED)
    net = decoder_models.load(DECODER, last=True)
    model = qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig}, example_inputs=(ids,))
    qfx.save(model, path, graph=False, serving=True)


def ours(path: Path, threads: int) -> Run:
    """qfx's runtime."""
    from qfx.runtime import load

    model = load(path)
    model.threads = threads
    return lambda ids: model(ids.numpy())


def openvino(path: Path, threads: int) -> Run:
    """OpenVINO's runtime."""
    import openvino as ov

    compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    return lambda ids: request.infer([ids.numpy()])


class _Masked(nn.Module):
    """With a mask of ones: without one, the code asks for differences of places, which OpenVINO does not convert."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.model = net.model

    def forward(self, ids: Tensor) -> Tensor:
        given = {"attention_mask": torch.ones_like(ids), "use_cache": False, "logits_to_keep": 1}
        return self.model(input_ids=ids, **given).logits


def converted() -> Path:
    """OpenVINO's model, kept."""
    import nncf
    import openvino as ov

    path = CACHE / f"{DECODER}_prefill_openvino-{ov.__version__.split('-')[0]}_nncf-{nncf.__version__}" / "model.xml"
    if not path.exists():
        ids = decoder_models.windows(2, photos.CALIBRATION_SEED)
        net = _Masked(decoder_models.load(DECODER, last=True)).eval()
        made = ov.convert_model(net, example_input=ids, input=[-1, -1])
        path.parent.mkdir(parents=True, exist_ok=True)
        ov.save_model(nncf.compress_weights(made), path)
    return path


CONTENDERS = {"qfx dynamic": ours, "openvino int8": openvino}


def work(name: str, path: Path, threads: int, tokens: int) -> None:
    """A contender's process: at every line it reads, a turn, whose median seconds it prints."""
    count = -(-tokens // decoder_models.LENGTH)
    ids = decoder_models.windows(count, photos.EVALUATION_SEED).reshape(1, -1)[:, :tokens].contiguous()
    run = CONTENDERS[name](path, threads)
    with torch.inference_mode():
        run(ids)
        print("ready", flush=True)
        for _ in sys.stdin:
            run(ids)
            times, end = [], time.perf_counter() + SECONDS
            while time.perf_counter() < end or len(times) < 3:
                began = time.perf_counter()
                run(ids)
                times.append(time.perf_counter() - began)
            print(statistics.median(times), flush=True)


class _Contender:
    def __init__(self, name: str, path: Path, threads: int, tokens: int) -> None:
        line = [sys.executable, "-m", "benchmarks.prefill", "--work", name, "--file", str(path)]
        line += ["--threads", str(threads), "--tokens", str(tokens)]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._told = self._process.stdin, self._process.stdout
        while (told := self._told.readline()) != "ready\n":
            assert told, f"{name} ended"

    def turn(self) -> float:
        """Median seconds of its calls."""
        _write(self._asked, "go\n")
        return float(self._told.readline())

    def close(self) -> None:
        self._asked.close()
        self._process.wait()


def _write(to: IO[str], line: str) -> None:
    to.write(line)
    to.flush()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--work", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(options.work, options.file, options.threads[0], options.tokens)
        return
    header("decoder", "threads", "", "tokens / s", f"of {next(reversed(CONTENDERS))}'s time")
    with tempfile.TemporaryDirectory() as folder:
        quantized(Path(folder) / "model.qfx")
        paths = dict(zip(CONTENDERS, (Path(folder) / "model.qfx", converted()), strict=True))
        for threads in options.threads:
            made = {name: _Contender(name, path, threads, options.tokens) for name, path in paths.items()}
            turns = [{name: contender.turn() for name, contender in made.items()} for _ in range(options.rounds)]
            seconds = {name: statistics.median(turn[name] for turn in turns) for name in made}
            theirs = seconds[next(reversed(CONTENDERS))]
            for name, spent in seconds.items():
                row(DECODER, threads, name, f"{options.tokens / spent:.0f}", f"{spent / theirs:.2f}")
            for contender in made.values():
                contender.close()


if __name__ == "__main__":
    main()
