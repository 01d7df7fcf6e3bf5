"""Programs of recurrent layers: one step a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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

    Outputs: the results of the last layer, and the states after each layer, hidden and cell in turn.
    """
    b = ProgramBuilder()
    x = b.value("input", "f32", [-1, layers[0].inputs])
    states = [b.value(name, "f32", [-1, -1, -1]) for name, _ in zip(("hx", "cx"), layers[0].state_sizes, strict=False)]
    sizes = b.value("batch_sizes", "s64", [-1])
    inputs, after = [x, *states, sizes], []
    for layer in layers:
        name = f"layer{layer.layer}"
        y = b.value(name, "f32", [-1, layer.directions * layer.state_sizes[0]])
        ends = [b.value(f"{name}.{what}", "f32", [-1, -1, n]) for what, n in zip("hc", layer.state_sizes, strict=False)]
        ints = {"directions": layer.directions, "first": layer.layer * layer.directions}
        constants = module.constants(b, **layer.names)
        b.step(layer.step, name, [x, *states, sizes], [y, *ends], ints=ints, constants=constants)
        x = y
        after += ends
    return Executable(b.build(inputs, [x, *after]))
