"""What a user has: a transformers model, or an object of another kind that holds one.

Classes are told by their names, so that nothing is imported that the user has not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from qfx.errors import InputError, UnsupportedError

_MODEL = ("transformers.modeling_utils", "PreTrainedModel")
_PIPELINE = ("transformers.pipelines.base", "Pipeline")
_SENTENCES = "sentence_transformers"


@dataclass(frozen=True)
class Holder:
    """A user's object and the network in it.

    Attributes:
        network: The transformers model.
        around: Makes the same object around another network.
        run: Calls the object with samples, as its users do; None where it is the network itself.
    """

    network: nn.Module
    around: Callable[[nn.Module], Any]
    run: Callable[[Sequence[Any]], object] | None = None


def holder_of(given: Any) -> Holder:
    """``given``, taken apart.

    Raises:
        InputError: It holds no network of transformers.
        UnsupportedError: It holds several.
    """
    if is_model(given):
        return Holder(given, lambda network: network)
    if _has_class(given, *_PIPELINE) and is_model(given.model):
        return Holder(given.model, lambda network: _pipeline_around(given, network), lambda samples: given([*samples]))
    if isinstance(given, nn.Module) and _is_of(given, _SENTENCES):
        network = _only_model(given)
        return Holder(
            network, lambda new: copy.deepcopy(given, {id(network): new}), lambda texts: _encode(given, texts)
        )
    raise InputError(
        f"quantize_encoder can't take an object of type {type(given).__name__}.",
        why="It takes a PreTrainedModel of transformers, a pipeline of one, or a model of sentence-transformers.",
        remedy="Quantize any other nn.Module with qfx.quantize_fx.",
    )


def is_model(value: object) -> bool:
    """Whether ``value`` is a ``transformers.PreTrainedModel``."""
    return is_model_class(type(value))


def is_model_class(cls: type) -> bool:
    """Whether ``cls`` is ``transformers.PreTrainedModel`` or a subclass of it."""
    return any((base.__module__, base.__name__) == _MODEL for base in cls.__mro__)


def root_of(cls: type) -> type:
    """``transformers.PreTrainedModel``, from one of its subclasses."""
    return next(base for base in cls.__mro__ if (base.__module__, base.__name__) == _MODEL)


def _has_class(value: object, module: str, name: str) -> bool:
    return any((cls.__module__, cls.__name__) == (module, name) for cls in type(value).__mro__)


def _is_of(value: object, package: str) -> bool:
    return any(cls.__module__.partition(".")[0] == package for cls in type(value).__mro__)


def _only_model(given: nn.Module) -> nn.Module:
    """The one network of transformers in ``given``."""
    paths: dict[str, nn.Module] = {}
    for path, module in given.named_modules():
        if is_model(module) and not any(path.startswith(f"{outer}.") for outer in paths):
            paths[path] = module
    if len(paths) == 1:
        return next(iter(paths.values()))
    if not paths:
        raise InputError(
            f"The {type(given).__name__} holds no network of transformers.",
            remedy="Quantize the networks that it consists of with qfx.quantize_fx.",
        )
    raise UnsupportedError(
        f"The {type(given).__name__} holds {len(paths)} networks of transformers.",
        where=", ".join(paths),
        why="Sample texts do not say which network they are for.",
        remedy="Quantize each network by itself, and make the object around the results.",
    )


def _pipeline_around(given: Any, network: nn.Module) -> Any:
    made = copy.copy(given)
    made.model = network
    return made


def _encode(given: Any, texts: Sequence[Any]) -> None:
    call = getattr(given, "encode", None) or given.predict
    call([*texts], show_progress_bar=False)
