"""Small networks that between them use every op row convolutional networks use, each with an example input shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.nets import settle


class Excited(nn.Module):
    """Depthwise, swish, squeeze-and-excitation, a residual without activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.contract = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.stem(x))
        y = F.hardswish(self.norm(self.depthwise(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return self.contract(y * gate) + x


class Shuffled(nn.Module):
    """ShuffleNet's split, grouped convolution and channel shuffle, spelled with reshapes and transposes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.right = nn.Conv2d(3, 16, 3, stride=2), nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.norm, self.fc = nn.BatchNorm2d(8), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = F.relu6(self.stem(x)).chunk(2, 1)
        x = torch.cat([left, F.relu(self.norm(self.right(right)))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(x.mean([2, 3]))


class Dense(nn.Module):
    """Dense blocks: cat, batch norm and relu before the convolution, average pooling in between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(10)])
        self.convs = nn.ModuleList([nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(10, 4, 3, padding=1)])
        self.last = nn.BatchNorm2d(14)

    def forward(self, x: Tensor) -> Tensor:
        features = [F.max_pool2d(self.stem(x), 3, 2, 1)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(F.relu(norm(torch.cat(features, 1)))))
        return F.avg_pool2d(F.relu(self.last(torch.cat(features, 1))), 2)


class Residual(nn.Module):
    """A residual with relu, one with a projection, dilation and asymmetric padding."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((1, 2, 0, 1))
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.strided, self.project = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.Conv2d(8, 12, 1, stride=2)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(self.pad(x))))
        x = F.relu(self.dilated(x) + x)
        x = F.relu(self.project(x) + self.strided(x))
        return F.relu(self.fc(F.adaptive_max_pool2d(x, 1).flatten(1)))


class Sequence1d(nn.Module):
    """One spatial dimension: dilation, pooling, linear interpolation, a LUT activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(4, 8, 5, dilation=2, padding=4), nn.Conv1d(8, 8, 3, padding="same")
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.first(x)))
        x = F.max_pool1d(self.second(x), 2)
        x = F.interpolate(x, scale_factor=2.0, mode="linear", align_corners=False)
        return F.avg_pool1d(F.elu(x), 3, 2, 1, count_include_pad=False)


class Volume3d(nn.Module):
    """Three spatial dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(2, 6, 3, padding=1), nn.Conv3d(6, 6, (1, 3, 3), stride=(1, 2, 2), groups=3)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(F.leaky_relu(self.first(x), 0.1), 2)
        x = self.second(F.interpolate(x, scale_factor=2, mode="nearest"))
        return self.fc(F.adaptive_avg_pool3d(x, 1).flatten(1))


class Pools(nn.Module):
    """Every pooling of images, with ceil mode, overlap and an output size that does not divide the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        x = F.avg_pool2d(x, (2, 3), 1, (1, 1), count_include_pad=True)
        x = F.avg_pool2d(x, 2, 1, divisor_override=3)
        x = F.max_pool2d(x, 2, 1, dilation=2)
        a, b = F.adaptive_avg_pool2d(x, (3, 2)), F.adaptive_max_pool2d(x, (3, 2))
        return self.last(torch.stack([a, b], 0).sub(0.1).mean(0))


class Upsampled(nn.Module):
    """Bilinear and nearest interpolation, pixel shuffle and unshuffle, reflection and constant padding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1, padding_mode="replicate")
        self.last = nn.Conv2d(16, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        low = F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=True)
        x = x + F.interpolate(low, size=x.shape[2:], mode="bilinear", align_corners=False)
        x = F.pixel_shuffle(self.wide(x), 2)
        x = F.pixel_unshuffle(F.pad(x, (1, 1, 2, 0), mode="reflect")[:, :, :, :-2][:, :, 2:], 2)
        return self.last(F.pad(F.interpolate(x, scale_factor=2), (1, 0, 1, 0), value=0.5))


class Normed(nn.Module):
    """Float ops between int8 layers: layer, group and instance norm, softmax, attention-like matmul."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.layer, self.group, self.instance = nn.LayerNorm(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True)
        self.up, self.down, self.conv = nn.Linear(8, 16), nn.Linear(16, 8), nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.down(F.gelu(self.up(self.layer(x.permute(0, 2, 3, 1)))))
        x = x + y.permute(0, 3, 1, 2)
        x = self.conv(self.group(x)) + self.instance(x)
        x = self.fc(x.mean((2, 3)))
        return F.softmax(x, 1)


class Constants(nn.Module):
    """Constants in add, sub and mul, scalars, a parameter as an operand, a batch norm alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.stem, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)
        self.scale, self.shift = nn.Parameter(torch.rand(8, 1, 1) + 0.5), nn.Parameter(torch.randn(1, 8, 1, 1))
        self.register_buffer("mean", torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.softplus(self.stem(F.max_pool2d(self.norm(x), 2)))
        x = F.relu(x * self.scale) - self.shift
        x = (2 - x / 3 + 1).clamp(-1.5, 2.5).mean((2, 3))
        return F.relu(self.fc(x - self.mean)) * 0.5 + self.mean


class Pieces(nn.Module):
    """chunk, split, unbind, select, slices with steps, squeeze, unsqueeze, expand, permute, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mid, self.fc = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(36, 7)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = F.relu(self.stem(x)).chunk(3, 1)
        d, e = b.split([1, 3], 1)
        x = self.mid(torch.cat([e, d], 1))[:, :, ::2, 1:-1] * a[:, :, ::2, 1:-1]
        gate = c.select(1, 2)[:, None, ::2, 1:-1].expand(-1, 4, -1, -1)
        x = (x + gate).permute(0, 3, 1, 2)[:, :3, :, :3].squeeze(1)
        return self.fc(x.flatten(1))


class Curves(nn.Module):
    """Pointwise functions, standing alone and behind one another."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(6))
        self.stem = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.mish(self.stem(x))
        x = F.hardsigmoid(self.convs[0](x)) * F.softsign(x)
        x = F.selu(self.convs[1](x)).abs().sqrt()
        x = F.hardtanh(self.convs[2](x), -0.7, 0.4) + torch.tanh(torch.exp(-x))
        x = F.hardshrink(F.celu(self.convs[3](x), 0.5), 0.2).square()
        x = F.relu(F.logsigmoid(self.convs[4](x)) + 0.7)
        return self.convs[5](torch.sin(x) + torch.round(x * 4))


class Rows(nn.Module):
    """Linear layers on rows and on tokens, linear-bn-relu, dropout, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(12, 20), nn.BatchNorm1d(20)
        self.second, self.last = nn.Linear(20, 20, bias=False), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.norm(self.first(x))), 0.5, self.training)
        x = F.relu(self.second(x) + x)
        return self.last(torch.stack([x, -x], 1))


class Attention(nn.Module):
    """Self-attention as vision transformers write it, products of matrices that broadcast, a vector among them."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(24, 72), nn.Linear(24, 24), 3
        self.mix, self.bank = nn.Parameter(torch.randn(7, 7) / 4), nn.Parameter(torch.randn(1, 3, 8, 8) / 4)
        self.last, self.scale = nn.Linear(24, 5), 8**-0.5

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q * self.scale @ k.transpose(-2, -1)).softmax(-1)
        y = self.mix @ (weights @ v) @ self.bank
        y = self.proj(y.transpose(1, 2).reshape(batch, tokens, width)) + x
        return self.last(y) * (F.scaled_dot_product_attention(y, y, x) @ torch.ones(24))[..., None]


class Reductions(nn.Module):
    """Sums of a known count and maxima, over each kind of dims."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(2, 1, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        pair = torch.stack([x, torch.tanh(x)], dim=1)
        x = x * torch.sigmoid(self.gate(torch.cat([x.amax(1, keepdim=True), x.sum(1, keepdim=True)], 1)))
        x = x + pair.sum(1) + pair.max(dim=1).values
        return (
            self.fc(x.amax((2, 3))) + self.fc(torch.amax(x, (-1, 2), keepdim=True).flatten(1)) + x.amax((1, 3))[:, :4]
        )


class UpAndDown(nn.Module):
    """A U-Net: transposed convolutions of even and odd kernels, with batch norm, and a cat with what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 20, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(20, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.wide = nn.ConvTranspose2d(16, 6, (3, 2), (2, 1), (1, 0), (1, 0), groups=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return F.silu(self.wide(torch.cat([x, self.up(self.down(x))], 1)))


@dataclass(frozen=True)
class Case:
    """A network and its inputs.

    Attributes:
        make: The network.
        shape: Of an input with batch 1.
        convolutional: Whether other spatial sizes than the calibrated one run too.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    convolutional: bool = True

    def net(self) -> nn.Module:
        """The network with seeded weights and settled statistics, in eval mode."""
        torch.manual_seed(3)
        return settle(self.make(), 8, *self.shape)

    def inputs(self, batch: int, seed: int = 4) -> Tensor:
        """float32 ``[batch, *shape]``."""
        return torch.randn((batch, *self.shape), generator=torch.Generator().manual_seed(seed))


class Gated(nn.Module):
    """RMS norms, as a module and written out with and without a weight, in front of a gated product."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate, self.down, self.last = (nn.Linear(n, m) for n, m in ((40, 48), (40, 48), (48, 40), (40, 6)))
        self.norm, self.gain = nn.RMSNorm(40, eps=1e-6), nn.Parameter(torch.rand(40) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        y = self.gain * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))
        x = x + self.down(F.gelu(self.gate(y), approximate="tanh") * self.up(y))
        return self.last(x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5))


CASES = {
    case.make.__name__: case
    for case in (
        Case(Excited, (3, 11, 13)),
        Case(Shuffled, (3, 15, 12)),
        Case(Dense, (3, 12, 14)),
        Case(Residual, (3, 13, 12)),
        Case(Sequence1d, (4, 22)),
        Case(Volume3d, (2, 4, 10, 8), False),
        Case(Pools, (3, 17, 14)),
        Case(Upsampled, (3, 8, 10)),
        Case(Normed, (3, 16, 20)),
        Case(Constants, (3, 12, 10)),
        Case(Pieces, (3, 6, 8), False),
        Case(Curves, (3, 6, 5)),
        Case(Rows, (12,), False),
        Case(Attention, (7, 24), False),
        Case(Reductions, (3, 9, 8)),
        Case(UpAndDown, (3, 10, 12)),
        Case(Gated, (9, 40), False),
    )
}
