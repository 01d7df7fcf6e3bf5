"""A model that is one program: its calls, without an environment of values around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from qfx.ir.module import plain
from qfx.ir.types import code_shift
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
        return self._returned(run_program(self.part, [inputs[place] for place in self._places]))

    def prepare(self, inputs: tuple[Any, ...]) -> Run:
        """What runs calls with plain tensors of the dtypes, sizes and strides of ``inputs``, which were checked."""
        executable, places = self.part.executable, self._places
        assert executable is not None
        prepared = executable.prepare([inputs[place] for place in places])
        return lambda given: self._returned(prepared.run([given[place] for place in places]))

    def _returned(self, results: Sequence[Any]) -> Any:
        if self._only is not None:
            return results[self._only]
        return plain(self._result, lambda node: as_returned(node, results[self._index[node]]))


def is_taken_as_it_is(node: fx.Node) -> bool:
    """Whether a program takes the value of a placeholder without a cast."""
    return node.meta["value_type"].kind == "code" or node.meta.get("dtype", torch.float32) is torch.float32


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
