"""Embeddings with weights in fewer bits: the rows that are looked up become float32."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qfx.arguments import checked
from qfx.errors import ConversionError, InputError
from qfx.ir.types import INTEGER_KINDS, QDType
from qfx.lowering.stored import embedding_step
from qfx.nn.quantized.dynamic.formats import format_of
from qfx.nn.quantized.dynamic.seen import Sizes, as_it_is
from qfx.nn.quantized.dynamic.served import ServedWeight
from qfx.nn.quantized.dynamic.weights import SCALE, ZERO_POINT, DynamicModule, require_class
from qfx.runtime import Executable, ProgramBuilder
from qfx.runtime.writing import write

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
        if not isinstance(indices, Tensor) or indices.dtype not in (torch.int32, torch.int64):
            given = str(indices.dtype) if isinstance(indices, Tensor) else type(indices).__name__
            raise InputError(f"{type(self).__name__} got {given}.", remedy="Pass an int64 or int32 tensor of indices.")
        return self.seen((), self._looked_up, self._shapes, indices)[0]

    def _shapes(self, indices: Tensor) -> list[Sizes]:
        return [(*indices.shape, self.embedding_dim)]

    def _looked_up(self, indices: Tensor) -> list[Tensor]:
        if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < self.num_embeddings:
            raise InputError(
                f"{type(self).__name__} got an index that it has no row for.",
                remedy=f"Pass indices from 0 to {self.num_embeddings - 1}.",
            )
        if self.bits is not None:
            (rows,) = self.program(indices.dtype, partial(self._build, indices.dtype)).run(indices.reshape(-1))
            return [rows.view(*indices.shape, self.embedding_dim)]
        stored = F.embedding(indices, self._tensor("weight")).to(torch.float32)
        if not self.quantizes:
            return [stored]
        scale, zero_point = (self._tensor("weight" + end) for end in (SCALE, ZERO_POINT))
        if scale.dim():
            scale, zero_point = (t[indices].unsqueeze(-1) for t in (scale, zero_point))
        return [stored.sub_(zero_point).mul_(scale)]

    def _build(self, dtype: torch.dtype) -> Executable:
        b = ProgramBuilder()
        indices = b.value("indices", INTEGER_KINDS[dtype], [-1])
        weight = self.stored("weight", (self.num_embeddings, self.embedding_dim))
        step = embedding_step(b, indices, weight)
        return Executable(b.build([indices], write(b, "embedding", step, [-1, self.embedding_dim])))


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
        rows = self._rows(input)
        # Each index has a row of its own in ``rows``; those of padding share one that no bag counts.
        own, padding = torch.arange(input.numel()).reshape(input.shape), None
        if self.padding_idx is not None:
            padding = input.numel()
            own = own.masked_fill(input == self.padding_idx, padding)
        table = torch.cat([rows.reshape(-1, self.embedding_dim), rows.new_zeros(1, self.embedding_dim)])
        try:
            return F.embedding_bag(
                own.to(input.dtype), table, offsets, mode=self.mode, include_last_offset=self.include_last_offset,
                per_sample_weights=per_sample_weights, padding_idx=padding,
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"EmbeddingBag does not run on what it is given: {str(error).splitlines()[0]}",
                remedy="Pass what the float layer takes: indices [bags, indices], or [indices] with offsets.",
            ) from error

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}, {self.form()}"
