"""Which class takes the place of which: the tables of prepare_qat, convert, quantize_dynamic and fuse_modules.

Classes of :mod:`qfx.nn` lie above this package; :mod:`qfx.nn.swaps` has the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from qfx.provided import Part, provided

ClassMapping: TypeAlias = Mapping[type[nn.Module], Any]
"""From the class of a module to the class whose ``from_float`` makes its counterpart."""


@dataclass(frozen=True)
class Layers:
    """The classes of :mod:`qfx.nn` that the calls of this package put in the place of others.

    Attributes:
        static: What ``convert`` swaps.
        trained: What ``prepare_qat`` swaps.
        dynamic: What ``quantize_dynamic`` swaps.
        containers: The modules that ``fuse_modules`` makes, by name.
        fused: The class that those are of.
        quantize: The module that quantizes its input.
    """

    static: ClassMapping
    trained: ClassMapping
    dynamic: ClassMapping
    containers: Mapping[str, type[nn.Module]]
    fused: type[nn.Module]
    quantize: type[nn.Module]


_ASKED_FOR = ("Embedding", "EmbeddingBag")
"""Dynamic rows that quantize_dynamic takes where it is told to: nothing in them is quantized by call."""


def default_static_mapping() -> dict[type[nn.Module], Any]:
    """What ``convert`` swaps: float, fused and trained layers to their int8 versions. A new dict, to be extended."""
    return dict(known_layers().static)


def default_qat_mapping() -> dict[type[nn.Module], Any]:
    """What ``prepare_qat`` swaps: float layers to layers that round their weights. A new dict, to be extended."""
    return dict(known_layers().trained)


def default_dynamic_mapping() -> dict[type[nn.Module], Any]:
    """What ``quantize_dynamic`` swaps: linear and recurrent layers, attention, embeddings. A new dict, to extend."""
    return dict(known_layers().dynamic)


def get_default_qconfig_propagation_list() -> set[type[nn.Module]]:
    """The classes of modules that a qconfig does something to: those of all three mappings. A new set."""
    return {*default_static_mapping(), *default_qat_mapping(), *default_dynamic_mapping()}


def swapped_by_default(cls: type[nn.Module]) -> bool:
    """Whether ``quantize_dynamic`` swaps modules of ``cls``, which its mapping has, without being told so."""
    return cls not in [getattr(nn, name) for name in _ASKED_FOR]


def known_layers() -> Layers:
    """The classes, imported now if they have not been."""
    found: Layers = provided(Part.layers)
    return found
