"""How a model that is one program is called without torch: the section of a file that `qfx.runtime.load` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import fx

from qfx.errors import ConversionError, InputError, shown
from qfx.file.container import Section
from qfx.file.sections import METADATA, PROGRAM, SERVING
from qfx.guards import GUARDS, OPERATIONS, Guard, about_shapes, require, written
from qfx.ir.facts import source, where
from qfx.ir.types import RUNTIME_DTYPES, code_shift
from qfx.lowering.compile import Emitted
from qfx.lowering.compiled import CompiledSegment
from qfx.runtime import _C, Executable

_GIVEN = {torch.uint8: "u8", torch.int8: "s8", torch.int32: "s32", torch.int64: "s64", torch.bool: "bool"}
_VALUES = (type(None), bool, int, float, str)

Size = int | str


def checked_metadata(metadata: Any) -> dict[str, Any]:
    """What a user gives for ``metadata``, as JSON has it.

    Raises:
        ConversionError: It is no dict of what JSON has.
    """
    why = None if isinstance(metadata, Mapping) else f"It is a {type(metadata).__name__}."
    try:
        made: dict[str, Any] = json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError) as error:
        why = why or f"{error}."
    if why is not None:
        raise ConversionError(
            "The metadata can't be stored.",
            why=why,
            remedy="Give a dict of strings, numbers, True, False, None, lists and dicts of them.",
        )
    return made


def checked_levels(levels: Any) -> tuple[str, ...]:
    """What a user gives for ``packed_for``, each once.

    Raises:
        ConversionError: One of them is no instruction set of this architecture.
    """
    known = _C.isa_levels()
    given = (levels,) if isinstance(levels, str) else tuple(levels)
    unknown = [level for level in given if level not in known]
    if unknown:
        raise ConversionError(
            f"packed_for names {shown(unknown[0])}.",
            why="That is no instruction set that this build of qfx has kernels for.",
            remedy=f"Give some of {', '.join(known)}.",
        )
    return tuple(dict.fromkeys(given))


def packed_sections(sections: Sequence[Section], levels: Sequence[str]) -> list[Section]:
    """The weights of the program among ``sections`` as the kernels of each level want them."""
    if not levels:
        return []
    (program,) = [section.content for section in sections if section.name == PROGRAM]
    return [Section(f"pack_{level}", _C.pack(program, level), optional=True) for level in levels]


class NotServedError(ConversionError):
    """A model that only torch can run whole."""


def serving_section(gm: fx.GraphModule, emitted: Sequence[Emitted], info: Mapping[str, Any]) -> Section:
    """The section of a model.

    Args:
        gm: Its Int8 graph.
        emitted: All of it that computes.
        info: Facts about the model.

    Raises:
        NotServedError: Torch runs a part of it, which is named.
    """
    _require_one_program(gm, [one.part for one in emitted])
    ((program, part),) = [(one.program, one.part) for one in emitted]
    assert program is not None
    inputs = [n for n in gm.graph.find_nodes(op="placeholder") if n.meta.get("shape") is not None]
    taken = [str(node.target) for node in part.segment.inputs]
    sizes = _Sizes(inputs, Executable(program, release=True), taken, info.get(GUARDS, ()))
    places = {node: place for place, node in enumerate(part.segment.inputs)}
    structure = _Structure(part.segment.outputs)
    (result,) = gm.graph.output_node().args
    shape = structure.of(result, ())
    content = _C.write_signature(
        [(str(n.target), _given(n), sizes.of_input(n), places.get(n, -1)) for n in inputs],
        [structure.row(place, sizes) for place in range(len(part.segment.outputs))],
        [(condition_nodes(guard.wanted, sizes.numbers), written(guard.wanted)) for guard in sizes.relations],
        json.dumps(shape, separators=(",", ":")),
        json.dumps(info.get(METADATA, {}), separators=(",", ":")),
        [tuple(n.meta["shape"]) for n in inputs],
        program,
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


def _others(size: int) -> tuple[int, ...]:
    """What is tried in place of a size: some models take multiples only."""
    return size + 1, 2 * size, size + 32


_Key = tuple[str, int]
"""An input, by name, and a dim."""


class _Sizes:
    """Which sizes of inputs calls choose, and which of the outputs follow them.

    The program is asked, by other sizes than the example's: a size that it does not take alone, but together with such
    as were equal in the example, has their name; one that it does not take is a number.

    Args:
        inputs: All that are tensors.
        program: Loaded.
        taken: Names of the inputs that it takes, in its order.
        guards: What the capture took for granted.
    """

    def __init__(
        self, inputs: Sequence[fx.Node], program: Executable, taken: Sequence[str], guards: Sequence[Guard]
    ) -> None:
        self._program, self._taken = program, taken
        self._example = {str(n.target): tuple(n.meta["shape"]) for n in inputs}
        self.numbers = {name: number for number, name in enumerate(self._example)}
        known = about_shapes(guards, self.numbers.keys())
        self.relations = tuple(guard for guard in known if guard.kind == "relation")
        self._fixed = {
            (guard.path[0], dim): size
            for guard in known
            if guard.kind == "sizes"
            for dim, size in enumerate(guard.wanted)
            if size is not None
        }
        self._groups = self._grouped(inputs)
        self._outputs = self._follow()

    def of_input(self, node: fx.Node) -> tuple[Size, ...]:
        """Sizes of an input: numbers, or names."""
        name = str(node.target)
        named = {key: group for group, keys in self._groups.items() for key in keys}
        return tuple(named.get((name, dim), size) for dim, size in enumerate(self._example[name]))

    def of_output(self, place: int, name: str) -> tuple[Size, ...]:
        """Sizes of an output of the program."""
        return tuple(f"{name}_{dim}" if size is None else size for dim, size in enumerate(self._outputs[place]))

    def _grouped(self, inputs: Sequence[fx.Node]) -> dict[str, list[_Key]]:
        """The sizes that calls choose, by name."""
        tried: dict[str, list[_Key]] = {}
        for node in inputs:
            name, batch = str(node.target), node.meta.get("batch_dim")
            for dim in range(len(self._example[name])):
                if (name, dim) not in self._fixed:
                    tried.setdefault("batch" if dim == batch else f"{name}_{dim}", []).append((name, dim))
        free = {group: keys for group, keys in tried.items() if self._takes(keys)}
        bound = {group: keys for group, keys in tried.items() if group not in free}
        while bound:
            group, keys = next(iter(bound.items()))
            del bound[group]
            alike = [other for other, theirs in bound.items() if self._size(theirs) == self._size(keys)]
            for together in (alike, *([other] for other in alike)):
                joined = keys + [key for other in together for key in bound[other]]
                if together and self._takes(joined):
                    free[group] = joined
                    bound = {other: theirs for other, theirs in bound.items() if other not in together}
                    break
        return free

    def _size(self, keys: Sequence[_Key]) -> int:
        name, dim = keys[0]
        return int(self._example[name][dim])

    def _takes(self, keys: Sequence[_Key]) -> bool:
        return any(self._shapes(keys, other) is not None for other in _others(self._size(keys)))

    def _shapes(self, keys: Sequence[_Key], size: int) -> Sequence[Sequence[int]] | None:
        """Shapes of the outputs where the sizes ``keys`` are ``size``; None where that is refused."""
        shapes = {name: tuple(size if (name, d) in keys else s for d, s in enumerate(shape))
                  for name, shape in self._example.items()}  # fmt: skip
        try:
            require(self.relations, {name: _Shaped(shape) for name, shape in shapes.items()})
            return self._program.output_shapes(*(shapes[name] for name in self._taken))
        except InputError:
            return None

    def _follow(self) -> list[list[Size | None]]:
        """Of each output the sizes: a number, the name of an equal size of the inputs, or None for another."""
        seen = [list(shape) for shape in self._shapes((), 0) or ()]
        found: list[list[Size | None]] = [list(shape) for shape in seen]
        for group, keys in self._groups.items():
            for size in _others(self._size(keys)):
                for place, shape in enumerate(self._shapes(keys, size) or ()):
                    for dim, made in enumerate(shape):
                        if made != seen[place][dim]:
                            found[place][dim] = group if made == size else None
        return found


class _Shaped(NamedTuple):
    """What has a shape, as far as conditions look."""

    shape: tuple[int, ...]


def condition_nodes(condition: Any, inputs: Mapping[str, int]) -> list[tuple[str, int, int, float]]:
    """A condition as nodes that refer to earlier ones: ``(operation, a, b, number)``.

    Args:
        condition: As :mod:`qfx.guards` has it.
        inputs: Their numbers by name.
    """
    made: list[tuple[str, int, int, float]] = []

    def add(expression: Any) -> int:
        if not isinstance(expression, tuple):
            whole = isinstance(expression, (bool, int))
            made.append(("integer", int(expression), 0, 0.0) if whole else ("number", 0, 0, expression))
        elif expression[0] == "size":
            made.append(("size", inputs[expression[1][0]], expression[2], 0.0))
        else:
            assert expression[0] in OPERATIONS
            operands = [add(operand) for operand in expression[1:]]
            made.append((expression[0], operands[0], operands[1] if len(operands) > 1 else 0, 0.0))
        return len(made) - 1

    add(condition)
    return made


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
        dtype = "s8" if qparams is not None and code_shift(qparams) else kind
        return name, dtype, sizes.of_output(place, name), place
