"""What a graph that will train keeps of the model: what its weights are computed from, and which batch norms train."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from qfx.ir.attributes import put
from qfx.ir.derivation import DERIVATION, sources
from qfx.passes.preparation import Preparation

BATCH_NORMS = "batch_norms"
"""Key of a trainable model's facts: paths of the batch norms that train."""


def restore_computed(gm: fx.GraphModule, preparation: Preparation) -> fx.GraphModule:
    """Give back what weights are computed from: modules that the graph calls compute theirs again, and the module tree
    of the captured model gets the members that the graph's constants are computed from."""
    called = tuple(f"{node.target}." for node in gm.graph.find_nodes(op="call_module"))
    for path, weight in preparation.computed.items():
        if path.startswith(called):
            weight.restore()
            continue
        for where, member in weight.members.items():
            put(preparation.origin, where, _as_float32(member))
    return gm


def find_trainable_batch_norms(gm: fx.GraphModule, preparation: Preparation) -> fx.GraphModule:
    """Note the batch norms whose statistics the graph's constants read, and that are modules of the model."""
    read = dict.fromkeys(s.path for n in gm.graph.find_nodes(op="get_attr") for s in sources(n.meta[DERIVATION]))
    homes = dict.fromkeys(path.removesuffix(".running_var") for path in read if path.endswith(".running_var"))
    gm.meta[BATCH_NORMS] = tuple(home for home in homes if _is_batch_norm(preparation.origin.get_submodule(home)))
    return gm


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _as_float32(member: Any) -> Any:
    """A module or tensor in the precision that a captured model has."""
    if isinstance(member, nn.Module):
        return member.float()
    return nn.Parameter(member.detach().float()) if isinstance(member, nn.Parameter) else member.float()
