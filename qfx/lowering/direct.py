"""A model that is one program: its calls, without an environment of values around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from qfx.ir.module import plain
from qfx.ir.types import INTEGER_KINDS, code_shift
from qfx.lowering.torch_operator import run_program

if TYPE_CHECKING:
    from qfx.lowering.compiled import CompiledSegment

Run = Callable[[tuple[Any, ...]], Any]


class Direct:
    """Takes the placeholders' values to the program, and its results to where the graph returns them.

    Args:
        part: The program.
        places: Which placeholders it reads, in its order.
        result: What the graph returns, of nodes.
    """

    def __init__(self, part: CompiledSegment, places: Sequence[int], result: Any) -> None:
        self.part, self._places, self._result = part, places, result
        self._nodes = part.segment.inputs
        self._has_integers = any(n.meta["value_type"].kind in INTEGER_KINDS.values() for n in self._nodes)
        self._index = {node: i for i, node in enumerate(part.segment.outputs)}
        single = isinstance(result, fx.Node) and is_as_returned(result)
        self._only = self._index[result] if single else None

    @classmethod
    def of(cls, graph: fx.Graph, segments: Sequence[CompiledSegment]) -> Direct | None:
        """None where torch runs a part, casts an input, or something is returned that no program makes."""
        if len(segments) != 1 or segments[0].executable is None or not segments[0].segment.inputs:
            return None
        part, (result, *_) = segments[0], graph.output_node().args
        at = {n: i for i, n in enumerate(graph.find_nodes(op="placeholder")) if is_taken_as_it_is(n)}
        made = set(part.segment.outputs)
        if not all(n in at for n in part.segment.inputs) or not made.issuperset(graph.output_node().all_input_nodes):
            return None
        return cls(part, [at[n] for n in part.segment.inputs], result)

    def run(self, inputs: tuple[Any, ...]) -> Any:
        """One call.

        Args:
            inputs: Values of the placeholders, in order.
        """
        return self._returned(run_program(self.part, self._given(inputs)))

    def prepare(self, inputs: tuple[Any, ...]) -> Run:
        """What runs calls with plain tensors of the dtypes, sizes and strides of ``inputs``, which were checked."""
        executable, places, given = self.part.executable, self._places, self._given(inputs)
        assert executable is not None
        if any(x is not inputs[place] for x, place in zip(given, places, strict=True)):
            return self.run
        prepared = executable.prepare(given)
        return lambda given: self._returned(prepared.run([given[place] for place in places]))

    def _given(self, inputs: tuple[Any, ...]) -> list[Any]:
        given = [inputs[place] for place in self._places]
        return [given_to(n, x) for n, x in zip(self._nodes, given, strict=True)] if self._has_integers else given

    def _returned(self, results: Sequence[Any]) -> Any:
        if self._only is not None:
            return results[self._only]
        return plain(self._result, lambda node: as_returned(node, results[self._index[node]]))


def is_taken_as_it_is(node: fx.Node) -> bool:
    """Whether a program takes the value of a placeholder, of the dtype that was seen, without a cast."""
    kind = node.meta["value_type"].kind
    return kind in ("code", *INTEGER_KINDS.values()) or node.meta.get("dtype", torch.float32) is torch.float32


def given_to(node: fx.Node, value: Any) -> Any:
    """The value of a program input: integers of any width as int64; where it takes floats, as torch divides them."""
    kind = node.meta["value_type"].kind
    if kind in ("code", "s32", "bool") or not isinstance(value, torch.Tensor) or value.is_floating_point():
        return value
    return value.to(torch.int64 if kind == "s64" else torch.float32)


def is_as_returned(node: fx.Node) -> bool:
    """Whether a program's value is what a model returns."""
    qparams = node.meta["value_type"].qparams
    return qparams is None or not code_shift(qparams)


def as_returned(node: fx.Node, value: Any) -> Any:
    """The value of an output; codes as integers of their own dtype."""
    if is_as_returned(node):
        return value
    qparams = node.meta["value_type"].qparams
    return (value.to(torch.int16) - code_shift(qparams)).to(qparams.dtype.storage)
