"""One model of the zoo, quantized and measured."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

import qfx
from benchmarks import zoo_report
from benchmarks.metrics import sqnr
from benchmarks.work import Counter
from benchmarks.zoo_models import Entry, table
from qfx.ir.levels import is_opaque
from qfx.ir.nodes import decision_of
from qfx.lowering.interpreter import interpret_integers
from qfx.models import QuantizedModel

CALIBRATION = tuple((4, seed) for seed in (1, 2))
EVALUATION = tuple((4, seed) for seed in (11, 12, 13, 14))
"""Samples and seed of each batch."""


@dataclass(frozen=True)
class Measured:
    """What was found out about a model.

    Attributes:
        frontend: Which frontend captured it, and why that one.
        nodes: Operations of the captured and rewritten graph.
        islands: How many of them are outside the op table, and stay in torch.
        work: Multiply-accumulates of convolutions, linear layers and matrix products for one sample.
        int8_share: Which part of ``work`` is done in int8.
        sqnr_int8: Signal to noise of the int8 runtime's outputs against the float model's, dB.
        sqnr_qdq: The same of the QDQ graph run in floats, which defines the int8 model.
        programs: Into how many programs the model is split.
        exact: Whether every integer and the output of one sample are those of the integer interpreter.
        quantize_seconds: Capture, calibration and conversion.
    """

    frontend: str
    reason: str
    nodes: int
    islands: int
    work: int
    int8_share: float
    sqnr_int8: float
    sqnr_qdq: float
    programs: int
    exact: bool
    quantize_seconds: float


def measure_named(name: str) -> Measured:
    """:func:`measure` of the entry with this name."""
    return measure(table()[name])


def measure(entry: Entry) -> Measured:
    """Quantize ``entry`` and compare the result with the float model."""
    torch.set_num_threads(1)
    qfx.set_num_threads(1)
    model, one = entry.load(), entry.inputs(1, 5)
    batches = [entry.inputs(*batch) for batch in EVALUATION]
    begin = time.perf_counter()
    quantized = qfx.quantize_fx(
        model, {"": qfx.get_default_qconfig()}, [entry.inputs(*batch) for batch in CALIBRATION], **_automatic()
    )
    seconds = time.perf_counter() - begin
    reference = outputs(model, batches)
    work, in_int8 = multiply_accumulates(quantized, one)
    return Measured(
        frontend=str(quantized.info.get("frontend", "symbolic")),
        reason=str(quantized.info.get("frontend_reason", "")),
        nodes=len(quantized.report),
        islands=sum(is_opaque(node) for node in quantized.graph.nodes),
        work=work,
        int8_share=in_int8 / work if work else math.nan,
        sqnr_int8=sqnr(reference, outputs(quantized, batches)),
        sqnr_qdq=sqnr(reference, outputs(quantized.run_graph, batches)),
        programs=sum(part.executable is not None for part in quantized.compiled.segments),
        exact=_is_exact(quantized, one),
        quantize_seconds=seconds,
    )


def _automatic() -> dict[str, Any]:
    return {"frontend": "auto"} if "frontend" in inspect.signature(qfx.quantize_fx).parameters else {}


def outputs(model: Callable[[Tensor], Any], batches: list[Tensor]) -> Tensor:
    """Every floating point number that ``model`` returns for all batches, float32 [count]."""
    with torch.no_grad():
        found = [pytree.tree_leaves(model(batch)) for batch in batches]
    return torch.cat(
        [v.flatten() for leaves in found for v in leaves if isinstance(v, Tensor) and v.is_floating_point()]
    )


def _is_exact(quantized: QuantizedModel, x: Tensor) -> bool:
    want = interpret_integers(quantized.graph_module(), (x,))
    found = zoo_report.compare(quantized.compiled, x, want, threads=1)
    return found.same_output and not found.mismatches


class _CountingInterpreter(fx.Interpreter):
    """Runs a QDQ graph and counts by what was decided for the node."""

    def __init__(self, gm: fx.GraphModule, counter: Counter) -> None:
        super().__init__(gm)
        self.counter, self.in_int8 = counter, 0

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.total
        result = super().run_node(n)
        if self.counter.total > before and decision_of(n).kind in ("int8", "dynamic"):
            self.in_int8 += self.counter.total - before
        return result


def multiply_accumulates(quantized: QuantizedModel, x: Tensor) -> tuple[int, int]:
    """Those of the whole model for ``x``, inside its islands too, and of its int8 operations."""
    counter = Counter()
    with torch.no_grad(), counter:
        interpreter = _CountingInterpreter(quantized.graph_module(), counter)
        interpreter.run(x)
    return counter.total, interpreter.in_int8
