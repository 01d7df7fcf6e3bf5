"""Find rotary embedding that is spelled out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ops.extents import extent_of, rank_of
from qfx.ops.table import is_op
from qfx.ops.terms import Term
from qfx.patterns.pattern import Match, op, single_user
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of


def _length(x: Any) -> int | None:
    """Of the last dim, as seen in a run or as the graph tells."""
    return int(x.meta["shape"][-1]) if x.meta.get("shape") else extent_of(x, -1)


def _rank(x: fx.Node) -> int:
    return len(x.meta["shape"]) if x.meta.get("shape") else rank_of(x) or 0


def _is_last(node: fx.Node, dim: Any) -> bool:
    return isinstance(dim, int) and dim in (-1, _rank(node) - 1) and _rank(node) > 0


def _plain(node: Any, name: str) -> list[fx.Node] | None:
    """The operands of a call that does nothing else, and whose value nothing else reads."""
    if not (is_op(node, name) and single_user(node)) or node.kwargs.get("activation") is not None:
        return None
    return [operand for operand in node.args if isinstance(operand, fx.Node)]


# ---------------------------------------------------------------- channels of a pair


def _part(node: Any) -> tuple[fx.Node, tuple[int, int, int]] | None:
    """The value of whose last dim a node takes channels, and which: first, behind the last, and step."""
    if not is_op(node, "slice"):
        return None
    x: Any = node.args[0]
    given: dict[str, Any] = dict(node.kwargs)
    length = _length(x)
    bounds = (given["start"], given["end"])
    if not _is_last(x, given["dim"]) or length is None or not all(b is None or isinstance(b, int) for b in bounds):
        return None
    return x, slice(*bounds, given["step"]).indices(length)


def _pair(first: Any, second: Any) -> tuple[fx.Node, int, bool] | None:
    """The value of which two nodes take the first and the second of each pair, how long it is, and whether pairs are
    neighbours."""
    a, b = _part(first), _part(second)
    length = None if a is None else _length(a[0])
    if a is None or b is None or a[0] is not b[0] or length is None or length % 2:
        return None
    half = length // 2
    if (a[1], b[1]) == ((0, half, 1), (half, length, 1)):
        return a[0], length, False
    if (a[1], b[1]) == ((0, length, 2), (1, length, 2)):
        return a[0], length, True
    return None


def _joined(node: Any) -> tuple[Any, Any, bool] | None:
    """What a node joins as the first and the second of each pair, and whether pairs are neighbours."""
    if is_op(node, "cat") and len(node.args[0]) == 2 and _is_last(node, node.kwargs["dim"]):
        return (*node.args[0], False)
    if not is_op(node, "flatten", "reshape"):
        return None
    stack: Any = node.args[0]
    if not is_op(stack, "stack") or len(stack.args[0]) != 2 or not _is_last(stack, stack.kwargs["dim"]):
        return None
    first = stack.args[0][0]
    length = _length(first)
    if length is None or _length(node) != 2 * length or _rank(node) != _rank(first):
        return None
    return (*stack.args[0], True)


# ---------------------------------------------------------------- rules


def _fits(x: fx.Node, angles: list[Any]) -> bool:
    """Whether angles are broadcast to x, and not the other way round."""
    own = _lengths(x)
    return own is not None and all(
        (other := _lengths(each)) is not None
        and len(other) <= len(own)
        and all(a == 1 or (a is not None and a == b) for a, b in zip(other[-2::-1], own[-2::-1], strict=False))
        for each in angles
    )


def _lengths(x: Any) -> tuple[Any, ...] | None:
    """Of every dim, as seen in a run, as a number, or as a name; None for what is not known."""
    if not isinstance(x, fx.Node):
        return None
    if x.meta.get("shape"):
        return tuple(x.meta["shape"])
    names = x.meta.get("extents")
    return names and tuple(name if (n := extent_of(x, d)) is None else n for d, name in enumerate(names))


def _rotary(x: fx.Node, cos: Any, sin: Any, length: int, interleaved: bool) -> Term | None:
    if not _fits(x, [cos, sin]) or _length(cos) != _length(sin) or _length(cos) not in (length, length // 2):
        return None
    return Term("rotary", (x, cos, sin), {"length": length, "interleaved": interleaved})


def _by_turned_copy(match: Match) -> Term | None:
    """``x * cos + turned(x) * sin``, with ``turned(x)`` the second of each pair, negated, and the first."""
    products = _plain(match["first"], "mul"), _plain(match["second"], "mul")
    for straight, turned in (products, products[::-1]):
        for copy, sin in (turned, turned[::-1]) if turned and len(turned) == 2 else ():
            found = _turned(copy)
            if found is None or straight is None or found[0] not in straight:
                continue
            x, length, interleaved = found
            others = [operand for operand in straight if operand is not x]
            if len(others) == 1 and _length(others[0]) == length:
                return _rotary(x, others[0], sin, length, interleaved)
    return None


def _turned(node: fx.Node) -> tuple[fx.Node, int, bool] | None:
    joined = _joined(node)
    if joined is None or not is_op(joined[0], "neg"):
        return None
    pair = _pair(joined[1], joined[0].args[0])
    return pair if pair is not None and pair[2] == joined[2] else None


def _by_pairs(match: Match) -> Term | None:
    """``a * cos - b * sin`` and ``b * cos + a * sin`` of the channels of each pair, joined."""
    joined = _joined(match.root)
    if joined is None:
        return None
    sums = _plain(joined[0], "sub"), _plain(joined[1], "add")
    if None in sums:
        return None
    products = [_plain(product, "mul") for each in sums for product in each or ()]
    if len(products) != 4 or any(product is None or len(product) != 2 for product in products):
        return None
    return next((term for a in (0, 1) for b in (0, 1) if (term := _of_products(products, a, b, joined[2]))), None)


def _of_products(products: list[Any], a_at: int, b_at: int, interleaved: bool) -> Term | None:
    """With the first of each pair at ``a_at`` of the first product, and the second at ``b_at`` of the second one."""
    a, cos = products[0][a_at], products[0][1 - a_at]
    b, sin = products[1][b_at], products[1][1 - b_at]
    rest = [set(product) for product in products[2:]]
    pair = _pair(a, b)
    if pair is None or pair[2] != interleaved or rest not in ([{b, cos}, {a, sin}], [{a, sin}, {b, cos}]):
        return None
    return _rotary(pair[0], cos, sin, pair[1], interleaved) if _length(cos) == pair[1] // 2 else None


def _partial(match: Match) -> Term | None:
    """The first channels turned, beside the others."""
    parts: Any = match.root.args[0]
    if len(parts) != 2 or not is_op(parts[0], "rotary") or not single_user(parts[0]):
        return None
    given = arguments_of(parts[0])
    turned, rest = _part(given["x"]), _part(parts[1])
    if turned is None or rest is None or turned[0] is not rest[0] or not _is_last(turned[0], match.root.kwargs["dim"]):
        return None
    x, length = turned[0], _length(turned[0])
    end = turned[1][1]
    if turned[1] != (0, end, 1) or rest[1] != (end, length, 1) or given["length"] != end:
        return None
    return Term("rotary", (x, given["cos"], given["sin"]), dict(parts[0].kwargs), like=parts[0])


class _Turning(nn.Module):
    """``form``: how it is written; ``length``: of how many channels."""

    cos: Tensor
    sin: Tensor

    def __init__(self, form: str = "copy", *, interleaved: bool = False, length: int = 8, wrong: bool = False) -> None:
        super().__init__()
        self.form, self.interleaved, self.length, self.sign = form, interleaved, length, 1.0 if wrong else -1.0
        angles = torch.rand(5, length if form == "copy" else length // 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 3, 5, 8)
        if self.length == 8:
            return self.turn(x)
        return torch.cat([self.turn(x[..., : self.length]), x[..., self.length :]], -1)

    def turn(self, x: Tensor) -> Tensor:
        half = self.length // 2
        a, b = (x[..., ::2], x[..., 1::2]) if self.interleaved else (x[..., :half], x[..., half:])
        if self.form == "copy":
            return x * self.cos + self.join(-b if self.sign < 0 else b, a) * self.sin
        return self.join(a * self.cos - b * self.sin, (a if self.sign > 0 else b) * self.cos + a * self.sin)

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        if self.interleaved:
            return torch.stack([first, second], -1).flatten(-2)
        return torch.cat([first, second], -1)


def _rows() -> tuple[Tensor]:
    return (torch.randn(2, 3, 5, 8),)


RULES = (
    Rule(
        "turned_copy_to_rotary",
        op("add", op("mul", name="first"), op("mul", name="second")),
        _by_turned_copy,
        benefit=12,
        sample=lambda: (_Turning(), _rows()),
        near_miss=lambda: (_Turning(wrong=True), _rows()),
        semantics="bitwise",
    ),
    Rule(
        "joined_halves_to_rotary",
        op("cat"),
        _by_pairs,
        benefit=12,
        sample=lambda: (_Turning("pairs"), _rows()),
        near_miss=lambda: (_Turning("pairs", wrong=True), _rows()),
        semantics="bitwise",
    ),
    Rule(
        "joined_neighbours_to_rotary",
        op("flatten reshape"),
        _by_pairs,
        benefit=12,
        sample=lambda: (_Turning("pairs", interleaved=True), _rows()),
        near_miss=lambda: (_Turning("pairs", interleaved=True, wrong=True), _rows()),
        semantics="bitwise",
    ),
    Rule(
        "widen_rotary_over_what_it_leaves",
        op("cat"),
        _partial,
        benefit=13,
        sample=lambda: (_Turning(length=4), _rows()),
        near_miss=lambda: (_Turning(length=4, wrong=True), _rows()),
        semantics="bitwise",
    ),
)
