"""QConfig: which observers quantize the activations and the weights of a part of the model."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from qfx.arguments import explained
from qfx.backends.quantized import chosen_engine
from qfx.errors import QConfigError
from qfx.ir.types import QDType, QScheme
from qfx.quantization.factory import bound_arguments, built_class
from qfx.quantization.fake_quantize import (
    FakeQuantize,
    FakeQuantizeBase,
    default_fake_quant,
    default_fused_act_fake_quant,
    default_per_channel_weight_fake_quant,
    default_weight_fake_quant,
)
from qfx.quantization.observer import (
    HistogramObserver,
    MovingAverageMinMaxObserver,
    NoopObserver,
    Observer,
    PerGroupMinMaxObserver,
    QuantileHistogramObserver,
    default_debug_observer,
    default_dynamic_quant_observer,
    default_observer,
    default_per_channel_weight_observer,
    default_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    per_group_dynamic_quant_observer,
    per_tensor_dynamic_quant_observer,
    weight_observer_range_neg_127_to_127,
)

ModuleFactory = Callable[..., Any]


class _Fields(NamedTuple):
    activation: ModuleFactory
    weight: ModuleFactory


class QConfig(_Fields):
    """How a layer or a part of the model is quantized: one factory for activations, one for weights.

    Args:
        activation: Class or factory of observers (or fake-quantize modules); called once a value.
        weight: The same, for weights.

    Raises:
        QConfigError: A module instance, something that can't be called, or a class that is no observer (as torch.ao's),
            where a factory belongs.
    """

    __slots__ = ()

    def __new__(cls, activation: ModuleFactory, weight: ModuleFactory) -> QConfig:
        for field, value in (("activation", activation), ("weight", weight)):
            _check_factory(cls.__name__, field, value)
        return super().__new__(cls, activation, weight)

    @property
    def is_dynamic(self) -> bool:
        """Whether activations are quantized at run time, from their own range."""
        return bool(bound_arguments(self.activation).get("is_dynamic", False))

    @property
    def per_row(self) -> bool:
        """Whether each row of activations that are quantized at run time has a scale of its own."""
        return bool(bound_arguments(self.activation).get("per_row", False))

    @property
    def input_group(self) -> int | None:
        """How many neighbours of a row of activations that are quantized at run time share a scale; None: all."""
        given = bound_arguments(self.activation)
        return given.get("group_size") if given.get("is_dynamic", False) else None

    @property
    def by_groups(self) -> bool:
        """Whether weights have a scale for each group of a row."""
        built = built_class(self.weight)
        return built is not None and issubclass(built, PerGroupMinMaxObserver)

    @property
    def weight_only(self) -> bool:
        """Whether weights alone are stored in fewer bits, and multiplied with activations that stay float."""
        if not self.is_dynamic:
            return False
        if self.by_groups:
            return not bound_arguments(self.activation).get("is_dynamic", False)
        return not isinstance(self.weight().dtype, QDType)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QConfig) and type(self) is type(other) and tuple(self) == tuple(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), tuple(self)))

    def __repr__(self) -> str:
        names = (getattr(f, "__name__", repr(f)) for f in self)
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in zip(self._fields, names, strict=True))})"


class QConfigDynamic(QConfig):
    """How weights are quantized where activations are quantized at run time.

    Args:
        activation: Says what a scale at run time is for: a row, by ``per_tensor_dynamic_quant_observer`` a tensor, by
            ``per_group_dynamic_quant_observer`` 32 neighbours of a row.
        weight: Class or factory of the weights' observer.

    Raises:
        QConfigError: A module instance, or something that can't be called, where a factory belongs.
    """

    __slots__ = ()

    def __new__(
        cls,
        activation: ModuleFactory = default_dynamic_quant_observer,
        weight: ModuleFactory = default_per_channel_weight_observer,
    ) -> QConfigDynamic:
        made = super().__new__(cls, activation, weight)
        assert isinstance(made, QConfigDynamic)
        return made

    @property
    def is_dynamic(self) -> bool:
        """True."""
        return True


def _check_factory(owner: str, field: str, value: object) -> None:
    if isinstance(value, nn.Module):
        name = type(value).__name__
        raise QConfigError(
            f"{owner}({field}=...) got an instance of {name}, where a factory belongs.",
            why="Each observed value needs a module of its own.",
            remedy=f"Pass the class {name}, or {name}.with_args(...) to set its arguments.",
        )
    if not callable(value):
        raise QConfigError(
            f"{owner}({field}=...) got {value!r}, which can't be called.",
            remedy="Pass an observer class, or Observer.with_args(...).",
        )
    built = built_class(value)
    if built is not None and not issubclass(built, (Observer, FakeQuantizeBase, nn.Identity)):
        raise QConfigError(
            f"{owner}({field}=...) got {built.__module__}.{built.__qualname__}, which is no observer of qfx.",
            remedy="Use the class of the same name in qfx.quantization, or a subclass of qfx.quantization.Observer.",
        )


default_qconfig = QConfig(activation=default_observer, weight=default_weight_observer)
"""``default_observer`` for activations, ``default_weight_observer`` for weights."""
default_debug_qconfig = QConfig(activation=default_debug_observer, weight=default_weight_observer)
"""``default_debug_observer`` for activations, ``default_weight_observer`` for weights."""
default_per_channel_qconfig = QConfig(activation=default_observer, weight=default_per_channel_weight_observer)
"""``default_observer`` for activations, ``default_per_channel_weight_observer`` for weights."""
default_qat_qconfig = QConfig(activation=default_fake_quant, weight=default_weight_fake_quant)
"""``default_fake_quant`` for activations, ``default_weight_fake_quant`` for weights."""
default_qat_qconfig_v2 = QConfig(activation=default_fused_act_fake_quant, weight=default_weight_fake_quant)
"""``default_fused_act_fake_quant`` for activations, ``default_weight_fake_quant`` for weights."""

default_dynamic_qconfig = QConfigDynamic()
"""Activations quantized at run time, one scale a row; weights by ``default_per_channel_weight_observer``."""
float16_dynamic_qconfig = QConfigDynamic(NoopObserver, NoopObserver.with_args(dtype=torch.float16))
"""Weights stored as float16; activations stay float."""
bfloat16_dynamic_qconfig = QConfigDynamic(NoopObserver, NoopObserver.with_args(dtype=torch.bfloat16))
"""Weights stored as bfloat16; activations stay float."""
per_channel_dynamic_qconfig = default_dynamic_qconfig
"""The same under the name that says so."""
per_tensor_dynamic_qconfig = QConfigDynamic(per_tensor_dynamic_quant_observer, default_weight_observer)
"""Activations quantized at run time, one scale a tensor; weights by ``default_weight_observer``: torch's
``default_dynamic_qconfig``."""

_symmetric_histogram = QuantileHistogramObserver.with_args(dtype=QDType.qint8, eps=2**-12)
default_symmetric_qnnpack_qconfig = QConfig(
    activation=_symmetric_histogram, weight=weight_observer_range_neg_127_to_127
)
"""qint8 activations by a histogram, weights in -127..127 with one scale."""
default_per_channel_symmetric_qnnpack_qconfig = QConfig(
    activation=_symmetric_histogram, weight=per_channel_weight_observer_range_neg_127_to_127
)
"""qint8 activations by a histogram, weights in -127..127 with one scale a channel."""

_full_histogram = QuantileHistogramObserver.with_args(reduce_range=False)
_reduced_histogram = QuantileHistogramObserver.with_args(reduce_range=True)
_full_fake_quant = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=255)
_reduced_fake_quant = _full_fake_quant.with_args(reduce_range=True)

SMALLEST_SCALE = 2.0**-60
"""The smallest scale of qfx's own qconfigs: the product of two is a normal float32, so no value is too small for int8.

The observers' own default, float32's epsilon, is kept for named qconfigs, whose qparams users know.
"""

_own_weight = default_per_channel_weight_observer.with_args(eps=SMALLEST_SCALE)
_own_activation = HistogramObserver.with_args(eps=SMALLEST_SCALE)

_POST_TRAINING: dict[str | None, QConfig] = {
    None: QConfig(_own_activation, _own_weight),
    "x86": QConfig(_reduced_histogram, default_per_channel_weight_observer),
    "fbgemm": QConfig(_reduced_histogram, default_per_channel_weight_observer),
    "qnnpack": QConfig(_full_histogram, default_weight_observer),
    "onednn": QConfig(_full_histogram, default_per_channel_weight_observer),
}
_TRAINING: dict[str | None, QConfig] = {
    None: QConfig(
        _full_fake_quant.with_args(eps=SMALLEST_SCALE),
        default_per_channel_weight_fake_quant.with_args(eps=SMALLEST_SCALE),
    ),
    "x86": QConfig(_reduced_fake_quant, default_per_channel_weight_fake_quant),
    "fbgemm": QConfig(_reduced_fake_quant, default_per_channel_weight_fake_quant),
    "qnnpack": QConfig(_full_fake_quant, default_weight_fake_quant),
    "onednn": QConfig(_full_fake_quant, default_per_channel_weight_fake_quant),
}


@explained
def get_default_qconfig(backend: str | None = None, version: int = 0) -> QConfig:
    """The qconfig for post-training quantization.

    Args:
        backend: None for the engine assigned to ``qfx.backends.quantized.engine``, and while none is, for qfx's own
            choice (histogram activations in the full 0..255, per-channel symmetric int8
            weights, scales as small as the values need), or a name whose meaning, to the last bit of the qparams, is
            kept: "x86" and "fbgemm" (activations in 0..127, per-channel weights), "onednn" (0..255, per-channel
            weights), "qnnpack" (0..255, per-tensor weights).
        version: As torch numbered them: 0.

    Raises:
        QConfigError: Another name or version.
    """
    _check_version(version, (0,))
    return _named(_POST_TRAINING, backend)


@explained
def get_default_qat_qconfig(backend: str | None = None, version: int = 1) -> QConfig:
    """The qconfig for quantization-aware training; ``backend`` as in :func:`get_default_qconfig`.

    Args:
        backend: As there.
        version: As torch numbered them, 0 or 1: two implementations of the same numbers there, one here.

    Raises:
        QConfigError: Another name or version.
    """
    _check_version(version, (0, 1))
    return _named(_TRAINING, backend)


@explained
def get_default_qconfig_dict(backend: str | None = None, version: int = 0) -> dict[str, QConfig]:
    """A qconfig_dict that quantizes the whole model with ``get_default_qconfig(backend, version)``."""
    return {"": get_default_qconfig(backend, version)}


@explained
def get_default_qat_qconfig_dict(backend: str | None = None, version: int = 1) -> dict[str, QConfig]:
    """A qconfig_dict that trains the whole model with ``get_default_qat_qconfig(backend, version)``."""
    return {"": get_default_qat_qconfig(backend, version)}


@explained
def weight_only_qconfig(bits: int = 8, group_size: int | None = 32, symmetric: bool = True) -> QConfigDynamic:
    """A qconfig that stores the weights of linear layers as integers; activations stay float, and need no calibration.

    Args:
        bits: Of a weight: 8 or 4.
        group_size: Neighbours in a row of weights that share a scale: 32, 64 or 128; None: the whole row.
        symmetric: Zero points are 0; else each group has its own, and uses its range whole.

    Raises:
        QConfigError: Other bits or groups.
    """
    return QConfigDynamic(NoopObserver, _group_observer(bits, group_size, symmetric))


@explained
def groups_dynamic_qconfig(bits: int = 8, group_size: int | None = None, symmetric: bool = True) -> QConfigDynamic:
    """A qconfig of linear layers whose activations are quantized at run time, one scale for 32 neighbours of a row.

    Args:
        bits: Of a weight: 8 or 4.
        group_size: Neighbours in a row of weights that share a scale: 32, 64 or 128; None: the whole row.
        symmetric: Zero points of weights are 0; else each group has its own, and uses its range whole.

    Raises:
        QConfigError: Other bits or groups.
    """
    return QConfigDynamic(per_group_dynamic_quant_observer, _group_observer(bits, group_size, symmetric))


def _group_observer(bits: int, group_size: int | None, symmetric: bool) -> ModuleFactory:
    if bits not in _BOUNDS:
        raise QConfigError(f"Weights can't be stored in {bits!r} bits.", remedy="Use bits=8 or bits=4.")
    if isinstance(group_size, bool) or group_size not in _GROUPS:
        raise QConfigError(f"group_size={group_size!r} is not one of {_GROUPS}.", remedy="Use one of them.")
    scheme = QScheme.per_channel_symmetric if symmetric else QScheme.per_channel_affine
    low, high = _BOUNDS[bits]
    return PerGroupMinMaxObserver.with_args(
        group_size=group_size, qscheme=scheme, quant_min=low, quant_max=high, eps=SMALLEST_SCALE
    )


_BOUNDS = {8: (-128, 127), 4: (-8, 7)}
_GROUPS = (32, 64, 128, None)

int8_weight_only_qconfig = weight_only_qconfig(8)
"""Linear layers with weights in 8 bits, symmetric, one scale for 32 features; activations stay float."""
int4_weight_only_qconfig = weight_only_qconfig(4)
"""The same in 4 bits."""
float_qparams_weight_only_qconfig = weight_only_qconfig(8, None, symmetric=False)
"""Tables of embeddings, and linear layers, with weights in 8 bits, one scale and zero point a row."""
float_qparams_weight_only_qconfig_4bit = weight_only_qconfig(4, None, symmetric=False)
"""The same in 4 bits."""

per_group_dynamic_qconfig = groups_dynamic_qconfig(8)
"""Linear layers with activations quantized at run time, one scale for 32 neighbours of a row; weights in 8 bits, one
scale a channel."""
int8_groups_dynamic_qconfig = groups_dynamic_qconfig(8, 32)
"""The same with one scale for 32 weights, too."""
int4_groups_dynamic_qconfig = groups_dynamic_qconfig(4, 32)
"""The same with weights in 4 bits."""


def _check_version(version: object, known: tuple[int, ...]) -> None:
    if isinstance(version, bool) or version not in known:
        numbers = " or ".join(map(str, known))
        raise QConfigError(
            f"There is no version {version!r} of the default qconfigs.", remedy=f"Use {numbers}, or leave it out."
        )


def _named(table: dict[str | None, QConfig], backend: str | None) -> QConfig:
    backend = chosen_engine() if backend is None else backend
    if backend in table:
        return table[backend]
    names = [name for name in table if name is not None]
    near = difflib.get_close_matches(str(backend), names, n=1)
    raise QConfigError(
        f"There is no default qconfig named {backend!r}.",
        why=f"Did you mean {near[0]!r}?" if near else None,
        remedy=f"Use one of {', '.join(map(repr, names))}, or leave the name out for qfx's own.",
    )
