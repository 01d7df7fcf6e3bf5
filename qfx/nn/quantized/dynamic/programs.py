"""Programs of recurrent layers: one step a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qfx.runtime import Executable, ProgramBuilder, steps
from qfx.runtime.writing import Step, write

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
        step = _step(b, layer, module, [x, *states, sizes])
        shapes = [[-1, layer.directions * layer.state_sizes[0]], *([-1, -1, n] for n in layer.state_sizes)]
        x, *ends = write(b, name, step, *shapes)
        after += ends
    return Executable(b.build(inputs, [x, *after]))


def _step(b: ProgramBuilder, layer: LayerWeights, module: DynamicModule, inputs: list[int]) -> Step:
    names, first = layer.names, layer.layer * layer.directions
    own, recurrent = (module.weights(b, names[n]) for n in ("weight_ih", "weight_hh"))
    projection = module.weights(b, names["weight_hr"]) if "weight_hr" in names else None
    bias_ih, bias_hh = (module.biases(b, names[n]) if n in names else None for n in ("bias_ih", "bias_hh"))
    if layer.step == "lstm":
        x, h, c, batch_sizes = inputs
        return steps.lstm(
            x, h, c, batch_sizes, directions=layer.directions, first=first, per_row=module.per_row,
            weight_ih=own.values, weight_ih_scale=own.scale, weight_ih_zero_point=own.zero_point,
            weight_hh=recurrent.values, weight_hh_scale=recurrent.scale, weight_hh_zero_point=recurrent.zero_point,
            weight_hr=projection and projection.values, weight_hr_scale=projection and projection.scale,
            weight_hr_zero_point=projection and projection.zero_point, bias_ih=bias_ih, bias_hh=bias_hh,
        )  # fmt: skip
    x, h, batch_sizes = inputs
    return _CELLS[layer.step](
        x, h, batch_sizes, directions=layer.directions, first=first, per_row=module.per_row,
        weight_ih=own.values, weight_ih_scale=own.scale, weight_ih_zero_point=own.zero_point,
        weight_hh=recurrent.values, weight_hh_scale=recurrent.scale, weight_hh_zero_point=recurrent.zero_point,
        bias_ih=bias_ih, bias_hh=bias_hh,
    )  # fmt: skip


_CELLS = {"gru": steps.gru, "rnn_tanh": steps.rnn_tanh, "rnn_relu": steps.rnn_relu}
