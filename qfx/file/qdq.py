"""The sections of a ``.qfx`` file: the QDQ graph with its tensors, and the programs that it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn

from qfx.errors import ConversionError
from qfx.file.checks import require_programs, require_sound
from qfx.file.container import Section, pack, unpack
from qfx.file.graph import read_graph, write_graph
from qfx.file.kinds import KINDS
from qfx.file.malformed import MalformedError, no_constant, reason
from qfx.file.modules import read_state, write_state
from qfx.file.program import Part, read_call, write_call
from qfx.file.sections import GRAPH, KNOWN, METADATA, PARTS, PROGRAM, TENSORS
from qfx.file.serving import NotServedError, checked_levels, checked_metadata, packed_sections, serving_section
from qfx.file.tensors import Constants, TensorWriter, read_tensors
from qfx.file.values import Reader, Writer
from qfx.ir.facts import source, where
from qfx.lowering.compile import Emitted, emit_parts
from qfx.models import QuantizedModel

_NODES = "_nodes"
_NOT_STORED = (_NODES, "_graph", "_generated", "_compiled", "isa", "info")
_INFO_NOT_STORED = ("recovery", "batch_norms", "trainable")
"""Facts of calibration and training, which are over."""


def to_bytes(
    model: QuantizedModel,
    *,
    graph: bool = True,
    serving: bool = False,
    metadata: Mapping[str, Any] | None = None,
    packed_for: Sequence[str] = (),
) -> bytes:
    """The ``.qfx`` file of a model; equal for equal models. It is read once, so what is written can be loaded.

    Raises:
        ConversionError: As :func:`qfx.save`.
    """
    info = model.info if metadata is None else {**model.info, METADATA: checked_metadata(metadata)}
    levels = checked_levels(packed_for)
    sections, tensors = program_sections(model, info, serving=serving or bool(levels))
    if not graph and not sections:
        raise _no_program(model)
    if graph:
        sections += graph_sections(model, info, tensors)
    elif sections[0].name == PARTS:
        sections.append(Section(TENSORS, tensors.content()))
    sections += packed_sections(sections, levels)
    content = pack(sections)
    try:
        _read_back(unpack(memoryview(bytearray(content)), "The file", KNOWN, ()), model.isa)
    except Exception as error:
        raise _unreadable(model, error) from error
    return content


def program_sections(
    model: QuantizedModel, info: Mapping[str, Any], *, serving: bool = False
) -> tuple[list[Section], TensorWriter]:
    """The programs that ``model`` is, where it is any, and the tensors of what torch runs between them.

    Args:
        model: The model.
        info: Facts about it.
        serving: Whether it has to run without torch.
    """
    if info.get("example_inputs") is None:
        if serving:
            raise _no_program(model)
        return [], TensorWriter()
    with model.lowered() as int8:
        made = emit_parts(int8)
        programs = [one.program for one in made if one.program is not None]
        parts = [Part(None if one.program is None else one.program.to_bytes(), one.part) for one in made]
        content = b"".join(part.program for part in parts if part.program is not None)
        tensors = TensorWriter(Constants(content, [array for program in programs for array in program.constants]))
        served = _served(int8, made, info, needed=serving)
        call = write_call(info, int8, parts, tensors) if programs else None
    if call is None:
        return [], TensorWriter()
    return [call, Section(PROGRAM, content), *served], tensors


def _served(int8: fx.GraphModule, made: Sequence[Emitted], info: Mapping[str, Any], *, needed: bool) -> list[Section]:
    try:
        return [serving_section(int8, made, info)]
    except NotServedError:
        if needed:
            raise
        return []


def graph_sections(model: QuantizedModel, facts: Mapping[str, Any], tensors: TensorWriter) -> list[Section]:
    """The QDQ graph and its tensors, without what programs in the same file hold.

    Args:
        model: The model.
        facts: About it.
        tensors: Has the tensors of what torch runs already.
    """
    writer = Writer(tensors, KINDS)
    state = write_state(writer, model, _NOT_STORED)
    writer.what = "The model's info"
    info = writer.encode({key: value for key, value in facts.items() if key not in _INFO_NOT_STORED})
    graph = write_graph(writer, model.graph)
    content = {"graph": graph, "info": info, "state": state, "tensors": tensors.index}
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return [Section(GRAPH, text.encode("ascii")), Section(TENSORS, tensors.content())]


def _read_back(sections: Mapping[str, memoryview], isa: str | None) -> None:
    """Raise unless a file says what it was made to say: its graph reads, and gives the programs beside it."""
    model = read_model(sections, isa, compiled=PROGRAM not in sections) if GRAPH in sections else None
    if PROGRAM not in sections:
        return
    read_call(sections, isa, lambda: model)
    if model is None:
        return
    again, tensors = program_sections(model, model.info)
    if any(bytes(sections.get(section.name, b"")) != section.content for section in again):
        raise MalformedError("What is read back gives another program.")
    content = tensors.content()
    if bytes(sections[TENSORS][: len(content)]) != content:
        raise MalformedError("What is read back gives torch other tensors.")


def _no_program(model: QuantizedModel) -> ConversionError:
    """Why a model can't be stored without its graph."""
    in_torch = [record.name for record in model.report.decided("float")]
    return ConversionError(
        "The model can't be stored without its graph.",
        where=", ".join(in_torch[:5]) or None,
        why="It has no program: torch runs all of it, or its input shapes are not known yet.",
        remedy="Store it with its graph, or call it once and try again.",
    )


def _unreadable(model: QuantizedModel, error: Exception) -> ConversionError:
    """A model whose file would be refused, told of the node or module that it would be refused for."""
    named = error.node if isinstance(error, MalformedError) else None
    node = next((n for n in model.graph.nodes if n.name == named), None)
    place = error.path if isinstance(error, MalformedError) and error.path else getattr(error, "where", None)
    return ConversionError(
        "The model can't be stored in a .qfx file: loading it would be refused.",
        where=(place if node is None else where(node)) or None,
        source=None if node is None else source(node),
        why=reason(error),
        remedy="Write what is named in other functions of torch, and quantize again; or torch.save(model, path) the "
        "whole model, and load that only where you trust the file.",
    )


def read_model(sections: Mapping[str, memoryview], isa: str | None, *, compiled: bool) -> QuantizedModel:
    """The model of a file's graph, checked.

    Args:
        sections: Of the file.
        isa: As :func:`qfx.load`.
        compiled: Whether to make its programs too.

    Raises:
        MalformedError: The graph makes no sense.
        RuntimeLoadError: As :func:`qfx.load`.
    """
    content = json.loads(bytes(sections[GRAPH]), parse_constant=no_constant)
    tensors = read_tensors(content["tensors"], sections[TENSORS], sections.get(PROGRAM, b""))
    model = _model(Reader(tensors, KINDS), content, isa)
    require_sound(model)
    if compiled:
        require_programs(model)
    return model


def _model(reader: Reader, content: Any, isa: str | None) -> QuantizedModel:
    model = QuantizedModel.__new__(QuantizedModel)
    nn.Module.__init__(model)
    state = read_state(reader, content["state"])
    graph, info = read_graph(reader, content["graph"]), reader.decode(content["info"])
    model.__setstate__({**state, _NODES: graph, "info": info, "isa": isa})
    return model
