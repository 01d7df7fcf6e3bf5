"""Programs of recurrent layers: one step a layer, its states in a row behind its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from qfx.runtime import Executable, ProgramBuilder

if TYPE_CHECKING:
    from qfx.nn.quantized.dynamic.weights import DynamicModule


@dataclass(frozen=True)
class LayerWeights:
    """A layer of a program.

    Attributes:
        step: The runtime's name of its cell.
        names: Its tensors in the module, by the names of the step's constants; one a direction.
        inputs: Features of its input.
        state_sizes: Features of its states.
        directions: 1 or 2.
        layer: Which states are its own: those from ``layer * directions`` on.
    """

    step: str
    names: dict[str, list[str]]
    inputs: int
    state_sizes: tuple[int, ...]
    directions: int
    layer: int


def build(layers: list[LayerWeights], module: DynamicModule) -> Executable:
    """Inputs: x ``[rows, features]``, the states ``[all layers * directions, batch, features]``, batch sizes.

    Outputs, flat: of each layer but the last, its states; of the last, its results, its states, and memory it used.
    """
    b = ProgramBuilder()
    x = b.value("input", "f32", [-1, layers[0].inputs])
    states = [b.value(name, "f32", [-1, -1, -1]) for name, _ in zip(("hx", "cx"), layers[0].state_sizes, strict=False)]
    sizes = b.value("batch_sizes", "f32", [-1])
    inputs, outputs, rows = [x, *states, sizes], [], b.expr_dim(x, 0)
    batch, zero = b.expr_dim(states[0], 1), b.expr_const(0)
    for at, layer in enumerate(layers):
        name = f"layer{layer.layer}"
        flat = b.value(name, "f32", [-1])
        ints = {"directions": layer.directions, "first": layer.layer * layer.directions}
        ints["half"] = int(module.dtype is torch.float16)
        constants = module.constants(b, **layer.names)
        b.step(layer.step, name, [x, *states, sizes], flat, ints=ints, constants=constants)
        if at + 1 == len(layers):
            outputs.append(flat)
            break
        features = b.expr_const(layer.directions * layer.state_sizes[0])
        end = b.expr("mul", rows, features)
        state_count = b.expr("mul", batch, b.expr_const(layer.directions * sum(layer.state_sizes)))

        def cut(what: str, source: int, start: int, stop: int) -> int:
            value = b.value(what, "f32", [-1])
            b.step("slice", what, [source], value, ints={"axis": 0}, exprs={"start": start, "end": stop})
            return value

        outputs.append(cut(f"{name}.states", flat, end, b.expr("add", end, state_count)))
        results = cut(f"{name}.results", flat, zero, end)
        x = b.value(f"{name}.output", "f32", [-1, -1])
        b.step("reshape", f"{name}.output", [results], x, exprs={"shape": [rows, features]})
    return Executable(b.build(inputs, outputs))
