"""Which stage of a model's way a state_dict was saved at, so that loading it elsewhere can be explained."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from qfx.errors import ConversionError

_STATISTICS = ".activation_post_process."
_SWITCH = "fake_quant_enabled"


class Stage(Enum):
    """Where a model is on its way from float to int8; the value says so in words."""

    float = "a float model"
    calibrating = "a model that prepare_fx made"
    training = "a model that prepare_qat_fx made"
    quantized = "an int8 model"


def stage_of(state: Mapping[str, Any]) -> Stage:
    """The stage at which a state_dict was saved."""
    if any(isinstance(value, Tensor) and value.dtype is torch.int8 for value in state.values()):
        return Stage.quantized
    if any(key.endswith(_SWITCH) for key in state):
        return Stage.training
    return Stage.calibrating if any(_STATISTICS in f".{key}" for key in state) else Stage.float


def require_stage(state: Mapping[str, Any], wanted: Stage, remedy: str) -> None:
    """Raise unless ``state`` was saved at the stage ``wanted``.

    Raises:
        ConversionError: It was saved at another, which the message names.
    """
    found = stage_of(state)
    if found is not wanted:
        raise ConversionError(
            f"The state_dict is that of {found.value}, but this is {wanted.value}.",
            why="Parameters have the same names at every stage, but ranges and integers belong to one.",
            remedy=remedy,
        )
