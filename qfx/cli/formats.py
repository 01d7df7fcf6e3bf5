"""JSON, TOML and YAML files."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from qfx.errors import InputError


def read_config(path: Path) -> Any:
    """What a ``.json``, ``.toml`` or ``.yaml`` file says.

    Raises:
        InputError: It can't be read.
    """
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
    except (Exception, RecursionError) as error:
        raise InputError(
            f"{str(path)!r} is no valid {path.suffix[1:].upper()}.",
            why=" ".join(f"{type(error).__name__}: {error}".split()),
            remedy="Correct the file there.",
        ) from error


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; a key that is there twice, of which json keeps one in silence, is an error."""
    for index, (key, _) in enumerate(pairs):
        if any(key == other for other, _ in pairs[:index]):
            raise ValueError(f"the key {key!r} is there twice")
    return dict(pairs)


def _toml(text: str) -> Any:
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    return importlib.import_module(name).loads(text)


def _yaml(text: str) -> Any:
    return importlib.import_module("yaml").safe_load(text)
