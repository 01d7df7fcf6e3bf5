"""Which qconfig holds for which module of a float model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from qfx.arguments import explained
from qfx.errors import QConfigError
from qfx.ir.computed import kind_of
from qfx.quantization.qconfig import QConfig

_SECTIONS = ("object_type", "module_name")


@explained
def propagate_qconfig_(module: nn.Module, qconfig_dict: Mapping[Any, QConfig | None] | None = None) -> None:
    """Give every module below ``module`` the ``qconfig`` that holds for it, as an attribute; in place.

    A module's own ``.qconfig`` wins, then the entry of its path in ``qconfig_dict``, then that of its class, then the
    qconfig of the module around it. None stops: what it holds for stays float.

    Args:
        module: The model.
        qconfig_dict: Qconfigs by ``""`` (the model), by module path, by class, or by these in sections
            ``"module_name"`` and ``"object_type"`` (dicts, or lists of pairs).

    Raises:
        QConfigError: A value that is no QConfig, a path that the model does not have, a key of another sort.
    """
    entries = _entries(module, qconfig_dict or {})
    _propagate(module, "", entries, None)


def require_qconfig(module: nn.Module) -> QConfig:
    """The ``.qconfig`` of ``module``.

    Raises:
        QConfigError: It has none.
    """
    qconfig = checked_qconfig(type(module).__name__, getattr(module, "qconfig", None))
    if qconfig is None:
        raise QConfigError(
            f"{type(module).__name__} has no qconfig.",
            remedy="Set module.qconfig, such as qfx.quantization.get_default_qconfig(), first.",
        )
    return qconfig


def checked_qconfig(where: str, qconfig: Any) -> QConfig | None:
    """``qconfig`` if it is a QConfig or None.

    Raises:
        QConfigError: It is something else.
    """
    if qconfig is None or isinstance(qconfig, QConfig):
        return qconfig
    raise QConfigError(
        f"The qconfig of {where or 'the model'} is {type(qconfig).__module__}.{type(qconfig).__qualname__}, not a "
        "qfx.QConfig.",
        remedy="Use qfx.quantization.QConfig(activation=..., weight=...), or None to keep it float.",
    )


def _propagate(module: Any, path: str, entries: Mapping[Any, QConfig | None], parent: QConfig | None) -> None:
    qconfig = entries.get(kind_of(module), parent)
    qconfig = entries.get(path, qconfig)
    if "qconfig" in vars(module):
        qconfig = checked_qconfig(path, module.qconfig)
    if qconfig is not None:
        module.qconfig = qconfig
    for name, child in module.named_children():
        _propagate(child, f"{path}.{name}" if path else name, entries, qconfig)


def _entries(module: nn.Module, qconfig_dict: Any) -> dict[Any, QConfig | None]:
    if not isinstance(qconfig_dict, Mapping):
        raise QConfigError(
            f"A qconfig_dict is a dict, not {type(qconfig_dict).__name__}.",
            remedy="Write {'': qconfig} for the whole model, {'path': qconfig} or {nn.Linear: qconfig} for parts.",
        )
    entries = {key: value for key, value in qconfig_dict.items() if key not in _SECTIONS}
    for section in _SECTIONS:
        entries.update(dict(qconfig_dict.get(section, {})))
    paths = {name for name, _ in module.named_modules(remove_duplicate=False)}
    for key, value in entries.items():
        checked_qconfig(repr(key), value)
        if isinstance(key, str) and key not in paths:
            raise QConfigError(
                f"The qconfig_dict names {key!r}, which the model does not have.",
                remedy="Use module paths as named_modules() gives them, classes, or '' for the whole model.",
            )
        if not isinstance(key, (str, type)):
            raise QConfigError(
                f"The qconfig_dict has the key {key!r}.", remedy="Use module paths, classes, or '' for the model."
            )
    return entries
