"""Making a module of one class from a module of another: its settings, and what float layer it computes."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import parametrize

from qfx.errors import ConversionError
from qfx.ir.computed import kind_of, weight_hooks

Made = TypeVar("Made", bound=nn.Module)

_NOT_SETTINGS = {*vars(nn.Module()), "qconfig", "observer"}


def settings(layer: nn.Module) -> dict[str, Any]:
    """The plain attributes of ``layer``, such as its kernel size: no tensors, no modules, nothing of quantization."""
    return {name: value for name, value in vars(layer).items() if name not in _NOT_SETTINGS}


def recast(layer: nn.Module, cls: type[Made]) -> Made:
    """A module of class ``cls`` with the settings, mode, parameters and buffers of ``layer``, these not copied.

    Weights that ``layer`` computes at each call (parametrizations, weight norm) stay computed.
    """
    made = cls.__new__(cls)
    nn.Module.__init__(made)
    made.__dict__.update(settings(layer), training=layer.training)
    for name, parameter in layer._parameters.items():
        made.register_parameter(name, parameter)
    for name, buffer in layer._buffers.items():
        made.register_buffer(name, buffer)
    for _, hook in weight_hooks(layer):
        made.register_forward_pre_hook(hook)
    if parametrize.is_parametrized(layer):
        _parametrize_alike(layer, made)
    return made


def _parametrize_alike(layer: nn.Module, made: nn.Module) -> None:
    """Let ``made`` compute the tensors that ``layer`` computes, from the same ones.

    Not by torch's ``transfer_parametrizations_and_params``, which copies them.
    """
    lists: Any = layer.parametrizations
    made.add_module("parametrizations", lists)
    parametrize._inject_new_class(made)
    for name in lists:
        parametrize._inject_property(made, name)


def require_kind(cls: type, given: object, accepted: tuple[type[nn.Module], ...]) -> None:
    """Raise unless ``given`` is of a class that ``cls.from_float`` takes, exactly or by a subclass of the user's.

    Raises:
        ConversionError: It is of another class.
    """
    kind = kind_of(given) if isinstance(given, nn.Module) else type(given)
    own = kind.__module__.startswith(("qfx.", "torch."))
    if kind not in accepted and (own or not isinstance(given, accepted)):
        names = ", ".join(f"{c.__module__.partition('.modules')[0]}.{c.__name__}" for c in accepted)
        raise ConversionError(
            f"{cls.__name__}.from_float does not take a {kind.__name__}.", remedy=f"Pass one of {names}."
        )
