"""What runs a model of a file: how it is called, its programs, and what torch computes between them.

With these sections a model runs; what compiles graphs is not needed, nor loaded. A model that is one program needs
neither ops nor layers either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import fx, nn

from qfx.errors import ConversionError, RuntimeLoadError
from qfx.file.container import Section
from qfx.file.known import require_known
from qfx.file.malformed import MalformedError, OtherProgramError, no_constant
from qfx.file.sections import CALL, METADATA, PARTS, PROGRAM, TENSORS
from qfx.file.tensors import TensorWriter, read_tensors
from qfx.file.values import PLAIN, Reader, Writer, text
from qfx.guards import GUARDS, about_shapes
from qfx.ir.module import ARGUMENTS
from qfx.ir.nodes import DEFAULT
from qfx.ir.types import RUNTIME_DTYPES, QParams, ValueType
from qfx.lowering.compiled import Compiled, CompiledSegment, Segment
from qfx.lowering.unread import Unread
from qfx.runtime import Executable, Program

_META = ("shape", "dtype", "batch_dim", "arrives_as", DEFAULT)
"""What a call reads of an input."""
_INFO = (ARGUMENTS, GUARDS, "example_inputs", METADATA)
"""What a call reads of a model."""


# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class Part:
    """A part of a model: its program's bytes, None where torch runs it, and the segment that it is."""

    program: bytes | None
    segment: CompiledSegment


def write_call(
    info: Mapping[str, Any], gm: fx.GraphModule, parts: Sequence[Part], tensors: TensorWriter
) -> Section | None:
    """How a model of programs is called, as JSON; None where its result holds what no part computes.

    Args:
        info: Facts about the model.
        gm: Its Int8 graph.
        parts: All of it that computes.
        tensors: Takes the tensors of what torch runs.

    Raises:
        ConversionError: The model knows of its inputs, or torch runs, what no file holds.
    """
    placeholders, result = gm.graph.find_nodes(op="placeholder"), gm.graph.output_node()
    writer = Writer(TensorWriter(), PLAIN, what="What is known of the model's inputs")
    writer.nodes.update({node: number for number, node in enumerate(placeholders)})
    content = {
        "inputs": [_write_input(writer, node) for node in placeholders],
        "info": writer.encode({key: info[key] for key in _INFO if key in info}),
        "training": gm.training,
    }
    if writer.tensors.index:
        raise ConversionError(f"{writer.what} holds tensors.", remedy="Pass them as inputs.")
    whole = len(parts) == 1 and not any(node.op == "get_attr" for node in result.all_input_nodes)
    content |= _write_program(writer, parts[0]) if whole else _write_parts(writer.nodes, gm, parts, tensors)
    if not writer.nodes.keys() >= set(result.all_input_nodes):
        return None
    content["result"] = writer.encode(result.args[0])
    made = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")
    return Section(CALL if whole else PARTS, made)


def _write_input(writer: Writer, node: fx.Node) -> list[Any]:
    meta = {key: node.meta[key] for key in _META if key in node.meta}
    return [
        node.name,
        str(node.target),
        writer.encode(tuple(node.args)),
        writer.encode(meta),
        *_write_type(writer, node),
    ]


def _write_type(writer: Writer, node: fx.Node) -> list[Any]:
    made = node.meta["value_type"]
    return [made.kind, writer.encode(made.qparams)]


def _write_program(writer: Writer, part: Part) -> dict[str, Any]:
    """What a program reads and gives; its results have numbers from here on."""
    segment = part.segment.segment
    reads = [writer.nodes[node] for node in segment.inputs]
    writer.nodes.update({node: number for number, node in enumerate(segment.outputs, len(writer.nodes))})
    return {
        "reads": reads,
        "outputs": [[node.name, *_write_type(writer, node)] for node in segment.outputs],
        "places": {name: list(place) for name, place in part.segment.places.items()},
    }


def _write_parts(
    nodes: dict[fx.Node, int], gm: fx.GraphModule, parts: Sequence[Part], tensors: TensorWriter
) -> dict[str, Any]:
    from qfx.file.kinds import KINDS
    from qfx.file.parts import write_members, write_nodes

    writer = Writer(tensors, KINDS, nodes)
    computed = [n for part in parts if part.program is None for n in part.segment.segment.nodes]
    read = {i: None for n in (*computed, gm.graph.output_node()) for i in n.all_input_nodes if i.op == "get_attr"}
    records = write_nodes(writer, read)
    made: list[Any] = []
    for part in parts:
        if part.program is None:
            nodes_of = part.segment.segment.nodes
            made.append({"nodes": write_nodes(writer, nodes_of), "types": [_write_type(writer, n) for n in nodes_of]})
        else:
            made.append({"program": len(part.program), **_write_program(writer, part)})
    members = write_members(writer, gm, [*read, *computed])
    return {"constants": records, "parts": made, "members": members, "tensors": list(tensors.index)}


# ---------------------------------------------------------------- reading


def read_call(sections: Mapping[str, memoryview], isa: str | None, read: Callable[[], Any]) -> Unread:
    """What runs a model of a file.

    Args:
        sections: Of the file; not trusted, and changed by nobody.
        isa: As :func:`qfx.load`.
        read: Reads the model whole.

    Raises:
        MalformedError, RuntimeLoadError: They are no model, or none for this CPU. An OtherProgramError where that is so
            of a program alone.
    """
    whole = CALL in sections
    call = json.loads(bytes(sections[CALL if whole else PARTS]), parse_constant=no_constant)
    reader, graph = Reader([], PLAIN), fx.Graph()
    for record in call["inputs"]:
        reader.nodes.append(_read_input(reader, graph, record))
    info = _checked_info(reader.decode(call["info"]), graph)
    if type(call["training"]) is not bool:
        raise MalformedError(f"Its mode is {call['training']!r}.")
    unread = Unread(graph, info, call["training"], read)
    loading = _Loading(graph, unread, isa, reader)
    if whole:
        root, segments = nn.Module(), [loading.program(0, call, sections[PROGRAM])]
    else:
        root, segments = _read_parts(call, sections, loading)
    graph.output(reader.decode(call["result"]))
    unread.compiled = Compiled(root, graph, tuple(segments))
    return unread


@dataclass(frozen=True)
class _Loading:
    """Parts that become segments, one after the other; their values become nodes of ``graph``."""

    graph: fx.Graph
    unread: Unread
    isa: str | None
    reader: Reader

    def program(self, number: int, part: Any, content: memoryview) -> CompiledSegment:
        """The segment of a program."""
        inputs = tuple(self.reader.node(given) for given in part["reads"])
        outputs = tuple(self._output(*output) for output in part["outputs"])
        made = program_of(content)
        _require_fit(made, inputs, outputs)
        self.reader.nodes.extend(outputs)
        places = {text(name): (text(path), source and text(source)) for name, (path, source) in part["places"].items()}
        given = {str(node.target) for node in inputs if node.op == "placeholder"}
        return CompiledSegment(
            Segment(False, (), inputs, outputs),
            Executable(made, self.isa, release=True),
            guards=about_shapes(self.unread.info.get(GUARDS, ()), given),
            places=places,
            whole=partial(self.unread.whole, number),
        )

    def _output(self, name: Any, kind: Any, qparams: Any) -> fx.Node:
        node = self.graph.create_node("call_function", _computed, (), {}, name=text(name))
        return _typed(node, kind, self.reader.decode(qparams))


def _read_parts(
    call: Any, sections: Mapping[str, memoryview], loading: _Loading
) -> tuple[nn.Module, list[CompiledSegment]]:
    """The parts of a model that is more than a program, and the members of what torch runs."""
    from qfx.file.kinds import KINDS
    from qfx.file.parts import read_members, read_nodes

    tensors = read_tensors(call["tensors"], sections[TENSORS], sections[PROGRAM], first=True)
    reader = Reader(tensors, KINDS, loading.reader.nodes)
    for node in read_nodes(reader, loading.graph, call["constants"], ("get_attr",)):
        node.meta["value_type"] = ValueType("constant")
    segments, end, programs = [], 0, sections[PROGRAM]
    for number, part in enumerate(call["parts"]):
        if "program" in part:
            start, end = end, end + _size(part["program"], len(programs) - end)
            segments.append(loading.program(number, part, programs[start:end]))
            continue
        nodes = read_nodes(reader, loading.graph, part["nodes"])
        for node, (kind, qparams) in zip(nodes, part["types"], strict=True):
            _typed(node, kind, reader.decode(qparams))
        segments.append(CompiledSegment(Segment.of(True, nodes, nodes), None))
    if end != len(programs):
        raise MalformedError(f"Its programs take {end} bytes where there are {len(programs)}.")
    return read_members(reader, call["members"], loading.graph), segments


def _size(size: Any, left: int) -> int:
    if type(size) is not int or not 0 < size <= left:
        raise MalformedError(f"A program of {size!r} bytes is said to be in {left}.")
    return size


def program_of(content: memoryview) -> Program:
    """The program of its bytes.

    Raises:
        OtherProgramError: They are none, or one of another version.
    """
    try:
        return Program.from_bytes(content.toreadonly())
    except RuntimeLoadError as error:
        raise OtherProgramError(f"{error.where or 'program'}: {error.what}") from error


def _computed() -> NoReturn:
    raise AssertionError("a program computes this")


def _read_input(reader: Reader, graph: fx.Graph, record: Any) -> fx.Node:
    name, target, args, meta, kind, qparams = record
    args, meta = reader.decode(args), reader.decode(meta)
    if not isinstance(args, tuple) or len(args) > 1 or not isinstance(meta, dict) or not set(meta) <= set(_META):
        raise MalformedError(f"The input {name!r} is malformed.")
    node = graph.create_node("placeholder", text(target), args, name=text(name))
    shape, dtype, arrives = meta.get("shape"), meta.get("dtype"), meta.get("arrives_as")
    sizes = shape is None or (isinstance(shape, tuple) and all(type(size) is int for size in shape))
    if not sizes or not isinstance(dtype, (torch.dtype, type(None))) or not isinstance(arrives, (QParams, type(None))):
        raise MalformedError(f"The input {name!r} is said to be {meta!r}.")
    node.meta.update(meta)
    return _typed(node, kind, reader.decode(qparams))


def _typed(node: fx.Node, kind: Any, qparams: Any) -> fx.Node:
    if not isinstance(qparams, (QParams, type(None))) or (kind == "code") != (qparams is not None):
        raise MalformedError(f"{node.name} is said to be {kind!r} with {qparams!r}.")
    node.meta["value_type"] = ValueType(text(kind), qparams)
    return node


def _require_fit(program: Program, inputs: tuple[fx.Node, ...], outputs: tuple[fx.Node, ...]) -> None:
    """Raise unless the program takes and gives what the call says."""
    for specs, nodes in ((program.input_specs, inputs), (program.output_specs, outputs)):
        types = [RUNTIME_DTYPES.get(node.meta["value_type"].kind) for node in nodes]
        if types != [dtype for _, dtype, _ in specs]:
            raise MalformedError(f"The program's {[spec[:2] for spec in specs]} are said to be {types}.")
    for (name, _, sizes), node in zip(program.input_specs, inputs, strict=True):
        if node.op == "placeholder" and len(node.meta.get("shape") or ()) != len(sizes):
            raise MalformedError(f"The program's input {name!r} has {len(sizes)} dims.")


def _checked_info(info: Any, graph: fx.Graph) -> dict[str, Any]:
    if not isinstance(info, dict) or not set(info) <= set(_INFO) or info.get("example_inputs") is None:
        raise MalformedError("What is known of the model is malformed.")
    require_known(info, graph)
    return info
