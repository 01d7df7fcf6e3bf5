"""What the calls of eager mode accept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qfx.errors import InputError, QConfigError
from qfx.ir.module import GraphCarrier
from qfx.ir.types import QDType
from qfx.quantization.qconfig import (
    QConfigDynamic,
    bfloat16_dynamic_qconfig,
    float16_dynamic_qconfig,
    per_channel_dynamic_qconfig,
)


def require_module(model: object, inplace: object = False) -> None:
    """Raise unless ``model`` is a module that eager mode can change, and ``inplace`` a bool.

    Raises:
        InputError: What it is instead, and what to call.
    """
    if isinstance(model, GraphCarrier):
        raise InputError(
            f"The model is a {type(model).__name__} of graph mode.",
            why="Eager mode swaps the modules of a float model; graph mode has made one graph of them.",
            remedy="Convert it with qfx.convert_fx, or start again from the float model.",
        )
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"The model is {type(model).__name__}, not a module with Python code.",
            remedy="Pass the nn.Module that it was made from.",
        )
    if not isinstance(inplace, bool):
        raise InputError(
            f"inplace is {type(inplace).__name__}, not a bool.",
            remedy="Pass qconfigs as qconfig_dict=..., and inplace=True or False.",
        )


def require_cpu(model: nn.Module) -> None:
    """Raise unless every parameter and buffer is on the CPU.

    Raises:
        InputError: A tensor is elsewhere.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.device.type != "cpu":
            raise InputError(
                f"The model's {name!r} is on {tensor.device}.",
                where=name.rpartition(".")[0],
                why="Quantized layers run on the CPU; only training with fake quantization runs elsewhere.",
                remedy="Move the model with .cpu() before convert.",
            )


def dynamic_qconfig(dtype: Any) -> QConfigDynamic:
    """The qconfig of dynamic quantization to weights of ``dtype``; int8 ones have a scale a channel, activations a row.

    Raises:
        QConfigError: It is neither qint8 nor float16 nor bfloat16.
    """
    if dtype in (torch.float16, torch.bfloat16):
        return float16_dynamic_qconfig if dtype is torch.float16 else bfloat16_dynamic_qconfig
    if dtype is QDType.qint8 or dtype is torch.int8 or str(dtype).rsplit(".", 1)[-1] == QDType.qint8.name:
        return per_channel_dynamic_qconfig
    raise QConfigError(
        f"quantize_dynamic does not make {dtype} weights.",
        remedy="Use dtype=qfx.qint8, torch.float16 or torch.bfloat16.",
    )
