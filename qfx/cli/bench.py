"""``qfx bench``: how long a forward takes, beside the float model if there is one."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

from qfx.cli.facts import Facts, table
from qfx.cli.options import FILE_HELP, MODEL_HELP, add_json, add_threads
from qfx.cli.parser import positive, seconds
from qfx.errors import InputError

_FEWEST_ROUNDS = 5
_TURN = 0.02
"""Seconds of calls in one turn of a model, before the other has its own."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--float", metavar="MODEL", help=f"the float model, timed in turns with it: {MODEL_HELP}")
    parser.add_argument("--batch", metavar="N", type=positive, help="samples a forward (default: as calibrated)")
    parser.add_argument("--seconds", metavar="S", type=seconds, default=2.0, help="how long to measure (default 2)")
    add_threads(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    import torch

    from qfx.cli.model import load_float, load_quantized
    from qfx.cli.threads import use_threads
    from qfx.errors import QfxError

    threads = use_threads(options.threads)
    model = load_quantized(options.file)
    inputs = random_inputs(model, options.batch)
    calls: dict[str, Callable[[], object]] = {"int8": lambda: model(*inputs)}
    if options.float is not None:
        source = load_float(options.float)
        calls["float"] = lambda: source(*inputs)
    with torch.inference_mode():
        for name, call in calls.items():
            try:
                call()
            except QfxError:
                raise
            except Exception as error:
                raise InputError(
                    f"The {name} model does not run on inputs of {_shown(inputs)}.",
                    why=f"{str(error).strip().splitlines()[0]}.",
                    remedy="Give the float model that FILE was made from, and a --batch that it takes.",
                ) from error
        times = interleaved(calls, options.seconds)
    return _facts(times, inputs, threads, model)


def random_inputs(model: Any, batch: int | None) -> tuple[Any, ...]:
    """Inputs of the shapes that the model was calibrated with, normally distributed; integers are 0.

    Raises:
        InputError: The shapes are not known, or there is no batch dimension to change.
    """
    import torch

    described = model.info.get("example_inputs")
    if described is None:
        raise InputError(
            "The file does not say which shapes the model takes.", remedy="Quantize it with --calibration DATA."
        )
    generator = torch.Generator().manual_seed(0)
    made = []
    for (kind, *rest), node in zip(described, model.graph.find_nodes(op="placeholder"), strict=True):
        if kind == "value":
            made.append(rest[0])
            continue
        shape, dtype = _resized(tuple(rest[0]), node.meta.get("batch_dim", 0), batch), rest[1]
        made.append(
            torch.randn(shape, generator=generator).to(dtype)
            if dtype.is_floating_point
            else torch.zeros(shape, dtype=dtype)
        )
    return tuple(made)


def _resized(shape: tuple[int, ...], dim: int | None, batch: int | None) -> tuple[int, ...]:
    if batch is None or dim is None or not shape:
        return shape
    return (*shape[:dim], batch, *shape[dim + 1 :])


def interleaved(calls: dict[str, Callable[[], object]], budget: float) -> dict[str, list[float]]:
    """Milliseconds of a call by name, one value a turn: the median of its calls. The models take turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(next(iter(found.values()))) < _FEWEST_ROUNDS:
        for name, call in calls.items():
            call()  # brings its weights back into the caches
            found[name].append(_turn(call))
    return found


def _turn(call: Callable[[], object]) -> float:
    times: list[float] = []
    end = time.perf_counter() + _TURN
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def _shown(inputs: tuple[Any, ...]) -> str:
    return ", ".join("x".join(map(str, getattr(x, "shape", ()))) or "a value" for x in inputs)


def _facts(times: dict[str, list[float]], inputs: tuple[Any, ...], threads: int, model: Any) -> Facts:
    import torch

    import qfx

    medians = {name: statistics.median(values) for name, values in times.items()}
    shapes = [list(getattr(x, "shape", ())) for x in inputs]
    data: dict[str, Any] = {
        "ms": medians,
        "turns": {name: len(values) for name, values in times.items()},
        "inputs": shapes,
        "threads": threads,
        "isa": next((p.executable.isa for p in model.compiled.segments if p.executable is not None), None),
        "cpu": platform.machine(),
        "torch": torch.__version__,
        "qfx": qfx.__version__,
    }
    rows = [[n, f"{medians[n]:.3f}", f"{min(v):.3f}", f"{max(v):.3f}", str(len(v))] for n, v in times.items()]
    lines = [table(("model", "median ms", "min", "max", "turns"), rows)]
    if "float" in medians:
        ratios = sorted(f / i for f, i in zip(times["float"], times["int8"], strict=True))
        data["speedup"] = statistics.median(ratios)
        lines.append(f"int8 is {data['speedup']:.2f} times as fast (median of {len(ratios)} turns)")
    lines.append(
        f"inputs {_shown(inputs)}; {threads} threads; {data['isa']}; torch {torch.__version__}, qfx {qfx.__version__}"
    )
    return Facts("\n".join(lines), data)
