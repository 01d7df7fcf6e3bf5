"""Making a module of one class from a module of another: its settings, and what float layer it computes."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from qfx.errors import ConversionError

Made = TypeVar("Made", bound=nn.Module)

_NOT_SETTINGS = {*vars(nn.Module()), "qconfig", "observer"}


def settings(layer: nn.Module) -> dict[str, Any]:
    """The plain attributes of ``layer``, such as its kernel size: no tensors, no modules, nothing of quantization."""
    return {name: value for name, value in vars(layer).items() if name not in _NOT_SETTINGS}


def recast(layer: nn.Module, cls: type[Made]) -> Made:
    """A module of class ``cls`` with the settings, mode, parameters and buffers of ``layer``, these not copied."""
    made = cls.__new__(cls)
    nn.Module.__init__(made)
    made.__dict__.update(settings(layer), training=layer.training)
    for name, parameter in layer._parameters.items():
        made.register_parameter(name, parameter)
    for name, buffer in layer._buffers.items():
        made.register_buffer(name, buffer)
    return made


def require_kind(cls: type, given: object, accepted: tuple[type[nn.Module], ...]) -> None:
    """Raise unless ``given`` is of a class that ``cls.from_float`` takes, exactly or by a subclass of the user's.

    Raises:
        ConversionError: It is of another class.
    """
    own = type(given).__module__.startswith(("qfx.", "torch."))
    if type(given) not in accepted and (own or not isinstance(given, accepted)):
        names = ", ".join(f"{kind.__module__.partition('.modules')[0]}.{kind.__name__}" for kind in accepted)
        raise ConversionError(
            f"{cls.__name__}.from_float does not take a {type(given).__name__}.", remedy=f"Pass one of {names}."
        )
