"""qconfig_dict to node: which qconfig each op of the graph gets, and from which entry. Pure."""

from __future__ import annotations

import difflib
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from qfx.errors import QConfigError, UnusedEntryWarning
from qfx.ir.nodes import NO_ENTRY
from qfx.quantization.qconfig import QConfig
from qfx.quantization.qconfig_dict import ObjectType, QConfigRules, parse_qconfig_dict, type_name

__all__ = [
    "QConfigRules", "Resolution", "Spelled", "Spelling", "parse_qconfig_dict", "resolve", "spellings_of",
]  # fmt: skip

Resolution = tuple[QConfig | None, str]


@dataclass(frozen=True)
class _Op:
    """An op as the rules see it.

    Attributes:
        node: Name of the graph node.
        path: Module path: of the module itself when the user wrote a module, else of the module whose forward ran.
        spelling: What the user wrote: a module class, a function, or a method name.
        classes: Classes of the modules around it, innermost first.
        owner: Path of the module in whose forward the op is called.
        order: How many ops of this spelling come before it in the owner.
    """

    node: str
    path: str
    spelling: object
    classes: tuple[type, ...]
    owner: str
    order: int

    def is_a(self, kind: ObjectType) -> bool:
        """Whether the user's spelling is ``kind``, or a subclass of it."""
        if isinstance(kind, type) and isinstance(self.spelling, type):
            return issubclass(self.spelling, kind)
        return self.spelling == kind


@dataclass(frozen=True)
class Spelled:
    """What the user's model has beside the ops in the graph, so that a rule for it is no mistake.

    Attributes:
        modules: Class of every module by path, as ``{name: type(m) for name, m in model.named_modules()}``.
        operations: Functions and method names that the model calls and that passes have removed or fused.
    """

    modules: Mapping[str, type] = field(default_factory=dict)
    operations: frozenset[object] = frozenset()


@dataclass(frozen=True)
class Spelling:
    """How an entry of a qconfig_dict names one op.

    Attributes:
        path: Its module path, for ``module_name``.
        owner: Path of the module that calls it, for ``module_name_object_type_order``.
        kind: The user's spelling: a module class, a function, or a method name.
        order: How many calls of this spelling come before it in the owner.
    """

    path: str
    owner: str
    kind: ObjectType
    order: int


def spellings_of(graph: fx.Graph, spelled: Spelled | None = None) -> dict[str, Spelling]:
    """The spelling of every op of a Normal graph in which nothing is fused yet, by node name."""
    ops = _ops(graph, (spelled or Spelled()).modules)
    kinds: dict[str, Any] = {op.node: op.spelling for op in ops}
    return {op.node: Spelling(op.path, op.owner, kinds[op.node], op.order) for op in ops}


def resolve(
    gm: fx.GraphModule, rules: QConfigRules, spelled: Spelled | None = None, layers: Mapping[str, type] | None = None
) -> dict[str, Resolution]:
    """The qconfig of every op (``call_function`` and ``call_module`` nodes), by node name, with the rule it comes from.

    In increasing priority: ``""``, ``object_type``, ``module_name_regex``, ``module_name``,
    ``module_name_object_type_order``. Within ``object_type`` the op's own spelling counts before the modules around
    it, and those from the inside out. Within ``module_name`` the deepest path wins. A pattern is matched from the
    start of the path, and the first that matches wins. An order index counts the ops of one spelling that the
    module calls itself, in graph order.

    Reads ``module_path``, ``alias``, ``module_class`` and ``call`` (the same for all nodes that stand for one call of
    the user's) of ``node.meta``; changes nothing. Entries may also name ``layers``, which
    :func:`resolve_inside` resolves.

    Raises:
        QConfigError: A name, pattern or type that matches nothing in the model; the nearest are listed. A warning for
            types where one mapping serves many models.
    """
    spelled = spelled or Spelled()
    ops = _ops(gm.graph, spelled.modules)
    _check_all_match(rules, ops + _inner_ops(ops, layers or {}, spelled.modules), spelled)
    return {op.node: _resolve(op, rules) for op in ops}


def resolve_inside(
    gm: fx.GraphModule, layers: Mapping[str, type], rules: QConfigRules, spelled: Spelled
) -> dict[str, Resolution]:
    """The qconfig of layers that opaque nodes call inside of them: by path, with the rule it comes from.

    Args:
        gm, rules, spelled: As for :func:`resolve`.
        layers: Class of each layer by module path.
    """
    ops = _inner_ops(_ops(gm.graph, spelled.modules), layers, spelled.modules)
    return {op.path: _resolve(op, rules) for op in ops}


def _resolve(op: _Op, rules: QConfigRules) -> Resolution:
    for find in (_by_order, _by_name, _by_pattern, _by_type):
        found = find(op, rules)
        if found is not None:
            return found
    return rules.default, '""' if rules.default is not None else NO_ENTRY


def _by_order(op: _Op, rules: QConfigRules) -> Resolution | None:
    for (path, kind, order), qconfig in rules.module_name_object_type_order:
        if op.owner == path and op.order == order and op.is_a(kind):
            return qconfig, f"module_name_object_type_order ({path!r}, {type_name(kind)}, {order})"
    return None


def _by_name(op: _Op, rules: QConfigRules) -> Resolution | None:
    named = dict(rules.module_name)
    for path in _prefixes(op.path):
        if path in named:
            return named[path], f"module_name {path!r}"
    return None


def _by_pattern(op: _Op, rules: QConfigRules) -> Resolution | None:
    for pattern, qconfig in rules.module_name_regex:
        if re.match(pattern, op.path):
            return qconfig, f"module_name_regex {pattern!r}"
    return None


def _by_type(op: _Op, rules: QConfigRules) -> Resolution | None:
    exact = [(kind, qconfig) for kind, qconfig in rules.object_type if op.spelling == kind]
    derived = [(kind, qconfig) for kind, qconfig in rules.object_type if op.is_a(kind)]
    around = [(k, q) for c in op.classes for k, q in rules.object_type if isinstance(k, type) and issubclass(c, k)]
    for kind, qconfig in exact + derived + around:
        return qconfig, f"object_type {type_name(kind)}"
    return None


def _ops(graph: fx.Graph, modules: Mapping[str, type]) -> list[_Op]:
    counts: Counter[tuple[str, object]] = Counter()
    orders: dict[tuple[str, object], int] = {}
    ops = []
    for node in graph.nodes:
        if node.op in ("call_function", "call_module", "call_method"):
            path = node.meta.get("module_path", "")
            spelling = node.meta.get("alias", node.target)
            owner = _parent(path) if isinstance(spelling, type) else path
            call = (node.meta.get("call", node.name), spelling)
            if call not in orders:
                orders[call] = counts[owner, spelling]
                counts[owner, spelling] += 1
            ops.append(_Op(node.name, path, spelling, _classes(node, path, modules), owner, orders[call]))
    return ops


def _inner_ops(ops: list[_Op], layers: Mapping[str, type], modules: Mapping[str, type]) -> list[_Op]:
    """Layers inside of islands as ops; order indices go on behind those of ``ops``, in the order of ``layers``."""
    counts = Counter((op.owner, op.spelling) for op in ops)
    found = []
    for path, cls in layers.items():
        around = [modules[p] for p in _prefixes(path) if p in modules]
        owner = _parent(path)
        found.append(_Op(path, path, cls, tuple(dict.fromkeys([cls, *around])), owner, counts[owner, cls]))
        counts[owner, cls] += 1
    return found


def _classes(node: fx.Node, path: str, modules: Mapping[str, type]) -> tuple[type, ...]:
    own = node.meta.get("module_class")
    around = [modules[p] for p in _prefixes(path) if p in modules]
    return tuple(dict.fromkeys(([own] if isinstance(own, type) else []) + around))


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _prefixes(path: str) -> list[str]:
    """``"a.b"`` → ``["a.b", "a", ""]``: the path and the modules around it, deepest first."""
    parts = path.split(".") if path else []
    return [".".join(parts[:n]) for n in range(len(parts), -1, -1)]


def _check_all_match(rules: QConfigRules, ops: list[_Op], spelled: Spelled) -> None:
    paths = {prefix for path in [*spelled.modules, *(op.path for op in ops)] for prefix in _prefixes(path)}
    classes = {c for op in ops for c in op.classes} | set(spelled.modules.values())
    operations = {op.spelling for op in ops} | classes | spelled.operations
    for name, _ in rules.module_name:
        if name not in paths:
            raise _no_match("module_name", name, "the model has no module of this name", sorted(paths))
    for name in rules.non_traceable_module_name:
        if name not in paths:
            raise _no_match("non_traceable_module_name", name, "the model has no module of this name", sorted(paths))
    for pattern, _ in rules.module_name_regex:
        if not any(re.match(pattern, path) for path in paths):
            raise _no_match("module_name_regex", pattern, "no module's path starts with this pattern", sorted(paths))
    for kind in [kind for kind, _ in rules.object_type] + list(rules.non_traceable_module_class):
        if not any(_is_kind(operation, kind) for operation in operations):
            section = "object_type" if kind in [k for k, _ in rules.object_type] else "non_traceable_module_class"
            why, known = "the model has no such operation", sorted(map(type_name, operations))
            if not rules.shared:
                raise _no_match(section, type_name(kind), why, known)
            unused = UnusedEntryWarning(
                f"The QConfigMapping names {type_name(kind)!r}, which matches nothing.",
                why=why,
                remedy="Nothing, if the mapping serves other models too; else a type of this model.",
            )
            warnings.warn(unused, stacklevel=2)
    for (path, kind, order), _ in rules.module_name_object_type_order:
        _check_order(path, kind, order, ops, sorted(paths))


def _check_order(path: str, kind: ObjectType, order: int, ops: list[_Op], paths: list[str]) -> None:
    section = "module_name_object_type_order"
    if path not in paths:
        raise _no_match(section, path, "the model has no module of this name", paths)
    inside = [op for op in ops if op.owner == path]
    if not any(op.is_a(kind) for op in inside):
        near = sorted({type_name(op.spelling) for op in inside})
        raise _no_match(section, type_name(kind), f"the module {path!r} calls no such operation itself", near)
    if not any(op.is_a(kind) and op.order == order for op in inside):
        total = sum(op.is_a(kind) for op in inside)
        raise QConfigError(
            f"qconfig_dict[{section!r}] names {type_name(kind)} number {order} of {path!r}, which has {total}.",
            remedy=f"Use an index from 0 to {total - 1}.",
        )


def _is_kind(operation: object, kind: ObjectType) -> bool:
    if isinstance(operation, type) and isinstance(kind, type):
        return issubclass(operation, kind)
    return operation == kind


def _no_match(section: str, key: str, why: str, known: list[str]) -> QConfigError:
    known = [name for name in known if name]
    near = difflib.get_close_matches(key, known, n=5, cutoff=0.4) or known[:5]
    return QConfigError(
        f"qconfig_dict[{section!r}] names {key!r}, which matches nothing.",
        why=why,
        remedy=f"Nearest: {', '.join(near)}." if near else "The model has no operations.",
    )
