"""The model that ``prepare_qat_fx`` returns: it trains, checkpoints and converts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.arguments import explained
from qfx.errors import CalibrationError, ConversionError, InputError
from qfx.frontends.constants import join
from qfx.ir.attributes import attribute, put
from qfx.ir.computed import baked
from qfx.ir.derivation import DERIVATION, evaluate, sources
from qfx.ir.derivation import modules as computing
from qfx.ir.module import Generated, adopt_attributes, copy_graph
from qfx.ir.stages import Stage, require_stage
from qfx.ir.user_names import token_path, user_path
from qfx.models import PreparedModel
from qfx.ops.table import is_op
from qfx.passes.insert import WEIGHT_FAKE_QUANT
from qfx.passes.trained import BATCH_NORMS
from qfx.quantization.fake_quantize import FakeQuantizeBase
from qfx.quantization.observer.base import is_recording
from qfx.training.finite import diverged, require_finite
from qfx.training.mode_graphs import form


class TrainableModel(PreparedModel):
    """A model with fake-quantize modules: train it as the float model, then ``eval()`` and ``qfx.convert_fx``.

    Parameters, buffers and batch norms have the paths that they have in the float model. In training mode batch norms
    normalize by the batch; in evaluation mode the model computes, up to float rounding, what the converted model will.

    Attributes:
        graph: The Observed graph, from which both modes and the conversion follow.
    """

    _forms: dict[tuple[bool, bool], Generated]
    _observing: bool
    _has_ranges: bool

    def __init__(
        self, gm: fx.GraphModule, preserved: Mapping[str, Any], origin: nn.Module, saved: Collection[str]
    ) -> None:
        super().__init__(_Shell(gm, _members(gm, origin, set(map(token_path, saved)))), preserved)  # type: ignore[arg-type]
        self._forms = {}
        self._observing = self._has_ranges = False
        self.train()

    def run_graph(self, *args: Any) -> Any:
        key = self._mode
        if key == (False, False) and not torch.compiler.is_compiling():
            self._require_ranges()
        if key not in self._forms:
            self._forms[key] = Generated(self.running_graph())
        return self._forms[key](self, *args)

    @property
    def _mode(self) -> tuple[bool, bool]:
        return self.training, self.training or self._observing

    def running_graph(self) -> fx.Graph:
        """What a call runs in the present mode."""
        training, observing = self._mode
        return form(self.graph, frozenset(self.info[BATCH_NORMS]), training=training, observing=observing)

    @explained
    def train(self, mode: bool = True) -> TrainableModel:
        """As ``nn.Module.train``; the code of the mode is made now, so that ``torch.compile`` finds it."""
        super().train(mode)
        if "_forms" in self.__dict__ and self._mode not in self._forms:
            self._forms[self._mode] = Generated(self.running_graph())
        return self

    @contextmanager
    def observing(self) -> Iterator[None]:
        """While active, fake-quantize modules collect statistics in evaluation mode too: to calibrate before training.

        Otherwise they do so in training mode only, so that validation data leave no trace in the model.
        """
        before, self._observing = self._observing, True
        try:
            yield
        finally:
            self._observing = before

    def _require_ranges(self) -> None:
        """Raise a CalibrationError naming the first value whose range is not known yet."""
        if not self._has_ranges:
            for _, module in self.fake_quants():
                module.qparams()
            self._has_ranges = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The float model's result with values and weights rounded as the converted model will.

        Raises:
            InputError: The inputs do not fit the model; a batch of one where a batch norm needs more.
            CalibrationError: A value that is not finite, named by the first node that has one; in evaluation mode, a
                value whose range is not known yet.
        """
        if torch.compiler.is_compiling():
            return self.run_graph(*(self.bind(args, kwargs) if kwargs else args))
        try:
            result = super().forward(*args, **kwargs)
        except InputError as error:
            raise _explained(error) from error
        except CalibrationError as error:
            raise (diverged(error) if self.training else error) from error
        if self.training and not is_recording():
            require_finite(self, result, args, kwargs)
        return result

    def float_state_dict(self) -> dict[str, Any]:
        """The part of ``state_dict()`` that the float model has: parameters and buffers under its own names."""
        ranges = tuple(f"{user_path(path)}." for path, _ in self.fake_quants())
        return {key: value for key, value in self.state_dict().items() if not key.startswith(ranges)}

    @explained
    def load_float_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the float model's state_dict; ranges and switches stay as they are.

        Args:
            state: May hold more, such as tensors that the captured graph does not read.

        Raises:
            ConversionError: It is not a float model's, or lacks a tensor.
        """
        require_stage(state, Stage.float, "Use load_state_dict with a checkpoint of a model from prepare_qat_fx.")
        own = self.float_state_dict()
        missing = [key for key in own if key not in state]
        if missing:
            raise ConversionError(
                f"The float state_dict lacks {', '.join(map(repr, missing[:3]))}"
                + (f" and {len(missing) - 3} more." if len(missing) > 3 else "."),
                remedy="Load the state_dict of the model that was prepared.",
            )
        super().load_state_dict({**self.state_dict(), **{key: state[key] for key in own}})

    @explained
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ``nn.Module.load_state_dict``, for a checkpoint of a model from ``prepare_qat_fx``.

        Raises:
            ConversionError: The checkpoint is of another stage.
        """
        remedy = "For a float model's, use load_float_state_dict; else load it into a model of its own stage."
        require_stage(state_dict, Stage.training, remedy)
        self._has_ranges = False
        return super().load_state_dict(state_dict, strict, assign)

    def graph_module(self) -> fx.GraphModule:
        """The Observed graph with its constants computed from the present parameters."""
        graph = copy_graph(self.graph)
        for node in list(graph.nodes):
            if is_op(node, "dropout"):
                node.replace_all_uses_with(node.all_input_nodes[0])
                graph.erase_node(node)
        tensors = dict(self.named_parameters(remove_duplicate=False)) | dict(self.named_buffers(remove_duplicate=False))
        modules = dict(self.named_modules(remove_duplicate=False))
        tensors |= self._computed(graph, modules)
        attributes: dict[str, Any] = {}
        for node in graph.nodes:
            if node.op == "get_attr":
                attributes[str(node.target)] = _constant(evaluate(node.meta[DERIVATION], tensors))
            elif node.op == "call_module":
                attributes[str(node.target)] = baked(modules[str(node.target)])
        gm = fx.GraphModule(attributes, graph)
        for node in graph.nodes:
            if WEIGHT_FAKE_QUANT in node.meta:
                put(gm, node.meta[WEIGHT_FAKE_QUANT], modules[node.meta[WEIGHT_FAKE_QUANT]])
        gm.meta.update(self.info)
        return gm.eval()

    def _computed(self, graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """What the modules give, in evaluation, that compute weights, by their paths."""
        found: dict[str, Tensor] = {}
        for node in graph.find_nodes(op="get_attr"):
            for path in computing(node.meta[DERIVATION]):
                module, training = modules[path], modules[path].training
                with torch.no_grad():
                    found[path] = module.eval()()
                module.train(training)
        return found

    def fake_quants(self) -> Iterator[tuple[str, FakeQuantizeBase]]:
        """Every fake-quantize module by path."""
        for path, module in self.named_modules():
            if isinstance(module, FakeQuantizeBase):
                yield path, module

    def _not_copied(self) -> tuple[str, ...]:
        return (*super()._not_copied(), "_forms")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forms = {}
        self.train(self.training)


_ONE_VALUE = "more than 1 value per channel"
"""What torch says of a batch norm in training whose batch holds one value a channel."""


def _explained(error: InputError) -> InputError:
    """``error`` with the remedy for what only happens in training."""
    if _ONE_VALUE not in str(error.__cause__):
        return error
    return InputError(
        error.what,
        where=error.where,
        source=error.source,
        why="A batch norm in training needs more than one value a channel, and the batch holds one image.",
        remedy="Train with larger batches (drop_last=True in the data loader), or freeze the batch norms with "
        "model.apply(qfx.quantization.freeze_bn_stats).",
    )


class _Shell(nn.Module):
    """What a carrier takes over: a graph, facts, and the members of a module tree."""

    def __init__(self, gm: fx.GraphModule, members: nn.Module) -> None:
        super().__init__()
        adopt_attributes(self, members)
        self.graph, self.meta = gm.graph, gm.meta


def _constant(value: Tensor) -> Tensor:
    return nn.Parameter(value, requires_grad=False) if value.is_floating_point() else value


def _members(gm: fx.GraphModule, origin: nn.Module, saved: Collection[str]) -> nn.Module:
    """A module tree with what the graph's forms read: the model's own members, in its order, and the observers."""
    own: dict[str, Any] = {path: _plain_batch_norm(origin.get_submodule(path)) for path in gm.meta[BATCH_NORMS]}
    added: dict[str, nn.Module] = {}
    for node in gm.graph.nodes:
        if node.op == "get_attr":
            own.update({source.path: attribute(origin, source.path) for source in sources(node.meta[DERIVATION])})
            own.update({path: origin.get_submodule(path) for path in computing(node.meta[DERIVATION])})
        elif "dropout" in node.meta:
            own[node.meta["dropout"]] = origin.get_submodule(node.meta["dropout"])
        elif node.op == "call_module":
            (added if "observer" in node.meta else own)[str(node.target)] = gm.get_submodule(str(node.target))
        if WEIGHT_FAKE_QUANT in node.meta:
            added[node.meta[WEIGHT_FAKE_QUANT]] = gm.get_submodule(node.meta[WEIGHT_FAKE_QUANT])
    tree = nn.Module()
    for path in map(token_path, _in_order(origin)):
        if path in own:
            put(tree, path, own[path], persistent=path in saved)
    for path, module in added.items():
        put(tree, path, module)
    return tree


def _in_order(root: nn.Module) -> Iterator[str]:
    """Paths of every module and tensor, as ``parameters()`` goes through them."""
    for path, module in root.named_modules(remove_duplicate=False):
        yield path
        for name in (*module._parameters, *module._buffers, *vars(module)):
            yield join(path, name)


def _plain_batch_norm(module: Any) -> nn.Module:
    """``module`` if it is torch's; else torch's with its tensors, for a subclass that does more than normalize."""
    classes = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    if type(module) in classes:
        return module
    plain: Any = next(cls for cls in classes if isinstance(module, cls))(1, module.eps, module.momentum)
    plain.num_features, plain.affine = module.num_features, module.affine
    plain._parameters.update({name: module._parameters[name] for name in ("weight", "bias")})
    plain._buffers.update({name: module._buffers[name] for name in plain._buffers})
    return plain.train(module.training)
