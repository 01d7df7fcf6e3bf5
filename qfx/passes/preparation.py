"""What the passes from Normal to Observed are told beside the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from qfx.ir.computed import ComputedWeight
from qfx.passes.resolve import Spelled
from qfx.quantization.custom_config import ClassMap
from qfx.quantization.qconfig_dict import QConfigRules


@dataclass(frozen=True)
class Recovery:
    """What preparation and conversion may do about the error of rounding; all but rotation and keys need calibration.

    Args:
        bias_correction: Take the shift of the mean output out of the bias.
        adaptive_rounding: Round weights for the least output error instead of each to its nearest integer.
        rotation: Rotate what linear layers of transformers read, so that no channel dwarfs the others.
        smoothing: Divide channels by factors in front of a rotation, and multiply weights by them.
        smooth_keys: Take the mean of each channel out of the keys of an attention.
    """

    bias_correction: bool = True
    adaptive_rounding: bool = True
    rotation: bool = True
    smoothing: bool = True
    smooth_keys: bool = False


@dataclass(frozen=True)
class Preparation:
    """What the user asked for, and what the model has that its graph does not show.

    Attributes:
        rules: The qconfig_dict.
        spelled: What entries of it may name.
        custom_modules: The observed class of each custom module's.
        recovery: What calibration collects statistics for.
        origin: The copy of the model that was captured.
        computed: Its weights that a module computes, by path.
    """

    rules: QConfigRules
    spelled: Spelled
    custom_modules: ClassMap
    recovery: Recovery
    origin: nn.Module
    computed: Mapping[str, ComputedWeight] = field(default_factory=dict)
