"""Where rounding to 8 bits would gain nothing, or ruin a value: which cheap operations compute in float32. Pure.

Two rules over a Normal graph. A value is worth rounding only if some int8 operation reads it: what lies between the
last layer and an output, or a float operation, is rounded for nobody. And what lies between an operation that spreads
a range (a square, an exponential) and its inverse, a division or the next layer, or between a layer and a root, keeps
the small values that 8 bits would drop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from torch import fx

from qfx.ops.calls import activations, arguments, covers
from qfx.ops.table import Op, Spread, is_op, op_at, op_of

Blocked = Callable[[Op, fx.Node], "str | None"]
"""Why an op can't be quantized at all, or None."""

UNREAD = "nothing but outputs and float operations reads it, so rounding it would gain nothing"
SPREAD = "its range is spread, contracted or divided by; 8 bits in between would keep only the largest values"
DIVISION = "it multiplies by a reciprocal, and a division is computed in float"


def has_float_step(op: Op, node: fx.Node) -> bool:
    """Whether the runtime computes the op on float32 operands, at a small cost beside a layer's."""
    return op.floats is not None and op.sums is None and covers(op, node)


def codes_read(node: fx.Node, wanted: Collection[fx.Node]) -> Iterable[fx.Node]:
    """The operands that an int8 op reads as integers.

    Args:
        node: The op.
        wanted: The nodes whose value is read as integers. A layer that is not one of them returns its accumulator in
            float32 and adds its residual to that, in whatever form it comes.
    """
    op = op_at(node)
    read = list(activations(op, node))
    if "residual" in op.epilogues and node not in wanted:
        given = arguments(op, node)
        return [given[name] for name in op.tensors if name != "residual"]
    return read


def wanted_as_codes(
    nodes: Sequence[fx.Node], blocked: Blocked, spread: Collection[fx.Node], leaving: Collection[fx.Node]
) -> set[fx.Node]:
    """The nodes whose value an int8 op reads, if those that make and read it are quantized wherever they can be.

    Args:
        nodes: In graph order.
        blocked: Why an op can't be quantized.
        spread: Ops that :func:`spread_ranges` found.
        leaving: Nodes that the graph returns as integers.
    """
    wanted = set(leaving)
    for node in reversed(nodes):
        op = op_of(node)
        if op is None or op.qparams == "none" or node in spread or blocked(op, node):
            continue
        if node.meta["qconfig"].is_dynamic or (has_float_step(op, node) and node not in wanted):
            continue
        wanted.update(codes_read(node, wanted))
    return wanted


# ---------------------------------------------------------------- ranges that are spread


def spread_ranges(nodes: Sequence[fx.Node]) -> dict[fx.Node, str]:
    """The cheap ops between one that spreads a range and one that contracts it or a layer, all among them; roots, and
    what leads to them only; and products with reciprocals of the model's data. Each with the rule's name for the
    report."""
    found = _between(nodes, _behind_spread(nodes))
    found |= dict.fromkeys(leading_to(nodes, contracts), SPREAD)
    for node in products_with_reciprocals(nodes):
        found.setdefault(node, DIVISION)
    return found


def expands(node: fx.Node) -> bool:
    """Whether a cheap op lets large values gain on small ones."""
    return _spread(node) == "expands"


def contracts(node: fx.Node) -> bool:
    """Whether a cheap op of one value, such as a root or a logarithm, lets small values gain on large ones."""
    return _spread(node) == "contracts" and not is_op(node, "div")


def leading_to(nodes: Sequence[fx.Node], goal: Callable[[fx.Node], bool]) -> set[fx.Node]:
    """The cheap ops that are a ``goal``, and those that only such ops read."""
    leading: set[fx.Node] = set()
    for node in reversed(nodes):
        op = op_of(node)
        if op is None or op.qparams == "none" or not has_float_step(op, node):
            continue
        if goal(node) or only_read_by(node, leading):
            leading.add(node)
    return leading


def only_read_by(node: fx.Node, readers: Collection[fx.Node]) -> bool:
    """Whether something reads a node's values, and nothing but ``readers`` does."""
    found = [user for user in node.users if not is_op(user, "size")]
    return bool(found) and all(user in readers for user in found)


def _spread(node: fx.Node) -> Spread | None:
    op = op_of(node)
    if op is None or not has_float_step(op, node):
        return None
    spread = op.spread(*node.args, **node.kwargs)
    if spread is None and op.name in _PRODUCTS and _same_value(node.args[0], node.args[1]):
        return op.spread(node.args[0], node.args[0], **node.kwargs)
    return spread


_PRODUCTS = ("mul",)


def _same_value(a: object, b: object) -> bool:
    """Whether two expressions are one: the same node, or the same ops of the same nodes."""
    if a is b or not (isinstance(a, fx.Node) and isinstance(b, fx.Node)):
        return a is b
    if op_of(a) is None or a.target is not b.target or dict(a.kwargs) != dict(b.kwargs) or len(a.args) != len(b.args):
        return False
    return all(
        _same_value(x, y) or (not isinstance(x, fx.Node) and x == y) for x, y in zip(a.args, b.args, strict=True)
    )


def _behind_spread(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """Cheap ops that spread a range, and those that such a value reaches before anything contracts or bounds it."""
    behind: set[fx.Node] = set()
    for node in nodes:
        op = op_of(node)
        if op is None or op.qparams in ("none", "fixed") or not has_float_step(op, node):
            continue
        reached = any(n in behind and _spread(n) not in _UNDO for n in activations(op, node))
        if reached or _spread(node) == "expands":
            behind.add(node)
    return behind


_UNDO = ("contracts", "divides")


def _between(nodes: Sequence[fx.Node], behind: set[fx.Node]) -> dict[fx.Node, str]:
    """Of the nodes behind a spread, those that lead to what undoes it, or to a layer or product."""
    leading: set[fx.Node] = set()
    for node in reversed(nodes):
        op = op_of(node)
        if node not in behind or op is None:
            continue
        undoes = _spread(node) in _UNDO and any(n in behind for n in activations(op, node))
        if undoes or any(user in leading or _multiplies(user) for user in _readers(node)):
            leading.add(node)
    return {node: SPREAD for node in nodes if node in leading}


def _readers(node: fx.Node) -> list[fx.Node]:
    """The ops that read a node as an activation."""
    return [user for user in node.users if (op := op_of(user)) is not None and node in activations(op, user)]


def _multiplies(node: fx.Node) -> bool:
    op = op_of(node)
    return op is not None and not op.looks_up and (bool(op.weights) or op.sums is not None)


def products_with_reciprocals(nodes: Sequence[fx.Node]) -> list[fx.Node]:
    """Products one operand of which is a reciprocal, or moves of one, of a value that depends on the inputs."""
    variable, reciprocals, products = set[fx.Node](), set[fx.Node](), []
    for node in nodes:
        op = op_of(node)
        if node.op != "get_attr" and (node.op == "placeholder" or any(n in variable for n in node.all_input_nodes)):
            variable.add(node)
        if op is None or node not in variable:
            continue
        operands = list(activations(op, node))
        moved = op.tensors == ("x",) and op.qparams == "share" and operands[0] in reciprocals
        if moved or _spread(node) == "divides":
            reciprocals.add(node)
        if op.name in _PRODUCTS and any(n in reciprocals for n in operands):
            products.append(node)
    return products
