"""qconfig_dict: what users say about which part of a model is quantized how, checked and made immutable."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from qfx.errors import QConfigError
from qfx.quantization.qconfig import QConfig

ObjectType = type | Callable[..., Any] | str


@dataclass(frozen=True)
class QConfigRules:
    """A validated qconfig_dict.

    Attributes:
        default: The qconfig of ``""``; None where there is none.
        object_type: ``(class, function or method name, qconfig)``.
        module_name_regex: ``(pattern, qconfig)``; the first that matches holds.
        module_name: ``(module path, qconfig)``; holds for the module and everything below, the deepest path wins.
        module_name_object_type_order: ``((path of the owner, type, index), qconfig)``.
        non_traceable_module_name: Modules to keep as opaque float islands, by path.
        non_traceable_module_class: The same, by class.
        preserved_attributes: Attributes of the model to carry over.
        input_quantized_idxs: Inputs that arrive quantized.
        output_quantized_idxs: Outputs to leave quantized.
        shared: Whether types that the model does not have may be named, as in a mapping that serves many models.
    """

    default: QConfig | None = None
    object_type: tuple[tuple[ObjectType, QConfig | None], ...] = ()
    module_name_regex: tuple[tuple[str, QConfig | None], ...] = ()
    module_name: tuple[tuple[str, QConfig | None], ...] = ()
    module_name_object_type_order: tuple[tuple[tuple[str, ObjectType, int], QConfig | None], ...] = ()
    non_traceable_module_name: tuple[str, ...] = ()
    non_traceable_module_class: tuple[type, ...] = ()
    preserved_attributes: tuple[str, ...] = ()
    input_quantized_idxs: tuple[int, ...] = ()
    output_quantized_idxs: tuple[int, ...] = ()
    shared: bool = field(default=False, compare=False)

    def described(self) -> tuple[tuple[str, ...], ...]:
        """Section, key and qconfig of each entry as text, which pickles whatever the key is."""
        sections = (
            ("", () if self.default is None else (("", self.default),)),
            ("object_type", self.object_type),
            ("module_name_regex", self.module_name_regex),
            ("module_name", self.module_name),
            ("module_name_object_type_order", self.module_name_object_type_order),
        )
        rows: list[tuple[str, ...]] = []
        for section, entries in sections:
            keys = [(key if isinstance(key, tuple) else (key,), qconfig) for key, qconfig in entries]
            rows += [(section, *map(_full_name, key), repr(qconfig)) for key, qconfig in keys]
        return tuple(rows)

    def qconfigs(self) -> tuple[QConfig, ...]:
        """The qconfig of every entry that has one."""
        sections: Any = (self.object_type, self.module_name_regex, self.module_name, self.module_name_object_type_order)
        given = (self.default, *(qconfig for section in sections for _, qconfig in section))
        return tuple(qconfig for qconfig in given if qconfig is not None)


def parse_qconfig_dict(qconfig_dict: Mapping[str, Any]) -> QConfigRules:
    """``qconfig_dict`` checked and made immutable.

    Entries of ``object_type`` and the like are lists of tuples (key, qconfig), or dicts. A later entry with the same
    key replaces an earlier one.

    Raises:
        QConfigError: An unknown key, a value of the wrong type, a pattern that does not compile.
    """
    if not isinstance(qconfig_dict, Mapping):
        shown = (
            "{'': " + repr(qconfig_dict) + "}" if isinstance(qconfig_dict, QConfig) else "{'': get_default_qconfig()}"
        )
        raise QConfigError(
            f"A qconfig_dict is a dict, not {_kind(qconfig_dict)}.", remedy=f"For the whole model, pass {shown}."
        )
    for key in qconfig_dict:
        if key not in _SECTIONS:
            known = [name for name in _SECTIONS if name]
            raise QConfigError(
                f"qconfig_dict has an unknown key {key!r}.",
                why=_did_you_mean(str(key), known),
                remedy=f"Valid keys: {', '.join(map(repr, _SECTIONS))}. Modules are named under 'module_name'.",
            )
    sections = {_SECTIONS[k].target: _SECTIONS[k].parse(k, v) for k, v in qconfig_dict.items()}
    return QConfigRules(**sections, shared=getattr(qconfig_dict, "shared", False) is True)


@dataclass(frozen=True)
class _Section:
    """How one key of a qconfig_dict is read, and the field of QConfigRules it fills."""

    target: str
    parse: Callable[[str, Any], Any]


def _parse_qconfig(where: str, value: Any) -> QConfig | None:
    if value is None or isinstance(value, QConfig):
        return value
    raise QConfigError(
        f"qconfig_dict[{where}] is {_kind(value)}, where a qfx.QConfig or None belongs.",
        remedy="Pass a QConfig, such as qfx.get_default_qconfig(), or None to keep this part float.",
    )


def _pairs(section: str, value: Any, keys: int = 1) -> list[tuple[tuple[Any, ...], QConfig | None]]:
    """Rows ``(key..., qconfig)`` of a list of tuples or a dict, as ``(key tuple, qconfig)``."""
    rows = [(*(k if keys > 1 else (k,)), v) for k, v in value.items()] if isinstance(value, Mapping) else value
    shape = "(path, type, index, qconfig)" if keys > 1 else "(key, qconfig)"
    if not isinstance(rows, (list, tuple)) or not all(
        isinstance(r, (list, tuple)) and len(r) == keys + 1 and not isinstance(r, QConfig) for r in rows
    ):
        raise QConfigError(
            f"qconfig_dict[{section!r}] is not a list of tuples {shape}.", remedy=f"Write [{shape}, ...] or a dict."
        )
    for part in (p for r in rows for p in r[:-1]):
        if not isinstance(part, Hashable):
            raise QConfigError(
                f"qconfig_dict[{section!r}] has the key {part!r}, {_kind(part)}.", remedy=f"Write {shape} with one key."
            )
    merged = {tuple(r[:-1]): _parse_qconfig(f"{section!r}, {type_name(r[0])}", r[-1]) for r in rows}
    return list(merged.items())


def _object_types(section: str, value: Any) -> tuple[tuple[ObjectType, QConfig | None], ...]:
    return tuple((_object_type(section, key), qconfig) for (key,), qconfig in _pairs(section, value))


def _object_type(section: str, key: Any) -> ObjectType:
    if isinstance(key, nn.Module):
        raise QConfigError(
            f"qconfig_dict[{section!r}] names an instance of {type(key).__name__}.",
            remedy=f"Pass the class {type(key).__name__}, or the module's path under 'module_name'.",
        )
    if isinstance(key, str) or callable(key):
        kept: ObjectType = key
        return kept
    raise QConfigError(
        f"qconfig_dict[{section!r}] names {key!r}, which is no type of operation.",
        remedy="Use a module class, a function, or the name of a tensor method.",
    )


def _names(section: str, value: Any) -> tuple[tuple[str, QConfig | None], ...]:
    return tuple((_text(section, key), qconfig) for (key,), qconfig in _pairs(section, value))


_TEXT_REMEDY = {
    "module_name": "Write the module's path as named_modules() gives it, such as 'layer1.0.conv1'; "
    "classes go under 'object_type'.",
    "module_name_regex": "Write the pattern as a string, not compiled, such as r'layer1\\..*'.",
    "module_name_object_type_order": "Write (path, type, index, qconfig) with the path as a string, '' for the model.",
    "non_traceable_module_name": "Write the module's path as a string; classes go into 'non_traceable_module_class'.",
    "preserved_attributes": "Write the attribute's name as a string.",
}


def _text(section: str, key: Any) -> str:
    if not isinstance(key, str):
        raise QConfigError(
            f"qconfig_dict[{section!r}] names {key!r}, where a string belongs.",
            remedy=_TEXT_REMEDY.get(section, "Write the name as a string."),
        )
    return key


def _patterns(section: str, value: Any) -> tuple[tuple[str, QConfig | None], ...]:
    rows = _names(section, value)
    for pattern, _ in rows:
        try:
            re.compile(pattern)
        except re.error as error:
            raise QConfigError(
                f"qconfig_dict[{section!r}] has the pattern {pattern!r}, which is no regular expression.",
                why=f"{error} (Python's re module)",
                remedy=f"Patterns are matched from the start of a module's path; for this text itself write "
                f"re.escape(...), {re.escape(pattern)!r}, or name the module under 'module_name'.",
            ) from None
    return rows


def _orders(section: str, value: Any) -> tuple[tuple[tuple[str, ObjectType, int], QConfig | None], ...]:
    return tuple(
        ((_text(section, path), _object_type(section, kind), _index(section, index)), qconfig)
        for (path, kind, index), qconfig in _pairs(section, value, keys=3)
    )


def _index(section: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise QConfigError(
            f"qconfig_dict[{section!r}] has {value!r}, where an index 0, 1, ... belongs.",
            remedy="Count from 0: input and output indices in the order of forward(), order indices within the module.",
        )
    return value


def _class(section: str, value: Any) -> type:
    if not (isinstance(value, type) and issubclass(value, nn.Module)):
        raise QConfigError(
            f"qconfig_dict[{section!r}] has {value!r}, where a module class belongs.",
            remedy="Pass the class, such as torch.nn.LSTM, not an instance or its name; names go into"
            " 'non_traceable_module_name'.",
        )
    return value


def _sequence(item: Callable[[str, Any], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    def parse(section: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
            raise QConfigError(
                f"qconfig_dict[{section!r}] is {_kind(value)}, where a list belongs.",
                remedy=f"Write a list, for one entry [{value!r}].",
            )
        return tuple(item(section, entry) for entry in value)

    return parse


_SECTIONS: dict[str, _Section] = {
    "": _Section("default", lambda key, value: _parse_qconfig(repr(key), value)),
    "object_type": _Section("object_type", _object_types),
    "module_name_regex": _Section("module_name_regex", _patterns),
    "module_name": _Section("module_name", _names),
    "module_name_object_type_order": _Section("module_name_object_type_order", _orders),
    "non_traceable_module_name": _Section("non_traceable_module_name", _sequence(_text)),
    "non_traceable_module_class": _Section("non_traceable_module_class", _sequence(_class)),
    "preserved_attributes": _Section("preserved_attributes", _sequence(_text)),
    "input_quantized_idxs": _Section("input_quantized_idxs", _sequence(_index)),
    "output_quantized_idxs": _Section("output_quantized_idxs", _sequence(_index)),
}


def _did_you_mean(key: str, known: list[str]) -> str | None:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    return f"Did you mean {near[0]!r}?" if near else None


def type_name(kind: object) -> str:
    """How an object type is called in messages."""
    if isinstance(kind, str):
        return kind
    name = getattr(kind, "__name__", repr(kind))
    return name if isinstance(kind, type) else str(name)


def _full_name(key: object) -> str:
    module = getattr(key, "__module__", None) if not isinstance(key, (str, int)) else None
    return f"{module}.{getattr(key, '__qualname__', type_name(key))}" if module else str(key)


def _kind(value: object) -> str:
    cls = value if isinstance(value, type) else type(value)
    own = cls.__module__.startswith(("qfx.", "builtins"))
    name = cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}"
    return f"the class {name}" if isinstance(value, type) else f"an instance of {name}"
