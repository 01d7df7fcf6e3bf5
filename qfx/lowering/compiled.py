"""A model ready to run: its programs, loaded for this CPU, and what torch computes between them.

Needs neither the op table nor the passes: a model that a file holds as a program runs without them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.errors import QfxError
from qfx.guards import Guard, require
from qfx.ir.attributes import members, tree_of
from qfx.ir.module import node_failure, plain
from qfx.lowering.direct import Direct, Run, as_returned, given_to, is_taken_as_it_is
from qfx.lowering.torch_operator import run_program
from qfx.memory import Layout, require_values
from qfx.runtime import Executable
from qfx.runtime.dtypes import DTYPES

_MOST_PASSED = 16
"""Layouts of inputs that a model remembers."""


@dataclass(frozen=True)
class Segment:
    """Nodes that run together, in order.

    Attributes:
        in_torch: Whether torch runs them, one by one, or the runtime in one call.
        nodes: The nodes.
        inputs: Values from outside that they read.
        outputs: Their values that anything outside reads.
    """

    in_torch: bool
    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]

    @classmethod
    def of(cls, in_torch: bool, nodes: Sequence[fx.Node], wanted: Collection[fx.Node]) -> Segment:
        """The segment of ``nodes``, of whose values some are ``wanted`` outside."""
        return cls(in_torch, tuple(nodes), read_by(nodes), tuple(n for n in nodes if n in wanted))


def read_by(nodes: Sequence[fx.Node]) -> tuple[fx.Node, ...]:
    """The values from outside that nodes read, without constants."""
    inside = set(nodes)
    given = (i for n in nodes for i in n.all_input_nodes if i not in inside and i.op != "get_attr")
    return tuple(dict.fromkeys(given))


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
        segment: The Int8 nodes; none where a file holds the program without them.
        executable: The program, loaded for this CPU; None for torch nodes.
        taps: Where to find the codes of each QDQ quantize node, by its name.
        float_taps: Where to find the float32 value of each other node, by its name.
        steps: The Int8 node behind each step name.
        guards: What the capture took for granted about the shapes of the model's inputs that the segment reads.
        places: The module path and the user's source line behind each step name.
        whole: The same segment with its nodes, where this one has none.
    """

    segment: Segment
    executable: Executable | None
    taps: Mapping[str, Tap] = field(default_factory=dict)
    float_taps: Mapping[str, Tap] = field(default_factory=dict)
    steps: Mapping[str, fx.Node] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()
    places: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    whole: Callable[[], CompiledSegment] | None = None

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
        dtypes = (getattr(torch, DTYPES[name].torch) for name in self.executable.output_dtypes)
        return [inputs[0].new_empty(s, dtype=d) for s, d in zip(self._shapes(inputs), dtypes, strict=True)]

    def _shapes(self, inputs: Sequence[Tensor]) -> Sequence[Sequence[Any]]:
        """Shapes of the outputs; of sizes that are symbols, from what torch says of the nodes."""
        assert self.executable is not None
        if all(type(size) is int for x in inputs for size in x.shape):
            return self.executable.output_shapes(*(tuple(x.shape) for x in inputs))
        from qfx.lowering.symbolic_shapes import output_shapes

        return output_shapes(self if self.whole is None else self.whole(), inputs)


@dataclass(frozen=True)
class Compiled:
    """A whole model ready to run.

    Attributes:
        root: Has the parameters and modules of what torch runs.
        graph: The nodes that the segments are made of: the Int8 graph, or, of a file, what torch runs, and the inputs
            and results of programs.
        segments: Its parts.
        passed: What runs calls with inputs like those of a call that passed every check; see :meth:`remember`.
    """

    root: nn.Module
    graph: fx.Graph
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
                    env[node] = _run_torch(self.root, node, env)
                    if visit:
                        visit(node, env[node])
                continue
            given = [given_to(n, env[n]) for n in part.segment.inputs]
            results = observe(part, given) if observe else run_program(part, given)
            if not given:  # numpy's, for want of a tensor to be like
                results = [torch.from_numpy(array) for array in results]
            env.update(zip(part.segment.outputs, results, strict=True))
        return plain(self._result, lambda n: as_returned(n, _fetch(self.root, n, env)))

    def remember(self, layout: Layout, inputs: tuple[Any, ...]) -> None:
        """That a call with ``inputs``, plain tensors of this layout, passed every check.

        No check looks at values, so that calls with such tensors pass, while nobody watches torch and no derivative is
        asked for.
        """
        if len(self.passed) >= _MOST_PASSED:
            self.passed.clear()
        self.passed[layout] = self.run if self._direct is None else self._direct.prepare(inputs)

    def within(self, owner: nn.Module) -> Compiled:
        """The same, with members of ``owner`` for what torch runs."""
        found = members(owner, self.graph.nodes)
        return replace(self, root=tree_of(found), passed={}) if found else self

    @property
    def is_bare(self) -> bool:
        """Whether the nodes of its programs are not here."""
        return any(part.whole is not None for part in self.segments)

    @cached_property
    def _direct(self) -> Direct | None:
        return Direct.of(self.graph, self.segments)

    @cached_property
    def _placeholders(self) -> list[fx.Node]:
        return list(self.graph.find_nodes(op="placeholder"))

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
        return self.graph.output_node().args[0]


def _is_converted(node: fx.Node) -> bool:
    """Whether integers may arrive where a program takes floats."""
    return not is_taken_as_it_is(node) or node.meta["value_type"].kind == "code"


def _fetch(root: nn.Module, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
    if node.op == "get_attr" and node not in env:
        value: Any = root
        for name in str(node.target).split("."):
            value = getattr(value, name)
        env[node] = value
    return env[node]


def _run_torch(root: nn.Module, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
    args = fx.node.map_arg(node.args, lambda n: _fetch(root, n, env))
    kwargs = fx.node.map_arg(node.kwargs, lambda n: _fetch(root, n, env))
    try:
        return _call(root, node, args, kwargs)
    except QfxError:
        raise
    except Exception as error:
        raise node_failure(node, error, [env[n] for n in node.all_input_nodes]) from error


def _call(root: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_module":
        return root.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


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
        results, values = _run_and_fetch(part, given, {**part.taps, **part.float_taps})
        found.codes.update({n: values[n].to(torch.int16) - tap.shift for n, tap in part.taps.items()})
        found.floats.update({n: values[n] for n in part.float_taps})
        return results

    compiled.run(inputs, observe, lambda node, value: found.floats.update({node.name: value}))
    return found


def _run_and_fetch(part: CompiledSegment, given: Any, taps: Mapping[str, Tap]) -> tuple[Any, dict[str, Tensor]]:
    assert part.executable is not None
    results, values = part.executable.run_and_fetch(given, [tap.value for tap in taps.values()])
    return results, {
        name: torch.from_numpy(values[tap.value]).permute([tap.order.index(d) for d in range(len(tap.order))])
        for name, tap in taps.items()
    }
