"""The tensors that programs were made from, and whether they are still what they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any

from torch import Tensor, fx, nn

from qfx.errors import UnsupportedError
from qfx.memory import is_plain, is_watched, kind_of

_version = Tensor._version.__get__  # type: ignore[attr-defined]


class Sources:
    """Every tensor that a graph reads by path, as it was when this was made.

    Args:
        root: Where the paths lead from.
        graph: A QDQ graph.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        self._paths = list(dict.fromkeys(str(node.target) for node in graph.find_nodes(op="get_attr")))
        places = [_place(root, path) for path in self._paths]
        self._places, self._names = [holder for holder, _ in places], [name for _, name in places]
        self._tensors = self._now()
        self._counting = [t for t in self._tensors if isinstance(t, Tensor) and not t.is_inference()]
        self._versions = list(map(_version, self._counting))

    def are_as_they_were(self) -> bool:
        """Whether nobody replaced one of the tensors or changed it in place, as far as torch counts changes.

        Stand-ins for them, which tracers put in their place, count as them.

        Raises:
            UnsupportedError: torch.func transforms one of them.
        """
        return self.are_unchanged() or (self._are_as_counted() and self.are_stood_in_for())

    def are_unchanged(self) -> bool:
        """Whether each is the one that it was, with no change that torch counted."""
        return all(map(is_, self._now(), self._tensors)) and self._are_as_counted()

    def _are_as_counted(self) -> bool:
        return list(map(_version, self._counting)) == self._versions

    def are_stood_in_for(self) -> bool:
        """Whether a tracer put something in the place of one of them, and nobody else did.

        Raises:
            UnsupportedError: torch.func transforms one of them.
        """
        both = zip(self._paths, self._now(), self._tensors, strict=True)
        changed = [(path, now) for path, now, before in both if now is not before]
        return bool(changed) and all(isinstance(now, Tensor) and _stands_in(path, now) for path, now in changed)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While active, the tensors themselves are where stand-ins are now.

        Raises:
            UnsupportedError: The tensors were stood in for when this was made.
        """
        if not all(isinstance(t, Tensor) and is_plain(t) for t in self._tensors):
            raise UnsupportedError(
                "A quantized model has no programs yet, and its tensors are those of a tracer.",
                why="Programs are made from the values of a model's tensors.",
                remedy="Call the model once before it is recorded.",
            )
        now = self._now()
        self._put(self._tensors)
        try:
            yield
        finally:
            self._put(now)

    def _put(self, tensors: list[Any]) -> None:
        for holder, name, tensor in zip(self._places, self._names, tensors, strict=True):
            holder[name] = tensor

    def _now(self) -> list[Any]:
        return list(map(dict.get, self._places, self._names))


def _place(root: nn.Module, path: str) -> tuple[dict[str, Any], str]:
    """The dictionary that holds the tensor at ``path``, and its key there."""
    parent, _, name = path.rpartition(".")
    try:
        owner = root.get_submodule(parent)
    except AttributeError:  # of a graph in a file, which is checked when it is read
        return {}, name
    found = (d for d in (owner._buffers, owner._parameters, vars(owner)) if name in d)
    return next(found, vars(owner)), name


def _stands_in(path: str, tensor: Tensor) -> bool:
    """Whether ``tensor`` is what a tracer works with in the place of the one at ``path``."""
    if is_plain(tensor) or not is_watched():
        return False
    if kind_of(tensor).startswith(("a batch of torch.vmap", "a tensor of torch.func")):
        raise UnsupportedError(
            f"{path!r} of a quantized model is {kind_of(tensor)}.",
            why="Programs are made from the values of a model's tensors.",
            remedy="Transform the model's inputs only, or the float model.",
        )
    return True
