"""LSTMCell, GRUCell and RNNCell with int8 or float16 weights: a recurrent layer of one time step."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from qfx.arguments import checked
from qfx.errors import InputError
from qfx.ir.types import QDType
from qfx.memory import require_regular
from qfx.nn.quantized.dynamic.formats import dtype_of
from qfx.nn.quantized.dynamic.programs import LayerWeights, build
from qfx.nn.quantized.dynamic.recurrent import CELLS, step_name
from qfx.nn.quantized.dynamic.seen import Sizes, as_it_is
from qfx.nn.quantized.dynamic.weights import DynamicModule, require_class
from qfx.tensor.gradient import without_gradient

Made = TypeVar("Made", bound="RecurrentCell")


class RecurrentCell(DynamicModule):
    """One time step of a recurrent layer. Weights are zero until they are loaded.

    Input and hidden state are each quantized a row, or over the whole batch, to 0..255; gates and states are float32.

    Args:
        input_size: Features of the input.
        hidden_size: Features of the hidden state.
        bias: Whether there are biases.
        nonlinearity: An RNN's, ``"tanh"`` or ``"relu"``.
        dtype: Of the weights: ``qfx.qint8`` or ``torch.float16``.

    Raises:
        UnsupportedError: Another dtype, or more than 32768 features.
        ConversionError: Another nonlinearity.
    """

    kind: ClassVar[str]

    @checked
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: Any = QDType.qint8,
    ) -> None:
        super().__init__(dtype)
        self.step = step_name(self.kind, nonlinearity)
        self.input_size, self.hidden_size, self.bias, self.nonlinearity = input_size, hidden_size, bias, nonlinearity
        rows = CELLS[self.kind].gates * hidden_size
        biases: dict[str, tuple[int, ...]] = {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
        self.declare({"weight_ih": (rows, input_size), "weight_hh": (rows, hidden_size), **biases})

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The quantized version of a float cell, weights as its qconfig says (without one: int8, a scale a row).

        Raises:
            ConversionError: ``mod`` is of another class, or its weights can't be quantized as its qconfig asks.
        """
        require_class(cls, mod, (CELLS[cls.kind].cell,))
        cell: Any = mod
        nonlinearity = getattr(cell, "nonlinearity", "tanh")
        made = cls(cell.input_size, cell.hidden_size, cell.bias, nonlinearity, dtype=dtype_of(mod))
        made.take(mod, {name: name for name in made._names()})
        return made.train(mod.training)

    @as_it_is
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The state after one step: hidden, for an LSTM the pair of hidden and cell.

        Args:
            input: float32 ``[batch, input_size]`` or ``[input_size]``.
            hx: State before, shaped as the result; zeros where it is left out.

        Raises:
            InputError: Shapes or dtypes that do not fit.
        """
        states = self._checked(input, hx)
        x, batched = input, input.dim() == 2
        if not batched:
            x, states = x.unsqueeze(0), tuple(h.unsqueeze(0) for h in states)
        after = self._step(x, states) if len(x) else list(states)
        if not batched:
            after = [h.squeeze(0) for h in after]
        after = [without_gradient(f"{self.kind}Cell", h, input, *states) for h in after]
        return tuple(after) if len(after) > 1 else after[0]

    def _step(self, x: Tensor, states: tuple[Tensor, ...]) -> list[Tensor]:
        """The states after a step of a batch that is not empty."""
        return list(self.seen((), self._compute, self._shapes, x, *states))

    def _compute(self, x: Tensor, *states: Tensor) -> list[Tensor]:
        sizes = torch.tensor([len(x)], dtype=torch.int64, device="cpu")
        _, *after = self.program((), self._build).run(x, *(h.unsqueeze(0) for h in states), sizes)
        return [h.squeeze(0) for h in after]

    def _shapes(self, x: Tensor, *states: Tensor) -> list[Sizes]:
        return [(x.shape[0], self.hidden_size) for _ in states]

    def extra_repr(self) -> str:
        shown = [str(self.input_size), str(self.hidden_size)]
        shown += [] if self.bias else ["bias=False"]
        shown += [] if self.nonlinearity == "tanh" else [f"nonlinearity={self.nonlinearity}"]
        return ", ".join([*shown, f"dtype={self.dtype!r}"])

    def get_weight(self) -> dict[str, Tensor]:
        """``weight_ih`` and ``weight_hh``: float16, or int8 with ``_scale`` and ``_zero_point`` beside them."""
        return {name: t for name, t in self.kept().items() if name.startswith("weight")}

    def get_bias(self) -> dict[str, Tensor]:
        """``bias_ih`` and ``bias_hh``, float32, if there are any."""
        return {name: t for name, t in self.kept().items() if name.startswith("bias")}

    def _names(self) -> tuple[str, ...]:
        return ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))

    def _build(self) -> Any:
        names = {name: [name] for name in self._names()}
        sizes = (self.hidden_size,) * CELLS[self.kind].states
        return build([LayerWeights(self.step, names, self.input_size, sizes, 1, 0)], self)

    def _checked(self, x: Any, hx: Any) -> tuple[Tensor, ...]:
        """The states, each of the shape that fits ``x``."""
        if isinstance(x, Tensor):
            require_regular(x, "The input")
        name, wanted = f"{self.kind}Cell", CELLS[self.kind].states
        if not isinstance(x, Tensor) or x.dim() not in (1, 2) or x.shape[-1] != self.input_size:
            given = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            remedy = f"Pass a float32 tensor of shape [batch, {self.input_size}] or [{self.input_size}]."
            raise InputError(f"{name} got an input of {given}.", remedy=remedy)
        shape = (*x.shape[:-1], self.hidden_size)
        if hx is None:
            return (x.new_zeros(shape),) * wanted
        states = tuple(hx) if wanted > 1 and isinstance(hx, (tuple, list)) else (hx,)
        if len(states) != wanted or any(not isinstance(h, Tensor) or h.shape != shape for h in states):
            what = "a pair of tensors" if wanted > 1 else "a tensor"
            raise InputError(f"{name} got states that do not fit.", remedy=f"Pass {what} of shape {shape}.")
        return states


class LSTMCell(RecurrentCell):
    """A step of a long short-term memory as ``torch.nn.LSTMCell``: returns ``(h, c)``."""

    kind = "LSTM"


class GRUCell(RecurrentCell):
    """A step of a gated recurrent unit as ``torch.nn.GRUCell``."""

    kind = "GRU"


class RNNCell(RecurrentCell):
    """A step of an Elman network as ``torch.nn.RNNCell``, with tanh or relu."""

    kind = "RNN"
