"""Whether a trace depends on what the call before left behind: the model is traced once more, and both are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from qfx.frontends.dependence import LATER, at_fault
from qfx.frontends.mutation import changes_operand
from qfx.frontends.places import Place
from qfx.frontends.state import Snapshot, reachable, same

if TYPE_CHECKING:
    from qfx.frontends.tracer import Tracer

CARRIED = "carried"
"""Key of the ``meta`` of a placeholder that stands for a value of the trace before."""

CONSTANT = "_tensor_constant"
"""How a trace names the tensors of the code itself, which it keeps as attributes of the model."""


def state_of(tracer: Tracer, before: Snapshot, again: Callable[[], Tracer]) -> list[Place]:
    """What a call reads that the call before left: places that ``tracer`` changed and a second trace depends on.

    Registered tensors that changed count in any case.

    Args:
        tracer: Has traced the model, which is as the trace left it, and is left as a second trace leaves it.
        before: Made before the trace.
        again: Makes a tracer for the same model.
    """
    changes = [place for place in before.changes() if not place.attribute.startswith(CONSTANT)]
    registered = [place for place in changes if place.registered]
    if not changes or registered:
        return registered
    made = {id(proxy): proxy.node for proxy, _ in left_behind(tracer.model)}
    after = Snapshot(tracer.model)

    def read(where: Callable[[Place], bool], ahead: Callable[[Any, Any], Any] | None = None) -> list[Place]:
        before.restore()
        after.restore(where)
        if ahead is not None:
            before.count_on(ahead)
        return _read_again(tracer, before, again(), changes, made)

    def read_soon_or_late(where: Callable[[Place], bool]) -> list[Place]:
        return read(where) or next(filter(None, (read(where, ahead) for ahead in LATER)), [])

    found = read_soon_or_late(lambda place: True)
    return at_fault(found, lambda owner: bool(read_soon_or_late(lambda place: place.owner == owner))) if found else []


def _read_again(
    tracer: Tracer, before: Snapshot, second: Tracer, changes: list[Place], made: Mapping[int, fx.Node]
) -> list[Place]:
    """Those of ``changes`` that a trace by ``second`` reads, or all; ``made``: what they are, by id of the proxy."""
    second.carried, second.kept = left_behind(tracer.model), tracer.kept
    try:
        second.trace(tracer.model)
    except Exception:  # which the first trace did not raise
        return changes
    modules = dict(tracer.model.named_modules())
    ours, theirs = _live(tracer.graph, modules), _live(second.graph, modules)
    read = [node.meta[CARRIED] for node in theirs if CARRIED in node.meta]
    if read:
        origins = {place: made.get(id(proxy)) for proxy, place in second.carried}
        return [place for place in read if (origin := origins[place]) is None or not _is_of_sizes(origin)]
    changed = [r.value for r in before.records if isinstance(r.value, Tensor) and r.place in changes]
    held = [_attribute(tracer.model, node) for node in ours if node.op == "get_attr"]
    if any(value is tensor for value in held for tensor in changed):
        return changes
    return [] if _alike(ours, theirs, tracer.model) else changes


def _is_of_sizes(value: fx.Node) -> bool:
    """Whether ``value`` is computed from the sizes of the inputs alone, as tables of positions are."""
    pending, seen = [value], set[fx.Node]()
    while pending:
        node = pending.pop()
        if node in seen or _asks_for_size(node):
            continue
        seen.add(node)
        if node.op in ("placeholder", "call_module"):
            return False
        pending += node.all_input_nodes
    return True


def _asks_for_size(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel", "nelement", "ndimension")
    return node.op == "call_function" and node.target is getattr and node.args[1] in _ABOUT


_ABOUT = ("shape", "ndim", "dtype", "device")
"""What can be asked about a tensor besides its elements."""


def left_behind(model: nn.Module) -> list[tuple[fx.Proxy, Place]]:
    """The traced values that are in reach of ``model``'s code."""
    found: dict[int, tuple[fx.Proxy, Place]] = {}
    for record in reachable(model):
        for value, place in record.kind.parts(record.contents, record.place):
            if isinstance(value, fx.Proxy):
                found.setdefault(id(value), (value, place))
    return list(found.values())


def _live(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> list[fx.Node]:
    """The nodes that the result depends on, and those that change something in place, in order."""
    live: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or node in live or changes_operand(node, modules):
            live |= {node, *node.all_input_nodes}
    return [node for node in graph.nodes if node in live]


def _alike(ours: Iterable[fx.Node], theirs: Iterable[fx.Node], model: nn.Module) -> bool:
    """Whether two lists of nodes compute the same from the same constants."""
    first, second = list(ours), list(theirs)
    number = {node: index for nodes in (first, second) for index, node in enumerate(nodes)}
    return len(first) == len(second) and all(_equal(a, b, number, model) for a, b in zip(first, second, strict=True))


def _equal(a: fx.Node, b: fx.Node, number: Mapping[fx.Node, int], model: nn.Module) -> bool:
    if a.op != b.op:
        return False
    if a.op == "get_attr":
        return same(_attribute(model, a), _attribute(model, b))
    return a.target == b.target and same(_numbered(a, number), _numbered(b, number))


def _numbered(node: fx.Node, number: Mapping[fx.Node, int]) -> Any:
    return fx.node.map_arg((tuple(node.args), dict(node.kwargs)), lambda operand: f"%{number[operand]}")


def _attribute(model: nn.Module, node: fx.Node) -> Any:
    return reduce(getattr, str(node.target).split("."), model)
