"""Int8 -> executables: one program a segment, loaded for this CPU, and torch calls between them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from torch import fx

from qfx.guards import GUARDS, about_shapes
from qfx.ir.facts import source, where
from qfx.ir.types import code_shift
from qfx.logs import logger
from qfx.lowering.compiled import Compiled, CompiledSegment, Segment, Tap
from qfx.lowering.emit import Emission, Physical, identity
from qfx.lowering.emitters import EMITTERS
from qfx.lowering.int8 import is_dim
from qfx.lowering.partition import partition
from qfx.ops.calls import arguments
from qfx.ops.table import op_at, op_of
from qfx.runtime import Executable, Program

_log = logger(__name__)


@dataclass(frozen=True)
class Emitted:
    """A part of a model, not loaded: its program, for any CPU, None where torch runs it, and the segment that it is."""

    program: Program | None
    part: CompiledSegment


def compile_int8(gm: fx.GraphModule, isa: str | None = None) -> Compiled:
    """Emit and load every program of an Int8 graph.

    Args:
        gm: The Int8 graph.
        isa: The instruction set to load for, or None for the best one here.

    Raises:
        RuntimeLoadError: ``isa`` is unknown or not available on this CPU.
    """
    started = time.perf_counter()
    compiled = Compiled(gm, gm.graph, tuple(_compile(gm, segment, isa) for segment in partition(gm.graph)))
    loaded = [part.executable for part in compiled.segments if part.executable is not None]
    in_torch = sum(len(part.segment.nodes) for part in compiled.segments if part.executable is None)
    kernels = f" for {loaded[0].isa}" if loaded else ""
    _log.info("%d programs%s, %d nodes in torch, %.2f s", len(loaded), kernels, in_torch, time.perf_counter() - started)
    return compiled


def emit_parts(gm: fx.GraphModule) -> list[Emitted]:
    """The parts of an Int8 graph, in the order in which they run."""
    return [_part(gm, segment) for segment in partition(gm.graph)]


def _part(gm: fx.GraphModule, segment: Segment) -> Emitted:
    return Emitted(None, CompiledSegment(segment, None)) if segment.in_torch else emit_program(gm, segment)


def emit_program(gm: fx.GraphModule, segment: Segment) -> Emitted:
    """The program of a segment that the runtime runs."""
    emission = Emission(gm)
    tensors = [n for n in segment.inputs if n.meta["value_type"].kind != "dim"]
    assert len(tensors) == len(segment.inputs), "a shape computed by torch reaches a program"
    for node in segment.inputs:
        emission.input(node)
    for node in segment.nodes:
        _emit(emission, node)
    outputs = [_leave(emission, n) for n in segment.outputs if not is_dim(n)]
    segment = Segment(False, segment.nodes, segment.inputs, tuple(n for n in segment.outputs if not is_dim(n)))
    program = emission.build(segment.inputs, outputs)
    taps, float_taps = _taps(emission, segment), _float_taps(emission, segment)
    given = {str(node.target) for node in segment.inputs if node.op == "placeholder"}
    guards = about_shapes(gm.meta.get(GUARDS, ()), given)
    steps = dict(emission.nodes)
    places = {name: (where(node), source(node)) for name, node in steps.items()}
    return Emitted(program, CompiledSegment(segment, None, taps, float_taps, steps, guards, places))


def _compile(gm: fx.GraphModule, segment: Segment, isa: str | None) -> CompiledSegment:
    made = _part(gm, segment)
    if made.program is None:
        return made.part
    return replace(made.part, executable=Executable(made.program, isa, release=True))


def _leave(emission: Emission, node: fx.Node) -> Physical:
    """The value of a program output, in logical order."""
    value = emission.value(node)
    return emission.in_order(node, value, identity(value.rank))


def _emit(emission: Emission, node: fx.Node) -> None:
    if is_dim(node):
        emission.dims[node] = _dim(emission, node)
        return
    op = op_at(node)
    emission.values[node] = EMITTERS[op.name].emit(emission, node)


def _dim(emission: Emission, node: fx.Node) -> int:
    op = op_of(node)
    if op is not None and op.name == "size":
        given = arguments(op, node)
        return emission.dim(emission.value(given["x"]), given["dim"])
    name = getattr(node.target, "__name__", "")
    assert name != "getitem", f"{node} takes an item of a shape"
    return emission.builder.expr(name, *(emission.expr(a) for a in node.args))


def _taps(emission: Emission, segment: Segment) -> dict[str, Tap]:
    taps: dict[str, Tap] = {}
    for node in segment.nodes:
        if "codes_of" in node.meta:
            value = emission.values[node]
            qparams = node.meta["value_type"].qparams
            taps[node.meta["codes_of"]] = Tap(value.id, value.order, code_shift(qparams))
    return taps


def _float_taps(emission: Emission, segment: Segment) -> dict[str, Tap]:
    made = {n: emission.values[n] for n in segment.nodes if n.meta["value_type"].kind == "float"}
    return {node.name: Tap(value.id, value.order, 0) for node, value in made.items()}
