"""Finding where a training step first produced a value that is not finite."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qfx.errors import CalibrationError
from qfx.ir import facts
from qfx.ir.module import GraphCarrier

_REMEDY = "Lower the learning rate, clip the gradients, or resume from the last checkpoint."


def require_finite(model: GraphCarrier, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise if ``result``, what ``model`` returned on the CPU, holds NaN or infinity.

    Results on other devices are not read, since that would wait for them: see :func:`first_non_finite`.

    Raises:
        CalibrationError: Naming the first node whose value is not finite, with the user's source line.
    """
    if all(leaf.device.type != "cpu" or _is_finite(leaf) for leaf in pytree.tree_leaves(result) if _is_float(leaf)):
        return
    node = first_non_finite(model, *args, **kwargs)
    where = (facts.where(node)) if node is not None else None
    raise CalibrationError(
        f"The result holds NaN or infinity, first at {where}." if where else "The result holds NaN or infinity.",
        where=where,
        source=facts.source(node) if node is not None else None,
        why="The inputs, the parameters after the last step, or this operation's result are not finite.",
        remedy=_REMEDY,
    )


def diverged(error: CalibrationError) -> CalibrationError:
    """What an observer says of a value that is not finite, with what to do about it in training."""
    why = "The inputs, or the parameters after the last step, are not finite."
    return CalibrationError(error.what, where=error.where, source=error.source, why=why, remedy=_REMEDY)


def first_non_finite(model: GraphCarrier, *args: Any, **kwargs: Any) -> fx.Node | None:
    """The first node of ``model``, in order, whose value holds NaN or infinity for these inputs; None without one.

    A copy of the model runs, so that no statistics change.
    """
    finder = _Finder(deepcopy(model), graph=model.running_graph())
    with torch.no_grad():
        finder.run(*model.bind(args, kwargs))
    return finder.found


class _Finder(fx.Interpreter):
    """Runs a graph until a value computed from the inputs is not finite; statistics may have become so before."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.found: fx.Node | None = None
        self._computed: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        if self.found is not None and n.op != "output":
            return None
        try:
            value = super().run_node(n)
        except CalibrationError:
            self.found = n
            return None
        if n.op == "placeholder" or self._computed.intersection(n.all_input_nodes):
            self._computed.add(n)
            if any(not _is_finite(leaf) for leaf in pytree.tree_leaves(value) if _is_float(leaf)):
                self.found = n
        return value


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_finite(value: Tensor) -> bool:
    return value.numel() == 0 or bool(torch.stack(torch.aminmax(value.detach())).isfinite().all())
