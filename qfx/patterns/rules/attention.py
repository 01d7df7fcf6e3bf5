"""Find attention that is spelled out: two products with a softmax between them; and heads that queries share."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.ops.extents import rank_of
from qfx.ops.table import is_op
from qfx.ops.terms import Term, term
from qfx.patterns.pattern import Match, Pattern, op, single_user, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.batch_norm import arguments_of

_RANK_WITH_HEADS = 3


def _attention(match: Match) -> Term | None:
    product, masks = _scores(match["softmax"].args[0])
    if product is None or product.meta.get("qconfig") != match.root.meta.get("qconfig"):
        return None
    if not (_is_plain(match.root) and _is_plain(product, factor=True) and _is_last(match["softmax"])):
        return None
    query, transposed = product.args
    if not (all(map(_is_batch, (query, transposed, match["value"]))) and _fit(product, masks)):
        return None
    key = term("transpose", transposed, dim0=-2, dim1=-1)
    scale = product.kwargs.get("factor", 1.0)
    return Term("attention", (query, key, match["value"], _sum(masks)), {"scale": scale})


def _scores(node: fx.Node) -> tuple[fx.Node | None, list[fx.Node]]:
    """The product behind a softmax, and what is added to it, in order."""
    masks: list[fx.Node] = []
    while single_user(node) and is_op(node, "add") and arguments_of(node)["activation"] is None:
        first, second = cast("tuple[fx.Node, fx.Node]", node.args[:2])
        scores = next((n for n in (first, second) if isinstance(n, fx.Node) and is_op(n, "add", "matmul")), None)
        if scores is None:
            return None, []
        masks.insert(0, second if scores is first else first)
        node = scores
    return (node if single_user(node) and is_op(node, "matmul") else None), masks


def _sum(masks: list[fx.Node]) -> Any:
    if not masks:
        return None
    total: Any = masks[0]
    for mask in masks[1:]:
        total = term("add", total, mask)
    return total


def _is_plain(product: fx.Node, factor: bool = False) -> bool:
    given = arguments_of(product)
    return given["activation"] is None and (factor or given["factor"] == 1.0)


def _is_last(softmax: fx.Node) -> bool:
    return softmax.kwargs["dim"] in (-1, _rank(softmax) - 1)


def _is_batch(node: Any) -> bool:
    """Whether a value is known to be matrices, of a rank that attention takes."""
    return isinstance(node, fx.Node) and 2 <= _rank(node) <= 4


def _rank(node: fx.Node) -> int:
    """As seen in a run, or as the graph tells; 0: not known."""
    return len(node.meta["shape"]) if node.meta.get("shape") is not None else rank_of(node) or 0


def _fit(scores: fx.Node, masks: list[Any]) -> bool:
    """Whether masks are broadcast to scores, and not the other way round: by what was seen, or by expressions."""
    nodes = [scores, *masks]
    key = next((k for k in ("shape", "extents") if all(isinstance(n, fx.Node) and n.meta.get(k) for n in nodes)), None)
    if key is None:
        return not masks
    own, *others = (tuple(n.meta[key]) for n in nodes)
    pairs = [(length, mine) for other in others for length, mine in zip(reversed(other), reversed(own), strict=False)]
    return all(len(other) <= len(own) for other in others) and all(length in (1, mine) for length, mine in pairs)


def _share_heads(match: Match) -> Term | None:
    """Keys and values that are repeated for heads of queries are read as they were before."""
    keys, values, given = match["keys"], match["values"], arguments_of(match.root)
    if not (isinstance(keys, fx.Node) and isinstance(values, fx.Node)):
        return None
    if not (_is_repeated(given["key"], keys) and _is_repeated(given["value"], values)):
        return None
    if keys.meta["extents"][-3] != values.meta["extents"][-3]:
        return None
    return Term("attention", (given["query"], keys, values, given["mask"]), dict(match.root.kwargs))


def _repeated(name: str) -> Pattern:
    return op("reshape flatten", op("expand", op("unsqueeze reshape", value(name))))


def _is_repeated(node: fx.Node, heads: fx.Node) -> bool:
    """Whether ``node`` ``[..., H, S, D]`` has each of ``heads`` ``[..., G, S, D]`` ``H / G`` times in a row.

    Batches and rows may be broadcast too, which attention does itself, or has no need of: equal keys count as one.
    """
    expanded: Any = node.args[0]
    known: list[Any] = [n.meta.get("extents") for n in (node, expanded, expanded.args[0], heads)]
    if None in known or len(known[-1]) < _RANK_WITH_HEADS:
        return False
    whole, wide, narrow, own = known
    count, times = own[-3], wide[-3]
    if not (isinstance(count, int) and isinstance(times, int)) or len(wide) != len(narrow):
        return False
    inserted, merged = (*own[:-2], 1, *own[-2:]), (*wide[:-4], count * times, *wide[-2:])
    return bool(narrow == inserted and whole == merged and wide[-4] == count and wide[-1] == own[-1])


class _Attention(nn.Module):
    def __init__(self, *, returned: bool = False) -> None:
        super().__init__()
        self.returned = returned
        self.keys, self.values, self.mask = (nn.Parameter(torch.randn(shape)) for shape in ((7, 5), (7, 4), (7,)))

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, 5, 5)
        probabilities = torch.softmax(x @ self.keys.transpose(0, 1) + self.mask, -1)
        y = probabilities @ self.values
        return torch.cat([y, probabilities], 2) if self.returned else y


class _Shared(nn.Module):
    """Two heads of keys and values for four of queries; ``turned``: not in a row."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        self.turned = turned
        self.queries, self.keys, self.values = (nn.Conv2d(3, heads, 1) for heads in (4, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        keys, values = self.repeated(self.keys(x)), self.repeated(self.values(x))
        return F.scaled_dot_product_attention(self.queries(x), keys, values, scale=0.5)

    def repeated(self, x: Tensor) -> Tensor:
        x = x[:, None].expand(-1, 2, -1, -1, -1) if self.turned else x[:, :, None].expand(-1, -1, 2, -1, -1)
        return x.flatten(1, 2)


def _rows() -> tuple[Tensor]:
    return (torch.randn(2, 5, 5),)


RULES = (
    Rule(
        "products_to_attention",
        op("matmul", op("softmax", name="softmax", where=(single_user,)), value("value")),
        _attention,
        benefit=1,
        sample=lambda: (_Attention(), _rows()),
        near_miss=lambda: (_Attention(returned=True), _rows()),
    ),
    Rule(
        "share_heads_of_keys",
        op("attention", value("query"), _repeated("keys"), _repeated("values")),
        _share_heads,
        benefit=2,
        sample=lambda: (_Shared(), (torch.randn(2, 3, 5, 5),)),
        near_miss=lambda: (_Shared(turned=True), (torch.randn(2, 3, 5, 5),)),
        semantics="bitwise",
        across_qconfigs=True,
    ),
)
