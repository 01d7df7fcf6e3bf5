"""Converted models as ONNX in other runtimes, beside qfx: ``python -m benchmarks.onnx_agreement [network ...]``.

A row a network and runtime. First a layer at a time: every quantized value of the network is computed from those of qfx
in front of it, and so is the output. Of all elements: the share within one quantum of what qfx has, how many differ,
and how many quanta the farthest is away. The quantum of a quantized value is its scale; that of a float output is what
8 bits of its range would have, the range of one sample over 255.

Then the outputs alone, of the whole network. A runtime rounds where the file says, but computes what it rounds in an
order of its own: a value in the middle between two integers may become the other one. Later layers see that step, and a
network may make many of few. ``plain`` is ONNX Runtime without its optimizations: in float32 what the file says, a node
at a time. It shows how far two correct readings of a file are apart. What attention computes is not rounded in files.

Exits with 1 where a layer at a time less than 99 % are within one quantum in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import fx

import qfx
from benchmarks import photos, workloads, zoo
from benchmarks.report import header, row
from benchmarks.workloads import Workload, workload
from qfx.lowering.interpreter import interpret_integers
from qfx.onnx.write import as_model

NAMES = (*zoo.NAMES, workloads.MLP, "vit_b16", "minilm")
LEAST = 0.99
SAMPLES = 16
LAYER_SAMPLES = 2
Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Agreement:
    """How far outputs lie from qfx's.

    Attributes:
        elements: How many were compared.
        within: The share of them within one quantum.
        differing: How many are not the same.
        farthest: In quanta.
    """

    elements: int
    within: float
    differing: int
    farthest: float


def agreement(ours: list[np.ndarray], theirs: list[np.ndarray], quanta: list[np.ndarray]) -> Agreement:
    """Of outputs, a sample along the first dim, with the quantum of each sample."""
    away = [
        np.abs(a.astype(np.float64) - b) / q.reshape(-1, *[1] * (a.ndim - 1))
        for a, b, q in zip(ours, theirs, quanta, strict=True)
    ]
    flat = np.concatenate([one.ravel() for one in away])
    return Agreement(flat.size, float((flat <= 1.0).mean()), int((flat != 0.0).sum()), float(flat.max()))


def quanta(outputs: list[np.ndarray]) -> list[np.ndarray]:
    """The quantum of each sample of float outputs: its range over 255."""
    flat = [output.reshape(len(output), -1).astype(np.float64) for output in outputs]
    return [(one.max(1) - one.min(1)) / 255.0 for one in flat]


def _onnxruntime(path: Path, *, plain: bool = False) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, dict(inputs)), strict=True))


def _openvino(path: Path) -> Run:
    import openvino

    hints = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(str(path), "CPU", hints)
    return lambda inputs: {out.get_any_name(): np.array(x) for out, x in compiled(dict(inputs)).items()}


def forced(model: onnx.ModelProto, values: Collection[str]) -> onnx.ModelProto:
    """A model that takes ``values`` beside its inputs and gives what it makes of each as ``made/...``."""
    described = {info.name: info for info in model.graph.value_info}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        for index, name in enumerate(node.output):
            if name in values:
                node.output[index] = f"made/{name}"
                changed.graph.input.append(described[name])
                changed.graph.output.append(onnx.ValueInfoProto(name=f"made/{name}", type=described[name].type))
    return changed


def a_layer_at_a_time(
    graph: fx.GraphModule, inputs: Mapping[str, torch.Tensor], load: Callable[[Path], Run], path: Path
) -> Agreement:
    """Of every quantized value and the outputs of a QDQ graph, each computed from qfx's values in front of it.

    Args:
        graph: The graph.
        inputs: By name.
        load: Of :data:`RUNTIMES`.
        path: Where the file may be written.
    """
    want = interpret_integers(graph, tuple(inputs.values()))
    written = as_model(graph)
    names = {name for node in written.graph.node for name in node.output}
    outputs = _arrays(want.output)
    codes = {name: value.numpy() for name, value in want.codes.items() if name in names}
    path.write_bytes(forced(written, codes).SerializeToString())
    made = load(path)({**{name: x.numpy() for name, x in inputs.items()}, **codes})
    ones = [np.ones(len(value)) for value in codes.values()]
    theirs = [made[f"made/{name}"] for name in codes]
    last = [made[one.name] for one in written.graph.output]
    return agreement([*codes.values(), *outputs], [*theirs, *last], [*ones, *quanta(outputs)])


RUNTIMES: dict[str, Callable[[Path], Run]] = {
    "ONNX Runtime": _onnxruntime,
    "ONNX Runtime, plain": lambda path: _onnxruntime(path, plain=True),
    "OpenVINO": _openvino,
}


def quantized(given: Workload) -> qfx.QuantizedModel:
    """The network in int8."""
    return qfx.quantize_fx(given.load(), {"": qfx.get_default_qconfig()}, given.calibration())


@dataclass(frozen=True)
class Row:
    """A network in a runtime: a layer at a time, and the outputs of the whole."""

    runtime: str
    layers: Agreement
    outputs: Agreement


def rows(given: Workload, count: int) -> Iterator[Row]:
    """A row for each runtime."""
    model = quantized(given)
    inputs = given.samples(count, photos.EVALUATION_SEED)
    few = dict(zip(given.takes, given.samples(LAYER_SAMPLES, photos.EVALUATION_SEED), strict=True))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder, "model.onnx")
        qfx.to_onnx(model, path)
        ours = _arrays(model(*inputs))
        named = dict(zip(given.takes, (x.numpy() for x in inputs), strict=True))
        for name, load in RUNTIMES.items():
            whole = agreement(ours, list(load(path)(named).values()), quanta(ours))
            layers = a_layer_at_a_time(model.graph_module(), few, load, Path(folder, "layers.onnx"))
            yield Row(name, layers, whole)


def _arrays(result: Any) -> list[np.ndarray]:
    """The tensors that a model returns, in the order in which files name them."""
    return [leaf.numpy() for leaf in torch.utils._pytree.tree_leaves(result)]


def _figures(found: Agreement) -> tuple[str, ...]:
    return f"{found.within:.3%}", f"{found.differing} of {found.elements}", f"{found.farthest:.2f}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"a network (default {SAMPLES})")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    qfx.set_num_threads(1)
    columns = ("within one quantum", "differ", "farthest, quanta")
    header("network", "runtime", *(f"layers: {c}" for c in columns), *(f"outputs: {c}" for c in columns))
    short = []
    for name in options.networks:
        for found in rows(workload(name), options.samples):
            row(name, found.runtime, *_figures(found.layers), *_figures(found.outputs))
            if found.runtime == "ONNX Runtime" and found.layers.within < LEAST:
                short.append(name)
    if short:
        print(f"\nbelow {LEAST:.0%} within one quantum: {', '.join(short)}")
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
