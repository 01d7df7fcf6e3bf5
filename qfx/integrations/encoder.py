"""A transformers model whose network runs in qfx: an object of the model's own class."""

from __future__ import annotations

import functools
import inspect
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from qfx.errors import InputError, UnsupportedError
from qfx.integrations.calls import completed, text_shape
from qfx.integrations.folder import write
from qfx.integrations.form import Form
from qfx.integrations.holders import root_of
from qfx.models import QuantizedModel

_ANSWERS = {"output_hidden_states": "hidden_states", "output_attentions": "attentions"}
"""What a call may ask for besides, and where the result has it."""

_REMEDIES = {
    "output_hidden_states": "Set model.config.output_hidden_states = True before you quantize it: every call gives "
    "them then.",
    "output_attentions": 'Load the model with attn_implementation="eager" and set model.config.output_attentions = '
    "True before you quantize it: every call gives them then.",
    "labels": "Compute the loss from the result.",
    "return_loss": "Compute the loss from the result.",
    "past_key_values": "Give the whole text in one call.",
    "use_cache": "Give the whole text in one call.",
}
"""What to do where a call gives what the program has no input for; of others, capture a call that has it."""


class QuantizedEncoder:
    """What comes before a transformers class in the bases of its quantized form; see :func:`encoder_of`.

    Attributes:
        quantized_model: The network, a :class:`qfx.QuantizedModel`: its report, its graph, its times.
        form: What calls take and give.
    """

    quantized_model: QuantizedModel
    form: Form

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a call of ``forward``.

        Raises:
            InputError: The call gives what the network was not captured with, or texts that are too long.
        """
        given = _bound(type(self), args, kwargs)
        form, config = self.form, vars(self)["config"]
        wanted = given.pop("return_dict", None)
        tensors = {name: given.pop(name) for name in form.takes if given.get(name) is not None}
        left_out = _require_nothing_else(type(self), form, given)
        self._require_length(tensors)
        tensors = completed(tensors, form.fills)
        self._require_all(tensors)
        inputs = {name: _as(tensors[name], dtype) for name, dtype in form.takes.items()}
        values = self.quantized_model(*inputs.values()) if self._in_order() else self.quantized_model(**inputs)
        if not isinstance(values, dict):
            values = dict(zip(form.gives.parts, values, strict=True))
        values = {name: value for name, value in values.items() if name not in left_out}
        if not (getattr(config, "return_dict", True) if wanted is None else wanted):
            return tuple(form.gives.filled(values).values())
        return form.gives.filled(values)

    def _in_order(self) -> bool:
        """Whether the captured tensors are the first arguments of ``forward``: such a call is quicker."""
        cls: Any = type(self)
        return all(map(str.__eq__, self.form.takes, _signature(cls).parameters))

    def _require_length(self, tensors: dict[str, Tensor]) -> None:
        shape, most = text_shape(tensors), self.form.positions
        if most is not None and shape is not None and len(shape) > 1 and shape[1] > most:
            raise InputError(
                f"A text has {shape[1]} tokens, and the {type(self).__name__} takes {most} at most.",
                why="Its table of positions has no entries behind them.",
                remedy=f"Cut it: tokenizer(texts, truncation=True, max_length={most}).",
            )

    def _require_all(self, tensors: dict[str, Tensor]) -> None:
        missing = [name for name in self.form.takes if name not in tensors]
        if missing:
            raise InputError(
                f"The call has no {' and no '.join(missing)}.",
                why=f"The {type(self).__name__} was captured as it computes with {', '.join(self.form.takes)}.",
                remedy="Pass it; or quantize the model again with batches=[{...}] that are like your calls.",
            )

    def train(self, mode: bool = True) -> Any:
        """As ``nn.Module.train`` for evaluation.

        Raises:
            UnsupportedError: ``mode`` is True.
        """
        if mode:
            raise UnsupportedError(
                f"The {type(self).__name__} is quantized, and can't train.",
                why="Its weights are integers in a program.",
                remedy="Train the float model, with qfx.prepare_qat_fx where int8 shall be part of it.",
            )
        return super().train(mode)  # type: ignore[misc]

    def save_pretrained(self, save_directory: Any, *args: Any, push_to_hub: bool = False, **options: Any) -> None:
        """Write the network and its config into a folder, beside a tokenizer, for :func:`load_encoder`.

        Args:
            save_directory: The folder; made where it is not there.
            args, options: Those of ``PreTrainedModel.save_pretrained``, which say nothing of a .qfx file.
            push_to_hub: False: the folder is written, and nothing sent.

        Raises:
            UnsupportedError: ``push_to_hub`` is True.
            InputError: The folder can't be written.
        """
        if push_to_hub:
            raise UnsupportedError(
                "A quantized model can't be sent to a hub from here.",
                remedy="Save it to a folder, and upload that.",
            )
        write(self, save_directory)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)  # type: ignore[misc]
        except AttributeError:
            raise AttributeError(
                f"The quantized {type(self).__name__} has no attribute {name!r}: its layers are steps of programs. Its "
                "quantized_model has their report and state_dict."
            ) from None

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _empty, (_base_of(type(self)),), self.__dict__


def encoder_of(base: type, config: Any, network: QuantizedModel, form: Form) -> Any:
    """An object of transformers' class ``base``, whose calls run ``network``.

    Args:
        base: The class of the float model.
        config: Its config.
        network: The model, quantized.
        form: What its calls take and give.
    """
    made = _empty(base)
    root_of(base).__init__(made, config)  # type: ignore[misc]
    made.quantized_model, made.form = network, form
    return made.eval()


def _empty(base: type) -> Any:
    cls = _class_of(base)
    return cls.__new__(cls)


@functools.cache
def _class_of(base: Any) -> Any:
    """A subclass of ``base`` with its name and the signature of its ``forward``, which is what others ask for."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.run(args, kwargs)

    said = {"forward": forward, "__module__": base.__module__, "__qualname__": base.__qualname__, "_float_class": base}
    return type(base)(base.__name__, (QuantizedEncoder, base), said)


def _base_of(cls: Any) -> type:
    return cls._float_class


@functools.cache
def _signature(cls: Any) -> inspect.Signature:
    """Of a bound ``forward``."""
    signature = inspect.signature(cls.forward)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _bound(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name; a TypeError where ``forward`` has no such argument, as the float model's."""
    if not args:
        return dict(kwargs)
    bound = _signature(cls).bind_partial(*args, **kwargs).arguments
    for parameter in _signature(cls).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound.update(bound.pop(parameter.name, {}))
    return bound


def _require_nothing_else(cls: type, form: Form, given: dict[str, Any]) -> set[str]:
    """Raise unless the arguments beside the captured tensors say nothing new; the parts of the result to leave out."""
    parameters = _signature(cls).parameters
    for name, value in given.items():
        known = parameters.get(name)
        if value is None or value is False or (name not in _REMEDIES and known is None):
            continue  # as the float model's forward takes any name
        if _ANSWERS.get(name) in form.gives.parts or (known is not None and _is_default(value, known)):
            continue
        _refuse(cls, form, name)
    return {part for name, part in _ANSWERS.items() if given.get(name) is False}


def _is_default(value: Any, parameter: inspect.Parameter) -> bool:
    return not isinstance(value, Tensor) and bool(value == parameter.default)


def _refuse(cls: type, form: Form, name: str) -> NoReturn:
    remedy = f"Quantize the model with batches=[{{...}}] that have {name!r}: a quantized model takes what those have."
    raise InputError(
        f"The quantized {cls.__name__} does not take {name!r}.",
        why=f"It was captured as it computes with {', '.join(form.takes)}.",
        remedy=_REMEDIES.get(name, remedy),
    )


def _as(value: Any, dtype: torch.dtype) -> Any:
    """Integers and masks of any dtype as the captured one."""
    if not isinstance(value, Tensor) or value.dtype is dtype or dtype.is_floating_point:
        return value
    return value.to(dtype)


def is_quantized(value: nn.Module) -> bool:
    """Whether ``value`` is of a class that :func:`encoder_of` makes."""
    return isinstance(value, QuantizedEncoder)
