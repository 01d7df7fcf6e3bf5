"""What prepare_fx, convert_fx and fuse_fx are told beside qconfigs, under the names that torch gave it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, TypeVar

from torch import nn

from qfx.arguments import checked
from qfx.errors import QConfigError

Made = TypeVar("Made", bound="_Config")


class QuantType(IntEnum):
    """How a custom module is quantized: what its qconfig asks for."""

    DYNAMIC = 0
    STATIC = 1
    QAT = 2
    WEIGHT_ONLY = 3


ClassMap = dict[QuantType, dict[type[nn.Module], Any]]
"""From the class of a module to the class that takes its place, by how it is quantized."""

_KINDS = {"static": QuantType.STATIC, "dynamic": QuantType.DYNAMIC, "weight_only": QuantType.WEIGHT_ONLY}
STANDALONE = ("standalone_module_name", "standalone_module_class")
"""Keys for parts with qconfigs of their own."""
_PREPARE = {
    "float_to_observed_custom_module_class": "float_to_observed_mapping",
    "non_traceable_module_name": "non_traceable_module_names",
    "non_traceable_module_class": "non_traceable_module_classes",
    "input_quantized_idxs": "input_quantized_indexes",
    "output_quantized_idxs": "output_quantized_indexes",
    "preserved_attributes": "preserved_attributes",
    "standalone_module_name": "standalone_module_names",
    "standalone_module_class": "standalone_module_classes",
}
_CONVERT = {
    "observed_to_quantized_custom_module_class": "observed_to_quantized_mapping",
    "preserved_attributes": "preserved_attributes",
}
_FUSE = {"preserved_attributes": "preserved_attributes"}


class _Config:
    """Keys of a dict as attributes, each set by a method."""

    _keys: Mapping[str, str] = {}

    def __init__(self) -> None:
        for key, name in self._keys.items():
            setattr(self, name, {} if key.endswith("custom_module_class") or key in STANDALONE else [])

    @classmethod
    def from_dict(cls: type[Made], config: Mapping[str, Any]) -> Made:
        """The configuration of a dict, with the keys that torch gave them.

        Raises:
            QConfigError: Another key, or a value of the wrong type.
        """
        if not isinstance(config, Mapping):
            raise QConfigError(
                f"A {cls.__name__} can't be made of {type(config).__name__}.",
                remedy=f"Pass a {cls.__name__}, or a dict with the keys {_shown(cls._keys)}.",
            )
        made = cls()
        for key, value in config.items():
            if key not in cls._keys:
                raise QConfigError(
                    f"{cls.__name__} has no key {key!r}.", remedy=f"Its keys are {_shown(cls._keys)}; leave it out."
                )
            setattr(made, cls._keys[key], (_READ.get(key) or _listed)(key, value))
        return made

    def to_dict(self) -> dict[str, Any]:
        """The keys that were set, with their values."""
        given = {key: getattr(self, name) for key, name in self._keys.items()}
        return {key: (_WRITE.get(key) or _same)(value) for key, value in given.items() if value}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_dict()!r})"


class PrepareCustomConfig(_Config):
    """What prepare_fx and prepare_qat_fx are told beside qconfigs.

    Attributes:
        standalone_module_names: Parts with qconfigs of their own, by path.
        standalone_module_classes: The same, by class.
        float_to_observed_mapping: Classes of custom modules and of those that are calibrated in their place.
        non_traceable_module_names: Modules that stay calls, by path.
        non_traceable_module_classes: The same, by class.
        input_quantized_indexes: Inputs that arrive quantized.
        output_quantized_indexes: Outputs that leave quantized.
        preserved_attributes: Attributes of the model that the result has too.
    """

    _keys = _PREPARE
    standalone_module_names: dict[str, tuple[Any, ...]]
    standalone_module_classes: dict[type[nn.Module], tuple[Any, ...]]
    float_to_observed_mapping: ClassMap
    non_traceable_module_names: list[str]
    non_traceable_module_classes: list[type[nn.Module]]
    input_quantized_indexes: list[int]
    output_quantized_indexes: list[int]
    preserved_attributes: list[str]

    @checked
    def set_standalone_module_name(
        self,
        module_name: str,
        qconfig_mapping: Mapping[str, Any] | None,
        example_inputs: Any = None,
        prepare_custom_config: PrepareCustomConfig | None = None,
        backend_config: Any = None,
    ) -> PrepareCustomConfig:
        """Give the module at a path qconfigs of its own; without any, those around it hold.

        It is a part of the same graph, so ``example_inputs`` need not be known.
        """
        given = (qconfig_mapping, example_inputs, prepare_custom_config, backend_config)
        self.standalone_module_names[module_name] = given
        return self

    @checked
    def set_standalone_module_class(
        self,
        module_class: type[nn.Module],
        qconfig_mapping: Mapping[str, Any] | None,
        example_inputs: Any = None,
        prepare_custom_config: PrepareCustomConfig | None = None,
        backend_config: Any = None,
    ) -> PrepareCustomConfig:
        """As :meth:`set_standalone_module_name`, for every module of a class."""
        given = (qconfig_mapping, example_inputs, prepare_custom_config, backend_config)
        self.standalone_module_classes[module_class] = given
        return self

    @checked
    def set_float_to_observed_mapping(
        self, float_class: type[nn.Module], observed_class: Any, quant_type: QuantType = QuantType.STATIC
    ) -> PrepareCustomConfig:
        """Let ``observed_class.from_float(module)`` take the place of modules of ``float_class`` that have a qconfig.

        Its inputs and its result are observed, where the qconfig is static; convert_fx's
        ``observed_to_quantized_mapping`` says what takes its place then.
        """
        self.float_to_observed_mapping.setdefault(QuantType(quant_type), {})[float_class] = observed_class
        return self

    @checked
    def set_non_traceable_module_names(self, module_names: Sequence[str]) -> PrepareCustomConfig:
        """Keep the modules at these paths as calls of float modules."""
        self.non_traceable_module_names = list(module_names)
        return self

    @checked
    def set_non_traceable_module_classes(self, module_classes: Sequence[type[nn.Module]]) -> PrepareCustomConfig:
        """Keep modules of these classes as calls of float modules."""
        self.non_traceable_module_classes = list(module_classes)
        return self

    @checked
    def set_input_quantized_indexes(self, indexes: Sequence[int]) -> PrepareCustomConfig:
        """Let these inputs arrive quantized."""
        self.input_quantized_indexes = list(indexes)
        return self

    @checked
    def set_output_quantized_indexes(self, indexes: Sequence[int]) -> PrepareCustomConfig:
        """Let these outputs leave quantized."""
        self.output_quantized_indexes = list(indexes)
        return self

    @checked
    def set_preserved_attributes(self, attributes: Sequence[str]) -> PrepareCustomConfig:
        """Let the result have these attributes of the model."""
        self.preserved_attributes = list(attributes)
        return self


class ConvertCustomConfig(_Config):
    """What convert_fx is told.

    Attributes:
        observed_to_quantized_mapping: Classes of observed custom modules and of those that take their place.
        preserved_attributes: Attributes of the prepared model that the result has too; those of the preparation stay.
    """

    _keys = _CONVERT
    observed_to_quantized_mapping: ClassMap
    preserved_attributes: list[str]

    @checked
    def set_observed_to_quantized_mapping(
        self, observed_class: type[nn.Module], quantized_class: Any, quant_type: QuantType = QuantType.STATIC
    ) -> ConvertCustomConfig:
        """Let ``quantized_class.from_observed(module)`` take the place of ``observed_class``.

        A statically quantized one takes and returns QTensors.
        """
        self.observed_to_quantized_mapping.setdefault(QuantType(quant_type), {})[observed_class] = quantized_class
        return self

    @checked
    def set_preserved_attributes(self, attributes: Sequence[str]) -> ConvertCustomConfig:
        """Let the result have these attributes of the prepared model."""
        self.preserved_attributes = list(attributes)
        return self


class FuseCustomConfig(_Config):
    """What fuse_fx is told.

    Attributes:
        preserved_attributes: Attributes of the model that the result has too.
    """

    _keys = _FUSE
    preserved_attributes: list[str]

    @checked
    def set_preserved_attributes(self, attributes: Sequence[str]) -> FuseCustomConfig:
        """Let the result have these attributes of the model."""
        self.preserved_attributes = list(attributes)
        return self


def as_config(kind: type[Made], given: object) -> Made:
    """``given`` as a configuration of a kind: that itself, a dict of the same keys, or None.

    Raises:
        QConfigError: It is something else.
    """
    if isinstance(given, kind):
        return given
    return kind() if given is None else kind.from_dict(given)  # type: ignore[arg-type]


def _listed(key: str, value: Any) -> list[Any]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise QConfigError(f"{key!r} is {type(value).__name__}, where a list belongs.", remedy=f"Write [{value!r}].")
    return list(value)


def _classes(key: str, value: Any) -> ClassMap:
    if not isinstance(value, Mapping) or not all(k in _KINDS and isinstance(v, Mapping) for k, v in value.items()):
        raise QConfigError(
            f"{key!r} is no dict of dicts of classes.",
            remedy=f'Write {{"static": {{Class: OtherClass}}}}; the outer keys are {_shown(_KINDS)}.',
        )
    return {_KINDS[kind]: dict(classes) for kind, classes in value.items()}


def _parts(key: str, value: Any) -> dict[Any, tuple[Any, ...]]:
    if not isinstance(value, Sequence) or not all(isinstance(row, Sequence) and 2 <= len(row) <= 5 for row in value):
        raise QConfigError(
            f"{key!r} is no list of standalone modules.",
            remedy="Write [(module, qconfig_mapping, example_inputs, prepare_custom_config, backend_config), ...].",
        )
    return {row[0]: (*row[1:], *[None] * (5 - len(row))) for row in value}


_READ: dict[str, Callable[[str, Any], Any]] = {
    "float_to_observed_custom_module_class": _classes,
    "observed_to_quantized_custom_module_class": _classes,
    "standalone_module_name": _parts,
    "standalone_module_class": _parts,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_WRITE: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("float_to_observed_custom_module_class", "observed_to_quantized_custom_module_class"),
        lambda value: {_NAMES.get(kind, kind.name.lower()): dict(classes) for kind, classes in value.items()},
    ),
    **dict.fromkeys(STANDALONE, lambda value: [(key, *given) for key, given in value.items()]),
}


def _same(value: Any) -> Any:
    return value


def _shown(names: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names))
