"""Linear layers of somebody's own class, recognized by what their code computes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qfx.errors import QfxError
from qfx.frontends import symbolic
from qfx.frontends.normalize import normalize
from qfx.ir.attributes import attribute
from qfx.ir.nodes import path
from qfx.ops.table import op_of

_SHAPES = frozenset({"getattr", "getitem", "add", "mul", "floordiv", "view", "reshape", "size"})
"""Functions and methods outside the table that make shapes, or give a value another one."""


def linear_of(module: nn.Module) -> nn.Linear | None:
    """The ``nn.Linear`` that computes what ``module`` does, None where there is none.

    Its code is traced, so that nothing in it depends on values; besides one product with a constant and one sum with
    another it may only reshape. ``weight_is_transposed`` says whether the module has its weight as
    ``[in_features, out_features]``.

    Args:
        module: A module of a user's own class; nothing of it changes.
    """
    weights = [p for p in module._parameters.values() if p is not None and p.dim() == 2]
    if not weights or any(child is not None for child in module._modules.values()):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            normal = normalize(symbolic.capture(module))
        found = _product(normal)
        return found and _checked(module, normal, *found)
    except QfxError:
        return None


def _product(normal: fx.GraphModule) -> tuple[Tensor, Tensor | None] | None:
    """Weight ``[out, in]`` and bias of the one product in a graph that else adds a constant and reshapes."""
    calls = [node for node in normal.graph.nodes if node.op.startswith("call_")]
    named = {node: op.name if (op := op_of(node)) is not None else None for node in calls}
    products = [node for node in calls if (op := op_of(node)) is not None and op.sums is not None]
    sums = [node for node in calls if named[node] == "add"]
    others = [node for node in calls if node not in products and node not in sums]
    if len(products) != 1 or len(sums) > 1 or not all(map(_reshapes, others)):
        return None
    given = list(products[0].args)
    constants: Any = [*given[1:], *(operand for node in sums for operand in node.args if operand not in calls)]
    if products[0].kwargs.get("activation") is not None or any(n is not None and n.op != "get_attr" for n in constants):
        return None
    weight, *biases = [attribute(normal, path(node)).detach() for node in constants if node is not None]
    weight = weight.t() if named[products[0]] == "matmul" and weight.dim() == 2 else weight
    if weight.dim() != 2 or len(biases) > 1 or any(bias.shape != weight.shape[:1] for bias in biases):
        return None
    return weight.contiguous(), biases[0] if biases else None


def _reshapes(node: fx.Node) -> bool:
    op = op_of(node)
    if op is not None:
        return op.is_view or not op.gives_tensor
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return node.op != "call_module" and name in _SHAPES


_BATCHES = ((3,), (2, 3), (2, 1, 3))


def _checked(module: nn.Module, normal: fx.GraphModule, weight: Tensor, bias: Tensor | None) -> nn.Linear | None:
    """The layer, if the graph gives its result for every rank that it takes."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*batch, weight.shape[1], generator=generator) for batch in _BATCHES]
    agree = [_agree(normal, x, F.linear(x, weight, bias)) for x in inputs]
    if False in agree or True not in agree:
        return None
    made: Any = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias, requires_grad=False)
    own = module._parameters.get("weight")
    made.weight_is_transposed = own is not None and not torch.equal(own.detach(), weight)
    return made.train(module.training)


@torch.no_grad()
def _agree(normal: fx.GraphModule, x: Tensor, wanted: Tensor) -> bool | None:
    """Whether the graph gives what is wanted, up to the rounding of sums; None where it does not take ``x``."""
    try:
        result = normal(x)
    except Exception:
        return None
    if not isinstance(result, Tensor) or result.shape != wanted.shape:
        return False
    return torch.allclose(result, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
