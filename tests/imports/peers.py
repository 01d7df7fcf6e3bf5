"""Models quantized by other tools: torchao's PT2E flow with its quantizers, and PyTorch's own eager and FX modes.

Their imports and their models warn of their own age, which is none of ours.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

Inputs = Callable[[], tuple[Any, ...]]


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


class Quiet:
    """A model of another tool that is called without its warnings."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, *args: Any) -> Any:
        with quietly():
            found = self.model(*args)
        found = found[0] if isinstance(found, tuple) else found
        return found.dequantize() if found.is_quantized else found


def inductor(**given: Any) -> Any:
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config(**given))


def xnnpack(*, is_per_channel: bool = True, **given: Any) -> Any:
    from torchao.testing.pt2e import _xnnpack_quantizer as xnn

    config = xnn.get_symmetric_quantization_config(is_per_channel=is_per_channel, **given)
    return xnn.XNNPACKQuantizer().set_global(config)


QUANTIZERS: dict[str, Callable[[], Any]] = {
    "inductor": inductor,
    "xnnpack": xnnpack,
    "xnnpack per tensor": lambda: xnnpack(is_per_channel=False),
}


def pt2e(model: nn.Module, quantizer: Callable[[], Any], inputs: Inputs, **export: Any) -> Any:
    """``model`` quantized by ``convert_pt2e``, calibrated on three batches."""
    with quietly():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        exported = torch.export.export(model.eval(), inputs(), **export)
        prepared = prepare_pt2e(exported.module(), quantizer())
        for _ in range(3):
            prepared(*inputs())
        return convert_pt2e(prepared)


@contextlib.contextmanager
def _engine() -> Iterator[None]:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "x86"
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def fx_mode(model: nn.Module, inputs: Inputs, *, reference: bool = False) -> Any:
    """``model`` quantized by ``convert_fx`` or ``convert_to_reference_fx``."""
    with quietly(), _engine():
        from torch.ao.quantization import float_qparams_weight_only_qconfig as table
        from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

        mapping = get_default_qconfig_mapping("x86").set_object_type(nn.Embedding, table)
        prepared = quantize_fx.prepare_fx(copy.deepcopy(model).eval(), mapping, inputs())
        for _ in range(3):
            prepared(*inputs())
        return quantize_fx.convert_to_reference_fx(prepared) if reference else quantize_fx.convert_fx(prepared)


def dynamic_fx_mode(model: nn.Module, inputs: Inputs, *, reference: bool = False) -> Any:
    with quietly(), _engine():
        from torch.ao.quantization import QConfigMapping, default_dynamic_qconfig, quantize_fx

        mapping = QConfigMapping().set_global(default_dynamic_qconfig)
        prepared = quantize_fx.prepare_fx(copy.deepcopy(model).eval(), mapping, inputs())
        return quantize_fx.convert_to_reference_fx(prepared) if reference else quantize_fx.convert_fx(prepared)


def dynamic(model: nn.Module) -> Any:
    """``model`` quantized by ``quantize_dynamic``."""
    with quietly(), _engine():
        import torch.ao.quantization as ao

        return ao.quantize_dynamic(copy.deepcopy(model).eval(), {nn.Linear, nn.LSTM, nn.GRU})


def eager(make: Callable[..., Any], inputs: Inputs) -> Any:
    """A net of :mod:`tests.quantization.stub_nets` quantized by eager mode."""
    with quietly(), _engine():
        import torch.ao.nn.quantized as ao_nnq
        import torch.ao.quantization as ao

        net = make((ao.QuantStub, ao.DeQuantStub), ao_nnq.FloatFunctional)
        model = ao.fuse_modules(net, net.lists())
        model.qconfig = ao.get_default_qconfig("x86")
        ao.prepare(model, inplace=True)
        for _ in range(3):
            model(*inputs())
        return ao.convert(model)
