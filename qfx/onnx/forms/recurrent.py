"""Recurrent layers: LSTM, GRU and RNN of ONNX, whose gates have another order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from qfx.onnx.graph import END, Call
from qfx.onnx.table import form


def _layer(
    call: Call, kind: str, states: Sequence[str], order: Sequence[int], result: int, **attributes: object
) -> str:
    """One layer.

    Args:
        call: The call.
        kind: The op of ONNX.
        states: Names of the states before.
        order: For each gate of ONNX, which of torch's it is.
        result: Which of the op's results.
        attributes: Of the op.
    """
    ends = [""] + ["_reverse"] * (call.given["weight_ih_reverse"] is not None)
    weights = [_directions(call, [f"weight_{part}{end}" for end in ends], order) for part in ("ih", "hh")]
    biases = ""
    if call.given["bias_ih"] is not None:
        both = [_directions(call, [f"bias_{part}{end}" for end in ends], order) for part in ("ih", "hh")]
        biases = call.emit("Concat", *both, axis=1)
    given = [call.value("x"), *weights, biases, "", *(call.value(state) for state in states)]
    names = ["", "", ""]
    names[result] = call.graph.builder.name(f"{call.node.name}_{kind}")
    call.graph.builder.add(
        kind, given, names[: result + 1], f"{call.node.name}/{kind}", hidden_size=_hidden(call),
        direction="forward" if len(ends) == 1 else "bidirectional", **attributes,
    )  # fmt: skip
    if result > 0:
        return names[result]
    apart = call.emit("Transpose", names[0], perm=[0, 2, 1, 3])  # from [time, directions, batch, hidden]
    return call.reshape(apart, [0, 0, len(ends) * _hidden(call)])


def _hidden(call: Call) -> int:
    return int(call.given["weight_hh"].meta["shape"][-1])


def _directions(call: Call, names: Sequence[str], order: Sequence[int]) -> str:
    """A weight or bias of each direction, gates in ONNX's order, ``[directions, gates * hidden, ...]``."""
    hidden, parts = _hidden(call), []
    for name in names:
        value: fx.Node = call.given[name]
        whole = call.graph.value(value)
        if value.meta.get("dtype") is torch.float16:
            whole = call.as_dtype(value, torch.float32)
        gates = [
            call.emit("Slice", whole, call.whole([gate * hidden]), call.whole([(gate + 1) * hidden]), call.whole([0]))
            for gate in order
        ]
        parts.append(
            call.emit(
                "Unsqueeze", gates[0] if len(gates) == 1 else call.emit("Concat", *gates, axis=0), call.whole([0])
            )
        )
    return parts[0] if len(parts) == 1 else call.emit("Concat", *parts, axis=0)


@form("lstm")
def lstm(call: Call) -> str:
    """LSTM: gates input, output, forget, cell. Its cell state after the last step is the third result."""
    h, c = call.given["h"], call.given["c"]
    if (h is None) != (c is None):
        raise call.refuse("One of its two states before is left out.", "Give both, or none.")
    return _layer(call, "LSTM", ["h", "c"], [0, 3, 1, 2], 2 if call.given["result"] == "cell" else 0)


@form("gru")
def gru(call: Call) -> str:
    """GRU: gates update, reset, new."""
    return _layer(call, "GRU", ["h"], [1, 0, 2], 0, linear_before_reset=1)


@form("rnn")
def rnn(call: Call) -> str:
    """RNN."""
    function = call.given["nonlinearity"].capitalize()
    directions = 1 + (call.given["weight_ih_reverse"] is not None)
    return _layer(call, "RNN", ["h"], [0], 0, activations=[function] * directions)


@form("last_state")
def last_state(call: Call) -> str:
    """The last step of the first direction, and the first step of the other."""
    y = call.value("y")
    last = call.emit("Slice", y, call.whole([-1]), call.whole([END]), call.whole([0]))
    if call.given["directions"] == 1:
        return last
    half = int(call.given["y"].meta["shape"][-1]) // 2
    first = call.emit("Slice", y, call.whole([0]), call.whole([1]), call.whole([0]))
    ends = [(last, 0, half), (first, half, 2 * half)]
    parts = [call.emit("Slice", v, call.whole([a]), call.whole([b]), call.whole([-1])) for v, a, b in ends]
    return call.emit("Concat", *parts, axis=0)
