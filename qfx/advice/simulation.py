"""One graph in float arithmetic whose every rounding, of weights or of a value, can be switched on and off.

A run differs from a base run in a few switches. What comes before them has the base's values, so only what they reach
is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, fx

from qfx.errors import QfxError
from qfx.frontends.fresh import islands_unchanged
from qfx.ir.attributes import attribute, read_qparams
from qfx.ir.levels import is_opaque
from qfx.ir.module import node_failure, plain
from qfx.ir.nodes import decision_of, keyword, operand, path
from qfx.ir.types import QParams
from qfx.models import PreparedModel, QuantizedModel
from qfx.ops import arithmetic, qdq
from qfx.ops.calls import activations, arguments
from qfx.ops.qdq.dynamic import requantize_dynamic
from qfx.ops.table import op_of
from qfx.passes.wide import PART_OF, layer_name
from qfx.quantization.fake_quantize import kernel
from qfx.quantization.fake_quantize.formula import Rounding

Read: TypeAlias = Callable[[fx.Node], Any]


class Part(NamedTuple):
    """One switch: the rounding of a node's weights and bias, or of its value."""

    kind: Literal["weights", "value"]
    node: str


Parts: TypeAlias = frozenset[Part]


@dataclass(frozen=True)
class Run:
    """What a run computed: switches that were on, every node's value, and the model's output."""

    on: Parts
    values: Mapping[fx.Node, Any]
    output: Any


@dataclass(frozen=True)
class _Step:
    """How a node is computed while its switch is on, and while it is off."""

    node: fx.Node
    on: Callable[[Read], Any]
    off: Callable[[Read], Any]
    part: Part | None = None
    reads: tuple[fx.Node, ...] = field(default=())


class Simulation:
    """A quantized model with switches.

    Args:
        prepared: What ``quantized`` was converted from: it has the float weights.
        quantized: The quantized model; its QDQ graph is what runs, with the integers that it stores.

    Attributes:
        parts: The switches, in graph order.
    """

    def __init__(self, prepared: PreparedModel, quantized: QuantizedModel) -> None:
        self.graph, self._prepared, self._quantized = quantized.graph, prepared, quantized
        self._constants: dict[fx.Node, Any] = {}
        self._floats = {n.name: n for n in prepared.graph.nodes if n.op.startswith("call_")}
        self._steps = [step for n in self.graph.nodes if (step := self._step(n)) is not None]
        self._dead = _last_uses(self._steps)
        self.parts = tuple(dict.fromkeys(step.part for step in self._steps if step.part is not None))

    def run(self, inputs: tuple[Any, ...], on: Iterable[Part], base: Run | None = None) -> Run:
        """The model's output with the switches ``on`` on and all others off.

        Args:
            inputs: Values of the placeholders, in order.
            on: Switches.
            base: A run with the same inputs, of which everything is reused that the switches do not change.

        Returns:
            The run; with a ``base`` it holds no values.

        Raises:
            InputError: A node that does not run, named.
        """
        wanted = frozenset(on)
        given = dict(zip(self.graph.find_nodes(op="placeholder"), inputs, strict=True))
        env: dict[fx.Node, Any] = {}

        def read(node: fx.Node) -> Any:
            for values in (env, self._constants, given if base is None else base.values):
                if node in values:
                    return values[node]
            raise AssertionError(f"{node} is read before it is computed")

        if base is None:
            env.update(given)
        with torch.no_grad(), islands_unchanged(self._quantized, self.graph):
            for index, step in enumerate(self._steps):
                if base is None:
                    env[step.node] = _computed(step, step.part in wanted, _given(step, given, read))
                elif self._differs(step, wanted, base.on, env):
                    value = _computed(step, step.part in wanted, _given(step, given, read))
                    if step.part is None or not _is_same(value, base.values[step.node]):
                        env[step.node] = value  # else what reads it computes what it did before
                if base is not None:
                    for node in self._dead[index]:
                        env.pop(node, None)
        output = plain(self.graph.output_node().args[0], read)
        return Run(wanted, env if base is None else {}, output)

    def reader(self, run: Run) -> Read:
        """The value of any node in a run that has no base."""
        return lambda node: self._constants[node] if node in self._constants else run.values[node]

    @staticmethod
    def _differs(step: _Step, wanted: Parts, before: Parts, env: Mapping[fx.Node, Any]) -> bool:
        switched = step.part is not None and (step.part in wanted) != (step.part in before)
        return switched or any(node in env for node in step.reads)

    # ------------------------------------------------------------ steps

    def _step(self, node: fx.Node) -> _Step | None:
        """How ``node`` is computed; None where its value is constant, or is given."""
        if node.op == "get_attr":
            self._constants[node] = attribute(self._quantized, path(node))
            return None
        if node.target is qdq.dequantize:
            return self._dequantize(node)
        if node.target is qdq.quantize and PART_OF in node.meta and PART_OF in operand(node).meta:
            return self._low_half(node)
        if node.target is qdq.quantize:
            return self._value(node, operand(node), read_qparams(self._quantized, node), operand(node).name)
        if node.op == "placeholder":
            arrives: QParams | None = node.meta.get("arrives_as")
            return None if arrives is None else self._value(node, node, arrives, node.name)
        return None if node.op == "output" else self._call(node)

    def _dequantize(self, node: fx.Node) -> _Step | None:
        source = operand(node)
        if source.op == "get_attr":
            code, scale, zero_point = (self._constants[operand(node, i)] for i in range(3))
            self._constants[node] = arithmetic.dequantize(code, scale, zero_point, keyword(node, "axis"))
            return None
        return _same(node, lambda read: read(source), (source,))

    def _value(self, node: fx.Node, source: fx.Node, qparams: QParams, name: str) -> _Step:
        """Quantize: what dequantize gives back, so that dequantize has nothing to do."""
        return _Step(
            node,
            lambda read: round_value(read(source), qparams),
            lambda read: read(source),
            Part("value", name),
            (source,),
        )

    def _low_half(self, node: fx.Node) -> _Step:
        """What the high half leaves, which is nothing while that is not rounded."""
        source, qparams = operand(node), read_qparams(self._quantized, node)
        return _same(node, lambda read: round_value(read(source), qparams), (source,))

    def _call(self, node: fx.Node) -> _Step:
        def call(read: Read) -> Any:
            given = _fresh(read) if is_opaque(node) else read
            return _called(self._quantized, node, plain(node.args, given), plain(node.kwargs, given))

        reads = tuple(node.all_input_nodes)
        off = self._unrounded(node)
        if off is None:
            return _same(node, call, reads)
        rounded = [n for n in reads if n.target is requantize_dynamic]
        return _Step(node, call, off, Part("weights", layer_name(node)), (*reads, *(operand(n) for n in rounded)))

    def _unrounded(self, node: fx.Node) -> Callable[[Read], Any] | None:
        """How a layer whose weights are rounded is computed without; None for any other node."""
        op, origin = op_of(node), self._floats.get(layer_name(node))
        if decision_of(node).kind == "float" or origin is None:
            return None
        if op is None:
            layer: Any = self._prepared.get_submodule(path(node)) if node.op == "call_module" else None
            return layer and (lambda read: layer(*plain(node.args, read), **plain(node.kwargs, read)))
        if not op.weights:
            return None
        before, given = arguments(op, origin), dict(arguments(op, node))
        for name in (*op.weights, "bias"):
            stored = before.get(name) if name in op.weights or PART_OF not in node.meta else None
            given[name] = attribute(self._prepared, path(stored)).detach() if isinstance(stored, fx.Node) else None
        given = {k: operand(v) if _is_dynamic(v) else v for k, v in given.items()}
        return lambda read: op.fn(**plain(given, read))


def _same(node: fx.Node, compute: Callable[[Read], Any], reads: tuple[fx.Node, ...]) -> _Step:
    return _Step(node, compute, compute, None, reads)


def _given(step: _Step, given: Mapping[fx.Node, Any], read: Read) -> Read:
    """``read`` for a step; an input that is rounded on arrival reads what was given, not its own result."""
    return given.__getitem__ if step.node in given else read


def _is_dynamic(value: object) -> bool:
    return isinstance(value, fx.Node) and value.target is requantize_dynamic


def _last_uses(steps: list[_Step]) -> list[list[fx.Node]]:
    """Of each step, the nodes that no later one reads."""
    last = {node: index for index, step in enumerate(steps) for node in step.reads}
    dead: list[list[fx.Node]] = [[] for _ in steps]
    for node, index in last.items():
        if not any(user.op == "output" for user in node.users):
            dead[index].append(node)
    return dead


def _computed(step: _Step, on: bool, read: Read) -> Any:
    try:
        return (step.on if on else step.off)(read)
    except QfxError:
        raise
    except Exception as error:
        raise node_failure(step.node, error, [read(n) for n in step.reads]) from error


def _is_same(value: Any, before: Any) -> bool:
    return isinstance(value, Tensor) and isinstance(before, Tensor) and torch.equal(value, before)


def _called(root: torch.nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_module":
        return root.get_submodule(path(node))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target), node.format_node()
    return node.target(*args, **kwargs)


def _fresh(read: Read) -> Read:
    """As ``read``, with copies of tensors: code that qfx does not know may change them in place."""

    def fresh(node: fx.Node) -> Any:
        value = read(node)
        return value.clone() if isinstance(value, Tensor) else value

    return fresh


def round_value(x: Tensor, qparams: QParams) -> Tensor:
    """float32 ``dequantize(quantize(x))`` with per-tensor ``qparams``."""
    scale, zero_point = qparams.per_tensor()
    tensors = torch.tensor([scale], dtype=torch.float32), torch.tensor([zero_point], dtype=torch.int32)
    x, rounding = kernel.dense(x), Rounding(qparams.qmin, qparams.qmax)
    y = torch.empty_like(x)
    if x.numel() > 0:
        kernel.forward(x, kernel.Grid(*tensors, rounding), None, y, passed=False)
    return y


def reading_ops(node: fx.Node) -> list[fx.Node]:
    """The ops of a Normal graph that read ``node`` as an activation."""
    return [user for user in node.users if (op := op_of(user)) is not None and node in set(activations(op, user))]
