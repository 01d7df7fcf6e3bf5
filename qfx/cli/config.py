"""Configuration files: a qconfig_dict with qconfigs and types by name."""

from __future__ import annotations

import functools
import importlib
import json
from pathlib import Path
from typing import Any

import qfx
from qfx.errors import InputError, QConfigError
from qfx.quantization.qconfig import QConfig, get_default_qconfig


def load_qconfig_dict(path: Path) -> dict[str, Any]:
    """The qconfig_dict that a ``.json``, ``.toml`` or ``.yaml`` file spells, with qconfigs and types by name.

    A qconfig is the name of a backend (``"default"``, ``"fbgemm"``, ``"qnnpack"``, ...), of a qconfig of qfx
    (``"default_per_channel_qconfig"``), or ``null`` or ``"float"`` for none. A type is a dotted name
    (``"torch.nn.Linear"``), a method's name stays a string.

    Raises:
        InputError: The file can't be read.
        QConfigError: A name that means nothing.
    """
    content = _read_config(path)
    if not isinstance(content, dict):
        raise InputError(f"{str(path)!r} holds no table.", remedy='Write {"": "default"} for the whole model.')
    return {key: _section(key, value) for key, value in content.items()}


def _read_config(path: Path) -> Any:
    parse = {".json": _json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}.get(path.suffix)
    if parse is None:
        raise InputError(f"{str(path)!r} is no configuration file.", remedy="Give a .json, .toml or .yaml file.")
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}.", remedy="Check the path.")
    try:
        return parse(path.read_text(encoding="utf-8"))
    except ImportError as error:
        raise InputError(
            f"{str(path)!r} can't be read without {error.name}.", remedy="Install it, or write the file as .json."
        ) from error
    except Exception as error:
        raise InputError(
            f"{str(path)!r} is no valid {path.suffix[1:]}.",
            why=" ".join(f"{type(error).__name__}: {error}".split()),
            remedy="Correct the file there.",
        ) from error


def _json(text: str) -> Any:
    return json.loads(text)


def _toml(text: str) -> Any:
    return importlib.import_module("tomllib").loads(text)


def _yaml(text: str) -> Any:
    return importlib.import_module("yaml").safe_load(text)


_TYPE_AT = {"object_type": 0, "module_name_object_type_order": 1}
"""Which item of a section's rows is a type."""

_ROWS = (*_TYPE_AT, "module_name", "module_name_regex")


def _section(key: str, value: Any) -> Any:
    if key == "":
        return _qconfig(value)
    if key == "non_traceable_module_class":
        return [_type(name) for name in value]
    if key not in _ROWS:
        return value
    rows = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, (list, tuple)) and row for row in rows):
        return value  # the qconfig_dict's own check says what is wrong
    at = _TYPE_AT.get(key)
    return [(*(_type(v) if i == at else v for i, v in enumerate(row[:-1])), _qconfig(row[-1])) for row in rows]


def _qconfig(name: Any) -> QConfig | None:
    if name is None or name == "float":
        return None
    if not isinstance(name, str):
        raise QConfigError(
            f"{name!r} is the name of no qconfig.",
            remedy='Write "default", a backend, a qconfig of qfx such as "default_per_channel_qconfig", or null.',
        )
    return _named_qconfig(name)


@functools.cache  # layers of one name are configured alike, which lets them fuse
def _named_qconfig(name: str) -> QConfig:
    if name == "default":
        return get_default_qconfig()
    found = getattr(qfx, name, None) if name.isidentifier() else None
    return found if isinstance(found, QConfig) else get_default_qconfig(name)


def _type(name: Any) -> Any:
    """What a dotted name means; the name of a method stays what it is."""
    if not isinstance(name, str) or "." not in name:
        return name
    owner, _, attribute = name.rpartition(".")
    parts = owner.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in (*parts[count:], attribute):
            found = getattr(found, part, None)
        if found is not None:
            return found
    raise QConfigError(f"There is no type {name!r}.", remedy="Write its full name, such as torch.nn.Linear.")
