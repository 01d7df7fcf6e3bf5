"""Modules that an export does not enter: each call of one is a single op of the exported graph.

``torch.export`` has no leaves. A module that is to stay whole is given a ``forward`` that calls the op
``qfx::island``, whose results have the shapes that the module had when it ran on the example inputs.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qfx.errors import InputError
from qfx.frontends.leaves import without_hooks

_LIBRARY = torch.library.Library("qfx", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "island(str key, Tensor[] inputs, SymInt[] sizes) -> Tensor[]"
)
_ACTIVE: dict[str, Shaped] = {}
"""Calls of the exports that are under way, by key: an op has no other way to what it stands for."""


@dataclass
class Shaped:
    """The results of one call when it ran: their shapes and dtypes, and the shapes for a batch larger by one.

    ``taken`` is what the export took them for.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    wider: tuple[tuple[int, ...], ...] | None
    taken: tuple[tuple[int | tuple[int, int], ...], ...] = ()


@torch.library.register_fake("qfx::island", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _results(key: str, inputs: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    shaped = _ACTIVE[key]
    wider = shaped.wider or shaped.shapes
    shaped.taken = tuple(
        tuple(_taken(dim, *extents, inputs) for dim, extents in enumerate(zip(shape, wide, strict=True)))
        for shape, wide in zip(shaped.shapes, wider, strict=True)
    )
    device = inputs[0].device if inputs else None
    return [torch.empty([_length(size, inputs) for size in taken], dtype=dtype, device=device)
            for taken, dtype in zip(shaped.taken, shaped.dtypes, strict=True)]  # fmt: skip


Taken = int | tuple[int, int]
"""What the export takes the length of a dim for: a constant, or that of an operand's dim, by their numbers."""


def _length(taken: Taken, operands: Sequence[Tensor]) -> Any:
    return taken if isinstance(taken, int) else operands[taken[0]].shape[taken[1]]


@dataclass(frozen=True)
class SizesTaken:
    """A forward hook of an island: the shapes that the graph around it takes its results to have.

    Attributes:
        taken: For each of them.
    """

    taken: tuple[tuple[Taken, ...], ...]

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        operands = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor, taken in zip(pytree.tree_leaves(result), self.taken, strict=True):
            wanted = tuple(_length(size, operands) for size in taken)
            if tuple(tensor.shape) != wanted:
                raise InputError(
                    f"{type(module).__name__} has a result of shape {tuple(tensor.shape)}, where the graph takes "
                    f"{wanted}.",
                    why="torch.export took it for so, from the shapes that there were with the example inputs.",
                    remedy="Pass inputs of the examples' sizes, or quantize again with example inputs of yours.",
                )


def _taken(dim: int, extent: int, wider: int, inputs: Sequence[Tensor]) -> Taken:
    """The length of a dim of a result: that of an input's dim that it seems to follow, else a constant."""
    if any(dim < x.dim() and type(x.shape[dim]) is int and x.shape[dim] == extent for x in inputs):
        return extent
    places = [(i, dim) for i, x in enumerate(inputs) if dim < x.dim()]
    for index, place in [*places, *((i, d) for i, x in enumerate(inputs) for d in range(x.dim()))]:
        length = inputs[index].shape[place]
        if isinstance(length, torch.SymInt) and length.node.hint == extent and (wider == extent) == (place != 0):
            return index, place
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
            with without_hooks(modules.values()):  # they run where the island does
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

        def note(path: str, module: nn.Module, given: Any, result: Any) -> None:
            leaves, spec = pytree.tree_flatten(result)
            found.append((path, spec, leaves))

        handles = [module.register_forward_hook(partial(note, path)) for path, module in modules.items()]
        try:
            with torch.no_grad():
                self.root(*args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
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


def hold_sizes(islands: Islands) -> bool:
    """Makes every island check the shapes of its results for what the graph takes them to be.

    Returns:
        Whether that was possible: not where that differs for two calls of one island.
    """
    found: dict[str, set[tuple[tuple[Taken, ...], ...]]] = {}
    for call, shaped in zip(islands.calls, islands.shaped, strict=True):
        found.setdefault(call.path, set()).add(shaped.taken)
    if any(len(sizes) > 1 for sizes in found.values()):
        return False
    for path, (sizes,) in found.items():
        islands.root.get_submodule(path).register_forward_hook(SizesTaken(sizes), with_kwargs=True)
    return True


def _shapes(run: Any) -> tuple[tuple[int, ...], ...] | None:
    return tuple(tuple(tensor.shape) for tensor in run[2]) if run is not None else None
