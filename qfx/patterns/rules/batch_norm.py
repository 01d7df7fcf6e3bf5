"""Fold a channel affine (a batch norm in evaluation) into the convolution or linear before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.ir.derivation import Derived, derivation_of, is_trainable
from qfx.ops.calls import arguments
from qfx.ops.extents import channel_dim, rank_of
from qfx.ops.table import is_op, op_of
from qfx.ops.terms import Folded, Term
from qfx.patterns.pattern import LAYERS, Match, constant, op, single_user, value
from qfx.patterns.rewriter import Rule
from qfx.patterns.rules.trained import norm_scale
from qfx.patterns.rules.weight_range import keeps_range


def name_of(node: fx.Node) -> str:
    """The attribute name of a ``get_attr`` node."""
    return str(node.target).rpartition(".")[2]


def bias_name(weight: fx.Node) -> str:
    """The name of the bias that goes with a weight's name."""
    name = name_of(weight)
    return name.replace("weight", "bias") if "weight" in name else f"{name}_bias"


def plain_epilogue(node: fx.Node) -> bool:
    """The conv or linear has neither an activation nor a residual."""
    arguments_ = arguments_of(node)
    return arguments_["activation"] is None and arguments_["residual"] is None


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """Every argument of a table op's node by name."""
    row = op_of(node)
    assert row is not None
    return arguments(row, node)


def constant_operands(node: fx.Node) -> bool:
    """Weight and bias of the conv or linear are tensors of the model."""
    given = arguments_of(node)
    return all(given[name] is None or given[name].op == "get_attr" for name in ("weight", "bias"))


def scale_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """``weight * scale`` along dim 0, in float64, rounded once."""
    factor = scale.double().reshape(-1, *[1] * (weight.dim() - 1))
    if torch.is_grad_enabled():
        return (weight * factor).to(weight.dtype)
    return torch.mul(weight, factor, out=torch.empty_like(weight))


def scale_bias(bias: Tensor | None, scale: Tensor, shift: Tensor | None) -> Tensor:
    """``bias * scale + shift``, in float64, rounded once."""
    scaled = torch.zeros_like(scale, dtype=torch.float64) if bias is None else bias.double() * scale.double()
    return (scaled if shift is None else scaled + shift.double()).to(scale.dtype)


def normalizes(weight: fx.Node) -> bool:
    """Whether a batch norm is folded into ``weight`` already, in a graph that will be trained."""
    derivation = derivation_of(weight)
    folded = isinstance(derivation, Derived) and derivation.compute is scale_weight
    return folded and is_trainable(weight) and norm_scale(derivation.operands[1]) is not None


def with_scale(node: fx.Node, scale: Any, shift: Any, activation: Any) -> Term | None:
    """The conv or linear ``node`` whose result is scaled and shifted a channel, then activated.

    None where its weights would become too small for its qconfig.
    """
    given = arguments_of(node)
    weight, bias = given["weight"], given["bias"]
    if normalizes(weight) or not keeps_range(node, weight, scale):
        return None
    new_weight = Folded(name_of(weight), scale_weight, (weight, scale), beside=weight)
    new_bias: Any = None
    if bias is not None or shift is not None:
        name = bias_name(weight) if bias is None else name_of(bias)
        new_bias = Folded(name, scale_bias, (bias, scale, shift), beside=weight)
    kwargs = {**node.kwargs, "activation": activation}
    return Term(op_of(node).name, (given["x"], new_weight, new_bias), kwargs, like=node)  # type: ignore[union-attr]


def _fold(match: Match) -> Term | None:
    conv, affine = match["conv"], arguments_of(match.root)
    if (rank_of(conv) != 2) if is_op(conv, "linear") else (channel_dim(conv) != 1):
        return None
    if affine["weight"].op != "get_attr" or (affine["bias"] is not None and affine["bias"].op != "get_attr"):
        return None
    return with_scale(conv, affine["weight"], affine["bias"], affine["activation"])


def randomized(model: nn.Module) -> nn.Module:
    """``model`` with batch norm statistics and parameters away from their initial values."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if isinstance(tensor, Tensor):
                    tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.eval()


class _Shared(nn.Module):
    """The convolution's result is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) * y


RULES = (
    Rule(
        "fold_channel_affine_into_conv",
        op("channel_affine", op(LAYERS, name="conv", where=(single_user, plain_epilogue, constant_operands)),
           constant("weight"), value("bias")),
        _fold,
        benefit=20,
        sample=lambda: (randomized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), (torch.randn(2, 3, 8, 8),)),
        near_miss=lambda: (randomized(_Shared()), (torch.randn(2, 3, 8, 8),)),
        across_qconfigs=True,
    ),
)  # fmt: skip
