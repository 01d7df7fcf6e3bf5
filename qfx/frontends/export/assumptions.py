"""What an exported program takes for granted about its inputs, as guards.

``torch.export`` says it in three places: the sizes of its inputs as expressions, ranges of the symbols in these, and
the conditions that the code asked for, as Python.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from qfx.errors import CaptureError
from qfx.frontends.export.program import Named, Program, fixed_extent
from qfx.guards import OPERATIONS, Expression, Guard, Path, keys_of, structure


def named_inputs(program: Program, parameters: Sequence[str]) -> list[tuple[str, Any]]:
    """Every argument of the model by name: the name of a placeholder, or a container of such.

    Args:
        program: What was exported.
        parameters: Names of the arguments of ``forward``, as far as they are known.

    Raises:
        CaptureError: An input is of a kind that no graph takes.
    """
    try:
        args, kwargs = pytree.tree_unflatten([Named(str(name)) for name in program.inputs], program.in_spec)
    except KeyError as error:  # torch.export takes modules apart, and forgets how
        raise CaptureError(
            f"An input is a {getattr(error.args[0], '__name__', error.args[0])}.",
            why="A graph takes tensors and numbers, in lists, tuples and dicts.",
            remedy="Make it an attribute of the model, or leave it out of the example inputs for its default.",
        ) from error
    names = list(parameters or program.names)
    for index in range(len(names), len(args)):
        names.append(str(getattr(args[index], "name", f"input_{index}")))
    return [*zip(names, args, strict=False), *kwargs.items()]


def guards_of(program: Program, inputs: Sequence[tuple[str, Any]]) -> tuple[Guard, ...]:
    """The facts about ``inputs``, which are from :func:`named_inputs`."""
    values = {node.name: node.meta.get("val") for node in program.graph_module.graph.find_nodes(op="placeholder")}
    found: list[Guard] = []
    leaves: list[tuple[Path, Any]] = []
    for name, tree in inputs:
        example = pytree.tree_map_only(Named, lambda leaf: values.get(leaf.name), tree, is_leaf=_is_named)
        found += structure((name,), example, exact=True)
        leaves += _leaves((name,), example)
    tensors = [(path, value) for path, value in leaves if isinstance(value, Tensor)]
    try:
        relations = _relations(program, tensors, [path for path, _ in leaves])
        sizes = [(path, tuple(map(fixed_extent, value.shape))) for path, value in tensors]
    except _UnreadableError:
        relations, sizes = [], [(path, tuple(map(_seen, value.shape))) for path, value in tensors]
    found += [Guard("sizes", path, shape) for path, shape in sizes if set(shape) - {None}]
    known = dict(sizes)
    return (*found, *(Guard("relation", (), r) for r in dict.fromkeys(relations) if not _says_size(r, known)))


def _is_named(value: Any) -> bool:
    return isinstance(value, Named)


def _seen(extent: Any) -> int:
    return int(extent.node.hint) if isinstance(extent, torch.SymInt) else int(extent)


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """Every leaf in the order of the flat inputs."""
    if isinstance(value, (list, tuple, Mapping)):
        for key in keys_of(value):
            yield from _leaves((*path, key), value[key])
    else:
        yield path, value


class _UnreadableError(Exception):
    """A condition that this module does not know the words of."""


def _relations(program: Program, tensors: Sequence[tuple[Path, Tensor]], flat: Sequence[Path]) -> list[Expression]:
    symbols: dict[Any, Expression] = {}
    dims: list[tuple[Any, Expression]] = [
        (extent.node.expr, ("size", path, dim)) for path, value in tensors
        for dim, extent in enumerate[Any](value.shape) if isinstance(extent, torch.SymInt)
    ]  # fmt: skip
    dims = [(expression, dim) for expression, dim in dims if not expression.is_number]
    found: list[Expression] = []
    for expression, dim in sorted(dims, key=lambda pair: not pair[0].is_Symbol):
        solved = _solved(expression, dim, symbols)
        if solved is None:
            found.append(("==", dim, _translated(ast.parse(str(expression), mode="eval").body, symbols, flat)))
        else:
            symbols[solved[0]] = solved[1]
            found += solved[2]
    for symbol, bounds in program.ranges.items():
        if symbol in symbols:
            found += _bounds(symbols[symbol], bounds, program.least)
    for length in program.longer:  # the 1 in front: lengths_of_one.py lets none of these go
        found.append(("!=", 1, _translated(ast.parse(str(length), mode="eval").body, symbols, flat)))
    idle: set[Expression] = set()
    for condition in program.idle:
        with contextlib.suppress(_UnreadableError):  # of a length that is fixed by now
            idle.add(_ordered(_translated(ast.parse(str(condition), mode="eval").body, symbols, flat)))
    asked = [_translated(ast.parse(condition, mode="eval").body, symbols, flat) for condition in program.conditions]
    asked = [condition for condition in asked if _ordered(condition) not in idle]
    once = {_ordered(condition): condition for condition in [*found, *asked]}
    return list(once.values())


def _ordered(expression: Expression) -> Expression:
    """Equal for expressions that say the same in another order."""
    if not isinstance(expression, tuple) or expression[0] == "size":
        return expression
    name, *operands = expression
    turned = {">": "<", ">=": "<="}.get(name)
    if turned is not None:
        name, operands = turned, operands[::-1]
    if name == "<" and isinstance(operands[0], int):  # lengths are integers
        name, operands = "<=", [operands[0] + 1, operands[1]]
    if name in ("+", "*"):
        operands = sorted(_flat(name, expression), key=repr)
    return (name, *map(_ordered, operands))


def _flat(name: str, expression: Expression) -> list[Expression]:
    """The operands of nested sums or products."""
    if not isinstance(expression, tuple) or expression[0] != name:
        return [expression]
    return [operand for part in expression[1:] for operand in _flat(name, part)]


def _solved(expression: Any, dim: Expression, symbols: Mapping[Any, Expression]) -> Any:
    """The symbol that ``dim``, of length ``expression``, is the first to say, its value, and what must be so for it."""
    unknown = [symbol for symbol in expression.free_symbols if symbol not in symbols]
    if expression.is_Symbol and unknown:
        return expression, dim, []
    if len(expression.free_symbols) != 1 or not unknown or not expression.is_polynomial(unknown[0]):
        return None
    symbol = unknown[0]
    factor, rest = expression.coeff(symbol, 1), expression.coeff(symbol, 0)
    if (expression - factor * symbol - rest).simplify() != 0 or not (factor.is_Integer and rest.is_Integer):
        return None
    scaled = ("-", dim, int(rest)) if rest else dim
    return symbol, ("//", scaled, int(factor)), [("==", ("%", scaled, int(factor)), 0)]


def _bounds(value: Expression, bounds: Any, least: int) -> list[Expression]:
    lower, upper = bounds.lower, bounds.upper
    found: list[Expression] = []
    if lower.is_Integer and int(lower) >= least:
        found.append((">=", value, int(lower)))
    if upper.is_Integer:
        found.append(("<=", value, int(upper)))
    return found


_BINARY = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%", ast.Div: "/",
}  # fmt: skip
_COMPARISONS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_FUNCTIONS = {
    "max": "max", "min": "min", "Max": "max", "Min": "min", "math.trunc": "trunc", "math.floor": "floor",
    "math.ceil": "ceil", "torch.sym_float": "float", "torch.sym_int": "int", "float": "float", "int": "int",
    "abs": "abs", "math.sqrt": "sqrt", "torch._sym_sqrt": "sqrt", "torch.sym_max": "max", "torch.sym_min": "min",
    "FloorDiv": "//", "Mod": "%", "PythonMod": "%", "IntTrueDiv": "/", "FloatTrueDiv": "/", "ToFloat": "float",
    "TruncToInt": "trunc", "FloorToInt": "floor", "CeilToInt": "ceil", "Ne": "!=", "Eq": "==",
}  # fmt: skip
"""What the exporter calls the operations of a relation."""


def _translated(code: ast.AST, symbols: Mapping[Any, Expression], flat: Sequence[Path]) -> Expression:
    def inner(node: ast.AST) -> Expression:
        return _translated(node, symbols, flat)

    match code:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)], inner(left), inner(right)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = inner(operand)
            return ("neg", value) if isinstance(value, tuple) else -value
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return "not", inner(operand)
        case ast.BoolOp(op=op, values=[first, *others]):
            name, joined = "and" if isinstance(op, ast.And) else "or", inner(first)
            for other in others:
                joined = (name, joined, inner(other))
            return joined
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARISONS for op in ops):
            values = [inner(left), *map(inner, comparators)]
            pairs = [(_COMPARISONS[type(op)], a, b) for op, a, b in zip(ops, values, values[1:], strict=False)]
            joined = pairs[0]
            for pair in pairs[1:]:
                joined = ("and", joined, pair)
            return joined
        case ast.Call(func=func, args=args) if ast.unparse(func) in _FUNCTIONS:
            name, operands = _FUNCTIONS[ast.unparse(func)], [inner(arg) for arg in args]
            while len(operands) > OPERATIONS[name][1].count("{}"):
                operands = [(name, operands[0], operands[1]), *operands[2:]]
            return (name, *operands)
        case ast.Subscript(value=ast.Call(func=ast.Attribute(value=owner, attr="size")), slice=ast.Constant(value=dim)):
            return "size", _path(owner, flat), dim
        case ast.Name(id=name):
            found = next((value for symbol, value in symbols.items() if str(symbol) == name), None)
            if found is not None:
                return found
    raise _UnreadableError(ast.unparse(code))


def _path(code: ast.AST, flat: Sequence[Path]) -> Path:
    """The input of ``L['x'][0]``, or of ``L['flat_args'][0]``."""
    keys: list[Any] = []
    while isinstance(code, ast.Subscript) and isinstance(code.slice, ast.Constant):
        keys.insert(0, code.slice.value)
        code = code.value
    if not isinstance(code, ast.Name) or code.id != "L":
        raise _UnreadableError(ast.unparse(code))
    path = flat[keys[1]] if keys[:1] == ["flat_args"] and len(keys) == 2 else tuple(keys)
    if path not in flat:
        raise _UnreadableError(f"{path}")
    return path


def _says_size(relation: Expression, sizes: Mapping[Path, tuple[int | None, ...]]) -> bool:
    """Whether a relation only says what the sizes of its input say."""
    name, *operands = relation
    if name != "==" or len(operands) != 2:
        return False
    for dim, value in (operands, operands[::-1]):
        if isinstance(dim, tuple) and dim[0] == "size" and isinstance(value, int):
            return sizes[dim[1]][dim[2]] == value
    return False
