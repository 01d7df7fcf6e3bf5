"""Int8 -> executables: one program a segment, loaded for this CPU, and torch calls between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx

from qfx.errors import QfxError
from qfx.guards import GUARDS, Guard, about_shapes, require
from qfx.ir.module import node_failure, plain
from qfx.lowering.direct import Direct, Run, as_returned
from qfx.lowering.emit import EMITTERS, Emission, Physical, code_shift, identity
from qfx.lowering.int8 import is_dim
from qfx.lowering.partition import Segment, partition
from qfx.lowering.symbolic_shapes import output_shapes
from qfx.lowering.torch_operator import run_program
from qfx.memory import Layout, require_values
from qfx.ops.calls import arguments
from qfx.ops.table import op_of
from qfx.runtime import Executable, Program

_DTYPES = {"u8": torch.uint8, "f32": torch.float32}

_log = logging.getLogger(__name__)

_MOST_PASSED = 16
"""Layouts of inputs that a model remembers."""


@dataclass(frozen=True)
class Tap:
    """Where a program holds the integers of a QDQ quantize node: value id, physical order, and code shift."""

    value: int
    order: tuple[int, ...]
    shift: int


@dataclass(frozen=True)
class CompiledSegment:
    """A segment ready to run.

    Attributes:
        segment: The Int8 nodes.
        program: The portable program, or None for torch nodes.
        executable: The program loaded for this CPU.
        taps: Where to find the codes of each QDQ quantize node, by its name.
        float_taps: Where to find the float32 value of each other node, by its name.
        steps: The Int8 node behind each step name.
        guards: What the capture took for granted about the shapes of the model's inputs that the segment reads.
    """

    segment: Segment
    program: Program | None
    executable: Executable | None
    taps: dict[str, Tap]
    float_taps: dict[str, Tap]
    steps: dict[str, fx.Node]
    guards: tuple[Guard, ...] = ()

    def compute(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """As :class:`qfx.lowering.torch_operator.Program`."""
        assert self.executable is not None
        return self.executable.run(*inputs)

    def recheck(self, inputs: Sequence[Tensor]) -> None:
        """As :class:`qfx.lowering.torch_operator.Program`."""
        require(self.guards, {str(node.target): x for node, x in zip(self.segment.inputs, inputs, strict=True)})

    def without_values(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """As :class:`qfx.lowering.torch_operator.Program`."""
        assert self.executable is not None
        dtypes = (_DTYPES[name] for name in self.executable.output_dtypes)
        return [inputs[0].new_empty(s, dtype=d) for s, d in zip(output_shapes(self, inputs), dtypes, strict=True)]


@dataclass(frozen=True)
class Compiled:
    """A whole model ready to run.

    Attributes:
        gm: The Int8 graph that it came from.
        segments: Its parts.
        passed: What runs calls with inputs like those of a call that passed every check; see :meth:`remember`.
    """

    gm: fx.GraphModule
    segments: tuple[CompiledSegment, ...]
    passed: dict[Layout, Run] = field(default_factory=dict)

    def run(
        self,
        inputs: tuple[Any, ...],
        observe: Callable[[CompiledSegment, Any], Any] | None = None,
        visit: Callable[[fx.Node, Any], None] | None = None,
    ) -> Any:
        """Run the segments in order.

        Args:
            inputs: Values of the placeholders, in order.
            observe: Runs a program segment in place of its executable (for inspection).
            visit: Takes every node that torch runs, and its value (for inspection).
        """
        if self._in_torch and torch.is_autocast_enabled("cpu"):  # the model means float32, whoever calls it
            with torch.autocast("cpu", enabled=False):
                return self.run(inputs, observe, visit)
        if self._direct is not None and observe is None:
            return self._direct.run(inputs)
        env = dict(zip(self._placeholders, inputs, strict=True))
        for node in self._read_by_torch:
            if isinstance(env[node], torch.Tensor):
                require_values(env[node], f"Input {str(node.target)!r}")
        for part in self.segments:
            if part.executable is None:
                for node in part.segment.nodes:
                    env[node] = _run_torch(self.gm, node, env)
                    if visit:
                        visit(node, env[node])
                continue
            given = [_given(n, env[n]) for n in part.segment.inputs]
            results = observe(part, given) if observe else run_program(part, given)
            if not given:  # numpy's, for want of a tensor to be like
                results = [torch.from_numpy(array) for array in results]
            env.update(zip(part.segment.outputs, results, strict=True))
        return plain(self._result, lambda n: as_returned(n, _fetch(self.gm, n, env)))

    def remember(self, layout: Layout, inputs: tuple[Any, ...]) -> None:
        """That a call with ``inputs``, plain tensors of this layout, passed every check.

        No check looks at values, so that calls with such tensors pass, while nobody watches torch and no derivative is
        asked for.
        """
        if len(self.passed) >= _MOST_PASSED:
            self.passed.clear()
        self.passed[layout] = self.run if self._direct is None else self._direct.prepare(inputs)

    @cached_property
    def _direct(self) -> Direct | None:
        return Direct.of(self.gm.graph, self.segments)

    @cached_property
    def _placeholders(self) -> list[fx.Node]:
        return list(self.gm.graph.find_nodes(op="placeholder"))

    @cached_property
    def _read_by_torch(self) -> list[fx.Node]:
        """Placeholders that torch computes with; programs look at the memory of what they read themselves."""
        read = {n for part in self.segments if part.executable is None for n in part.segment.inputs}
        return [node for node in self._placeholders if node in read or _is_converted(node)]

    @cached_property
    def _in_torch(self) -> bool:
        return any(part.executable is None for part in self.segments)

    @cached_property
    def _result(self) -> Any:
        return self.gm.graph.output_node().args[0]


def _is_converted(node: fx.Node) -> bool:
    """Whether integers may arrive where a program takes floats."""
    kind, dtype = node.meta["value_type"].kind, node.meta.get("dtype", torch.float32)
    return kind == "code" or dtype is not torch.float32


def _given(node: fx.Node, value: Any) -> Any:
    """The value of a program input: integers whose sizes it reads, or that it divides, as torch makes them floats."""
    integers = isinstance(value, torch.Tensor) and not value.is_floating_point()
    return value.to(torch.float32) if integers and node.meta["value_type"].kind != "code" else value


def _fetch(gm: fx.GraphModule, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
    if node.op == "get_attr" and node not in env:
        value: Any = gm
        for name in str(node.target).split("."):
            value = getattr(value, name)
        env[node] = value
    return env[node]


def _run_torch(gm: fx.GraphModule, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
    args = fx.node.map_arg(node.args, lambda n: _fetch(gm, n, env))
    kwargs = fx.node.map_arg(node.kwargs, lambda n: _fetch(gm, n, env))
    try:
        return _call(gm, node, args, kwargs)
    except QfxError:
        raise
    except Exception as error:
        raise node_failure(node, error, [env[n] for n in node.all_input_nodes]) from error


def _call(gm: fx.GraphModule, node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_module":
        return gm.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def compile_int8(gm: fx.GraphModule, isa: str | None = None) -> Compiled:
    """Emit and load every program of an Int8 graph.

    Args:
        gm: The Int8 graph.
        isa: The instruction set to load for, or None for the best one here.

    Raises:
        RuntimeLoadError: ``isa`` is unknown or not available on this CPU.
    """
    started = time.perf_counter()
    compiled = Compiled(gm, tuple(_compile(gm, segment, isa) for segment in partition(gm.graph)))
    loaded = [part.executable for part in compiled.segments if part.executable is not None]
    in_torch = sum(len(part.segment.nodes) for part in compiled.segments if part.executable is None)
    kernels = f" for {loaded[0].isa}" if loaded else ""
    _log.info("%d programs%s, %d nodes in torch, %.2f s", len(loaded), kernels, in_torch, time.perf_counter() - started)
    return compiled


def _compile(gm: fx.GraphModule, segment: Segment, isa: str | None) -> CompiledSegment:
    if segment.in_torch:
        return CompiledSegment(segment, None, None, {}, {}, {})
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
    return CompiledSegment(segment, program, Executable(program, isa), taps, float_taps, dict(emission.nodes), guards)


def _leave(emission: Emission, node: fx.Node) -> Physical:
    """The value of a program output, in logical order."""
    value = emission.value(node)
    return emission.in_order(node, value, identity(value.rank))


def _emit(emission: Emission, node: fx.Node) -> None:
    if is_dim(node):
        emission.dims[node] = _dim(emission, node)
        return
    op = op_of(node)
    assert op is not None
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


def fetch_codes(compiled: Compiled, inputs: tuple[Any, ...]) -> dict[str, Tensor]:
    """The integers of every int8 value in the programs, by the name of its QDQ quantize node, in logical layout."""
    found: dict[str, Tensor] = {}

    def observe(part: CompiledSegment, given: Any) -> Any:
        results, values = _run_and_fetch(part, given, part.taps)
        found.update({name: value.to(torch.int16) - part.taps[name].shift for name, value in values.items()})
        return results

    compiled.run(inputs, observe)
    return found


@dataclass(frozen=True)
class Fetched:
    """What a compiled model computed on the way.

    Attributes:
        codes: The integers of every int8 value, by the name of its QDQ quantize node, in logical layout.
        floats: Every other value by the name of its node, in logical layout.
    """

    codes: dict[str, Tensor]
    floats: dict[str, Any]


def fetch_values(compiled: Compiled, inputs: tuple[Any, ...]) -> Fetched:
    """Run ``compiled`` and keep the value of every node."""
    found = Fetched({}, {})

    def observe(part: CompiledSegment, given: Any) -> Any:
        results, values = _run_and_fetch(part, given, part.taps | part.float_taps)
        found.codes.update({n: values[n].to(torch.int16) - tap.shift for n, tap in part.taps.items()})
        found.floats.update({n: values[n] for n in part.float_taps})
        return results

    compiled.run(inputs, observe, lambda node, value: found.floats.update({node.name: value}))
    return found


def _run_and_fetch(part: CompiledSegment, given: Any, taps: dict[str, Tap]) -> tuple[Any, dict[str, Tensor]]:
    assert part.executable is not None
    results, values = part.executable.run_and_fetch(given, [tap.value for tap in taps.values()])
    return results, {
        name: torch.from_numpy(values[tap.value]).permute([tap.order.index(d) for d in range(len(tap.order))])
        for name, tap in taps.items()
    }
