"""The last passes of preparation: they drop what only the passes before needed."""

from __future__ import annotations

from torch import fx

from qfx.ir.derivation import DERIVATION

_FOREIGN = ("alias", "module_class", "example_value", "val", "tensor_meta")


def forget_foreign(gm: fx.GraphModule) -> fx.GraphModule:
    """Drop what pickle could not restore, such as a class defined inside a function."""
    gm.meta.pop("module_classes", None)
    for node in gm.graph.nodes:
        for key in _FOREIGN:
            node.meta.pop(key, None)
    return gm


def forget_derivations(gm: fx.GraphModule) -> fx.GraphModule:
    """Drop how constants follow from the model's tensors: a graph that does not train has their values."""
    for node in gm.graph.nodes:
        node.meta.pop(DERIVATION, None)
    return gm
