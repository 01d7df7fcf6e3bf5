"""From a QDQ graph to a checked ONNX file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from torch import fx

from qfx.errors import ConversionError, InputError
from qfx.file.atomic import write_atomically
from qfx.ir.levels import is_dim_arithmetic, is_opaque
from qfx.ir.user_names import user_path
from qfx.onnx.builder import TYPES, Builder
from qfx.onnx.forms import FORMS
from qfx.onnx.graph import Call, Graph, dim_arithmetic, refuse
from qfx.onnx.lengths import GraphLengths
from qfx.onnx.opset import OLDEST
from qfx.onnx.stored import is_stored, stored_dtype
from qfx.ops.calls import arguments
from qfx.ops.table import op_of
from qfx.public import VERSION

MOST_BYTES = 2**31 - 1
"""Of a protobuf message."""


def write_model(gm: fx.GraphModule, path: Path, *, opset: int, sizes: str) -> None:
    """Write the file.

    Raises:
        ConversionError: As :func:`qfx.to_onnx` says.
        InputError: In the same way.
    """
    if sizes not in ("free", "batch"):
        raise InputError(f"sizes is {sizes!r}.", remedy='Give "free" or "batch".')
    model = as_model(gm, opset=opset, only_batch=sizes == "batch")
    write_atomically(path, model.SerializeToString())


def as_model(gm: fx.GraphModule, *, opset: int = OLDEST, only_batch: bool = False) -> onnx.ModelProto:
    """A QDQ graph with known shapes as a checked ONNX model.

    Raises:
        ConversionError: As :func:`qfx.to_onnx` says.
        InputError: In the same way.
    """
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise InputError(
            f"opset is {opset}.",
            why=f"Files need {OLDEST} at least, and onnx {onnx.__version__} knows {newest} at most.",
            remedy=f"Give one from {OLDEST} to {newest}.",
        )
    _require_forms(gm)
    results = dict(_named(gm.graph.output_node().args[0], "output", gm))
    graph = _graph(gm, GraphLengths(gm, only_batch=only_batch), results, opset)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", opset)], producer_name="qfx", producer_version=VERSION
    )
    model.ir_version = min(model.ir_version, onnx.helper.find_min_ir_version_for(model.opset_import))
    return _checked(model)


def _require_forms(gm: fx.GraphModule) -> None:
    for node in gm.graph.nodes:
        op = op_of(node)
        known = node.op in ("get_attr", "output") or (op is not None and op.name in FORMS) or is_dim_arithmetic(node)
        if node.op == "placeholder":
            if "shape" not in node.meta and node.users:
                raise refuse(node, "Inputs of an ONNX model are tensors.", "Give the model tensors alone.")
        elif is_opaque(node):
            reason = node.meta.get("island_reason") or node.meta.get("opaque_reason")
            raise refuse(node, f"Torch computes it: {reason}", "Write it in operations that qfx has, or leave it out.")
        elif not known:
            raise refuse(node, "There is no form of it in ONNX.", "Write it in other operations, or leave it out.")


def _graph(gm: fx.GraphModule, lengths: GraphLengths, results: Mapping[str, fx.Node], opset: int) -> onnx.GraphProto:
    inputs = {
        node: user_path(str(node.target)) for node in gm.graph.find_nodes(op="placeholder") if "shape" in node.meta
    }
    _require_different([*inputs.values(), *results])
    builder = Builder([*inputs.values(), *results])
    graph = Graph(gm, builder, lengths, opset)
    graph.values.update(inputs)
    for node in gm.graph.nodes:
        if node.op == "call_function" and not is_stored(node):
            op = op_of(node)
            call = None if op is None else Call(graph, node, op, dict(arguments(op, node)))
            graph.values[node] = dim_arithmetic(graph, node) if call is None else FORMS[call.op.name](call)  # type: ignore[union-attr]
    for name, node in results.items():
        _give(graph, name, node, results)
    return onnx.helper.make_graph(
        builder.nodes, "qfx",
        [_described(node, name, lengths) for node, name in inputs.items()],
        [_described(node, name, lengths) for name, node in results.items()],
        builder.initializers,
    )  # fmt: skip


def _require_different(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConversionError(
            f"Two inputs or outputs of the model would be called {twice!r}.",
            remedy="Give the model's arguments and the keys of its result different names.",
        )


def _named(value: Any, name: str, gm: fx.GraphModule) -> Iterator[tuple[str, fx.Node]]:
    """The tensors that a model returns, by the names that ``qfx run`` gives them."""
    if isinstance(value, fx.Node):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _named(part, str(key) if name == "output" else f"{name}_{key}", gm)
    elif isinstance(value, (tuple, list)):
        for index, part in enumerate(value):
            yield from _named(part, f"{name}_{index}", gm)
    elif value is not None:
        raise ConversionError(f"The model returns {value!r}.", remedy="Return tensors: ONNX models give nothing else.")


def _give(graph: Graph, name: str, node: fx.Node, results: Mapping[str, fx.Node]) -> None:
    """The value of ``node`` as an output."""
    value, builder = graph.value(node), graph.builder
    if builder.computes(value) and value not in results:
        builder.rename(value, name)
        for other, given in graph.values.items():
            if given == value:
                graph.values[other] = name
    else:
        builder.add("Identity", [value], [name], f"{name}/Identity")


def _described(node: fx.Node, name: str, lengths: GraphLengths) -> onnx.ValueInfoProto:
    if "shape" not in node.meta:  # a size, which is a number of Python's in the model
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [1])
    return onnx.helper.make_tensor_value_info(name, TYPES[stored_dtype(node)], lengths.named(node))


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types and shapes of its values, checked.

    Raises:
        ConversionError: It is too large for a file.
    """
    size = model.ByteSize()
    if size > MOST_BYTES:
        raise ConversionError(
            f"The ONNX file would have {size} bytes.",
            why="A file of ONNX holds 2 GB at most.",
            remedy="Save the model with qfx.save, whose files have no such limit.",
        )
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(inferred)
    return inferred
