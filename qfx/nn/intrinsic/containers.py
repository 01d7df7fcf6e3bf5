"""Float containers of layers that quantization treats as one: a sequence whose members' types are fixed."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from qfx.errors import InputError


class Fused(nn.Sequential):
    """Layers that run one after the other and quantize as one; members are reached as ``[0]``, ``[1]``, ...

    Args:
        *members: The layers, of the classes (or subclasses) in ``members``.

    Raises:
        InputError: Another number of members, or a member of another class.
    """

    members: ClassVar[tuple[type[nn.Module], ...]] = ()

    def __init__(self, *members: nn.Module) -> None:
        wanted = ", ".join(cls.__name__ for cls in self.members)
        given = ", ".join(type(m).__name__ for m in members) or "nothing"
        fitting = len(members) == len(self.members) and all(map(isinstance, members, self.members))
        if not fitting:
            raise InputError(
                f"{type(self).__name__} takes {wanted}, not {given}.",
                remedy=f"Pass one {wanted.replace(', ', ', one ')}, in this order.",
            )
        super().__init__(*members)

    def forward(self, input: Any) -> Any:
        """The members one after the other; an observer among the children is not one of them."""
        for member in list(self)[: len(self.members)]:
            input = member(input)
        return input


class ConvBn1d(Fused):
    """Conv1d + BatchNorm1d. Input ``[N, C, L]``."""

    members = (nn.Conv1d, nn.BatchNorm1d)


class ConvBn2d(Fused):
    """Conv2d + BatchNorm2d. Input ``[N, C, H, W]``."""

    members = (nn.Conv2d, nn.BatchNorm2d)


class ConvBn3d(Fused):
    """Conv3d + BatchNorm3d. Input ``[N, C, D, H, W]``."""

    members = (nn.Conv3d, nn.BatchNorm3d)


class ConvBnReLU1d(Fused):
    """Conv1d + BatchNorm1d + ReLU. Input ``[N, C, L]``."""

    members = (nn.Conv1d, nn.BatchNorm1d, nn.ReLU)


class ConvBnReLU2d(Fused):
    """Conv2d + BatchNorm2d + ReLU. Input ``[N, C, H, W]``."""

    members = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)


class ConvBnReLU3d(Fused):
    """Conv3d + BatchNorm3d + ReLU. Input ``[N, C, D, H, W]``."""

    members = (nn.Conv3d, nn.BatchNorm3d, nn.ReLU)


class ConvReLU1d(Fused):
    """Conv1d + ReLU. Input ``[N, C, L]``."""

    members = (nn.Conv1d, nn.ReLU)


class ConvReLU2d(Fused):
    """Conv2d + ReLU. Input ``[N, C, H, W]``."""

    members = (nn.Conv2d, nn.ReLU)


class ConvReLU3d(Fused):
    """Conv3d + ReLU. Input ``[N, C, D, H, W]``."""

    members = (nn.Conv3d, nn.ReLU)


class LinearReLU(Fused):
    """Linear + ReLU. Input ``[..., C]``."""

    members = (nn.Linear, nn.ReLU)
