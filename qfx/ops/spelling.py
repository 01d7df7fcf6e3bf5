"""What an alias is: one way users spell an op, and the rule from that spelling's arguments to a term."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from qfx.ops.dtypes import is_floating
from qfx.ops.extents import is_dim
from qfx.ops.terms import Attr, NotNormal, Pieces, Shape

Spelling: TypeAlias = type[nn.Module] | Callable[..., Any] | str
"""A module class, a function, or the name of a tensor method."""


@dataclass(frozen=True)
class Alias:
    """One spelling of one row.

    Attributes:
        op: The row that it normalizes to; "" when the call disappears.
        spelling: A module class, a function, or the name of a tensor method.
        rule: Its parameters are those of the spelling (for a module: ``forward``'s); returns a term, a value, or
            a tuple of them, and raises NotNormal for arguments that the row can't express.
        attributes: For a module: the attributes passed to the rule by name, tensors as :class:`Attr`.
        takes_module: Whether the rule's first argument is the module itself.
    """

    op: str
    spelling: Spelling
    rule: Callable[..., Any]
    attributes: tuple[str, ...] = ()
    takes_module: bool = False

    @property
    def name(self) -> str:
        """``nn.ReLU``, ``relu_()`` or ``torch.nn.functional.relu``, for messages and tests."""
        if isinstance(self.spelling, str):
            return f".{self.spelling}()"
        module = getattr(self.spelling, "__module__", None) or "torch"
        return f"{module}.{getattr(self.spelling, '__name__', self.spelling)}"

    def apply(self, module: nn.Module | None, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The rule on a call's arguments.

        Raises:
            NotNormal: The row can't express this call.
        """
        if module is not None:
            kwargs = {**kwargs, **{name: _attribute(module, name) for name in self.attributes}}
            args = (module, *args) if self.takes_module else args
        try:
            bound = inspect.signature(self.rule).bind(*args, **kwargs)
        except TypeError as error:
            raise NotNormal(f"its arguments are not those of {self.name} ({error})") from None
        return self.rule(*bound.args, **bound.kwargs)


def _attribute(module: nn.Module, name: str) -> Any:
    value = getattr(module, name)
    return Attr(name) if isinstance(value, Tensor) else value


def aliases(
    op: str,
    rule: Callable[..., Any],
    *,
    functions: Iterable[Callable[..., Any]] = (),
    methods: str = "",
    modules: Iterable[type[nn.Module]] = (),
    attributes: str = "",
    takes_module: bool = False,
) -> list[Alias]:
    """Rows of one op that share a rule; ``methods`` and ``attributes`` are names separated by blanks."""
    rows = [Alias(op, function, rule) for function in functions]
    rows += [Alias(op, method, rule) for method in methods.split()]
    rows += [Alias(op, module, rule, tuple(attributes.split()), takes_module) for module in modules]
    return rows


def overload(name: str) -> Callable[..., Any]:
    """The op of ``"mean.dim"`` or, with the overload ``default``, of ``"relu"``."""
    packet, _, kind = name.partition(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), kind or "default")
    return found


def aten(op: str, rule: Callable[..., Any], names: str) -> list[Alias]:
    """Spellings of one op in ``torch.ops.aten`` that share a rule; ``names`` as in :func:`overload`, between blanks."""
    return aliases(op, rule, functions=[overload(name) for name in names.split()])


def first(rule: Callable[..., Any], count: int = 3) -> Callable[..., Any]:
    """``rule`` for an op that returns a tuple of which only the first item has a row."""
    return partial(_first, rule, count)


def _first(rule: Callable[..., Any], count: int, *args: Any) -> Pieces:
    def piece(index: int) -> Any:
        require(index == 0, "it uses a result that only training needs, or indices")
        return rule(*args)

    rule(*args)
    return Pieces(piece, count)


def is_number(value: object) -> bool:
    """Whether ``value`` is a Python number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_tensor(value: object) -> bool:
    """Whether ``value`` stands for a tensor."""
    return isinstance(value, (fx.Node, Attr, Tensor)) and not is_dim(value) and not is_computed_number(value)


def is_computed_number(value: object) -> bool:
    """Whether ``value`` is a node outside the table that computes a Python number, from dim values or as was seen."""
    if isinstance(value, fx.Node) and "opaque_reason" in value.meta and value.meta.get("number", False):
        return True
    if not isinstance(value, fx.Node) or "opaque_reason" not in value.meta or not value.all_input_nodes:
        return False
    if value.target is getattr:
        return value.args[1] == "shape"
    return is_arithmetic(value.target) and all(is_dim(x) or is_computed_number(x) for x in value.all_input_nodes)


def is_arithmetic(function: object) -> bool:
    """Whether ``function`` is one of Python's own, or torch's, on numbers."""
    owner, name = getattr(function, "__module__", ""), str(getattr(function, "__name__", ""))
    return owner in ("_operator", "math", "builtins") or (owner == "torch" and name.lstrip("_").startswith("sym_"))


def require_tensor(*values: object) -> None:
    """Raises NotNormal unless every value is a tensor."""
    for value in values:
        if not is_tensor(value):
            raise NotNormal(f"an operand is {_sort(value)}, not a tensor")


def _sort(value: object) -> str:
    if not isinstance(value, fx.Node):
        return type(value).__name__
    return "a number that the code computes" if value.meta.get("number", False) else "a number computed from shapes"


def require(condition: bool, reason: str) -> None:
    """Raises NotNormal with ``reason`` unless ``condition``."""
    if not condition:
        raise NotNormal(reason)


def ntuple(value: Any, length: int) -> tuple[Any, ...]:
    """``value`` for each of ``length`` dims."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * length if len(values) == 1 else values


def finite(value: Any) -> float:
    """``value`` as a float.

    Raises:
        NotNormal: It is not a finite Python number.
    """
    require(is_number(value) and math.isfinite(value), f"{value!r} is not a finite number")
    return float(value)


def scalar_for(x: Any, value: Any) -> int | float:
    """The number that meets tensor ``x``: a float, but as written where ``x`` may be integers, which a float converts.

    Raises:
        NotNormal: It is not a finite Python number.
    """
    number = finite(value)
    exact: int | float = value
    return number if is_floating(x) else exact


def dims_of(shape: Sequence[Any]) -> tuple[Any, ...]:
    """The entries of a shape given as ``(a, b)``, ``((a, b),)`` or ``(x.shape,)``."""
    if len(shape) == 1 and isinstance(shape[0], Shape):
        return shape[0].entries()
    entries = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else tuple(shape)
    require(not any(isinstance(entry, (Shape, tuple, list)) for entry in entries), "its shape is nested")
    require(
        not any(isinstance(entry, fx.Node) and not is_dim(entry) for entry in entries),
        "a dim is computed by code outside the table",
    )
    return entries
