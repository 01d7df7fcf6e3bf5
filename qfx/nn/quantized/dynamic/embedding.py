"""Embeddings with weights in fewer bits: the rows that are looked up become float32."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qfx.arguments import checked
from qfx.errors import ConversionError, InputError
from qfx.ir.types import INTEGER_KINDS, QArray, QDType
from qfx.lowering import stored
from qfx.nn.quantized.dynamic.formats import format_of
from qfx.nn.quantized.dynamic.seen import Sizes, as_it_is
from qfx.nn.quantized.dynamic.served import ServedWeight
from qfx.nn.quantized.dynamic.weights import SCALE, ZERO_POINT, DynamicModule, require_class
from qfx.runtime import Executable, ProgramBuilder
from qfx.runtime.writing import Step, write

_FITTING = (
    "Pass what the float layer takes: indices [bags, indices], or [indices] with offsets; and for mode='sum' as many "
    "float32 per_sample_weights."
)
Made = TypeVar("Made", bound="Table")


class Table(DynamicModule):
    """Base of the layers that look rows of a weight up. Weights are zero until they are loaded.

    State: ``weight`` int8 ``[rows, features]``, ``weight_scale`` float32 and ``weight_zero_point`` int64 (0-d or
    ``[rows]``), or ``weight`` float16 or bfloat16 alone; by groups as :class:`DynamicModule` says.
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None
    multiplies, weights_alone = False, True

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The quantized version of a float layer, weights as its qconfig says (without one: int8, a scale a row).

        Raises:
            ConversionError: ``mod`` is of another class, shortens its rows (``max_norm``), or can't be quantized as
                its qconfig asks.
        """
        require_class(cls, mod, (getattr(nn, cls.__name__),))
        layer: Any = mod
        if layer.max_norm is not None:
            raise ConversionError(
                f"This {cls.__name__} has max_norm={layer.max_norm}.",
                why="It changes its weight at every call.",
                remedy="Keep it float: give it the qconfig None.",
            )
        made = cls(**format_of(mod), **{name: getattr(layer, name) for name in cls._settings()})
        made.take(mod, {"weight": "weight"})
        return made.train(mod.training)

    @classmethod
    def _settings(cls) -> tuple[str, ...]:
        return ("num_embeddings", "embedding_dim", "padding_idx")

    @property
    def weight(self) -> ServedWeight:
        """The weight as a float layer has it: float32 values; called, the tensor that is stored."""
        shape = (self.num_embeddings, self.embedding_dim)
        return ServedWeight(shape, lambda: self._tensor("weight"), lambda: self._rows(torch.arange(shape[0])))

    def _declare(self, rows: int, features: int, padding_idx: int | None, symmetric: bool) -> None:
        self.num_embeddings, self.embedding_dim = rows, features
        self.padding_idx = None if padding_idx is None else padding_idx % rows
        self.declare({"weight": (rows, features)}, None, symmetric=symmetric)

    def _rows(self, indices: Tensor) -> Tensor:
        """The rows of ``indices``, float32 ``[*indices.shape, features]``."""
        self._require_integers(indices)
        return self.seen((), self._looked_up, self._shapes, indices)[0]

    def _shapes(self, indices: Tensor) -> list[Sizes]:
        return [(*indices.shape, self.embedding_dim)]

    def _looked_up(self, indices: Tensor) -> list[Tensor]:
        self._require_rows(indices)
        (rows,) = self.program(indices.dtype, partial(self._build, indices.dtype)).run(indices.reshape(-1))
        return [rows.view(*indices.shape, self.embedding_dim)]

    def _build(self, dtype: torch.dtype) -> Executable:
        b = ProgramBuilder()
        indices = b.value("indices", INTEGER_KINDS[dtype], [-1])
        return self._written(b, [indices], stored.embedding_step(indices, self._table(b)))

    def _written(self, builder: ProgramBuilder, inputs: list[int], step: Step) -> Executable:
        return Executable(builder.build(inputs, write(builder, step.op, step, [-1, self.embedding_dim])))

    def _table(self, builder: ProgramBuilder) -> stored.Table:
        if not self.quantizes:
            return stored.table_of(builder, self.stored("weight", (self.num_embeddings, self.embedding_dim)))
        scale, zero_point = (self._tensor("weight" + end) for end in (SCALE, ZERO_POINT))
        return stored.table_of(builder, QArray(self._tensor("weight"), scale, zero_point, 0 if scale.dim() else None))

    def _require_integers(self, indices: object, what: str = "") -> None:
        if not isinstance(indices, Tensor) or indices.dtype not in (torch.int32, torch.int64):
            given = str(indices.dtype) if isinstance(indices, Tensor) else type(indices).__name__
            raise InputError(
                f"{type(self).__name__} got {given}{what}.", remedy="Pass an int64 or int32 tensor of indices."
            )

    def _require_rows(self, indices: Tensor) -> None:
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self.num_embeddings:
            raise InputError(
                f"{type(self).__name__} got an index that it has no row for.",
                remedy=f"Pass indices from 0 to {self.num_embeddings - 1}.",
            )


class Embedding(Table):
    """Rows of a weight as ``torch.nn.Embedding`` looks them up, float32: ``(q - zero_point) * scale`` of each row.

    Args:
        num_embeddings: Rows of the weight.
        embedding_dim: Features of a row.
        padding_idx: A row that the float layer did not train.
        dtype: Of the weights: ``qfx.qint8``, ``torch.float16`` or ``torch.bfloat16``.
        bits: 8 or 4: weights are integers by groups.
        group_size: Neighbours in a row that share a scale; None: the whole row.
        symmetric: Groups have no zero points.

    Raises:
        UnsupportedError: Another dtype, or features that are no whole groups.
    """

    @checked
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: Any = QDType.qint8,
        bits: int | None = None,
        group_size: int | None = None,
        symmetric: bool = True,
    ) -> None:
        super().__init__(dtype, bits, group_size)
        self._declare(num_embeddings, embedding_dim, padding_idx, symmetric)

    @as_it_is
    def forward(self, input: Tensor) -> Tensor:
        """Float32 ``[*input.shape, embedding_dim]``.

        Raises:
            InputError: ``input`` holds no indices, or one out of range.
        """
        return self._rows(input)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}, {self.form()}"


class EmbeddingBag(Table):
    """Sums, means or maxima of rows of a weight, as ``torch.nn.EmbeddingBag``.

    Args:
        num_embeddings: Rows of the weight.
        embedding_dim: Features of a row.
        mode: ``"sum"``, ``"mean"`` or ``"max"``.
        include_last_offset: Whether offsets end with the number of indices.
        padding_idx: A row that no bag counts.
        dtype: Of the weights: ``qfx.qint8``, ``torch.float16`` or ``torch.bfloat16``.
        bits: 8 or 4: weights are integers by groups.
        group_size: Neighbours in a row that share a scale; None: the whole row.
        symmetric: Groups have no zero points.

    Raises:
        UnsupportedError: Another dtype, or features that are no whole groups.
    """

    @checked
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: str = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        dtype: Any = QDType.qint8,
        bits: int | None = None,
        group_size: int | None = None,
        symmetric: bool = True,
    ) -> None:
        super().__init__(dtype, bits, group_size)
        self._declare(num_embeddings, embedding_dim, padding_idx, symmetric)
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def _settings(cls) -> tuple[str, ...]:
        return (*super()._settings(), "mode", "include_last_offset")

    @as_it_is
    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Float32 ``[bags, embedding_dim]``.

        Args:
            input: Indices, ``[bags, indices]`` or, with ``offsets``, ``[indices]``.
            offsets: Where each bag begins.
            per_sample_weights: A factor an index, for ``mode="sum"``.

        Raises:
            InputError: Indices out of range, or arguments that do not fit together.
        """
        self._require_integers(input)
        if offsets is not None:
            self._require_integers(offsets, " as offsets")
            offsets = offsets.long()
        self._require_fitting(input, offsets, per_sample_weights)
        kinds = (offsets is not None, per_sample_weights is not None)
        given = (x for x in (offsets, per_sample_weights) if x is not None)
        return self.seen(kinds, partial(self._bags, kinds), partial(self._bag_shapes, kinds), input, *given)[0]

    def _bag_shapes(self, kinds: tuple[bool, bool], input: Tensor, *given: Tensor) -> list[Sizes]:
        bags = given[0].shape[0] - self.include_last_offset if kinds[0] else input.shape[0]
        return [(bags, self.embedding_dim)]

    def _bags(self, kinds: tuple[bool, bool], input: Tensor, *given: Tensor) -> list[Tensor]:
        self._require_rows(input)
        key = (*kinds, input.dtype)
        return list(self.program(key, partial(self._build_bags, *key)).run(input, *given))

    def _build_bags(self, has_offsets: bool, has_factors: bool, dtype: torch.dtype) -> Executable:
        b = ProgramBuilder()
        rank = 1 if has_offsets else 2
        indices = b.value("input", INTEGER_KINDS[dtype], [-1] * rank)
        offsets = b.value("offsets", "s64", [-1]) if has_offsets else None
        factors = b.value("per_sample_weights", "f32", [-1] * rank) if has_factors else None
        step = stored.bag_step(
            indices, offsets, factors, self._table(b), mode=self.mode, padding=self.padding_idx,
            include_last=self.include_last_offset,
        )  # fmt: skip
        return self._written(b, [i for i in (indices, offsets, factors) if i is not None], step)

    def _require_fitting(self, input: Tensor, offsets: Tensor | None, factors: Tensor | None) -> None:
        problem = None
        if input.dim() != (2 if offsets is None else 1) or (offsets is not None and offsets.dim() != 1):
            problem = f"indices of shape {tuple(input.shape)}, and {'no' if offsets is None else 'with'} offsets"
        elif offsets is not None and self.include_last_offset and len(offsets) == 0:
            problem = "offsets without a last one"
        elif factors is not None and (self.mode != "sum" or factors.shape != input.shape):
            problem = f"per_sample_weights of shape {tuple(factors.shape)} for mode={self.mode!r}"
        elif factors is not None and factors.dtype is not torch.float32:
            problem = f"per_sample_weights of {factors.dtype}"
        if problem is not None:
            raise InputError(f"EmbeddingBag does not run on what it is given: {problem}.", remedy=_FITTING)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}, {self.form()}"
