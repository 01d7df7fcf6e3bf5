"""THE op table: what a row is, how rows get in, and how graphs ask for them. The rows are in ``qfx/ops/*/rows.py``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, fx

from qfx.errors import UnsupportedError
from qfx.ir.types import QParams
from qfx.ops import lookup
from qfx.ops.dims import Length, Lengths
from qfx.ops.sample import Sample, Samples

__all__ = ["TABLE", "Op", "Sample", "is_op", "lookup_table", "lookup_values", "no_spread", "op_of", "register"]

QParamsKind = Literal["own", "share", "fixed", "float", "none"]
FloatStep = Literal["fn", "integer"]
Spread = Literal["expands", "contracts", "divides"]
Epilogue = Literal["clamp", "residual", "table"]
Sums = Literal["weights", "operands"]
Layout = Literal["image", "rows"]
Function: TypeAlias = Callable[..., Any]


def _no_samples() -> list[Sample]:
    return []


def same_shape(x: Lengths, *operands: object, **attributes: object) -> Lengths:
    """Of an op whose result is shaped as its first operand."""
    return x


def no_spread(*operands: object, **attributes: object) -> None:
    """Of an op that leaves proportions of its values as they are, or nearly."""


def always(spread: Spread) -> Callable[..., Spread]:
    """Of an op that does the same to every range."""
    return lambda *operands, **attributes: spread


def covered(**attributes: object) -> None:
    """Of an op whose every call has a step."""


def never(**attributes: object) -> bool:
    """Of an op that does something whatever its attributes are."""
    return False


@dataclass(frozen=True, eq=False)
class Op:
    """One row.

    Attributes:
        name: The op's name in dumps, reports and patterns.
        fn: The float reference and the target of ``call_function`` nodes: a module-level function.
        tensors: Its activation operands by parameter name, the residual among them.
        shape: The lengths of its result: called as ``fn`` is, with a tuple of lengths for each tensor. A length that
            the operands' do not determine is None, and so is the whole where they do not tell the rank. It raises a
            ValueError, or an IndexError, for operands whose rank does not fit. None: the result is no tensor.
        keeps_dtype: Whether integers stay integers. (They do where ``qparams`` are shared.)
        weights: Its operands quantized as weights.
        integers: Its operands that are integers, and nothing else.
        dtype: What its result is of, whatever its operands are.
        looks_up: Whether it looks rows of its weight up, and multiplies nothing with it.
        qparams: How the result quantizes. ``own``: by its own observer. ``share``: with its operands' parameters.
            ``fixed``: always with ``fixed``. ``float``: not at all. ``none``: the question does not arise (the
            result is an int, or the op exists only below the Normal level).
        fixed: The parameters of a ``fixed`` row.
        epilogues: What may be fused behind it.
        integer: The exact integer reference: ``integer(*args, out, **kwargs)`` with QArray for every quantized
            operand; integers in ``out``'s storage, or float32 when ``out`` is None.
        pointwise: For a function of one value, the same in numpy float64.
        family: The runtime step that runs it, or None.
        floats: Which reference the runtime equals on float32 operands: ``fn`` in float32, or ``integer``. None: it has
            no such step.
        uncovered: Why the runtime has no step for a call's attributes, or None. Such a call is computed in float.
        does_nothing: Whether a call with these attributes returns its operand, whatever that is.
        spread: What a call does to the range of its operand, from its arguments. ``expands``: large values gain on
            small ones, as in a square, until 8 bits hold only the large. ``contracts``: the inverse. ``divides``: it
            is the divisor of a product. None: neither.
        sums: Of what products its results are long sums, at which int8 is quick: with its ``weights``, as in a layer,
            or of its ``operands``.
        layout: How its program wants values in memory: an ``image`` as ``[N, *spatial, C]``; ``rows`` as they are
            written, the last dim last. None: as they come.
        of_truth: Which pairwise function of the runtime it is of two truth values; empty: none.
        computed: Attributes that may be computed from sizes. The runtime takes others as constants only.
        by_rows: Whether it can make integers of its float operands itself, row by row: where ``integers`` is true.
        matrices: Parameters that it multiplies such rows with: int8 with a scale a row or one for all, or float16
            where ``halves`` is true. None where a call has fewer.
        has_outliers: Whether in transformers a few channels of its result dwarf the others.
        any_rank: Whether a call means the same with and without a batch dim.
        reduces: Whether it reduces dims, to one where none is named.
        rounds: Whether results fall between the integers of the operand whose qparams it shares.
        keeps_range: Whether a result with parameters of its own stays about within the operand's range, so that the
            operand's parameters do where a call names none.
        by_lengths: Whether its program depends on lengths, not on ranks alone.
        splits_a_dim: Whether its program has a value with one dim more than its operand.
        follows_layout: Whether a result called for alone lies in memory as its operands do.
        functional: What takes the result's parameters in ``qfx.nn.quantized.functional``, for messages.
        kernels: The microkernels behind its step, for the docs: their folder, and their kinds in its ``kernels.inc``;
            several folders with commas.
            None: it copies memory, or is a loop that the compiler vectorizes for every machine.
        samples: Calls for the table's tests.
        bad_samples: Calls that must fail, each with its error.
    """

    name: str
    fn: Callable[..., Any]
    tensors: tuple[str, ...]
    qparams: QParamsKind
    weights: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    looks_up: bool = False
    dtype: torch.dtype | None = None
    shape: Callable[..., Sequence[Length | None] | None] | None = same_shape
    keeps_dtype: bool = False
    fixed: QParams | None = None
    epilogues: frozenset[Epilogue] = frozenset()
    integer: Callable[..., Tensor] | None = None
    pointwise: Callable[..., Any] | None = None
    family: str | None = None
    floats: FloatStep | None = None
    uncovered: Callable[..., str | None] = covered
    does_nothing: Callable[..., bool] = never
    spread: Callable[..., Spread | None] = no_spread
    sums: Sums | None = None
    layout: Layout | None = None
    of_truth: str = ""
    computed: tuple[str, ...] = ()
    by_rows: bool = False
    matrices: tuple[str, ...] = ()
    has_outliers: bool = False
    any_rank: bool = False
    reduces: bool = False
    rounds: bool = False
    keeps_range: bool = False
    by_lengths: bool = False
    splits_a_dim: bool = False
    follows_layout: bool = True
    functional: str = ""
    kernels: str = ""
    samples: Samples = _no_samples
    bad_samples: Samples = _no_samples

    @property
    def gives_tensor(self) -> bool:
        return self.shape is not None

    @property
    def is_view(self) -> bool:
        """Whether it gives its operand another shape, and nothing else."""
        return self.family == "reshape" and self.shape is not same_shape

    @property
    def on_codes(self) -> bool:
        """Whether it runs on integers; else it is computed in float between them."""
        return self.qparams in ("own", "share") or (self.qparams == "fixed" and self.pointwise is not None)


def with_samples(good: Mapping[str, Samples], bad: Mapping[str, Samples], *rows: Op) -> tuple[Op, ...]:
    """The rows of a family, each with the calls under its name."""
    return tuple(replace(row, samples=good[row.name], bad_samples=bad[row.name]) for row in rows)


TABLE: dict[str, Op] = {}
"""The rows by name. Add with :func:`register` only."""

_BY_TARGET: dict[Callable[..., Any], Op] = {}


def register(op: Op) -> Op:
    """Adds a row.

    Raises:
        UnsupportedError: The name or the function is taken, or the row contradicts itself.
    """
    problem = _problem(op)
    if problem:
        raise UnsupportedError(
            f"Op {op.name!r} can't be registered: {problem}.",
            remedy="Change the row so that it fits the table's rules.",
        )
    TABLE[op.name] = op
    _BY_TARGET[op.fn] = op
    return op


def _problem(op: Op) -> str | None:
    if op.name in TABLE:
        return "the name is taken"
    if op.fn in _BY_TARGET:
        return f"its function is that of {_BY_TARGET[op.fn].name!r}"
    if "<" in op.fn.__qualname__ or "." in op.fn.__qualname__:
        return f"{op.fn.__qualname__} is not a function at the top of a module, so graphs with it can't be pickled"
    if (op.qparams == "fixed") != (op.fixed is not None):
        return "fixed qparams go with the kind 'fixed', and only with it"
    if op.qparams in ("own", "share", "fixed") and op.integer is None and op.pointwise is None:
        return f"the kind {op.qparams!r} needs an integer reference or a pointwise function"
    return None


def op_of(target: object) -> Op | None:
    """The row of a ``call_function`` target, or None. A node is accepted too."""
    if isinstance(target, fx.Node):
        target = target.target if target.op == "call_function" else None
    return _BY_TARGET.get(target) if callable(target) else None


def op_at(node: fx.Node) -> Op:
    """The row of a node that calls a table op."""
    op = op_of(node)
    assert op is not None, f"{node.format_node()} calls no table op"
    return op


def is_op(node: object, *names: str) -> bool:
    """Whether ``node`` is an fx node that calls a table op: one of ``names``, or any when none is given."""
    op = op_of(node) if isinstance(node, fx.Node) else None
    return op is not None and (not names or op.name in names)


def lookup_table(op: Op, kwargs: Mapping[str, Any], x: QParams, y: QParams) -> Tensor:
    """The table of a pointwise op between two 8-bit tensors, uint8 ``[256]``, indexed by the code of ``x``.

    See :func:`qfx.ops.lookup.code_table` for codes, NaN and infinities.

    Raises:
        UnsupportedError: ``op`` is not pointwise.
        QuantizationError: ``x`` or ``y`` is per channel or not 8 bits wide.
    """
    return lookup.code_table(_function(op, kwargs), x, y)


def lookup_values(op: Op, kwargs: Mapping[str, Any], x: QParams) -> Tensor:
    """As :func:`lookup_table` with a float32 result that is not quantized; NaN and infinities stay."""
    return lookup.value_table(_function(op, kwargs), x)


def _function(op: Op, kwargs: Mapping[str, Any]) -> Callable[[Any], Any]:
    if op.pointwise is None:
        raise UnsupportedError(
            f"{op.name!r} is not a function of one value, so it has no table.",
            remedy="Ask for the tables of rows that have a pointwise function only.",
        )
    return functools.partial(op.pointwise, **kwargs)
