"""Switches for a whole model: ``model.apply(disable_observer)`` and the like."""

from __future__ import annotations

from torch import nn

from qfx.arguments import explained
from qfx.quantization.fake_quantize import FakeQuantizeBase
from qfx.quantization.observer import ChannelMean, Observer


@explained
def enable_observer(module: nn.Module) -> None:
    """Let ``module`` collect statistics, if it is an observer or fake-quantize; for ``model.apply``."""
    _switch_observer(module, True)


@explained
def disable_observer(module: nn.Module) -> None:
    """Freeze the statistics of ``module``, if it is an observer or fake-quantize; for ``model.apply``."""
    _switch_observer(module, False)


@explained
def enable_fake_quant(module: nn.Module) -> None:
    """Let ``module`` quantize and dequantize, if it is a fake-quantize; for ``model.apply``."""
    if isinstance(module, FakeQuantizeBase):
        module.enable_fake_quant(True)


@explained
def disable_fake_quant(module: nn.Module) -> None:
    """Let values pass ``module`` unchanged, if it is a fake-quantize; for ``model.apply``."""
    if isinstance(module, FakeQuantizeBase):
        module.enable_fake_quant(False)


def _switch_observer(module: nn.Module, enabled: bool) -> None:
    if isinstance(module, FakeQuantizeBase):
        module.enable_observer(enabled)
    elif isinstance(module, (Observer, ChannelMean)):
        module.enabled = enabled
