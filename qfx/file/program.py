"""A model that is one program, in a file: how it is called, and the program itself.

With these two sections a model runs; what reads graphs, ops or layers is not needed, nor loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import fx, nn

from qfx.errors import ConversionError, RuntimeLoadError
from qfx.file.known import require_known
from qfx.file.malformed import MalformedError, OtherProgramError, no_constant
from qfx.file.tensors import TensorWriter
from qfx.file.values import PLAIN, Reader, Writer, text
from qfx.guards import GUARDS, about_shapes
from qfx.ir.module import ARGUMENTS
from qfx.ir.nodes import DEFAULT
from qfx.ir.types import QParams, ValueType
from qfx.lowering.compiled import Compiled, CompiledSegment, Segment
from qfx.lowering.unread import Unread
from qfx.models import QuantizedModel
from qfx.runtime import Executable, Program

_META = ("shape", "dtype", "batch_dim", "arrives_as", DEFAULT)
"""What a call reads of an input."""
_INFO = (ARGUMENTS, GUARDS, "example_inputs")
"""What a call reads of a model."""
_DTYPES = {"code": "u8", "float": "f32"}


def write_call(model: QuantizedModel, graph: fx.Graph, part: CompiledSegment) -> bytes | None:
    """How a model that is one program is called, as JSON; None where its result is not the program's alone.

    Args:
        model: Of which all is known but its programs.
        graph: The Int8 graph.
        part: All of its nodes that compute.

    Raises:
        ConversionError: The model knows of its inputs what no file holds.
    """
    placeholders, result, segment = graph.find_nodes(op="placeholder"), graph.output_node(), part.segment
    if not {*placeholders, *segment.outputs}.issuperset(result.all_input_nodes):
        return None
    writer = Writer(TensorWriter(), PLAIN)
    writer.nodes.update({node: number for number, node in enumerate([*placeholders, *segment.outputs])})
    writer.what = "What is known of the model's inputs"
    content = {
        "inputs": [_write_input(writer, node) for node in placeholders],
        "reads": [writer.nodes[node] for node in segment.inputs],
        "outputs": [[node.name, *_write_type(writer, node)] for node in segment.outputs],
        "result": writer.encode(result.args[0]),
        "info": writer.encode({key: model.info[key] for key in _INFO if key in model.info}),
        "training": model.training,
        "places": {name: list(place) for name, place in part.places.items()},
    }
    if writer.tensors.index:
        raise ConversionError(f"{writer.what} holds tensors.", remedy="Pass them as inputs.")
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


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


def read_call(content: bytes, program: memoryview, isa: str | None, read: Callable[[], Any]) -> Unread:
    """What runs a model of a file.

    Args:
        content: As :func:`write_call` made it; not trusted.
        program: Its program's bytes, which nobody changes; not trusted.
        isa: As :func:`qfx.load`.
        read: Reads the model whole.

    Raises:
        MalformedError, RuntimeLoadError: They are no model, or none for this CPU. An OtherProgramError where that is so
            of the program alone.
    """
    call = json.loads(content, parse_constant=no_constant)
    reader, graph = Reader([], PLAIN), fx.Graph()
    for record in call["inputs"]:
        reader.nodes.append(_read_input(reader, graph, record))
    inputs = tuple(reader.node(number) for number in call["reads"])
    for name, kind, qparams in call["outputs"]:
        node = graph.create_node("call_function", _computed, (), {}, name=text(name))
        reader.nodes.append(_typed(node, kind, reader.decode(qparams)))
    outputs = tuple(reader.nodes[len(call["inputs"]) :])
    graph.output(reader.decode(call["result"]))
    info, made = _checked_info(reader.decode(call["info"]), graph), program_of(program)
    _require_fit(made, inputs, outputs)
    if type(call["training"]) is not bool:
        raise MalformedError(f"Its mode is {call['training']!r}.")
    unread = Unread(graph, info, call["training"], read)
    places = {text(name): (text(path), source and text(source)) for name, (path, source) in call["places"].items()}
    guards = about_shapes(info.get(GUARDS, ()), {str(node.target) for node in inputs})
    part = CompiledSegment(
        Segment(False, (), inputs, outputs),
        Executable(made, isa, release=True),
        guards=guards,
        places=places,
        whole=unread.whole,
    )
    unread.compiled = Compiled(nn.Module(), graph, (part,))
    return unread


def program_of(content: memoryview) -> Program:
    """The program of its bytes, which nobody changes.

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
        types = [_DTYPES.get(node.meta["value_type"].kind) for node in nodes]
        if types != [dtype for _, dtype, _ in specs]:
            raise MalformedError(f"The program's {[spec[:2] for spec in specs]} are said to be {types}.")
    for (name, _, sizes), node in zip(program.input_specs, inputs, strict=True):
        if node.op != "placeholder" or len(node.meta.get("shape") or ()) != len(sizes):
            raise MalformedError(f"The program's input {name!r} has {len(sizes)} dims.")


def _checked_info(info: Any, graph: fx.Graph) -> dict[str, Any]:
    if not isinstance(info, dict) or not set(info) <= set(_INFO) or info.get("example_inputs") is None:
        raise MalformedError("What is known of the model is malformed.")
    require_known(info, graph)
    return info
