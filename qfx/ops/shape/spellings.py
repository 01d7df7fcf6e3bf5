"""Spellings of the ops that move elements, of shape queries, and of calls that disappear."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.ops.dtypes import is_boolean, is_integral, known_dtype
from qfx.ops.extents import extent_of, is_dim, rank_of
from qfx.ops.index.spellings import take
from qfx.ops.spelling import Alias, aliases, aten, dims_of, is_number, is_tensor, ntuple, require, require_tensor
from qfx.ops.table import op_of
from qfx.ops.terms import NotNormal, Pieces, Shape, Term, term


def _tensors(tensors: Any) -> list[Any]:
    items = tensors.all() if isinstance(tensors, Pieces) else tensors
    require(isinstance(items, (tuple, list)), "its operands are a tuple made by code outside the table")
    require_tensor(*(item for item in items if not isinstance(item, Term)))
    return list(items)


def cat(tensors: Any, dim: int = 0) -> Any:
    """``torch.cat``."""
    items = _tensors(tensors)
    return term("cat", items, dim=dim) if len(items) > 1 else items[0]


def stack(tensors: Any, dim: int = 0) -> Term:
    """``torch.stack``."""
    return term("stack", _tensors(tensors), dim=dim)


def reshape(input: Any, *shape: Any) -> Term:
    """``x.reshape``, ``x.view``, ``torch.reshape``."""
    require_tensor(input)
    require(not (len(shape) == 1 and isinstance(shape[0], torch.dtype)), "it reinterprets memory")
    return term("reshape", input, dims_of(shape))


def reshape_as(input: Any, other: Any) -> Term:
    """``x.reshape_as``, ``x.view_as``."""
    require_tensor(input, other)
    return term("reshape", input, Shape(other).entries())


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Term:
    """``torch.flatten``."""
    require_tensor(input)
    return term("flatten", input, start_dim=start_dim, end_dim=end_dim)


def unflatten(input: Any, dim: int, sizes: Any) -> Term:
    """``x.unflatten``."""
    require_tensor(input)
    entries = list(Shape(input).entries())
    require(isinstance(dim, int), "it names its dim")
    at = dim % len(entries)
    return term("reshape", input, tuple(entries[:at]) + dims_of((sizes,)) + tuple(entries[at + 1 :]))


def _unflatten_module(module: Any, input: Any) -> Term:
    return unflatten(input, module.dim, module.unflattened_size)


def permute(input: Any, *dims: Any) -> Term:
    """``x.permute``, ``torch.permute``."""
    require_tensor(input)
    return term("permute", input, dims=dims_of(dims))


def movedim(input: Any, source: Any, destination: Any) -> Term:
    """``torch.movedim``."""
    rank = rank_of(input)
    if rank is None:
        raise NotNormal("the rank of its operand is unknown")
    moved = torch.empty((0,) * rank).movedim(source, destination)
    del moved
    sources = [dim % rank for dim in ntuple(source, 1)]
    targets = [dim % rank for dim in ntuple(destination, 1)]
    order: list[int | None] = [None] * rank
    for origin, target in zip(sources, targets, strict=True):
        order[target] = origin
    rest = iter(dim for dim in range(rank) if dim not in sources)
    return term("permute", input, dims=tuple(next(rest) if dim is None else dim for dim in order))


def transpose(input: Any, dim0: int, dim1: int) -> Term:
    """``torch.transpose``."""
    require_tensor(input)
    return term("transpose", input, dim0=dim0, dim1=dim1)


def matrix_transpose(input: Any) -> Any:
    """``x.t()``, ``x.T``."""
    require_tensor(input)
    rank = rank_of(input)
    require(rank in (1, 2), "the rank of its operand is not known to be 2")
    return input if rank == 1 else term("transpose", input, dim0=0, dim1=1)


def slice_dim(input: Any, dim: int, index: slice) -> Any:
    """``x[..., start:end:step, ...]`` along one dim."""
    bounds = (index.start, index.stop, index.step)
    require(
        all(bound is None or isinstance(bound, (int, Term)) or is_dim(bound) for bound in bounds),
        "it is sliced by a tensor",
    )
    start, end, step = index.start or 0, index.stop, 1 if index.step is None else index.step
    if (start, end, step) == (0, None, 1):
        return input
    return term("slice", input, dim=dim, start=start, end=end, step=step)


def narrow(input: Any, dim: int, start: Any, length: Any) -> Any:
    """``torch.narrow``."""
    require_tensor(input)
    end = start + length if is_number(start) and is_number(length) else term(operator.add, start, length)
    require(not (isinstance(start, int) and start < 0), "it starts at a negative index")
    return slice_dim(input, dim, slice(start, end))


def select(input: Any, dim: int, index: Any) -> Term:
    """``torch.select``."""
    require_tensor(input)
    require(isinstance(index, int) or is_dim(index), "it is indexed by a tensor")
    return term("select", input, dim=dim, index=index)


def chunk(input: Any, chunks: int, dim: int = 0) -> Pieces:
    """``torch.chunk``: of fewer pieces than asked for, where pieces of that length are enough."""
    require_tensor(input)
    length = extent_of(input, dim)
    if length is not None:
        return split(input, -(-length // chunks), dim)
    size = term("size", input, dim=dim)
    step = term(operator.floordiv, term(operator.add, size, chunks - 1), chunks)

    def piece(index: int) -> Any:
        start = term(operator.mul, step, index) if index else 0
        end = term(operator.mul, step, index + 1) if index + 1 < chunks else None
        return term("slice", input, dim=dim, start=start, end=end, step=1)

    def from_end(index: int) -> Any:
        whole = term(operator.floordiv, term(operator.sub, size, 1), step)  # pieces before the last
        start = term(operator.mul, step, term(operator.sub, whole, index) if index else whole)
        return term("slice", input, dim=dim, start=start, end=term(operator.add, start, step), step=1)

    return Pieces(piece, chunks, from_end=from_end)


def split(input: Any, split_size_or_sections: Any, dim: int = 0) -> Pieces:
    """``torch.split`` with a piece length or a list of lengths."""
    require_tensor(input)
    length = extent_of(input, dim)
    if isinstance(split_size_or_sections, (tuple, list)):
        sections = list(split_size_or_sections)
        require(all(isinstance(section, int) for section in sections), "its sections are computed")
        starts = [sum(sections[:index]) for index in range(len(sections) + 1)]
        return Pieces(lambda index: slice_dim(input, dim, slice(starts[index], starts[index + 1])), len(sections))
    size = split_size_or_sections
    require(isinstance(size, (int, Term)) or is_dim(size), "its piece length is computed by a tensor")
    if isinstance(size, int):
        count = None if length is None else -(-length // size)
        return Pieces(lambda index: slice_dim(input, dim, slice(index * size, (index + 1) * size)), count)

    def piece(index: int) -> Any:
        start = term(operator.mul, size, index) if index else 0
        return slice_dim(input, dim, slice(start, term(operator.mul, size, index + 1)))

    return Pieces(piece, None)


def torch_split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> Pieces:
    """``torch.split``."""
    return split(tensor, split_size_or_sections, dim)


def method_split(input: Any, split_size: Any, dim: int = 0) -> Pieces:
    """``x.split``."""
    return split(input, split_size, dim)


def unbind(input: Any, dim: int = 0) -> Pieces:
    """``torch.unbind``."""
    require_tensor(input)
    return Pieces(lambda index: select(input, dim, index), extent_of(input, dim))


def squeeze(input: Any, dim: Any = None) -> Term:
    """``torch.squeeze``."""
    require_tensor(input)
    return term("squeeze", input, dim=tuple(dim) if isinstance(dim, (tuple, list)) else dim)


def unsqueeze(input: Any, dim: int) -> Term:
    """``torch.unsqueeze``."""
    require_tensor(input)
    return term("unsqueeze", input, dim=dim)


def expand(input: Any, *size: Any) -> Term:
    """``x.expand``."""
    require_tensor(input)
    return term("expand", input, dims_of(size))


def expand_as(input: Any, other: Any) -> Term:
    """``x.expand_as``."""
    require_tensor(input, other)
    return term("expand", input, Shape(other).entries())


def getitem(value: Any, index: Any) -> Any:
    """``value[index]`` for tensors, shapes and tuples of pieces."""
    if isinstance(value, (Shape, Pieces, tuple, list, dict)):
        require(not isinstance(index, fx.Node), "its index is computed")
        return value[index]
    require_tensor(value)
    items = index if isinstance(index, tuple) else (index,)
    if op_of(value) is None and not isinstance(index, tuple) and not _is_constant(value) and not is_integral(index):
        raise NotNormal("it takes an item of a value made by code outside the table")
    allowed = (int, slice, type(None), type(Ellipsis))
    if any(is_tensor(item) for item in items):
        return take(value, _whole_dims(value, items))
    require(
        all((isinstance(item, allowed) and not isinstance(item, bool)) or is_dim(item) for item in items),
        "it is indexed by what is neither a number nor a slice",
    )
    return _index(value, items)


def _whole_dims(x: Any, items: tuple[Any, ...]) -> list[Any]:
    """``items``, tensors among them, with None for a dim that is taken whole."""
    found: list[Any] = []
    for item in items:
        if item is Ellipsis:
            found += [None] * (dim_count(x) - len(items) + 1)
            continue
        whole = isinstance(item, slice) and item == slice(None)
        require(whole or is_tensor(item), "it is indexed by a tensor among other items")
        found.append(None if whole else item)
    return found


def _is_constant(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op == "get_attr"


def _index(x: Any, items: tuple[Any, ...]) -> Any:
    """Items before an ellipsis from the left, those after it from the right where the rank is unknown."""
    rank = rank_of(x)
    if rank is not None and Ellipsis in items:
        at, indexed = items.index(Ellipsis), sum(item is not None for item in items) - 1
        items = (*items[:at], *[slice(None)] * (rank - indexed), *items[at + 1 :])
    at = next((position for position, item in enumerate(items) if item is Ellipsis), len(items))
    dim = 0
    for item in items[:at]:
        x, dim = _take(x, item, dim, forward=True)
    dim = -1
    for item in reversed(items[at + 1 :]):
        x, dim = _take(x, item, dim, forward=False)
    return x


def _take(x: Any, item: Any, dim: int, *, forward: bool) -> tuple[Any, int]:
    step = 1 if forward else -1
    if item is None:
        return term("unsqueeze", x, dim=dim), dim + step
    if isinstance(item, slice):
        return slice_dim(x, dim, item), dim + step
    return term("select", x, dim=dim, index=item), dim


def numel(input: Any) -> Any:
    """``x.numel()``, of a tensor or of a shape."""
    lengths = input if isinstance(input, tuple) else Shape(input).entries() if is_tensor(input) else input.entries()
    count: Any = 1
    for length in lengths:
        count = term(operator.mul, count, length)
    return count


_QUERIES: dict[str, Callable[[Any], Any]] = {
    "T": matrix_transpose,
    "mT": partial(transpose, dim0=-2, dim1=-1),
    "data": lambda x: x,
}


def tensor_attribute(input: Any, name: str) -> Any:
    """``x.shape``, ``x.ndim``, ``x.T``, ``x.data``, and the fields of a named tuple."""
    if isinstance(input, Pieces) and name in input.fields:
        return input[input.fields.index(name)]
    require_tensor(input)
    if name == "shape":
        return Shape(input)
    if name == "ndim":
        return dim_count(input)
    if name not in _QUERIES:
        raise NotNormal(f"the tensor attribute {name} is no value of the graph")
    return _QUERIES[name](input)


def size(input: Any, dim: int | None = None) -> Any:
    """``x.size``."""
    require_tensor(input)
    return Shape(input) if dim is None else Shape(input)[dim]


def dim_count(input: Any) -> int:
    """``x.dim()``."""
    rank = rank_of(input)
    if rank is None:
        raise NotNormal("the rank of its operand is unknown")
    return rank


def same(input: Any, *unused: Any, **options: Any) -> Any:
    """A call that returns its operand."""
    require_tensor(input)
    return input


def clone(input: Any, *, memory_format: Any = None) -> Any:
    """``x.clone()``: a graph of values has no need of copies."""
    return same(input)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """``F.dropout`` in evaluation."""
    require_tensor(input)
    require(not training or p == 0.0, "it draws a random mask at evaluation too")
    return input


def convert(input: Any, *targets: Any, **options: Any) -> Any:
    """``x.to``, ``x.float``, ``x.cpu``: to a dtype that programs have, or to any device, which is the CPU."""
    require_tensor(input)
    targets += tuple(value for key, value in options.items() if key in ("dtype", "device", "other"))
    targets = tuple(target for target in targets if not isinstance(target, (str, torch.device, bool)) and target)
    if not targets:
        return input
    dtypes = {_dtype_meant(target) for target in targets}
    (dtype,) = dtypes if len(dtypes) == 1 else (None,)
    require(dtype in _CAST, f"it converts to {targets[0]}")
    keeps = _is_float32(input) if dtype is torch.float32 else known_dtype(input) is dtype
    return input if keeps else term("cast", input, dtype=dtype)


_CAST = (torch.float32, torch.int64, torch.int32, torch.bool)
"""The dtypes that programs convert to."""


def to_float(input: Any) -> Any:
    """``x.float()``."""
    return convert(input, torch.float32)


def to_long(input: Any) -> Any:
    """``x.long()``."""
    return convert(input, torch.int64)


def to_int(input: Any) -> Any:
    """``x.int()``."""
    return convert(input, torch.int32)


def to_bool(input: Any) -> Any:
    """``x.bool()``."""
    return convert(input, torch.bool)


def to_cpu(input: Any) -> Any:
    """``x.cpu()``."""
    return convert(input, "cpu")


def _dtype_meant(target: Any) -> torch.dtype | None:
    """A dtype, or that of a tensor, where it is known."""
    if isinstance(target, torch.dtype):
        return target
    reads = isinstance(target, fx.Node) and target.target is getattr and target.args[1] == "dtype"
    value = target.args[0] if reads else target
    return torch.float32 if _is_float32(value) else known_dtype(value)


def _is_float32(value: Any) -> bool:
    if not is_tensor(value):
        return False
    if isinstance(value, fx.Node) and "dtype" in value.meta:
        return bool(value.meta["dtype"] == torch.float32)
    if isinstance(value, Tensor):
        return value.dtype == torch.float32
    return _computes_float32(value)


def _computes_float32(value: fx.Node) -> bool:
    """Whether nothing of an unknown dtype reaches ``value`` past the float32 weights on its way."""
    pending, seen = [value], set()
    while pending:
        node = pending.pop()
        op = op_of(node)
        if node in seen or (node.op == "placeholder" and node is not value):
            continue
        if op is None and node.meta.get("dtype") != torch.float32:
            return False
        seen.add(node)
        dtype = known_dtype(node) if op is not None and node.op == "call_function" else None
        if dtype not in (None, torch.float32):
            return False
        pending += [] if op is None or op.weights or dtype is not None else node.all_input_nodes
    return True


_DROPOUTS: dict[Any, type[nn.Module]] = {
    F.dropout: nn.Dropout,
    F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d,
    F.alpha_dropout: nn.AlphaDropout,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}
"""Functions that drop elements in training, and the modules that do the same."""


def drops(alias: Alias) -> bool:
    """Whether the alias spells a dropout, which disappears in evaluation only."""
    return alias.rule is dropout or alias.spelling in _DROPOUTS.values()


def dropout_module(
    function: Any, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> nn.Module:
    """The module that does in training what this call of a functional dropout does."""
    by_name = {known.__name__: module for known, module in _DROPOUTS.items()}
    name = str(getattr(function, "overloadpacket", function).__name__).removesuffix("_")
    return by_name["dropout2d" if name == "feature_dropout" else name](p)


def _fixed(module: Any, input: Any) -> Any:
    return same(input)


def glu(input: Any, dim: int = -1) -> Term:
    """``F.glu``: the first half times the sigmoid of the second."""
    first, second = chunk(input, 2, dim).all()
    return term("mul", first, term("sigmoid", second))


_LAST = 2**62
"""Ends from here on mean the end of the dim: exporters write the largest integer."""


def aten_slice(input: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    """``aten.slice.Tensor``."""
    require_tensor(input)
    end = None if is_number(end) and end >= _LAST else end
    return slice_dim(input, dim, slice(start, end, step))


def repeat(input: Any, *repeats: Any) -> Any:
    """``x.repeat``: dims of length 1 expanded, of others one more dim in front, merged with it."""
    counts, rank = dims_of(repeats), dim_count(input)
    more = len(counts) - rank
    require(more >= 0, "it has fewer counts than dims")
    lengths = (*[1] * more, *(extent_of(input, dim) for dim in range(rank)))
    x = term("reshape", input, (*[1] * more, *Shape(input).entries())) if more else input
    repeated = [dim for dim, count in enumerate(counts) if not (isinstance(count, int) and count == 1)]
    if not repeated:
        return x
    if all(lengths[dim] == 1 for dim in repeated):
        return term("expand", x, tuple(count if dim in repeated else -1 for dim, count in enumerate(counts)))
    entries = (*[1] * more, *Shape(input).entries())
    pairs = [pair for count, entry in zip(counts, entries, strict=True) for pair in (count, entry)]
    x = term("reshape", x, tuple(part for entry in entries for part in (1, entry)))
    whole = tuple(_product(count, entry) for count, entry in zip(counts, entries, strict=True))
    return term("reshape", term("expand", x, tuple(pairs)), whole)


def _product(a: Any, b: Any) -> Any:
    return a * b if isinstance(a, int) and isinstance(b, int) else term(operator.mul, a, b)


def repeat_interleave(input: Any, repeats: Any, dim: int | None = None, *, output_size: Any = None) -> Term:
    """``torch.repeat_interleave`` with one count: one more dim behind, expanded, and merged with it."""
    require_tensor(input)
    require(isinstance(repeats, int) or is_dim(repeats), "its counts are a tensor")
    rank = dim_count(input)
    if dim is None:
        return term("reshape", term("expand", term("reshape", input, (-1, 1)), (-1, repeats)), (-1,))
    at, entries = range(rank)[dim], Shape(input).entries()
    more = term("expand", term("unsqueeze", input, dim=at + 1), (*[-1] * (at + 1), repeats, *[-1] * (rank - 1 - at)))
    return term("reshape", more, (*entries[:at], _product(entries[at], repeats), *entries[at + 1 :]))


def roll(input: Any, shifts: Any, dims: Any = None) -> Any:
    """``torch.roll``: along each dim, what moves past the end, and in front of it the rest."""
    require_tensor(input)
    if dims is None or dims in ((), []):
        flat = _rolled(term("reshape", input, (-1,)), 0, shifts, _count(Shape(input).entries()))
        return term("reshape", flat, Shape(input).entries())
    x, dims = input, dims_of((dims,))
    for dim, shift in zip(dims, dims_of((shifts,)), strict=True):
        x = _rolled(x, dim, shift, Shape(input)[dim])
    return x


def _rolled(x: Any, dim: int, shift: Any, length: Any) -> Any:
    (shift,) = ntuple(shift, 1)
    back: Any = -shift if isinstance(shift, int) else term(operator.neg, shift)
    if isinstance(shift, int) and isinstance(length, int):
        first = back % length if length else 0
    else:
        first = term(operator.sub, back, term(operator.mul, term(operator.floordiv, back, length), length))
    if first == 0:
        return x
    return term("cat", [slice_dim(x, dim, slice(first, None)), slice_dim(x, dim, slice(0, first))], dim=dim)


def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Term:
    """``torch.diff``: each entry along a dim less the one before it."""
    require_tensor(input)
    require(n == 1, "it takes differences of differences")
    require(not is_boolean(input), "its operand is of truth values")
    parts = [part for part in (prepend, input, append) if part is not None]
    x: Any = input if len(parts) == 1 else term("cat", parts, dim=dim)
    return term("sub", slice_dim(x, dim, slice(1, None)), slice_dim(x, dim, slice(0, -1)))


def unfold(input: Any, dimension: int, size: int, step: int) -> Term:
    """``x.unfold``."""
    require_tensor(input)
    require(all(isinstance(given, int) for given in (dimension, size, step)), "its window is computed")
    require(size > 0 and step > 0, "its windows are empty")
    return term("windows", input, dims=(dimension,), size=(size,), stride=(step,), dilation=(1,))


def columns(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Term:
    """``F.unfold``: windows of images, ``[N, C * kernel, count]``."""
    require_tensor(input)
    lead = dim_count(input) - 3
    require(lead in (0, 1), "its operand is no image")
    size, dilation, padding, stride = (ntuple(given, 2) for given in (kernel_size, dilation, padding, stride))
    x: Any = input
    if any(padding):
        amounts = (padding[1], padding[1], padding[0], padding[0])
        x = term("pad", x, pad=amounts, mode="constant", value=None)
    x = term("windows", x, dims=(-2, -1), size=size, stride=stride, dilation=dilation)
    order = (*range(lead + 1), lead + 3, lead + 4, lead + 1, lead + 2)
    x = term("flatten", term("permute", x, dims=order), start_dim=-2, end_dim=-1)
    return term("flatten", x, start_dim=lead, end_dim=lead + 2)


def _count(entries: tuple[Any, ...]) -> Any:
    return reduce(_product, entries, 1)


def aten_expand(input: Any, size: Any, *, implicit: bool = False) -> Term:
    """``aten.expand``."""
    return expand(input, size)


def aten_split(input: Any, size: Any, dim: int = 0) -> Pieces:
    """``aten.split``."""
    return split(input, size, dim)


def aten_to(input: Any, *targets: Any, **options: Any) -> Any:
    """The overloads of ``aten.to``: dtypes and devices among their arguments, flags that do not matter, None."""
    options = {name: value for name, value in options.items() if name in ("dtype", "device", "other")}
    given = [
        value for value in (*targets, *options.values()) if isinstance(value, (torch.dtype, torch.device, fx.Node))
    ]
    return convert(input, *(given or ("cpu",)))


def _aten_same(input: Any, *unused: Any, **options: Any) -> Any:
    return same(input)


ALIASES: tuple[Alias, ...] = (
    *aliases("cat", cat, functions=[torch.cat, torch.concat, torch.concatenate]),
    *aliases("stack", stack, functions=[torch.stack]),
    *aliases("reshape", reshape, functions=[torch.reshape], methods="reshape view"),
    *aliases("reshape", reshape_as, methods="reshape_as view_as"),
    *aliases("reshape", unflatten, functions=[torch.unflatten], methods="unflatten"),
    *aliases("reshape", _unflatten_module, modules=[nn.Unflatten], takes_module=True),
    *aliases("flatten", flatten, functions=[torch.flatten], methods="flatten"),
    *aliases("flatten", partial(flatten, start_dim=1), modules=[nn.Flatten], attributes="start_dim end_dim"),
    *aliases("permute", permute, functions=[torch.permute], methods="permute"),
    *aliases("permute", movedim, functions=[torch.movedim, torch.moveaxis], methods="movedim moveaxis"),
    *aliases("transpose", transpose, functions=[torch.transpose, torch.swapaxes, torch.swapdims],
             methods="transpose swapaxes swapdims"),
    *aliases("transpose", matrix_transpose, functions=[torch.t], methods="t"),
    *aliases("slice", narrow, functions=[torch.narrow], methods="narrow"),
    *aliases("slice", chunk, functions=[torch.chunk], methods="chunk"),
    *aliases("slice", torch_split, functions=[torch.split]),
    *aliases("slice", method_split, methods="split"),
    *aliases("slice", getitem, functions=[operator.getitem], methods="__getitem__"),
    *aliases("slice", glu, functions=[F.glu], modules=[nn.GLU], attributes="dim"),
    *aliases("select", select, functions=[torch.select], methods="select"),
    *aliases("select", unbind, functions=[torch.unbind], methods="unbind"),
    *aliases("squeeze", squeeze, functions=[torch.squeeze], methods="squeeze"),
    *aliases("unsqueeze", unsqueeze, functions=[torch.unsqueeze], methods="unsqueeze"),
    *aliases("expand", expand, methods="expand"),
    *aliases("expand", expand_as, methods="expand_as"),
    *aliases("expand", repeat, methods="repeat"),
    *aten("expand", repeat, "repeat"),
    *aliases("expand", repeat_interleave, functions=[torch.repeat_interleave], methods="repeat_interleave"),
    *aten("expand", repeat_interleave, "repeat_interleave.self_int"),
    *aliases("windows", unfold, methods="unfold"),
    *aten("windows", unfold, "unfold"),
    *aliases("windows", columns, functions=[F.unfold]),
    *aliases("windows", columns, modules=[nn.Unfold], attributes="kernel_size dilation padding stride"),
    *aten("windows", columns, "im2col"),
    *aliases("cat", roll, functions=[torch.roll], methods="roll"),
    *aten("cat", roll, "roll"),
    *aliases("sub", diff, functions=[torch.diff], methods="diff"),
    *aten("sub", diff, "diff"),
    *aliases("size", tensor_attribute, functions=[getattr]),
    *aliases("size", size, methods="size"),
    *aliases("size", dim_count, methods="dim ndimension"),
    *aliases("size", numel, functions=[torch.numel], methods="numel nelement"),
    *aliases("", dropout, functions=_DROPOUTS),
    *aliases("", _fixed, modules=(*_DROPOUTS.values(), nn.Identity), takes_module=True),
    *aliases("", clone, functions=[torch.clone], methods="clone"),
    *aliases("", same, methods="contiguous detach"),
    *aliases("", convert, methods="to type_as"),
    *aliases("", to_float, methods="float"),
    *aliases("cast", to_long, methods="long"),
    *aliases("cast", to_int, methods="int"),
    *aliases("cast", to_bool, methods="bool"),
    *aliases("", to_cpu, methods="cpu"),
    *aten("cat", cat, "cat concat concatenate"),
    *aten("stack", stack, "stack"),
    *aten("reshape", reshape, "view reshape _unsafe_view view.dtype"),
    *aten("reshape", reshape_as, "view_as reshape_as"),
    *aten("reshape", unflatten, "unflatten.int"),
    *aten("flatten", flatten, "flatten.using_ints"),
    *aten("permute", permute, "permute"),
    *aten("permute", movedim, "movedim.int movedim.intlist moveaxis.int moveaxis.intlist"),
    *aten("transpose", transpose, "transpose.int swapaxes swapdims"),
    *aten("transpose", matrix_transpose, "t numpy_T"),
    *aten("transpose", partial(transpose, dim0=-2, dim1=-1), "mT"),
    *aten("slice", aten_slice, "slice.Tensor"),
    *aten("slice", narrow, "narrow"),
    *aten("slice", chunk, "chunk unsafe_chunk"),
    *aten("slice", aten_split, "split.Tensor split.sizes split_with_sizes unsafe_split.Tensor unsafe_split_with_sizes"),
    *aten("slice", glu, "glu"),
    *aten("select", select, "select.int"),
    *aten("select", unbind, "unbind.int"),
    *aten("squeeze", squeeze, "squeeze squeeze.dim squeeze.dims"),
    *aten("unsqueeze", unsqueeze, "unsqueeze"),
    *aten("expand", aten_expand, "expand"),
    *aten("expand", expand_as, "expand_as"),
    *aten("size", size, "sym_size.int size.int"),
    *aten("size", numel, "sym_numel"),
    *aten("", dropout, "dropout dropout_ feature_dropout alpha_dropout feature_alpha_dropout"),
    *aten("", _aten_same, "clone contiguous detach detach_ alias lift lift_fresh lift_fresh_copy"),
    *aten("", aten_to, "to.dtype to.device to.other to.dtype_layout to.prim_Device to.prim_dtype _to_copy type_as"),
)  # fmt: skip
