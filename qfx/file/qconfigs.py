"""Qconfigs in a file: observers by name. One that is not qfx's own keeps its name and can't be called after loading."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qfx.errors import ConversionError, QConfigError
from qfx.file.malformed import MalformedError
from qfx.quantization import fake_quantize, observer
from qfx.quantization.factory import Factory, bound_arguments, built_class
from qfx.quantization.qconfig import QConfig, QConfigDynamic

if TYPE_CHECKING:
    from qfx.file.values import Reader, Writer

_CLASSES: dict[str, type[QConfig]] = {cls.__name__: cls for cls in (QConfig, QConfigDynamic)}
_FIELDS = ("activation", "weight")


@dataclass(frozen=True)
class Named:
    """An observer of a user's own, of which a file keeps the name alone."""

    name: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise QConfigError(
            f"The observer {self.name} is not part of the file that this model was loaded from.",
            why="A file brings no code.",
            remedy="Prepare the float model again with a qconfig_dict to calibrate anew.",
        )


def write_qconfig(writer: Writer, value: QConfig) -> list[Any]:
    """The content of the kind ``qconfig``."""
    return [type(value).__name__, *(_write_factory(writer, getattr(value, name)) for name in _FIELDS)]


def read_qconfig(reader: Reader, content: Any) -> QConfig:
    """The qconfig of its content.

    Raises:
        MalformedError: It is malformed.
    """
    name, activation, weight = content
    if name not in _CLASSES:
        raise MalformedError(f"There is no qconfig {name!r}.")
    try:
        return _CLASSES[name](_read_factory(reader, activation), _read_factory(reader, weight))
    except QConfigError as error:
        raise MalformedError(error.what) from error


@functools.cache
def _observers() -> dict[str, Any]:
    """qfx's observers and fake-quantize modules by name."""
    return {name: getattr(module, name) for module in (observer, fake_quantize) for name in module.__all__}


def _write_factory(writer: Writer, factory: Any) -> list[Any]:
    """Name and bound arguments; those that can't be stored are part of the name."""
    cls, arguments = built_class(factory), bound_arguments(factory)
    target = factory.target if isinstance(factory, Factory) else factory
    known = next((name for name, value in _observers().items() if value is target or (cls and value is cls)), None)
    if known is None:
        return [f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', target)}", {"dict": []}]
    try:
        return [known, {"dict": [[key, _write_argument(writer, value)] for key, value in arguments.items()]}]
    except ConversionError:
        return [f"{factory!r}", {"dict": []}]


def _write_argument(writer: Writer, value: Any) -> Any:
    return {"qconfig_factory": _write_factory(writer, value)} if built_class(value) else writer.encode(value)


def _read_factory(reader: Reader, content: Any) -> Any:
    name, arguments = content
    if not isinstance(name, str) or not isinstance(arguments, dict) or list(arguments) != ["dict"]:
        raise MalformedError("A qconfig names no observer.")
    target = _observers().get(name, Named(name))
    bound = {key: _read_argument(reader, value) for key, value in arguments["dict"]}
    if not bound:
        return target
    if not all(isinstance(key, str) for key in bound):
        raise MalformedError("An observer has arguments without names.")
    return Factory(target, bound)


def _read_argument(reader: Reader, value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["qconfig_factory"]:
        return _read_factory(reader, value["qconfig_factory"])
    return reader.decode(value)
