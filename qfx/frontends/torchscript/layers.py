"""Layers that a graph holds whole, made anew from what TorchScript kept of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from qfx.frontends.torchscript.attention import rebuilt_attention

_MODES: dict[type[nn.Module], str] = {nn.LSTM: "aten::lstm", nn.GRU: "aten::gru", nn.RNN: "aten::rnn_tanh"}
_PARTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "aten::lstm": ((0,), (1, 0), (1, 1)), "aten::gru": ((0,), (1,)), "aten::rnn_tanh": ((0,), (1,)),
    "aten::rnn_relu": ((0,), (1,)),
}  # fmt: skip
"""The operators of whole sequences, and where each of their results is in what the layer returns."""

_CELLS: tuple[type[nn.Module], ...] = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


def rebuilt_layer(module: torch.jit.ScriptModule, kind: type[nn.Module] | None) -> nn.Module | None:
    """A plain recurrent or attention layer that computes what ``module``, of class ``kind``, does; else None.

    Sizes of recurrent layers come from the weights, the rest from the code: TorchScript keeps no constructor arguments.
    """
    if kind is None:
        return None
    tensors = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    base = next((cls for cls in (*_MODES, *_CELLS) if issubclass(kind, cls)), None)
    if base is None or not (_returns_as_written(module, base) or traced_results(module)):
        made = rebuilt_attention(module, kind)
    else:
        made = _cell(base, module, tensors) if base in _CELLS else _layer(base, module, tensors)
    if made is None:
        return None
    made.load_state_dict(tensors)
    return made.eval()


def traced_results(module: torch.jit.ScriptModule) -> list[tuple[int, ...]] | None:
    """The parts of a recurrent layer's result that a trace of it, from zeros, returns; None for what is no such trace.

    A trace returns only what its caller used: each part by the keys that lead to it in what the layer returns.
    """
    graph = forward_of(module).graph
    calls = [node for node in graph.nodes() if node.kind() in _PARTS]
    inputs, (result,) = list(graph.inputs()), graph.outputs()
    if len(calls) != 1 or len(inputs) != 2:
        return None
    given, state = list(calls[0].inputs())[:2]
    states = list(state.node().inputs()) if state.node().kind() == "prim::ListConstruct" else [state]
    parts = dict(zip([v.debugName() for v in calls[0].outputs()], _PARTS[calls[0].kind()], strict=True))
    returned = list(result.node().inputs()) if result.node().kind() == "prim::TupleConstruct" else [result]
    names = [value.debugName() for value in returned]
    from_zeros = all(value.node().kind() == "aten::zeros" for value in states)
    if not from_zeros or given.debugName() != inputs[1].debugName() or not set(names) <= parts.keys():
        return None
    return [parts[name] for name in names]


def forward_of(module: torch.jit.ScriptModule) -> Any:
    """The method that is ``forward``, or the first of an overloaded one: that on padded tensors."""
    name = "forward" if module._c._has_method("forward") else "forward__0"
    return module._c._get_method(name)


def _returns_as_written(module: torch.jit.ScriptModule, kind: type[nn.Module]) -> bool:
    """Whether the code's results are those of the class: a trace returns only what its caller used."""
    pair, state = "Tuple[Tensor, Tensor]", "Tensor"
    wanted = {nn.LSTM: f"Tuple[{state}, {pair}]", nn.GRU: pair, nn.RNN: pair, nn.LSTMCell: pair}.get(kind, state)
    method = forward_of(module)
    graph = method.graph  # its values live as long as it does
    (result,) = graph.outputs()
    return result.type().annotation_str == wanted and len(method.schema.arguments) == 3


def _code(module: torch.jit.ScriptModule) -> Any:
    graph = forward_of(module).graph.copy()
    torch._C._jit_pass_inline(graph)
    return graph


def _cell(kind: Callable[..., nn.Module], module: torch.jit.ScriptModule, tensors: dict[str, Any]) -> nn.Module:
    hidden, features = tensors["weight_hh"].shape[1], tensors["weight_ih"].shape[1]
    options: dict[str, Any] = {"bias": "bias_ih" in tensors}
    if kind is nn.RNNCell and _code(module).findNode("aten::rnn_relu_cell", True) is not None:
        options["nonlinearity"] = "relu"
    return kind(features, hidden, **options)


def _layer(kind: Any, module: torch.jit.ScriptModule, tensors: dict[str, Any]) -> nn.Module:
    batch_first = _last_arguments(module, f"{_MODES[kind]}.input")
    options: dict[str, Any] = {}
    if kind is nn.RNN and not batch_first:
        batch_first, options = _last_arguments(module, "aten::rnn_relu.input"), {"nonlinearity": "relu"}
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    first = tensors["weight_ih_l0"]
    options |= {
        "num_layers": sum(name.startswith("weight_ih_l") and not name.endswith("_reverse") for name in tensors),
        "bias": "bias_ih_l0" in tensors,
        "bidirectional": "weight_ih_l0_reverse" in tensors,
        "batch_first": bool(batch_first[0]),
    }
    if "weight_hr_l0" in tensors:
        options["proj_size"] = tensors["weight_hr_l0"].shape[0]
    made: nn.Module = kind(first.shape[1], first.shape[0] // gates, **options)
    return made


def _last_arguments(module: torch.jit.ScriptModule, operator: str) -> list[Any]:
    """The last argument of each call of an operator in the layer's code; of a whole sequence, ``batch_first``."""
    graph = _code(module)
    calls = graph.findAllNodes(operator.partition(".")[0], True)
    return [list(call.inputs())[-1].toIValue() for call in calls if call.schema().startswith(f"{operator}(")]
