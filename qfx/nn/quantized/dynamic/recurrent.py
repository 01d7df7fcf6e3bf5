"""LSTM, GRU and RNN with int8 or float16 weights: one implementation over a table of cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from qfx.arguments import checked
from qfx.errors import ConversionError, InputError
from qfx.ir.types import QDType
from qfx.nn.quantized.dynamic.formats import dtype_of
from qfx.nn.quantized.dynamic.programs import LayerWeights, build
from qfx.nn.quantized.dynamic.seen import Sizes, as_it_is
from qfx.nn.quantized.dynamic.weights import DynamicModule, require_class
from qfx.tensor.gradient import without_gradient

Made = TypeVar("Made", bound="Recurrent")
State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent cell.

    Attributes:
        gates: Rows of weights for each hidden unit.
        states: What it carries on: the hidden state, for an LSTM the cell state too.
        layer: The float layer.
        cell: The float module of one time step.
    """

    gates: int
    states: int
    layer: type[nn.Module]
    cell: type[nn.Module]


CELLS = {
    "LSTM": Cell(4, 2, nn.LSTM, nn.LSTMCell),
    "GRU": Cell(3, 1, nn.GRU, nn.GRUCell),
    "RNN": Cell(1, 1, nn.RNN, nn.RNNCell),
}


def step_name(kind: str, nonlinearity: str) -> str:
    """The runtime's name of a cell.

    Raises:
        ConversionError: A nonlinearity that an RNN does not have.
    """
    if kind != "RNN":
        return kind.lower()
    if nonlinearity not in ("tanh", "relu"):
        raise ConversionError(
            f"An RNN has no nonlinearity {nonlinearity!r}.", remedy='Use nonlinearity="tanh" or nonlinearity="relu".'
        )
    return f"rnn_{nonlinearity}"


_MOST_LAYERS = 2**16
"""Each has weights of its own, made one by one."""


class Recurrent(DynamicModule):
    """A recurrent layer, or several, over whole sequences. Weights are zero until they are loaded.

    Each product quantizes each row of its float operand, or all of it, to 0..255: the input of a layer once, its hidden
    state (and an LSTM's state before projection) at every time step. Gates and states are float32. Equations, shapes
    and names are those of the float layer in ``torch.nn``.

    Args:
        input_size: Features of the input.
        hidden_size: Features of the hidden state.
        num_layers: Layers, each on the results of the one before.
        bias: Whether there are biases.
        batch_first: Whether batches come as ``[batch, time, features]``, not ``[time, batch, features]``.
        dropout: Share of results between layers that training mode drops.
        bidirectional: Whether each layer runs in both directions.
        proj_size: Features to which an LSTM's hidden state is projected, or 0.
        nonlinearity: An RNN's, ``"tanh"`` or ``"relu"``.
        dtype: Of the weights: ``qfx.qint8`` or ``torch.float16``.

    Raises:
        UnsupportedError: Another dtype, or more than 32768 features.
        ConversionError: Sizes, dropout, projection or nonlinearity that the float layer does not have either.
    """

    kind: ClassVar[str]

    @checked
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        nonlinearity: str = "tanh",
        dtype: Any = QDType.qint8,
    ) -> None:
        super().__init__(dtype)
        self.step = step_name(self.kind, nonlinearity)
        self.nonlinearity = nonlinearity
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout, self.proj_size = float(dropout), proj_size
        self._check_settings()
        self.declare({name: shape for layer in range(num_layers) for name, shape in self._shapes(layer).items()})

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The quantized version of a float layer, weights as its qconfig says (without one: int8, a scale a row).

        Raises:
            ConversionError: ``mod`` is of another class, or its weights can't be quantized as its qconfig asks.
        """
        require_class(cls, mod, (CELLS[cls.kind].layer,))
        layer: Any = mod
        settings = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        given = {name: getattr(layer, name) for name in (*settings, "proj_size")}
        made = cls(**given, nonlinearity=getattr(layer, "nonlinearity", "tanh"), dtype=dtype_of(mod))
        names = [n for i in range(made.num_layers) for n in made._shapes(i)]
        made.take(mod, {name: name for name in names})
        return made.train(mod.training)

    def flatten_parameters(self) -> None:
        """Does nothing: for code that calls it on the float layer."""

    @as_it_is
    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Results of all time steps of the last layer, and the states after the last one.

        Args:
            input: float32 ``[time, batch, input_size]`` (``batch_first``: batch before time), one sequence
                ``[time, input_size]``, or a PackedSequence.
            hx: States before the first step, ``[layers * directions, batch, features]`` (one sequence: no batch);
                for an LSTM a pair, hidden and cell. Zeros where it is left out.

        Returns:
            ``(output, states)`` as the float layer's.

        Raises:
            InputError: Shapes or dtypes that do not fit, or no time step.
        """
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        self._check_input(input, (2, 3))
        if input.dim() == 2:
            states = None if hx is None else tuple(self._unsqueezed(h) for h in self._listed(hx))
            y, after = self._padded(input.unsqueeze(0 if self.batch_first else 1), states)
            return y.squeeze(0 if self.batch_first else 1), self._given_back(tuple(h.squeeze(1) for h in after))
        y, after = self._padded(input, None if hx is None else self._listed(hx))
        return y, self._given_back(after)

    def get_weight(self) -> dict[str, Tensor]:
        """Every weight by its name: a float16 tensor, or int8 with ``_scale`` and ``_zero_point`` beside it."""
        return {name: t for name, t in self.kept().items() if name.startswith("weight")}

    def get_bias(self) -> dict[str, Tensor]:
        """Every bias by its name, float32."""
        return {name: t for name, t in self.kept().items() if name.startswith("bias")}

    def extra_repr(self) -> str:
        shown = [str(self.input_size), str(self.hidden_size)]
        defaults: dict[str, Any] = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        defaults |= {"bidirectional": False, "nonlinearity": "tanh"}
        shown += [f"{k}={getattr(self, k)}" for k, v in defaults.items() if getattr(self, k) != v]
        return ", ".join([*shown, f"dtype={self.dtype!r}"])

    # ------------------------------------------------------------ weights

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def _state_sizes(self) -> tuple[int, ...]:
        return (self.proj_size or self.hidden_size, self.hidden_size)[: CELLS[self.kind].states]

    def _names(self, layer: int) -> dict[str, list[str]]:
        """The names of a layer's tensors by what they are, one a direction."""
        parts = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        parts += ["weight_hr"] if self.proj_size else []
        return {p: [f"{p}_l{layer}{end}" for end in ("", "_reverse")[: self._directions]] for p in parts}

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        rows, state = CELLS[self.kind].gates * self.hidden_size, self._state_sizes[0]
        inputs = self.input_size if layer == 0 else self._directions * state
        shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, state), "weight_hr": (state, self.hidden_size)}
        shapes_1d: dict[str, tuple[int, ...]] = {"bias_ih": (rows,), "bias_hh": (rows,)}
        all_shapes = {**shapes, **shapes_1d}
        return {name: all_shapes[part] for part, names in self._names(layer).items() for name in names}

    def _check_settings(self) -> None:
        problem = None
        if min(self.input_size, self.hidden_size, self.num_layers) < 1:
            problem = "input_size, hidden_size and num_layers are positive"
        elif self.num_layers > _MOST_LAYERS:
            problem = f"num_layers is at most {_MOST_LAYERS}"
        elif not 0.0 <= self.dropout <= 1.0:
            problem = f"dropout is a probability, not {self.dropout}"
        elif self.proj_size and (self.kind != "LSTM" or not 0 <= self.proj_size < self.hidden_size):
            problem = "proj_size is for an LSTM, and less than hidden_size"
        if problem is not None:
            raise ConversionError(
                f"This {self.kind} can't be made: {problem}.", remedy="Use settings that the float layer has."
            )

    # ------------------------------------------------------------ one call

    def _padded(self, x: Tensor, states: State | None) -> tuple[Tensor, State]:
        if self.batch_first:
            x = x.transpose(0, 1)
        time, batch, features = x.shape
        sizes = torch.full((time,), batch, dtype=torch.int64, device="cpu")
        y, after = self._run(x.reshape(time * batch, features), sizes, batch, states)
        y = y.view(time, batch, y.shape[1])
        return (y.transpose(0, 1) if self.batch_first else y), after

    def _packed(self, x: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        self._check_input(x.data, (2,))
        problem = inconsistency(x)
        if problem is not None:
            raise InputError(
                f"{type(self).__name__} got a PackedSequence that is inconsistent: {problem}.",
                remedy="Make it with torch.nn.utils.rnn.pack_padded_sequence or pack_sequence.",
            )
        batch = int(x.batch_sizes[0]) if len(x.batch_sizes) else 0
        states = None if hx is None else self._listed(hx)
        if states is not None:
            self._check_states(states, batch)
            if x.sorted_indices is not None:
                states = tuple(h.index_select(1, x.sorted_indices) for h in states)
        y, after = self._run(x.data, x.batch_sizes, batch, states)
        if x.unsorted_indices is not None:
            after = tuple(h.index_select(1, x.unsorted_indices) for h in after)
        packed = PackedSequence(y, x.batch_sizes, x.sorted_indices, x.unsorted_indices)
        return packed, self._given_back(after)

    def _run(self, x: Tensor, sizes: Tensor, batch: int, states: State | None) -> tuple[Tensor, State]:
        """``x`` holds all sequences, one time step after the other; ``sizes`` how many have each."""
        if len(sizes) == 0:
            raise InputError(
                f"{type(self).__name__} got sequences without a time step.",
                remedy="Pass sequences of at least one time step.",
            )
        if states is None:
            count = self.num_layers * self._directions
            states = tuple(x.new_zeros(count, batch, size) for size in self._state_sizes)
        self._check_states(states, batch)
        if batch == 0:
            return x.new_zeros(0, self._directions * self._state_sizes[0]), states
        if self.training and self.dropout > 0.0 and self.num_layers > 1:
            y, after = self._run_dropping(x, sizes, states)
        else:
            y, after = self._run_layers(range(self.num_layers), x, sizes, states)
        wanting = (x, *states)
        return without_gradient(self.kind, y, *wanting), tuple(without_gradient(self.kind, h, *wanting) for h in after)

    def _run_dropping(self, x: Tensor, sizes: Tensor, states: State) -> tuple[Tensor, State]:
        afters = []
        for layer in range(self.num_layers):
            x, after = self._run_layers(range(layer, layer + 1), x, sizes, states)
            afters.append(after)
            if layer + 1 < self.num_layers:
                x = nn.functional.dropout(x, self.dropout)
        return x, tuple(torch.cat(parts) for parts in zip(*afters, strict=True))

    def _run_layers(self, layers: range, x: Tensor, sizes: Tensor, states: State) -> tuple[Tensor, State]:
        key = layers.start, layers.stop
        y, *after = self.seen(key, partial(self._compute, layers), partial(self._shapes_of, layers), x, sizes, *states)
        return y, tuple(after)

    def _compute(self, layers: range, x: Tensor, sizes: Tensor, *states: Tensor) -> list[Tensor]:
        executable = self.program((layers.start, layers.stop), lambda: build(self._weights(layers), self))
        y, *after = executable.run(x, *states, sizes)
        kinds = len(states)
        return [y, *(torch.cat(after[i::kinds]) if len(layers) > 1 else after[i] for i in range(kinds))]

    def _shapes_of(self, layers: range, x: Tensor, sizes: Tensor, *states: Tensor) -> list[Sizes]:
        count, batch = len(layers) * self._directions, states[0].shape[1]
        ends = [(count, batch, size) for size in self._state_sizes]
        return [(x.shape[0], self._directions * self._state_sizes[0]), *ends]

    def _weights(self, layers: range) -> list[LayerWeights]:
        made = []
        for layer in layers:
            names, shapes = self._names(layer), self._shapes(layer)
            inputs = shapes[names["weight_ih"][0]][1]
            made.append(LayerWeights(self.step, names, inputs, self._state_sizes, self._directions, layer))
        return made

    # ------------------------------------------------------------ arguments

    def _listed(self, hx: Any) -> State:
        """``hx`` as a tuple of states."""
        wanted = CELLS[self.kind].states
        given = tuple(hx) if wanted > 1 and isinstance(hx, (tuple, list)) else (hx,)
        if len(given) != wanted or not all(isinstance(h, Tensor) for h in given):
            raise InputError(
                f"The states of a {type(self).__name__} are not given as it takes them.",
                remedy="Pass a pair (hidden, cell)." if wanted > 1 else "Pass one tensor.",
            )
        return given

    def _unsqueezed(self, h: Tensor) -> Tensor:
        if h.dim() != 2:
            raise InputError(
                f"A state for one sequence has 2 dimensions, not {h.dim()}.",
                remedy="Pass [layers * directions, features].",
            )
        return h.unsqueeze(1)

    def _given_back(self, states: State) -> Any:
        return states if len(states) > 1 else states[0]

    def _check_input(self, x: Any, dims: tuple[int, ...]) -> None:
        if not isinstance(x, Tensor):
            raise InputError(
                f"{type(self).__name__} got a {type(x).__name__}.", remedy="Pass a float32 tensor or a PackedSequence."
            )
        if x.dim() not in dims or x.shape[-1] != self.input_size:
            raise InputError(
                f"{type(self).__name__} got an input of shape {tuple(x.shape)}.",
                remedy=f"Pass {' or '.join(map(str, dims))} dimensions, the last of size {self.input_size}.",
            )

    def _check_states(self, states: State, batch: int) -> None:
        count = self.num_layers * self._directions
        for name, h, size in zip(("hidden", "cell"), states, self._state_sizes, strict=False):
            if tuple(h.shape) != (count, batch, size):
                raise InputError(
                    f"The {name} state has shape {tuple(h.shape)}.", remedy=f"Pass shape {(count, batch, size)}."
                )


def inconsistency(x: PackedSequence) -> str | None:
    """What is wrong with the fields of a packed sequence, or None."""
    sizes = x.batch_sizes
    if not isinstance(sizes, Tensor) or sizes.dim() != 1 or sizes.dtype is not torch.int64 or not sizes.is_cpu:
        return "batch_sizes is no int64 tensor of one dimension on the CPU"
    if len(sizes) and (int(sizes.min()) < 1 or bool((sizes[1:] > sizes[:-1]).any())):
        return "batch_sizes is not positive and falling"
    if int(sizes.sum()) != len(x.data):
        return f"its data has {len(x.data)} rows, and batch_sizes counts {int(sizes.sum())}"
    batch = int(sizes[0]) if len(sizes) else 0
    orders = {"sorted_indices": x.sorted_indices, "unsorted_indices": x.unsorted_indices}
    for name, order in orders.items():
        if order is not None and not (isinstance(order, Tensor) and sorted(order.tolist()) == list(range(batch))):
            return f"{name} is no order of its {batch} sequences"
    there, back = orders.values()
    if (there is None) != (back is None) or (there is not None and there[back].tolist() != list(range(batch))):
        return "unsorted_indices does not undo sorted_indices"
    return None


class LSTM(Recurrent):
    """A long short-term memory as ``torch.nn.LSTM``: returns ``(output, (h_n, c_n))``."""

    kind = "LSTM"


class GRU(Recurrent):
    """A gated recurrent unit as ``torch.nn.GRU``: returns ``(output, h_n)``."""

    kind = "GRU"


class RNN(Recurrent):
    """An Elman network as ``torch.nn.RNN``, with tanh or relu: returns ``(output, h_n)``."""

    kind = "RNN"


for _class in (LSTM, GRU, RNN):
    _class.__doc__ = f"{_class.__doc__}\n\n    {str(Recurrent.__doc__).split(chr(10), 2)[2].lstrip()}"
