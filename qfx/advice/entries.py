"""Entries of a qconfig_dict that reach given ops and no others, and how they join a user's dict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

from torch import fx

from qfx.arguments import explained
from qfx.passes.resolve import Spelling
from qfx.quantization.qconfig import QConfig
from qfx.quantization.qconfig_dict import parse_qconfig_dict

Entry: TypeAlias = dict[str, Any]
"""A part of a qconfig_dict, to be merged into one."""

_KEYS = {"object_type": 1, "module_name_regex": 1, "module_name": 1, "module_name_object_type_order": 3}


@explained
def merge_qconfig_dict(qconfig_dict: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """``qconfig_dict`` with ``entry`` in it; where both name the same thing, the entry's qconfig holds.

    Args:
        qconfig_dict: Any; it is not changed.
        entry: What :func:`qfx.suggest` or :meth:`qfx.Sensitivity.as_qconfig_dict` gives, or any other qconfig_dict.

    Returns:
        A new dict whose lists are ``[(key, qconfig), ...]``. Patterns of the entry go in front: the first holds.

    Raises:
        QConfigError: One of the two is malformed.
    """
    for given in (qconfig_dict, entry):
        parse_qconfig_dict(given)
    merged = dict(qconfig_dict)
    for key, value in entry.items():
        if key not in _KEYS:
            merged[key] = value if key == "" else [*dict.fromkeys([*merged.get(key, ()), *value])]
            continue
        ours, theirs = _rows(merged.get(key, ()), _KEYS[key]), _rows(value, _KEYS[key])
        rows = theirs | {k: v for k, v in ours.items() if k not in theirs} if "regex" in key else ours | theirs
        merged[key] = [(*k, v) for k, v in rows.items()]
    return merged


def _rows(section: Any, keys: int) -> dict[tuple[Any, ...], QConfig | None]:
    if isinstance(section, Mapping):
        return {(k if keys > 1 else (k,)): v for k, v in section.items()}
    return {tuple(row[:-1]): row[-1] for row in section}


def entry_for(ops: Collection[str], qconfig: QConfig | None, spellings: Mapping[str, Spelling]) -> Entry:
    """The entry that gives ``qconfig`` to ``ops``, by node name, and to nothing else.

    A module by its path, if everything that it calls is among the ops; anything else by its place in its caller.
    """
    wanted = {spellings[name] for name in ops if name in spellings}
    others = {s for s in spellings.values() if s not in wanted}
    paths: dict[tuple[str], QConfig | None] = {}
    orders: dict[tuple[Any, ...], QConfig | None] = {}
    for spelling in sorted(wanted, key=lambda s: (s.path, s.order)):
        if isinstance(spelling.kind, type) and spelling.path and not any(_below(o.path, spelling.path) for o in others):
            paths[spelling.path,] = qconfig
        else:
            orders[spelling.owner, spelling.kind, spelling.order] = qconfig
    entry: Entry = {}
    if paths:
        entry["module_name"] = [(*k, v) for k, v in paths.items()]
    if orders:
        entry["module_name_object_type_order"] = [(*k, v) for k, v in orders.items()]
    return entry


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def with_fused(nodes: Iterable[fx.Node]) -> list[str]:
    """Names of ``nodes`` of a fused graph and of what is fused into them, as before it was."""
    return [name for n in nodes for name in (n.name, *(fused for _, fused in n.meta.get("fused", ())))]
