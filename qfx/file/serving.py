"""How a model that is one program is called without torch: the section of a file that `qfx.runtime.load` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from qfx.errors import ConversionError
from qfx.file.container import Section
from qfx.file.sections import SERVING
from qfx.guards import GUARDS, OPERATIONS, Guard, about_shapes, written
from qfx.ir.facts import source, where
from qfx.ir.types import RUNTIME_DTYPES, code_shift
from qfx.lowering.compiled import CompiledSegment
from qfx.runtime import _C

METADATA = "metadata"
"""Key of a model's ``info``: what the user has a file say beside the model, of values that JSON has."""

_GIVEN = {torch.uint8: "u8", torch.int8: "s8", torch.int32: "s32", torch.int64: "s64", torch.bool: "bool"}
_VALUES = (type(None), bool, int, float, str)

Size = int | str


def checked_metadata(metadata: Any) -> dict[str, Any]:
    """What a user gives for ``metadata``, as JSON has it.

    Raises:
        ConversionError: It is no dict of what JSON has.
    """
    try:
        told = json.loads(json.dumps(metadata, allow_nan=False)) if isinstance(metadata, Mapping) else None
    except (TypeError, ValueError) as error:
        told, why = None, f"{error}."
    else:
        why = None if told is not None else f"It is a {type(metadata).__name__}."
    if told is None:
        raise ConversionError(
            "The metadata can't be stored.",
            why=why,
            remedy="Give a dict of strings, numbers, True, False, None, lists and dicts of them.",
        )
    made: dict[str, Any] = told
    return made


class NotServedError(ConversionError):
    """A model that only torch can run whole."""


def serving_section(gm: fx.GraphModule, parts: Sequence[CompiledSegment], info: Mapping[str, Any]) -> Section:
    """The section of a model.

    Args:
        gm: Its Int8 graph.
        parts: All of it that computes.
        info: Facts about the model.

    Raises:
        NotServedError: Torch runs a part of it, which is named.
    """
    _require_one_program(gm, parts)
    (part,) = parts
    inputs = [n for n in gm.graph.find_nodes(op="placeholder") if n.meta.get("shape") is not None]
    sizes = _Sizes.of(inputs, info.get(GUARDS, ()))
    places = {node: place for place, node in enumerate(part.segment.inputs)}
    structure = _Structure(part.segment.outputs)
    (result,) = gm.graph.output_node().args
    shape = structure.of(result, ())
    content = _C.write_signature(
        [(str(n.target), _given(n), sizes.of_input(n), places.get(n, -1)) for n in inputs],
        [structure.row(place, sizes) for place in range(len(part.segment.outputs))],
        [(_Nodes(sizes.numbers).of(guard.wanted), written(guard.wanted)) for guard in sizes.relations],
        json.dumps(shape, separators=(",", ":")),
        json.dumps(info.get(METADATA, {}), separators=(",", ":")),
    )
    return Section(SERVING, content, optional=True)


def _require_one_program(gm: fx.GraphModule, parts: Sequence[CompiledSegment]) -> None:
    in_torch = [node for part in parts if part.segment.in_torch for node in part.segment.nodes]
    names = list(dict.fromkeys(f"{where(node) or node.name} ({_called(node)})" for node in in_torch))
    if names:
        raise NotServedError(
            f"The model can't be run without torch: torch runs {len(in_torch)} of its nodes.",
            where=", ".join(names[:5]) + (", ..." if len(names) > 5 else ""),
            source=source(in_torch[0]),
            why="Their functions or dtypes have no step in a program; model.report says why of each.",
            remedy="Give layers among them a qconfig, write the others in functions of docs/ops.md, or move them in "
            "front of the model or behind it. qfx.save(model, path) stores the model as it is, for qfx.load.",
        )
    known = {*parts[0].segment.inputs, *parts[0].segment.outputs} if len(parts) == 1 else set()
    for node in gm.graph.output_node().all_input_nodes:
        if node not in known or node in parts[0].segment.inputs:
            raise NotServedError(
                "The model can't be run without torch: its result holds what no program computes.",
                where=where(node) or node.name,
                source=source(node),
                why="It returns an input or a constant of its own as it is.",
                remedy="Return what is computed alone.",
            )
    if len(parts) != 1:
        raise NotServedError(
            f"The model can't be run without torch: it is {len(parts)} programs.",
            remedy="Look at model.report for what lies between them.",
        )


def _called(node: fx.Node) -> str:
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _given(node: fx.Node) -> str:
    """The runtime's name of the dtype that a call gives: float32 for any floating point."""
    value_type, dtype = node.meta["value_type"], node.meta.get("dtype", torch.float32)
    if value_type.kind == "code":
        return "s8" if code_shift(value_type.qparams) else "u8"
    kind = RUNTIME_DTYPES[value_type.kind]
    if kind != "f32" or dtype.is_floating_point:
        return kind
    if dtype not in _GIVEN:
        raise NotServedError(
            f"The model can't be run without torch: its input {str(node.target)!r} is of dtype {dtype}.",
            remedy="Quantize it with an example input of int64, int32, int8, uint8, bool or a floating-point dtype.",
        )
    return _GIVEN[dtype]


# ---------------------------------------------------------------- sizes


@dataclass(frozen=True)
class _Sizes:
    """What is known of the sizes of inputs.

    Attributes:
        numbers: Of the inputs, by name.
        sizes: Sizes by input and dim, names of those that a call chooses.
        relations: What must be so of them.
    """

    numbers: dict[str, int]
    sizes: dict[tuple[str, int], Size]
    relations: tuple[Guard, ...]

    @classmethod
    def of(cls, inputs: Sequence[fx.Node], guards: Sequence[Guard]) -> _Sizes:
        numbers = {str(node.target): number for number, node in enumerate(inputs)}
        sizes: dict[tuple[str, int], Size] = {}
        for node in inputs:
            name, batch = str(node.target), node.meta.get("batch_dim")
            for dim in range(len(node.meta["shape"])):
                sizes[name, dim] = "batch" if dim == batch else f"{name}_{dim}"
        known = about_shapes(guards, numbers.keys())
        for guard in known:
            if guard.kind == "sizes":
                (name,) = guard.path
                sizes.update({(name, d): size for d, size in enumerate(guard.wanted) if size is not None})
        made = cls(numbers, sizes, tuple(guard for guard in known if guard.kind == "relation"))
        for guard in made.relations:
            made._take(guard.wanted)
        return made

    def of_input(self, node: fx.Node) -> tuple[Size, ...]:
        return tuple(self.sizes[str(node.target), dim] for dim in range(len(node.meta["shape"])))

    def _take(self, condition: Any) -> None:
        """Equal names for sizes that must be equal, and numbers for those that must be such."""
        if not isinstance(condition, tuple) or condition[0] not in ("==", "and"):
            return
        _, left, right = condition
        if condition[0] == "and":
            self._take(left)
            self._take(right)
            return
        ends = [self._size(side) for side in (left, right)]
        if None in ends or ends[0] == ends[1] or all(isinstance(end, int) for end in ends):
            return
        old, new = ends if isinstance(ends[0], str) else reversed(ends)
        for key, size in self.sizes.items():
            if size == old:
                self.sizes[key] = new

    def _size(self, expression: Any) -> Size | None:
        if isinstance(expression, tuple) and expression[0] == "size":
            return self.sizes[expression[1][0], expression[2]]
        return expression if type(expression) is int and expression >= 0 else None


@dataclass
class _Nodes:
    """A condition as nodes that refer to earlier ones: ``(operation, a, b, number)``."""

    numbers: Mapping[str, int]
    made: list[tuple[str, int, int, float]] = field(default_factory=list)

    def of(self, condition: Any) -> list[tuple[str, int, int, float]]:
        self._add(condition)
        return self.made

    def _add(self, expression: Any) -> int:
        if not isinstance(expression, tuple):
            whole = isinstance(expression, (bool, int))
            node = ("integer", int(expression), 0, 0.0) if whole else ("number", 0, 0, expression)
        elif expression[0] == "size":
            node = ("size", self.numbers[expression[1][0]], expression[2], 0.0)
        else:
            assert expression[0] in OPERATIONS
            operands = [self._add(operand) for operand in expression[1:]]
            node = (expression[0], operands[0], operands[1] if len(operands) > 1 else 0, 0.0)
        self.made.append(node)
        return len(self.made) - 1


# ---------------------------------------------------------------- results


@dataclass
class _Structure:
    """What a model returns, as JSON: the number of an output, or what it is and its items.

    Attributes:
        outputs: Of the program.
        names: Of those that the result holds, by where it holds them.
    """

    outputs: Sequence[fx.Node]
    names: dict[int, str] = field(default_factory=dict)

    def of(self, result: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(result, fx.Node):
            number = self.outputs.index(result)
            self.names.setdefault(number, ".".join(map(str, path)) or "output")
            return number
        if isinstance(result, Mapping) and all(type(key) in _VALUES for key in result):
            return ["dict", [[key, self.of(item, (*path, key))] for key, item in result.items()]]
        if isinstance(result, (tuple, list)):
            kind = "tuple" if isinstance(result, tuple) else "list"
            return [kind, [self.of(item, (*path, number)) for number, item in enumerate(result)]]
        if type(result) in _VALUES:
            return ["value", result]
        raise NotServedError(
            f"The model can't be run without torch: it returns a {type(result).__name__}.",
            remedy="Return tensors, in tuples, lists and dicts.",
        )

    def row(self, place: int, sizes: _Sizes) -> tuple[str, str, tuple[Size, ...], int]:
        """An output for the section."""
        node = self.outputs[place]
        name = self.names.get(place, f"unused_{place}")
        name = name if not name.isdigit() else f"output_{name}"
        qparams = node.meta["value_type"].qparams
        kind = RUNTIME_DTYPES[node.meta["value_type"].kind]
        batch, shape = node.meta.get("batch_dim"), node.meta["shape"]
        named = tuple("batch" if dim == batch else f"{name}_{dim}" for dim in range(len(shape)))
        return name, "s8" if qparams is not None and code_shift(qparams) else kind, named, place
