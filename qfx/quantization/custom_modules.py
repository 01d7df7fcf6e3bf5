"""Custom modules in eager mode: an observed one takes a float one's place, a quantized one takes that one's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from qfx.errors import ConversionError, QConfigError

_PREPARE, _CONVERT = "float_to_observed_custom_module_class", "observed_to_quantized_custom_module_class"


def observed_classes(config: Mapping[str, Any] | None) -> Mapping[type[nn.Module], Any]:
    """What a prepare_custom_config_dict says: from the class of a float module to that of its observed one.

    Raises:
        QConfigError: It says something else too.
    """
    return _classes("prepare_custom_config_dict", config, _PREPARE)


def quantized_classes(config: Mapping[str, Any] | None) -> dict[type[nn.Module], Any]:
    """What a convert_custom_config_dict says, as rows of a mapping of classes.

    Raises:
        QConfigError: It says something else too.
    """
    given = _classes("convert_custom_config_dict", config, _CONVERT)
    return {observed: FromObserved(quantized) for observed, quantized in given.items()}


def observe(module: nn.Module, classes: Mapping[type[nn.Module], Any]) -> nn.Module:
    """``module`` with observed ones in the place of custom modules that have a qconfig."""
    if type(module) in classes and getattr(module, "qconfig", None) is not None:
        made: nn.Module = _made(classes[type(module)], "from_float", module)
        made.qconfig = module.qconfig
        return made.train(module.training)
    for name, child in list(module.named_children()):
        module._modules[name] = observe(child, classes)
    return module


class FromObserved:
    """A row of a mapping of classes: what ``from_observed`` of a custom class makes.

    Args:
        target: The class.
    """

    observed = True

    def __init__(self, target: Any) -> None:
        self.target = target

    def from_float(self, module: nn.Module) -> nn.Module:
        """The quantized module of an observed one."""
        return _made(self.target, "from_observed", module)


def _classes(argument: str, config: Mapping[str, Any] | None, key: str) -> Mapping[type[nn.Module], Any]:
    beyond = [name for name in config or () if name != key]
    if beyond:
        raise QConfigError(
            f"{argument} has the key {beyond[0]!r}, which eager mode does not take.",
            remedy=f"Its key is {key!r}. Keep modules float by a qconfig of None.",
        )
    found = (config or {}).get(key, {})
    # Graph mode's dicts sort the classes by how they are quantized.
    return {**found.get("static", {}), **found.get("dynamic", {})} if {"static", "dynamic"} & {*found} else found


def _made(target: Any, method: str, module: nn.Module) -> nn.Module:
    build = getattr(target, method, None)
    if build is None:
        raise ConversionError(
            f"{getattr(target, '__name__', target)} can't take the place of {type(module).__name__}.",
            why=f"It has no {method}().",
            remedy=f"Give it a classmethod {method}(cls, module) that returns the module to put in its place.",
        )
    made: nn.Module = build(module)
    return made
