"""Fused layers for quantization-aware training: convolution, batch norm and ReLU with the folded weight rounded."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from qfx.nn import intrinsic, qat
from qfx.nn.recast import recast
from qfx.quantization.fold import affine_of, fold_batch_norm
from qfx.quantization.qconfig import QConfig

Made = TypeVar("Made", bound="WithBatchNorm")


class WithReLU(nn.Module):
    """Mixin before a layer that rounds its weight: ReLU behind it."""

    def forward(self, input: Tensor) -> Tensor:
        """``relu`` of the layer's result."""
        return torch.relu(super().forward(input))

    def to_float(self) -> nn.Module:
        """The float container with these parameters, any batch norm folded in."""
        layer: Any = self
        name = "LinearReLU" if isinstance(self, nn.Linear) else f"ConvReLU{layer.weight.dim() - 2}d"
        container: nn.Module = getattr(intrinsic, name)(layer.plain(), nn.ReLU())
        return container.train(self.training)


class WithBatchNorm(qat.RoundedWeight):
    """Mixin before a convolution: the weight is rounded as it will be folded, ``w * gamma / sqrt(running_var + eps)``.

    The result is divided by that factor again, so that in training the batch norm sees the convolution's own result
    and normalizes by the batch; with frozen statistics and in evaluation the whole equals the folded convolution
    (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
    2018, section 3.2). A channel with ``gamma == 0`` is rounded as with 1, so that it can still be trained.

    Args:
        *args: Arguments of the float convolution, with ``bias=False`` by default; then those below, in this order.
        eps: Of the batch norm.
        momentum: Of the batch norm.
        freeze_bn: Start with frozen statistics.
        qconfig: Of fake-quantize modules.
        **kwargs: Further arguments of the float convolution.
    """

    bn: Any
    freeze_bn: bool

    def __init__(
        self,
        *args: Any,
        eps: float = 1e-5,
        momentum: float = 0.1,
        freeze_bn: bool = False,
        qconfig: QConfig | None = None,
        **kwargs: Any,
    ) -> None:
        count = self._layer_arguments()
        own: dict[str, Any] = {"eps": eps, "momentum": momentum, "freeze_bn": freeze_bn, "qconfig": qconfig}
        if len(args) > count + len(own):
            raise TypeError(f"{type(self).__name__} takes at most {count + len(own)} arguments by position")
        own |= dict(zip(own, args[count:], strict=False))
        eps, momentum, freeze_bn, qconfig = own.values()
        layer = inspect.signature(self._layer_class()).bind(*args[:count], **kwargs).arguments
        super().__init__(**{"bias": False, **layer}, qconfig=qconfig)
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[self.weight.dim() - 3]
        self.bn = norm(self.weight.shape[0], eps, momentum)
        self._freeze(freeze_bn)

    def forward(self, input: Tensor) -> Tensor:
        """Convolution with the rounded folded weight, then the batch norm."""
        factor = self._factor()
        weight = self._rounded()
        bias = self.bias
        across = (1, -1, *[1] * (self.weight.dim() - 2))
        y = self._multiply(input, weight, None) / factor.reshape(across)
        return cast(Tensor, self.bn(y if bias is None else y + bias.reshape(across)))

    def update_bn_stats(self) -> nn.Module:
        """Let the batch norm normalize by the batch and update its statistics, in training; returns the module."""
        return self._freeze(False)

    def freeze_bn_stats(self) -> nn.Module:
        """Let the batch norm use and keep its running statistics, in training too; returns the module."""
        return self._freeze(True)

    def reset_running_stats(self) -> None:
        """Forget the batch norm's statistics."""
        self.bn.reset_running_stats()

    def train(self, mode: bool = True) -> Any:
        """As ``nn.Module.train``; frozen statistics stay frozen."""
        super().train(mode)
        self.bn.train(mode and not self.freeze_bn)
        return self

    def to_float(self) -> nn.Module:
        """As :meth:`plain`."""
        return self.plain()

    def plain(self) -> nn.Module:
        """The float convolution with the batch norm folded in by its running statistics."""
        return fold_batch_norm(super().plain(), self.bn)

    @classmethod
    def _of_members(cls: type[Made], mod: Any) -> Made:
        affine_of(mod[1])
        made = recast(mod[0], cls)
        made.bn = mod[1]
        made._freeze(False)
        return made

    def rounded_weight(self) -> Tensor:
        """As of every layer; zero where ``gamma`` is, whatever training rounds instead."""
        rounded = super().rounded_weight()
        return rounded if self.bn.weight is None else rounded * _along(self.bn.weight.detach() != 0, rounded)

    def _rounded(self) -> Tensor:
        rounded: Tensor = self.weight_fake_quant(self.weight * _along(self._factor(), self.weight))
        return rounded

    def _freeze(self, frozen: bool) -> nn.Module:
        self.freeze_bn = frozen
        self.bn.train(self.training and not frozen)
        return self

    def _factor(self) -> Tensor:
        deviation = torch.sqrt(self.bn.running_var + self.bn.eps)
        gamma = torch.ones_like(deviation) if self.bn.weight is None else self.bn.weight
        return torch.where(gamma == 0, torch.ones_like(gamma), gamma) / deviation


def _along(factor: Tensor, weight: Tensor) -> Tensor:
    """A factor an output channel, shaped to multiply ``weight``."""
    return factor.reshape(-1, *[1] * (weight.dim() - 1))


class ConvBn1d(WithBatchNorm, nn.Conv1d):
    """Conv1d + BatchNorm1d with the folded weight fake-quantized. Input ``[N, C, L]``."""

    source: ClassVar[Any] = intrinsic.ConvBn1d


class ConvBn2d(WithBatchNorm, nn.Conv2d):
    """Conv2d + BatchNorm2d with the folded weight fake-quantized. Input ``[N, C, H, W]``."""

    source: ClassVar[Any] = intrinsic.ConvBn2d


class ConvBn3d(WithBatchNorm, nn.Conv3d):
    """Conv3d + BatchNorm3d with the folded weight fake-quantized. Input ``[N, C, D, H, W]``."""

    source: ClassVar[Any] = intrinsic.ConvBn3d


class ConvBnReLU1d(WithReLU, ConvBn1d):
    """Conv1d + BatchNorm1d + ReLU with the folded weight fake-quantized. Input ``[N, C, L]``."""

    source: ClassVar[Any] = intrinsic.ConvBnReLU1d


class ConvBnReLU2d(WithReLU, ConvBn2d):
    """Conv2d + BatchNorm2d + ReLU with the folded weight fake-quantized. Input ``[N, C, H, W]``."""

    source: ClassVar[Any] = intrinsic.ConvBnReLU2d


class ConvBnReLU3d(WithReLU, ConvBn3d):
    """Conv3d + BatchNorm3d + ReLU with the folded weight fake-quantized. Input ``[N, C, D, H, W]``."""

    source: ClassVar[Any] = intrinsic.ConvBnReLU3d


class ConvReLU1d(WithReLU, qat.Conv1d):
    """Conv1d + ReLU with the weight fake-quantized. Input ``[N, C, L]``."""

    source: ClassVar[Any] = intrinsic.ConvReLU1d


class ConvReLU2d(WithReLU, qat.Conv2d):
    """Conv2d + ReLU with the weight fake-quantized. Input ``[N, C, H, W]``."""

    source: ClassVar[Any] = intrinsic.ConvReLU2d


class ConvReLU3d(WithReLU, qat.Conv3d):
    """Conv3d + ReLU with the weight fake-quantized. Input ``[N, C, D, H, W]``."""

    source: ClassVar[Any] = intrinsic.ConvReLU3d


class LinearReLU(WithReLU, qat.Linear):
    """Linear + ReLU with the weight fake-quantized. Input ``[..., C]``."""

    source: ClassVar[Any] = intrinsic.LinearReLU


def update_bn_stats(mod: nn.Module) -> None:
    """Unfreeze the statistics of ``mod`` if it is fused with a batch norm; for ``model.apply``."""
    if isinstance(mod, WithBatchNorm):
        mod.update_bn_stats()


def freeze_bn_stats(mod: nn.Module) -> None:
    """Freeze the statistics of ``mod`` if it is fused with a batch norm; for ``model.apply``."""
    if isinstance(mod, WithBatchNorm):
        mod.freeze_bn_stats()
