"""How a constant of a graph follows from the model's own tensors, so that training can compute it anew each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

DERIVATION = "derivation"
"""Metadata of a ``get_attr`` node: a :class:`Source` or :class:`Derived`."""

TRAINABLE = "trainable"
"""Key of a graph module's ``meta``: whether the graph will be trained, so that constants may still change."""


@dataclass(frozen=True)
class Source:
    """A tensor of the captured model.

    Attributes:
        path: Its dotted path there.
    """

    path: str


@dataclass(frozen=True)
class Derived:
    """A tensor computed from others.

    Attributes:
        compute: Differentiable function of the operands.
        operands: Derivations of tensors, and plain values.
        training: The same in training mode, where that does more.
    """

    compute: Callable[..., Any]
    operands: tuple[Any, ...]
    training: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Computed:
    """A tensor that a module of the model computes when it is called without arguments, such as a parametrization.

    Attributes:
        path: The module's dotted path.
    """

    path: str


Derivation = Source | Derived | Computed


@dataclass(frozen=True)
class Slot:
    """The place of an operand among the arguments of a :class:`Call`."""

    index: int


@dataclass(frozen=True)
class Call:
    """A call that the model makes on its own tensors, as a function of these.

    Attributes:
        target: The function, or the name of a tensor method.
        args: Arguments with a :class:`Slot` for each tensor.
        kwargs: The same.
    """

    target: Callable[..., Any] | str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __call__(self, *tensors: Tensor) -> Any:
        def filled(value: Any) -> Any:
            return fx.node.map_aggregate(value, lambda item: tensors[item.index] if isinstance(item, Slot) else item)

        args, kwargs = filled(self.args), filled(self.kwargs)
        if isinstance(self.target, str):
            return getattr(args[0], self.target)(*args[1:], **kwargs)
        return self.target(*args, **kwargs)


def derivation_of(operand: Any) -> Any:
    """The derivation of a ``get_attr`` node; anything but a node as it is."""
    return operand.meta[DERIVATION] if isinstance(operand, fx.Node) else operand


def sources(derivation: Any) -> Iterator[Source]:
    """The model's tensors that a derivation reads."""
    if isinstance(derivation, Source):
        yield derivation
    elif isinstance(derivation, Derived):
        for operand in derivation.operands:
            yield from sources(operand)


def modules(derivation: Any) -> Iterator[str]:
    """Paths of the modules that compute tensors that a derivation reads."""
    if isinstance(derivation, Computed):
        yield derivation.path
    elif isinstance(derivation, Derived):
        for operand in derivation.operands:
            yield from modules(operand)


def evaluate(derivation: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value of a derivation, given the model's tensors and those that its modules compute, by path; a plain value
    as it is.

    Tensors are detached, as for folding a constant.
    """
    if isinstance(derivation, (Source, Computed)):
        return tensors[derivation.path].detach()
    if not isinstance(derivation, Derived):
        return derivation
    with torch.no_grad():
        return derivation.compute(*(evaluate(operand, tensors) for operand in derivation.operands))


def is_trainable(node: fx.Node) -> bool:
    """Whether the graph of ``node`` will be trained."""
    root = node.graph.owning_module
    return root is not None and bool(getattr(root, "meta", {}).get(TRAINABLE, False))
