"""Graphs of one call of the op table, and ONNX models run by ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from torch import Tensor, fx, nn

from qfx.frontends.shapes import propagate_shapes
from qfx.ops import qdq
from qfx.ops.sample import Sample
from qfx.ops.table import Op


def one_call(op: Op, sample: Sample) -> tuple[fx.GraphModule, list[Tensor]]:
    """A graph of the call with known shapes, and its inputs: the op's activations and integers. Others are buffers."""
    root, graph, inputs = nn.Module(), fx.Graph(), []
    names = list(op.fn.__code__.co_varnames[: op.fn.__code__.co_argcount])
    flowing = {*op.tensors, *op.integers} if op.fn is not qdq.decode_weight else set()

    def node_of(value: Any, name: str) -> Any:
        if isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
            return [node_of(item, name) for item in value]
        if not isinstance(value, Tensor):
            return value
        if name in flowing:
            inputs.append(value)
            return graph.placeholder(f"input_{len(inputs)}")
        path = f"buffer_{len(list(root.buffers()))}"
        root.register_buffer(path, value)
        return graph.get_attr(path)

    args = tuple(node_of(value, name) for value, name in zip(sample.args, names, strict=False))
    kwargs = {name: node_of(value, name) for name, value in sample.kwargs.items()}
    graph.output(graph.call_function(op.fn, args, kwargs))
    gm = fx.GraphModule(root, graph)
    return propagate_shapes(gm, tuple(inputs)), inputs


def run(model: onnx.ModelProto | str, *inputs: Tensor) -> list[np.ndarray]:
    """What ONNX Runtime gives, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    given = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
