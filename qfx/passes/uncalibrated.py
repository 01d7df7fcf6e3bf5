"""Prepared models that saw no data: converted for a state that is loaded next."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import fx, nn

from qfx.ir.attributes import attribute
from qfx.ir.nodes import path
from qfx.ops.calls import arguments
from qfx.ops.table import op_at
from qfx.passes.custom_modules import CUSTOM, INPUTS
from qfx.passes.insert import GROUP, INPUT_STATISTICS, OWN_RANGE, WEIGHT_FAKE_QUANT
from qfx.quantization.fake_quantize import FixedQParamsFakeQuantize
from qfx.quantization.hooks import OBSERVER, attach_observer
from qfx.quantization.observer import ChannelMean, FixedOrObserved, FixedQParamsObserver
from qfx.quantization.uncalibrated import default_observer, saw_data

UNSEEN = "unseen"
"""Key of a graph's ``meta``: of each observer that was replaced what it watches, a module's path or a node's name."""


def give_default_qparams(gm: fx.GraphModule) -> fx.GraphModule:
    """Let an Observed graph of which no observer saw data convert, to the modules and names that it has with data.

    Where some saw data and others did not, calibration missed a part: the graph stays as it is, and conversion raises.

    Args:
        gm: The graph; its modules are replaced, not changed.
    """
    modules: dict[str, Any] = {where: gm.get_submodule(where) for where in _observer_paths(gm)}
    inside = [o for n in gm.graph.nodes if CUSTOM in n.meta for o in _observers_of(gm.get_submodule(path(n)))]
    asked = [o for o in map(_asked, (*modules.values(), *inside)) if o is not None]
    if not asked or any(map(saw_data, asked)):
        return gm
    for where, observer in modules.items():
        if not saw_data(observer):
            _put(gm, where, default_observer(observer))
    for node in gm.graph.nodes:
        if INPUT_STATISTICS in node.meta:
            _put(gm, node.meta[INPUT_STATISTICS], _no_shift(gm, node))
        if WEIGHT_FAKE_QUANT in node.meta:
            _put(gm, node.meta[WEIGHT_FAKE_QUANT], _fitted(gm, node))
        if CUSTOM in node.meta:
            _put(gm, path(node), _with_default_observers(gm.get_submodule(path(node))))
    gm.meta[UNSEEN] = tuple(dict.fromkeys(str(observer.label) for observer in asked))
    return gm


def _observer_paths(gm: fx.GraphModule) -> tuple[str, ...]:
    keys = [node.meta[key] for node in gm.graph.nodes for key in (GROUP, OWN_RANGE) if key in node.meta]
    return tuple(dict.fromkeys(keys))


def _observers_of(module: nn.Module) -> list[Any]:
    """The observers of an observed custom module: of its result and of what it takes."""
    inputs: Any = module._modules.get(INPUTS, ())
    return [m for m in (module._modules.get(OBSERVER), *inputs) if m is not None]


def _asked(observer: Any) -> Any:
    """What needs data to answer; None where nothing does."""
    if isinstance(observer, FixedOrObserved):
        return observer.observed
    return None if isinstance(observer, (FixedQParamsObserver, FixedQParamsFakeQuantize)) else observer


def _no_shift(gm: fx.GraphModule, node: fx.Node) -> ChannelMean:
    """Statistics of an input whose mean is zero: biases that conversion corrects are there, and stay as they are."""
    op = op_at(node)
    given = arguments(op, node)
    channels = attribute(gm, given[op.weights[0]].target).shape[1] * int(given.get("groups", 1))
    made = ChannelMean()
    made.total, made.count = torch.zeros(channels, dtype=torch.float64), torch.ones((), dtype=torch.int64)
    return made


def _fitted(gm: fx.GraphModule, node: fx.Node) -> Any:
    """The module that rounds the weight of ``node``, for the weight as it is."""
    rounding: Any = gm.get_submodule(node.meta[WEIGHT_FAKE_QUANT])
    if saw_data(rounding):
        return rounding
    op, made = op_at(node), deepcopy(rounding)
    made(attribute(gm, arguments(op, node)[op.weights[0]].target).detach())
    return made


def _with_default_observers(observed: nn.Module) -> nn.Module:
    made = deepcopy(observed)
    inputs: Any = made._modules.get(INPUTS)
    if OBSERVER in made._modules:
        attach_observer(made, default_observer(made._modules[OBSERVER]))
    if inputs is not None:
        made.add_module(INPUTS, nn.ModuleList(map(default_observer, inputs)))
    return made


def _put(gm: fx.GraphModule, where: str, module: nn.Module) -> None:
    owner, _, name = where.rpartition(".")
    gm.get_submodule(owner)._modules[name] = module
