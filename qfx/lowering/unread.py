"""A model of a file of which only the programs are read; the rest is read when something asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from threading import RLock
from typing import Any, TypeVar

import torch
from torch import fx, nn

from qfx.errors import InputError
from qfx.ir.module import GraphCarrier
from qfx.lowering.compiled import Compiled, CompiledSegment
from qfx.lowering.recorded_state import RecordedState
from qfx.lowering.sources import Sources
from qfx.lowering.torch_operator import unwatched
from qfx.memory import Layout

Model = TypeVar("Model", bound="ReadLater")


class Unread:
    """What calls of a model need, and how to read the rest.

    Args:
        graph: Its inputs and results.
        info: Facts about the inputs, those of ``GraphCarrier.info`` that calls need.
        training: The mode that it was saved in.
        read: Reads the whole model, checked.

    Attributes:
        compiled: Its programs, and what torch runs between them.
        mode: The mode that it was put in since, None for none.
    """

    compiled: Compiled

    def __init__(self, graph: fx.Graph, info: dict[str, Any], training: bool, read: Callable[[], ReadLater]) -> None:
        self.graph, self.info, self.training, self._read = graph, info, training, read
        self.lock = RLock()
        self.mode: bool | None = None

    def read(self) -> ReadLater:
        """The model whole, whoever watches torch."""
        with unwatched(), torch.inference_mode(False):
            return self._read()

    def whole(self, number: int) -> CompiledSegment:
        """The segment of this number with its nodes, compiled from the graph."""
        with self.lock:
            return self._whole.segments[number]

    @cached_property
    def _whole(self) -> Compiled:
        return self.read().compiled


class _UnreadError(InputError, AttributeError):
    """A model's file can't be read, or has no graph, where somebody asks whether the model has some attribute."""


_MEMBERS = ("_parameters", "_buffers", "_modules")
_ALWAYS = frozenset({*_MEMBERS, "_graph", "info", "level"})
"""Attributes that a model has, whatever is in its file."""
_OF_CALLS = frozenset({"_compiled", "_sources", "_state", "isa", "training"})
"""Attributes that it has before the rest of its file is read."""
_OWN = frozenset({*_OF_CALLS, *vars(nn.Module())} - {*_MEMBERS, "_non_persistent_buffers_set"})
"""Attributes that stay as they are when the rest is read."""


class ReadLater(GraphCarrier):
    """A module that may begin as the programs of a file. Without its members, whoever asks comes to ``__getattr__``.

    Attributes:
        isa: The instruction set to load for, None for the best one here.
    """

    isa: str | None
    _compiled: Compiled | None
    _sources: Sources | None
    _state: RecordedState
    _unread: Unread

    @classmethod
    def of_file(cls: type[Model], unread: Unread, isa: str | None) -> Model:
        """A model that runs the programs of its file, and reads the rest when something asks for it."""
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        members = vars(model)
        for name in _MEMBERS:
            del members[name]
        nothing = Sources(nn.Module(), fx.Graph())
        members.update(_unread=unread, _compiled=unread.compiled, _sources=nothing, isa=isa, training=unread.training)
        members["_state"] = RecordedState(model._call)
        return model

    @property
    def compiled(self) -> Compiled:
        """The executables, made from the graph."""
        raise NotImplementedError

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], layout: Layout | None = None) -> Any:
        raise NotImplementedError

    def _read(self) -> None:
        """Read what is not read yet. Calls go on with the programs of the file: their tensors are those read now."""
        unread = vars(self).get("_unread")
        if unread is None:
            return
        with unread.lock:
            if "_unread" not in vars(self):
                return
            found = vars(unread.read())
            vars(self).update({name: value for name, value in found.items() if name not in _OWN})
            del vars(self)["_unread"]
            self._compiled = unread.compiled.within(self)
            self._sources = Sources(self, self._graph)
        if unread.mode is not None:
            self.train(unread.mode)

    def __getattr__(self, name: str) -> Any:
        if "_unread" not in vars(self):
            return super().__getattr__(name)
        try:
            self._read()
        except InputError as error:
            if name in _ALWAYS:
                raise
            raise _UnreadError(error.what, where=error.where, why=error.why, remedy=error.remedy) from error
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _OF_CALLS:
            self._read()
        super().__setattr__(name, value)

    def register_buffer(self, *args: Any, **kwargs: Any) -> None:
        """As ``nn.Module.register_buffer``."""
        self._read()
        super().register_buffer(*args, **kwargs)

    def register_parameter(self, *args: Any, **kwargs: Any) -> None:
        """As ``nn.Module.register_parameter``."""
        self._read()
        super().register_parameter(*args, **kwargs)

    def add_module(self, *args: Any, **kwargs: Any) -> None:
        """As ``nn.Module.add_module``."""
        self._read()
        super().add_module(*args, **kwargs)

    def train(self: Model, mode: bool = True) -> Model:
        """As ``nn.Module.train``."""
        unread = vars(self).get("_unread")
        if unread is None or not isinstance(mode, bool):
            return super().train(mode)
        self.training = unread.mode = mode
        unread.compiled.root.train(mode)
        return self

    def _called(self) -> tuple[fx.Graph, Mapping[str, Any]]:
        unread = vars(self).get("_unread")
        return super()._called() if unread is None else (unread.graph, unread.info)

    def __getstate__(self) -> dict[str, Any]:
        self._read()
        return super().__getstate__()

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphCarrier:
        self._read()
        return super().__deepcopy__(memo)
