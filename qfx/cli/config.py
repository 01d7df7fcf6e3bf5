"""Configuration files: a qconfig_dict with qconfigs and types by name."""

from __future__ import annotations

import difflib
import functools
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import qfx
from qfx.cli.formats import read_config
from qfx.cli.observers import observer_factory
from qfx.errors import InputError, QConfigError
from qfx.quantization.qconfig import QConfig, QConfigDynamic, get_default_qconfig


def load_qconfig_dict(path: Path) -> dict[str, Any]:
    """The qconfig_dict that a ``.json``, ``.toml`` or ``.yaml`` file spells, with qconfigs and types by name.

    A qconfig is the name of a backend (``"default"``, ``"fbgemm"``, ``"qnnpack"``, ...), of a qconfig of qfx
    (``"default_per_channel_qconfig"``), a table ``{activation, weight}`` of observers, or ``null`` or ``"float"`` for
    none. A type is a dotted name (``"torch.nn.Linear"``), a method's name stays a string.

    Raises:
        InputError: The file can't be read.
        QConfigError: A name that means nothing.
    """
    return qconfig_dict_of(read_config(path), repr(str(path)))


def qconfig_dict_of(content: Any, where: str) -> dict[str, Any]:
    """The qconfig_dict that the content of a configuration file spells.

    Raises:
        QConfigError: A name that means nothing.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where} holds no table.", remedy='Write {"": "default"} for the whole model.')
    return {key: _section(key, value) for key, value in content.items()}


_TYPE_AT = {"object_type": 0, "module_name_object_type_order": 1}
"""Which item of a section's rows is a type."""

_ROWS = (*_TYPE_AT, "module_name", "module_name_regex")


def _section(key: str, value: Any) -> Any:
    if key == "":
        return _qconfig(value)
    if key == "non_traceable_module_class" and isinstance(value, list):
        return [_type(name) for name in value]
    if key not in _ROWS:
        return value
    rows = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, (list, tuple)) and row for row in rows):
        return value  # the qconfig_dict's own check says what is wrong
    at = _TYPE_AT.get(key)
    return [(*(_type(v) if i == at else v for i, v in enumerate(row[:-1])), _qconfig(row[-1])) for row in rows]


def _qconfig(value: Any) -> QConfig | None:
    if value is None or value == "float":
        return None
    if isinstance(value, Mapping):
        return _qconfig_of_table(json.dumps(value, sort_keys=True, default=str))
    if not isinstance(value, str):
        raise QConfigError(
            f"{value!r} is the name of no qconfig.",
            remedy='Write "default", a backend, a qconfig of qfx such as "default_per_channel_qconfig", a table '
            'such as {"activation": "HistogramObserver", "weight": "default_weight_observer"}, or null.',
        )
    return _named_qconfig(value)


@functools.cache  # layers of one name are configured alike, which lets them fuse
def _named_qconfig(name: str) -> QConfig:
    if name == "default":
        return get_default_qconfig()
    found = getattr(qfx, name, None) if name.isidentifier() else None
    if isinstance(found, QConfig):
        return found
    near = difflib.get_close_matches(name, [n for n in dir(qfx) if n.endswith("qconfig") and "get" not in n], n=1)
    if name.endswith("_qconfig") and near:
        raise QConfigError(f"There is no qconfig named {name!r}.", remedy=f"Did you mean {near[0]!r}?")
    return get_default_qconfig(name)


_FIELDS = ("activation", "weight")


@functools.cache
def _qconfig_of_table(text: str) -> QConfig:
    """A qconfig of observers by name: ``{"activation": ..., "weight": ...}``; dynamic without activation."""
    table = json.loads(text)
    for key in table:
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, n=1)
            raise QConfigError(
                f"A qconfig has no {key!r}.",
                why=f"Did you mean {near[0]!r}?" if near else None,
                remedy='Write {"activation": ..., "weight": ...}.',
            )
    if "weight" not in table:
        raise QConfigError("A qconfig has no weight.", remedy='Add "weight": "default_per_channel_weight_observer".')
    weight = observer_factory(table["weight"])
    if "activation" not in table:
        return QConfigDynamic(weight=weight)
    return QConfig(observer_factory(table["activation"]), weight)


def _type(name: Any) -> Any:
    """What a dotted name means; the name of a method stays what it is."""
    if not isinstance(name, str) or "." not in name:
        return name
    owner, _, attribute = name.rpartition(".")
    parts = owner.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except (ImportError, ValueError):
            continue
        for part in (*parts[count:], attribute):
            parent, found = found, getattr(found, part, None)
            if found is None:
                raise QConfigError(f"There is no type {name!r}.", remedy=_nearest(parent, part))
        return found
    raise QConfigError(f"There is no type {name!r}.", remedy="Write its full name, such as torch.nn.Linear.")


def _nearest(owner: Any, name: str) -> str:
    near = difflib.get_close_matches(name, dir(owner), n=1)
    where = getattr(owner, "__name__", "it")
    return f"Did you mean {where}.{near[0]}?" if near else "Write its full name, such as torch.nn.Linear."
