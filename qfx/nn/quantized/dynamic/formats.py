"""In which form a dynamic module stores its weights, and what a float layer's qconfig says of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from qfx.errors import ConversionError, QuantizationError, UnsupportedError, shown
from qfx.ir.types import QDType
from qfx.passes.weight_only import HALVES
from qfx.quantization.observer import PerGroupMinMaxObserver
from qfx.quantization.qconfig import QConfig, per_channel_dynamic_qconfig

_TABLES = (nn.Embedding, nn.EmbeddingBag)
"""What is looked up, so that no inputs are multiplied with it."""


def weight_dtype(dtype: Any, *, brain: bool = False) -> QDType | torch.dtype:
    """``dtype`` as ``qfx.qint8`` or ``torch.float16``, or ``torch.bfloat16`` where ``brain`` says so.

    Raises:
        UnsupportedError: It is none of them.
    """
    halves = [half for half in HALVES if brain or half is torch.float16]
    for half in halves:
        if dtype is half or (isinstance(dtype, str) and dtype == HALVES[half]):
            return half
    try:
        parsed = QDType.parse(dtype)
    except QuantizationError:
        parsed = None
    if parsed is QDType.qint8:
        return parsed
    others = " or ".join(f"dtype={half}" for half in halves)
    raise UnsupportedError(
        f"Weights of a dynamic module can't be {shown(dtype)}.", remedy=f"Use dtype=qfx.qint8 or {others}."
    )


def weight_observer(mod: nn.Module) -> Any:
    """What finds the weights' qparams: a trained module's own, else a fresh one of its qconfig or the default."""
    trained = getattr(mod, "weight_fake_quant", None)
    if trained is not None:
        return trained
    return (getattr(mod, "qconfig", None) or per_channel_dynamic_qconfig).weight()


def qconfig_of(mod: nn.Module) -> QConfig:
    """The dynamic qconfig of ``mod``, or the default: a trained module has another."""
    given: QConfig | None = getattr(mod, "qconfig", None)
    return given if given is not None and given.is_dynamic else per_channel_dynamic_qconfig


def dtype_of(mod: nn.Module) -> QDType | torch.dtype:
    """The weights' dtype that the qconfig of ``mod`` asks for, of a layer that has a scale a row at most.

    Raises:
        UnsupportedError: Neither qint8 nor float16, or by groups.
    """
    observer = weight_observer(mod)
    by_groups = isinstance(observer, PerGroupMinMaxObserver)
    if by_groups or qconfig_of(mod).input_group is not None:
        what = "Weights" if by_groups else "Inputs"
        raise UnsupportedError(
            f"{what} of a dynamic {type(mod).__name__} can't have a scale a group.",
            remedy="Leave it float, or give it the qconfig qfx.default_dynamic_qconfig: groups are for linear layers "
            "and embeddings.",
        )
    return weight_dtype(observer.dtype)


def format_of(mod: nn.Module) -> dict[str, Any]:
    """The form that the qconfig of ``mod`` asks for, as arguments of a dynamic linear layer or table.

    Raises:
        ConversionError: Groups, for activations that are quantized by rows.
        UnsupportedError: Another dtype than qint8, float16 and bfloat16.
    """
    observer, qconfig = weight_observer(mod), qconfig_of(mod)
    by_groups = isinstance(observer, PerGroupMinMaxObserver)
    group = None if isinstance(mod, _TABLES) else qconfig.input_group
    if not by_groups and group is None:
        return {"dtype": weight_dtype(observer.dtype, brain=True)}
    if by_groups and not qconfig.weight_only and qconfig.input_group is None:
        raise ConversionError(
            f"The qconfig of this {type(mod).__name__} quantizes activations, and gives weights alone a scale a group.",
            why="What has a scale a group is multiplied with float activations, or with activations by groups.",
            remedy="Give it qfx.weight_only_qconfig(...), qfx.groups_dynamic_qconfig(...), or another weight observer.",
        )
    bits, size = (observer.bits, observer.group_size) if by_groups else (8, None)
    form = {"bits": bits, "group_size": size, "symmetric": observer.qscheme.symmetric}
    return form if group is None else {**form, "input_group": group}
