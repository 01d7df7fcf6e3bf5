"""The form of a call: which tensors a captured encoder takes, and what its results are put into."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qfx.errors import InputError, UnsupportedError

_PACKAGE = "transformers"


@dataclass(frozen=True)
class Result:
    """A class of results, and by name what is such a class inside of it; of tensors and tuples neither."""

    cls: type | None = None
    parts: Mapping[str, Result] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Any) -> Result:
        """From what a float model gave.

        Raises:
            UnsupportedError: There is something in it that is no tensor.
        """
        if isinstance(value, Mapping):
            parts = {name: cls.of(part) for name, part in value.items()}
            return cls(None if type(value) is dict else type(value), parts)
        for part in value if isinstance(value, (tuple, list)) else ():
            cls.of(part)
        if not isinstance(value, (Tensor, tuple, list)):
            raise UnsupportedError(
                f"The model returns a {type(value).__name__}.",
                why="A program gives tensors, and tuples and ModelOutputs of them.",
                remedy="Quantize the part of the model that computes tensors.",
            )
        return cls()

    def filled(self, value: Any) -> Any:
        """What a program gave, in the classes of the float model's result."""
        if not isinstance(value, Mapping):
            return tuple(value) if isinstance(value, list) else value
        parts = {name: self.parts.get(name, Result()).filled(part) for name, part in value.items()}
        return parts if self.cls is None else self.cls(**parts)

    def stored(self) -> dict[str, Any]:
        """As JSON takes it."""
        parts = {name: part.stored() for name, part in self.parts.items()}
        return {"class": None if self.cls is None else name_of(self.cls), "parts": parts}

    @classmethod
    def restored(cls, stored: Any) -> Result:
        """The inverse of :meth:`stored`.

        Raises:
            InputError: A class is not there.
        """
        name = stored["class"]
        parts = {str(key): cls.restored(part) for key, part in stored["parts"].items()}
        found = None if name is None else class_named(str(name))
        if found is not None and not issubclass(found, Mapping):
            raise ValueError(f"{name!r} is no class of a result")
        return cls(found, parts)


@dataclass(frozen=True)
class Form:
    """What calls of a quantized encoder take and give.

    Attributes:
        takes: The tensors that it was captured with, in order, each with its dtype.
        gives: The classes of the result.
        fills: Those of them that say nothing where a call leaves them out.
        positions: The longest text that its table of positions has entries for; None where there is no table.
    """

    takes: Mapping[str, torch.dtype]
    gives: Result
    fills: tuple[str, ...] = ()
    positions: int | None = None

    def stored(self) -> dict[str, Any]:
        """As JSON takes it."""
        takes = {name: str(dtype).removeprefix("torch.") for name, dtype in self.takes.items()}
        rest = {"fills": list(self.fills), "positions": self.positions}
        return {"takes": takes, "gives": self.gives.stored(), **rest}

    @classmethod
    def restored(cls, stored: Any) -> Form:
        """The inverse of :meth:`stored`.

        Raises:
            InputError: A class is not there.
        """
        takes = {str(name): _dtype(str(dtype)) for name, dtype in stored["takes"].items()}
        positions, fills = stored["positions"], tuple(map(str, stored["fills"]))
        return cls(takes, Result.restored(stored["gives"]), fills, None if positions is None else int(positions))


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"there is no dtype {name!r}")
    return dtype


def name_of(cls: type) -> str:
    """A class's module and name."""
    return f"{cls.__module__}:{cls.__qualname__}"


def class_named(name: str) -> type:
    """The class of transformers of that name, in another of its modules where it has moved.

    Raises:
        InputError: There is none, or it is not of transformers.
    """
    module, _, attribute = name.partition(":")
    found = None
    if module.partition(".")[0] == _PACKAGE:
        found = getattr(importlib.import_module(_PACKAGE), attribute, None)
        if found is None:
            try:
                found = getattr(importlib.import_module(module), attribute, None)
            except ImportError:
                found = None
    if not isinstance(found, type):
        raise InputError(
            f"There is no class {attribute!r} in this version of transformers.",
            where=module,
            why="A quantized encoder is stored by the names of its classes, which are looked for in transformers only.",
            remedy="Install a version of transformers that has it, or load its .qfx file with qfx.load.",
        )
    return found
