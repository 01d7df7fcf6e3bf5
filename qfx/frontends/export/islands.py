"""Modules that an export does not enter: each call of one is a single op of the exported graph.

``torch.export`` has no leaves. A module that is to stay whole is given a ``forward`` that calls the op
``qfx::island``, whose results have the shapes that the module had when it ran on the example inputs.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

_LIBRARY = torch.library.Library("qfx", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "island(str key, Tensor[] inputs, SymInt[] sizes) -> Tensor[]"
)
_ACTIVE: dict[str, Shaped] = {}
"""Calls of the exports that are under way, by key: an op has no other way to what it stands for."""


@dataclass(frozen=True)
class Shaped:
    """The results of one call when it ran: their shapes and dtypes, and the shapes for a batch larger by one."""

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    wider: tuple[tuple[int, ...], ...] | None


@torch.library.register_fake("qfx::island", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _results(key: str, inputs: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    shaped = _ACTIVE[key]
    wider = shaped.wider or shaped.shapes
    return [
        torch.empty([_extent(dim, *extents, inputs) for dim, extents in enumerate(zip(shape, wide, strict=True))],
                    dtype=dtype, device=inputs[0].device if inputs else None)
        for shape, wide, dtype in zip(shaped.shapes, wider, shaped.dtypes, strict=True)
    ]  # fmt: skip


def _extent(dim: int, extent: int, wider: int, inputs: Sequence[Tensor]) -> Any:
    """The length of a dim of a result: that of an input's dim that it seems to follow, else a constant."""
    places = [(x, dim) for x in inputs if dim < x.dim()] + [(x, d) for x in inputs for d in range(x.dim())]
    for x, place in places:
        length = x.shape[place]
        if isinstance(length, torch.SymInt) and length.node.hint == extent and (place == 0 or extent == wider):
            return length
    return extent


@dataclass(frozen=True)
class Slot:
    """The place of a tensor or a size among the arguments of a call."""

    kind: str
    index: int


@dataclass
class Call:
    """One call of an island."""

    path: str
    reason: str | None
    leaves: list[Any] = field(default_factory=list)
    in_spec: Any = None
    out_spec: Any = None

    def arguments(self, args: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the module, given those of the op."""
        given = {"tensor": args[1], "size": args[2]}
        flat = [given[leaf.kind][leaf.index] if isinstance(leaf, Slot) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(flat, self.in_spec)
        return tuple(args), kwargs

    def places(self) -> list[tuple[Any, ...]]:
        """For every result, the keys that lead to it in what the module returns."""
        marked = pytree.tree_unflatten(list(range(self.out_spec.num_leaves)), self.out_spec)
        return [keys for keys, _ in sorted(_leaves(marked), key=lambda found: found[1])]


def _leaves(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], int]]:
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, (tuple, list)) else ()
    )
    if isinstance(value, int):
        yield keys, value
    for key, item in items:
        yield from _leaves(item, (*keys, key))


class Islands:
    """The modules of ``root`` that stay whole.

    Args:
        root: The model; its modules' ``forward`` changes while :meth:`kept_whole` is active.
        reasons: Why each is kept, by path; None for one that is a leaf without being an obstacle.
    """

    def __init__(self, root: nn.Module, reasons: Mapping[str, str | None]) -> None:
        self.root, self.reasons = root, dict(reasons)
        self.calls: list[Call] = []
        self.shaped: list[Shaped] = []

    def is_call(self, node: fx.Node) -> bool:
        """Whether a node of the exported graph stands for a call of an island."""
        return node.target is torch.ops.qfx.island.default

    def called(self, node: fx.Node) -> Call:
        """The call that a node stands for."""
        return self.calls[int(str(node.args[0]).rpartition(":")[2])]

    @contextmanager
    def kept_whole(self, examples: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> Iterator[None]:
        """While active, the root can be exported.

        Args:
            examples: Inputs to run the model on first, and the same with a batch larger by one if it takes that.
        """
        modules = {path: self.root.get_submodule(path) for path in self.reasons}
        if modules:
            self._observe(modules, examples)
        counter = itertools.count()
        for path, module in modules.items():
            module.forward = partial(self._enter, path, counter)
        keys = [f"{id(self)}:{index}" for index in range(len(self.shaped))]
        _ACTIVE.update(zip(keys, self.shaped, strict=True))
        try:
            yield
        finally:
            for module in modules.values():
                del module.__dict__["forward"]
            for key in keys:
                del _ACTIVE[key]

    def _observe(
        self, modules: Mapping[str, nn.Module], examples: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]
    ) -> None:
        runs = [self._run(modules, *examples[0])]
        with contextlib.suppress(Exception):  # the model takes no other batch
            runs += [self._run(modules, *example) for example in examples[1:]]
        self.calls = [Call(path, self.reasons[path], out_spec=spec) for path, spec, _ in runs[0]]
        wider = runs[1] if len(runs) > 1 and len(runs[1]) == len(runs[0]) else [None] * len(runs[0])
        self.shaped = [
            Shaped(tuple(tuple(t.shape) for t in found[2]), tuple(t.dtype for t in found[2]), _shapes(wide))
            for found, wide in zip(runs[0], wider, strict=True)
        ]

    def _run(
        self, modules: Mapping[str, nn.Module], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[tuple[str, Any, list[Tensor]]]:
        found: list[tuple[str, Any, list[Tensor]]] = []

        def note(path: str, forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
            result = forward(*given, **named)
            leaves, spec = pytree.tree_flatten(result)
            found.append((path, spec, leaves))
            return result

        for path, module in modules.items():
            module.forward = partial(note, path, module.forward)
        try:
            with torch.no_grad():
                self.root(*args, **kwargs)
        finally:
            for module in modules.values():
                del module.__dict__["forward"]
        return found

    def _enter(self, path: str, counter: Iterator[int], *args: Any, **kwargs: Any) -> Any:
        index = next(counter) % len(self.calls)  # an export runs the model more than once
        call = self.calls[index]
        tensors: list[Tensor] = []
        sizes: list[Any] = []
        flat, call.in_spec = pytree.tree_flatten((args, kwargs))
        call.leaves = [self._slot(leaf, tensors, sizes) for leaf in flat]
        results = torch.ops.qfx.island(f"{id(self)}:{index}", tensors, sizes)
        return pytree.tree_unflatten(list(results), call.out_spec)

    def _slot(self, leaf: Any, tensors: list[Tensor], sizes: list[Any]) -> Any:
        if isinstance(leaf, Tensor):
            tensors.append(leaf)
            return Slot("tensor", len(tensors) - 1)
        if isinstance(leaf, torch.SymInt):
            sizes.append(leaf)
            return Slot("size", len(sizes) - 1)
        return leaf


def _shapes(run: Any) -> tuple[tuple[int, ...], ...] | None:
    return tuple(tuple(tensor.shape) for tensor in run[2]) if run is not None else None
