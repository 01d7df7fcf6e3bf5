"""QConfigMapping: a qconfig_dict that is built by calls, under the names that torch gave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qfx.arguments import explained
from qfx.errors import QConfigError
from qfx.quantization.qconfig import QConfig, get_default_qat_qconfig, get_default_qconfig
from qfx.quantization.qconfig_dict import ObjectType, parse_qconfig_dict

_SECTIONS = ("object_type", "module_name_regex", "module_name", "module_name_object_type_order")


class QConfigMapping(Mapping[str, Any]):
    """A qconfig_dict whose entries are set one after the other; every call that takes a qconfig_dict takes it.

    As a mapping it is that dict: ``dict(QConfigMapping().set_global(q)) == {"": q}``. A later entry for the same key
    replaces an earlier one; of the patterns that match, the one set first holds.

    Attributes:
        global_qconfig: The qconfig of ``""``.
        object_type_qconfigs: Qconfigs by module class, function or method name.
        module_name_regex_qconfigs: Qconfigs by pattern.
        module_name_qconfigs: Qconfigs by module path.
        module_name_object_type_order_qconfigs: Qconfigs by ``(path of the owner, type, index)``.
        shared: One mapping serves many models: of a type that a model does not have it gets an
            :class:`qfx.errors.UnusedEntryWarning`, no error.
    """

    shared = True

    def __init__(self) -> None:
        self.global_qconfig: QConfig | None = None
        self.object_type_qconfigs: dict[ObjectType, QConfig | None] = {}
        self.module_name_regex_qconfigs: dict[str, QConfig | None] = {}
        self.module_name_qconfigs: dict[str, QConfig | None] = {}
        self.module_name_object_type_order_qconfigs: dict[tuple[str, ObjectType, int], QConfig | None] = {}

    @explained
    def set_global(self, global_qconfig: QConfig | None) -> QConfigMapping:
        """Give the whole model ``global_qconfig``, where no other entry holds.

        Raises:
            QConfigError: It is no QConfig.
        """
        parse_qconfig_dict({"": global_qconfig})
        self.global_qconfig = global_qconfig
        return self

    @explained
    def set_object_type(self, object_type: ObjectType, qconfig: QConfig | None) -> QConfigMapping:
        """Give modules of a class, calls of a function or of a tensor method (by its name) ``qconfig``.

        Raises:
            QConfigError: Another type, or no QConfig.
        """
        return self._set("object_type", (object_type,), qconfig)

    @explained
    def set_module_name_regex(self, module_name_regex: str, qconfig: QConfig | None) -> QConfigMapping:
        """Give the modules whose path begins with a match of the pattern ``qconfig``.

        Raises:
            QConfigError: A pattern that does not compile, or no QConfig.
        """
        return self._set("module_name_regex", (module_name_regex,), qconfig)

    @explained
    def set_module_name(self, module_name: str, qconfig: QConfig | None) -> QConfigMapping:
        """Give the module at a path, with everything below it, ``qconfig``.

        Raises:
            QConfigError: A path that is no string, or no QConfig.
        """
        return self._set("module_name", (module_name,), qconfig)

    @explained
    def set_module_name_object_type_order(
        self, module_name: str, object_type: ObjectType, index: int, qconfig: QConfig | None
    ) -> QConfigMapping:
        """Give call number ``index`` of a type in the module at a path ``qconfig``.

        Raises:
            QConfigError: A key of another type, or no QConfig.
        """
        return self._set("module_name_object_type_order", (module_name, object_type, index), qconfig)

    def to_dict(self) -> dict[str, Any]:
        """A qconfig_dict with every section, empty ones too."""
        return {
            "": self.global_qconfig,
            **{name: [(*_key(key), qconfig) for key, qconfig in self._section(name).items()] for name in _SECTIONS},
        }

    @classmethod
    def from_dict(cls, qconfig_dict: Mapping[str, Any]) -> QConfigMapping:
        """The mapping of a qconfig_dict.

        Raises:
            QConfigError: It is malformed, or has keys that say more than qconfigs.
        """
        rules = parse_qconfig_dict(qconfig_dict)
        beyond = [key for key in qconfig_dict if key and key not in _SECTIONS]
        if beyond:
            raise QConfigError(
                f"A QConfigMapping has no {', '.join(map(repr, beyond))}.",
                remedy="Keep the dict, or give these by prepare_custom_config.",
            )
        made = cls().set_global(rules.default)
        for section in _SECTIONS:
            for key, qconfig in getattr(rules, section):
                made._set(section, _key(key), qconfig)
        return made

    def _set(self, section: str, key: tuple[Any, ...], qconfig: QConfig | None) -> QConfigMapping:
        parse_qconfig_dict({section: [(*key, qconfig)]})
        self._section(section)[key if len(key) > 1 else key[0]] = qconfig
        return self

    def _section(self, name: str) -> dict[Any, QConfig | None]:
        section: dict[Any, QConfig | None] = getattr(self, f"{name}_qconfigs")
        return section

    def _given(self) -> dict[str, Any]:
        given = {name: value for name, value in self.to_dict().items() if name and value}
        return given if self.global_qconfig is None else {"": self.global_qconfig, **given}

    def __getitem__(self, key: str) -> Any:
        return self._given()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given())

    def __len__(self) -> int:
        return len(self._given())

    def __repr__(self) -> str:
        sections = ((name, self._section(name).items()) for name in _SECTIONS)
        lines = [f"  {name}_qconfigs: {', '.join(f'{k!r}: {v!r}' for k, v in rows)}" for name, rows in sections if rows]
        return "\n".join(["QConfigMapping (", f"  global_qconfig: {self.global_qconfig!r}", *lines, ")"])


@explained
def get_default_qconfig_mapping(backend: str | None = None, version: int = 0) -> QConfigMapping:
    """A mapping that quantizes the whole model with ``get_default_qconfig(backend, version)``."""
    return QConfigMapping().set_global(get_default_qconfig(backend, version))


@explained
def get_default_qat_qconfig_mapping(backend: str | None = None, version: int = 1) -> QConfigMapping:
    """A mapping that trains the whole model with ``get_default_qat_qconfig(backend, version)``."""
    return QConfigMapping().set_global(get_default_qat_qconfig(backend, version))


def _key(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)
