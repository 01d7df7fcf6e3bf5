"""Int8 graph -> Program: one emitter an op, writing physical steps for the runtime.

A value's *order* tells which logical dim each physical dim is: ``(0, 2, 3, 1)`` is channels-last. A permute only
changes the order; a step is written when an op needs another one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from qfx.errors import ConversionError
from qfx.ir.attributes import attribute
from qfx.ir.types import INTEGER_KINDS, RUNTIME_DTYPES, QDType, QParams, code_shift
from qfx.ops import arithmetic
from qfx.runtime import Program, ProgramBuilder, steps
from qfx.runtime.writing import Step, write

Order = tuple[int, ...]
_END = 2**62
_TORCH_DTYPES = {"f32": torch.float32, **{kind: dtype for dtype, kind in INTEGER_KINDS.items()}}


@dataclass(frozen=True)
class Physical:
    """A value of the program: its id, dtype, and order."""

    id: int
    dtype: str
    order: Order

    @property
    def rank(self) -> int:
        return len(self.order)


@dataclass(frozen=True)
class Emitter:
    """How one op becomes steps.

    Attributes:
        emit: Writes the steps and returns the result.
        coded: Whether it takes and gives 8-bit codes. (Whether it takes and gives float32 is in the op's row.)
        whole: Whether it takes and gives integers and truth values too, in any mixture with float32.
    """

    emit: Callable[[Emission, fx.Node], Physical]
    coded: bool
    whole: bool


EMITTERS: dict[str, Emitter] = {}
"""By name of the op; :mod:`qfx.lowering.emitters` fills it, and is where to look one up."""


def emits(*names: str, coded: bool = True, whole: bool = False) -> Callable[[Any], Any]:
    """Register the decorated function for the table ops ``names``."""

    def register(emit: Callable[[Emission, fx.Node], Physical]) -> Callable[[Emission, fx.Node], Physical]:
        for name in names:
            assert name not in EMITTERS, name
            EMITTERS[name] = Emitter(emit, coded, whole)
        return emit

    return register


@dataclass
class Emission:
    """A program being written.

    Attributes:
        root: Where parameters are.
        builder: The runtime's builder.
        values: Results so far by node.
        dims: Expression ids of dim values by node.
        permuted: Value id by the value and the permutation of its physical dims that gives it. (Not by orders: views
            are one value in several orders.)
        casts: Value id by the value and the type that it was made.
        nodes: The node behind each step name.
        results: What steps give that have several results, by what they compute.
    """

    root: torch.nn.Module
    builder: ProgramBuilder = field(default_factory=ProgramBuilder)
    values: dict[fx.Node, Physical] = field(default_factory=dict)
    dims: dict[fx.Node, int] = field(default_factory=dict)
    permuted: dict[tuple[int, Order], int] = field(default_factory=dict)
    casts: dict[tuple[int, str], int] = field(default_factory=dict)
    nodes: dict[str, fx.Node] = field(default_factory=dict)
    results: dict[Hashable, list[Physical]] = field(default_factory=dict)

    # ------------------------------------------------------------ values

    def input(self, node: fx.Node) -> Physical:
        """Declare a program input for ``node``, in logical order."""
        value_type = node.meta["value_type"]
        rank = len(node.meta["shape"])
        dtype = RUNTIME_DTYPES[value_type.kind]
        made = Physical(self.builder.value(node.name, dtype, [-1] * rank), dtype, identity(rank))
        self.values[node] = made
        return made

    def step(self, node: fx.Node, step: Step, order: Order, dtype: str | None = None) -> Physical:
        """Write a step whose result has ``order``; ``dtype`` of operations that give more types than one."""
        (out,) = write(self.builder, node.name, step, [-1] * len(order), dtype=dtype)
        self.nodes.setdefault(node.name, node)
        (own,) = step.results.values()
        return Physical(out, own or str(dtype), order)

    def all_of(self, node: fx.Node, step: Step, orders: Sequence[Order]) -> list[Physical]:
        """Write a step of several results, each of one type and of an order of its own."""
        made = write(self.builder, node.name, step, *([-1] * len(order) for order in orders))
        self.nodes.setdefault(node.name, node)
        return [
            Physical(out, str(own), order) for out, own, order in zip(made, step.results.values(), orders, strict=True)
        ]

    def value(self, node: fx.Node) -> Physical:
        """The value of an operand; constants are placed in the program on first use."""
        if node not in self.values:
            assert node.op == "get_attr", f"{node.name} is used before it is emitted"
            self.values[node] = self._placed(node.name, attribute(self.root, str(node.target)).detach())
        return self.values[node]

    def _placed(self, name: str, tensor: Tensor) -> Physical:
        """A constant as a value; what is neither of integers nor of truth values, as float32."""
        dtype = INTEGER_KINDS.get(tensor.dtype, "f32")
        array = np.ascontiguousarray((tensor if dtype != "f32" else tensor.to(torch.float32)).numpy())
        array = array.reshape(tuple(tensor.shape))  # which numpy gives a dim where there is none
        return Physical(self.builder.constant_value(name, array), dtype, identity(array.ndim))

    def number(self, node: fx.Node, value: float, dtype: str) -> Physical:
        """A number as a value without dims."""
        return self._placed(node.name, torch.tensor(value, dtype=_TORCH_DTYPES[dtype]))

    def cast(self, node: fx.Node, value: Physical, dtype: str) -> Physical:
        """``value`` as ``dtype``."""
        if value.dtype == dtype:
            return value
        key = (value.id, dtype)
        if key not in self.casts:
            self.casts[key] = self.step(node, steps.cast(value.id), value.order, dtype).id
        return Physical(self.casts[key], dtype, value.order)

    def operand(self, node: fx.Node, given: Any, dtype: str) -> Physical:
        """The operand ``given``, a node, a value or a number, as ``dtype``."""
        if isinstance(given, fx.Node):
            given = self.value(given)
        return self.cast(node, given, dtype) if isinstance(given, Physical) else self.number(node, given, dtype)

    def aligned(self, node: fx.Node, *values: Physical) -> list[Physical]:
        """The values with the same rank and order: that of the first which is not in order."""
        rank = max(value.rank for value in values)
        values = tuple(self.with_rank(node, value, rank) for value in values)
        order = next((value.order for value in values if value.order != identity(rank)), identity(rank))
        return [self.in_order(node, value, order) for value in values]

    def constant(self, tensor: Tensor) -> int:
        """A step constant."""
        return self.builder.constant(np.ascontiguousarray(tensor.detach().numpy()))

    def table_of(self, node: fx.Node) -> int | None:
        """The table that is merged into ``node``, if there is one."""
        return self.constant(node.meta["table"]) if "table" in node.meta else None

    def tensor(self, node: fx.Node) -> Tensor:
        """The float32 parameter that a get_attr node names."""
        return attribute(self.root, str(node.target)).detach().to(torch.float32)

    def quantized_constant(self, node: fx.Node, source: fx.Node, qparams: QParams) -> Physical:
        """A parameter used as an activation, quantized once."""
        scale, zero, low, high = code_of(qparams)
        step, origin = torch.tensor(scale, dtype=torch.float32), torch.tensor(zero)
        code = arithmetic.quantize(self.tensor(source), step, origin, low, high).to(torch.uint8)
        array = np.ascontiguousarray(code.numpy())
        return Physical(self.builder.constant_value(node.name, array), "u8", identity(array.ndim))

    def lookup(self, node: fx.Node, value: Physical, table: Tensor) -> Physical:
        """A step that maps codes through ``table``, to codes or to float32."""
        dtype = "f32" if table.is_floating_point() else "u8"
        return self.step(node, steps.lookup(value.id, table=self.constant(table)), value.order, dtype)

    def within_range(self, node: fx.Node, value: Physical) -> Physical:
        """``value`` clamped to its qparams' range where that is less than all codes (``reduce_range``)."""
        _, _, low, high = code_of(node.meta["value_type"].qparams)
        if (low, high) == (0, 255):
            return value
        return self.lookup(node, value, torch.arange(256).clamp(low, high).to(torch.uint8))

    def in_order(self, node: fx.Node, value: Physical, order: Order) -> Physical:
        """``value`` with physical dims in ``order``."""
        if value.order == order:
            return value
        perm = tuple(value.order.index(d) for d in order)
        key = (value.id, perm)
        if key not in self.permuted:
            made = self.step(node, steps.permute(value.id, perm=list(perm)), order, value.dtype)
            self.permuted[key] = made.id
        return Physical(self.permuted[key], value.dtype, order)

    # ------------------------------------------------------------ shape expressions

    def expr(self, item: Any) -> int:
        """Expression id of an int or a dim node."""
        if isinstance(item, fx.Node):
            return self.dims[item]
        return self.builder.expr_const(int(item))

    def exprs(self, items: Sequence[Any]) -> list[int]:
        return [self.expr(i) for i in items]

    def dim(self, value: Physical, axis: int) -> int:
        """Expression id of the size of logical dim ``axis``."""
        return self.builder.expr_dim(value.id, value.order.index(axis % value.rank))

    def sizes(self, value: Physical) -> list[int]:
        """Expression ids of the sizes of all physical dims."""
        return [self.builder.expr_dim(value.id, i) for i in range(value.rank)]

    def product(self, sizes: Sequence[int]) -> int:
        """Expression id of a product, 1 of nothing."""
        return functools.reduce(lambda a, b: self.builder.expr("mul", a, b), sizes or [self.expr(1)])

    def reshape(self, node: fx.Node, value: Physical, shape: list[int], order: Order) -> Physical:
        """Reshape to expression ids ``shape`` (physical)."""
        return self.step(node, steps.reshape(value.id, shape=shape), order, value.dtype)

    def with_rank(self, node: fx.Node, value: Physical, rank: int) -> Physical:
        """``value`` with leading dims of length 1 up to ``rank``, as broadcasting adds them."""
        more = rank - value.rank
        if more <= 0:
            return value
        sizes = self.sizes(value)
        order = (*range(more), *(d + more for d in value.order))
        return self.reshape(node, value, [self.expr(1)] * more + sizes, order)

    def with_one(self, node: fx.Node, value: Physical, dim: int) -> Physical:
        """``value`` with a new logical dim of length 1, in memory where it keeps the others' order plainest."""
        moved = [d + (d >= dim) for d in value.order]
        place = moved.index(dim + 1) if dim + 1 in moved else len(moved)
        order: Order = (*moved[:place], dim, *moved[place:])
        dims = self.sizes(value)
        return self.reshape(node, value, [*dims[:place], self.expr(1), *dims[place:]], order)

    def without(self, node: fx.Node, value: Physical, gone: Collection[int], longer: Collection[int] = ()) -> Physical:
        """``value`` without its logical dims ``gone``, all of length 1; where one in ``longer`` is 1, no shape fits."""
        if not gone and not longer:
            return value
        left = [d for d in range(value.rank) if d not in gone]
        dims = {d: self.builder.expr_dim(value.id, i) for i, d in enumerate(value.order)}
        dims |= {d: self.builder.expr("add", dims[d], self._is_one(dims[d])) for d in longer}
        shape = [dims[d] for d in value.order if d not in gone]
        return self.reshape(node, value, shape, tuple(left.index(d) for d in value.order if d not in gone))

    def _is_one(self, extent: int) -> int:
        """An expression that is 1 where ``extent`` is, and 0 for 0 and from 2 on."""
        expr, after = self.builder.expr, self.builder.expr("add", extent, self.expr(1))
        halves, wholes = (expr("floordiv", self.expr(number), after) for number in (2, 1))
        return expr("sub", halves, expr("mul", self.expr(2), wholes))

    def to_rank(self, node: fx.Node, value: Physical, rank: int) -> Physical:
        """``value`` without leading dims of length 1 down to ``rank``: what :meth:`with_rank` added."""
        return self.without(node, value, range(max(value.rank - rank, 0)))

    def build(self, inputs: Sequence[fx.Node], outputs: Sequence[Physical]) -> Program:
        return self.builder.build([self.values[n].id for n in inputs], [v.id for v in outputs])


def identity(rank: int) -> Order:
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """Physical order of an image batch: ``N, spatial..., C``."""
    return (0, *range(2, rank), 1)


def code_of(qparams: QParams) -> tuple[float, int, int, int]:
    """Scale, zero point, lowest and highest value of ``qparams``' codes in a program (u8)."""
    if qparams.dtype is QDType.qint32:
        raise ConversionError(
            f"Activations need 8-bit qparams, got {qparams}.",
            remedy="Use a per-tensor quint8 or qint8 activation observer.",
        )
    shift, (scale, zero_point) = code_shift(qparams), qparams.per_tensor()
    return scale, zero_point + shift, qparams.qmin + shift, qparams.qmax + shift
