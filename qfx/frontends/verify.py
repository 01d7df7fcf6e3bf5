"""Whether a captured graph computes what its model does: both are run on the example inputs.

A trace runs the code once, on values that are no tensors. Code that asks whether they are, that draws numbers with
Python's or numpy's generators, or that a frontend reads otherwise than Python does, shows here and nowhere else.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qfx.batches import Signature
from qfx.errors import CaptureError
from qfx.frontends.defaults import Example, by_name
from qfx.frontends.randomness import OTHERS, other_generators
from qfx.frontends.state import Snapshot
from qfx.ir.nodes import default_of

_CLOSE = 1e-2
"""Of the greatest value. Orders of summation differ by less, other branches of the code by more."""

_SAME = 1e-6
"""Of the greatest value. The same code on the same values differs by less, other random numbers by more."""

_SEED = 20_011
"""One that no code is likely to use."""
_DRAW = (
    "Draw random numbers with torch.randn, torch.rand or another function of torch, or pass them to the model. Or move "
    "the code to a submodule, and name that in qconfig_dict['non_traceable_module_name']."
)

_ASKS = (
    'Write code that asks what its values are otherwise, try another frontend ("symbolic", "export", "torchscript"), '
    "or move it to a submodule, and name that in qconfig_dict['non_traceable_module_name']."
)


def require_same_results(model: nn.Module, captured: fx.GraphModule, example: Example) -> None:
    """Raise unless ``captured`` has the results of ``model`` in eval mode.

    Args:
        model: It is not changed; what it computes in another precision than float32 it computes in float32 here.
        captured: The result of a frontend; where the model does not run, nothing is said.
        example: Positional and keyword inputs.

    Raises:
        CaptureError: They differ, or the graph does not run.
    """
    _have_same_results(model, captured, example)


def agree(model: nn.Module, captured: fx.GraphModule, example: Example) -> bool:
    """Whether model and graph run on ``example`` and have the same results; as :func:`require_same_results`."""
    try:
        return _have_same_results(model, captured, example)
    except CaptureError:
        return False


def _have_same_results(model: nn.Module, captured: fx.GraphModule, example: Example) -> bool:
    """False where the model, or its graph without an input, does not run, so that nothing can be said."""
    before = Snapshot(model)
    try:
        return _compared(model, captured, example)
    finally:
        before.restore()  # of what copies share


def _compared(model: nn.Module, captured: fx.GraphModule, example: Example) -> bool:
    named, name = by_name(Signature.of_model(model).names, example), type(model).__name__
    with _seeds_put_back():  # each draws the same random numbers
        seeded = _seed()
        wanted, left = _of_model(model, example), other_generators()
        _seed()
        found, left_by_graph = _of_graph(captured, named, model), other_generators()
        if wanted is None or found is None:
            return False
        if isinstance(found, Exception):
            raise CaptureError(
                f"{name} is captured as something that does not run on the example inputs, which the model does.",
                why=f"{type(found).__name__}: {str(found).partition(chr(10))[0]}",
                remedy=_ASKS,
            )
        if left != seeded == left_by_graph:
            raise CaptureError(
                f"{name} draws random numbers of another generator than torch's.",
                why=f"It draws {OTHERS}.",
                remedy=_DRAW,
            )
        if _alike(wanted, found, _SAME):  # numbers that a call draws anew are not those of the graph
            return True
        _seed()
        again = _of_model(model, example)
    if again is None or not _alike(wanted, again, _SAME):
        if any("island_reason" in node.meta for node in captured.graph.nodes):
            return True  # that is what it is kept whole for
        raise CaptureError(
            f"{name} has other results at every call.",
            why="It keeps something from call to call, or draws numbers with another generator than torch's; a graph "
            "would hold those of one call.",
            remedy=_DRAW,
        )
    if not _alike(wanted, found, _CLOSE):
        raise CaptureError(
            f"{name} is captured as something else than it computes: the results on the example inputs differ.",
            why="Some of its code asks what its values are (type(x), hasattr(x, name), torch.is_tensor(x)), which are "
            "no tensors while a model is captured; or it sets or holds a random generator of its own.",
            remedy=_ASKS,
        )
    return True


@contextlib.contextmanager
def _seeds_put_back() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _seed() -> Any:
    """Seed all generators; the states of those that are not torch's."""
    torch.default_generator.manual_seed(_SEED)
    random.seed(_SEED)
    np.random.seed(_SEED)
    return other_generators()


def _of_model(model: nn.Module, example: Example) -> list[Tensor] | None:
    try:
        twin = copy.deepcopy(model).float().eval()
        args, kwargs = _copies(example)
        with torch.no_grad():
            return list(_tensors(twin(*args, **kwargs)))
    except Exception:
        return None


def _of_graph(captured: fx.GraphModule, named: Mapping[str, Any], model: nn.Module) -> list[Tensor] | Exception | None:
    """The results, or why it does not run; None if only its copy in float32 does."""
    placeholders = captured.graph.find_nodes(op="placeholder")
    try:
        given = [named[str(n.target)] if str(n.target) in named else default_of(n) for n in placeholders]
    except (KeyError, IndexError):  # an input that the example leaves out
        return None
    try:
        with torch.no_grad():
            return list(_tensors(_Runner(captured, model).run(*_copies(given))))
    except Exception:
        return _why_not(captured, _copies(given))


def _why_not(captured: fx.GraphModule, inputs: list[Any]) -> Exception | None:
    try:
        runner = fx.Interpreter(copy.deepcopy(captured).float())
        runner.extra_traceback = False
        with torch.no_grad():
            runner.run(*pytree.tree_map_only(Tensor, lambda x: x.float() if x.is_floating_point() else x, inputs))
    except Exception as error:
        return error
    return None


class _Runner(fx.Interpreter):
    """Runs a graph, and leaves the modules that it calls as they are; those kept whole are as ``model`` has them."""

    def __init__(self, captured: fx.GraphModule, model: nn.Module) -> None:
        super().__init__(captured)
        self.extra_traceback = False
        has_islands = any("island_reason" in node.meta for node in captured.graph.nodes)
        self._model = copy.deepcopy(model).float().eval() if has_islands else model
        self._whole = False

    def run_node(self, n: fx.Node) -> Any:
        self._whole = "island_reason" in n.meta
        return super().run_node(n)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._whole:
            return copy.deepcopy(self.fetch_attr(target)).forward(*args, **kwargs)
        own, others = self.fetch_attr(target), dict(self._model.named_modules(remove_duplicate=False))
        kept: Any = others.get(target)
        return (kept if type(kept) is type(own) else copy.deepcopy(own))(*args, **kwargs)


def _copies(values: Any) -> Any:
    return pytree.tree_map_only(Tensor, torch.clone, values)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))


def _alike(first: list[Tensor], second: list[Tensor], close: float) -> bool:
    return len(first) == len(second) and all(_is_alike(*pair, close) for pair in zip(first, second, strict=True))


def _is_alike(first: Tensor, second: Tensor, close: float) -> bool:
    if first.shape != second.shape or first.is_floating_point() != second.is_floating_point():
        return False
    if first.is_sparse or second.is_sparse or first.is_nested or first.numel() == 0 or first.is_complex():
        return True
    if not first.is_floating_point():
        return bool((first != second).double().mean() <= close)
    a, b = first.double(), second.double()
    finite = a.isfinite() & b.isfinite()
    if not torch.equal(a.isfinite(), b.isfinite()):
        return False
    a, b = a[finite], b[finite]
    return a.numel() == 0 or bool((a - b).abs().max() <= close * a.abs().max() + torch.finfo(torch.float32).eps)
