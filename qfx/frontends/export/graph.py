"""An exported program as a Captured graph: inputs by name, tensors under their paths, the result's structure."""

from __future__ import annotations

import dataclasses
import inspect
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qfx.errors import CaptureError
from qfx.frontends.constants import join
from qfx.frontends.defaults import settle_defaults
from qfx.frontends.export.assumptions import guards_of, named_inputs
from qfx.frontends.export.control import control_flow
from qfx.frontends.export.islands import Islands
from qfx.frontends.export.origin import origin_of_node
from qfx.frontends.export.program import Named, Program, counts
from qfx.frontends.export.sizes import read_nearest_sizes
from qfx.frontends.leaves import SCALARS
from qfx.frontends.mutation import MADE_IN_CALL
from qfx.frontends.obstacles import remedies
from qfx.guards import Guard

_aten = torch.ops.aten
_ASSERTIONS = {"_assert_scalar", "_assert_async", "_assert_tensor_metadata", "_functional_assert_async"}
_ASSERTIONS |= {"sym_constrain_range", "sym_constrain_range_for_size", "_check", "_functional_sym_constrain_range"}
_WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Calls of a nested graph that compute what the graph does, and the position of the graph among their arguments."""

_TRAINING_FLAGS = {
    "batch_norm": 5, "native_batch_norm": 5, "dropout": 2, "dropout_": 2, "feature_dropout": 2, "alpha_dropout": 2,
    "feature_alpha_dropout": 2, "rrelu": 3,
}  # fmt: skip
"""Ops that behave differently in training, and the position of the flag that says so."""

_RUNNING_MEAN = 3
"""Position of a batch norm's running mean among its arguments."""

_COPIES = {"lift_fresh_copy", "lift_fresh", "detach", "detach_", "alias", "clone"}
"""What the exporter puts behind a constant of the code."""


def build(program: Program, model: nn.Module | None, islands: Islands) -> Built:
    """An exported program as a graph under the module paths of the model.

    Args:
        program: What was exported.
        model: The module that it was exported from, if there is one.
        islands: The modules that were left out of the export.

    Raises:
        CaptureError: The result is of a class that a graph can't return, or an op runs graphs in a way of its own.
    """
    writer = _CapturedWriter(program, model, islands)
    writer.inputs(None if model is None else inspect.signature(model.forward))
    writer.nodes(program.graph_module, {})
    writer.output()
    read_nearest_sizes(writer.graph)
    settle_defaults(writer.graph)
    for node in writer.graph.nodes:
        node.meta.pop("val", None)
    writer.graph.lint()
    return Built(writer.graph, writer.tensors, writer.parts, writer.training, writer.guards)


@dataclass(frozen=True)
class Built:
    """What :func:`build` made.

    Attributes:
        graph: The graph.
        tensors: The tensors that it reads, by path.
        parts: The modules that it calls besides those of the model, by path.
        training: Whether the program was exported in training mode.
        guards: What it takes for granted about its inputs.
    """

    graph: fx.Graph
    tensors: dict[str, Tensor]
    parts: dict[str, nn.Module]
    training: bool
    guards: tuple[Guard, ...]


class _CapturedWriter:
    """Writes the graph. ``env`` maps nodes of the exported graph to nodes and values of the new one."""

    def __init__(self, program: Program, model: nn.Module | None, islands: Islands) -> None:
        self.graph, self.program, self.islands = fx.Graph(), program, islands
        self.modules = dict(model.named_modules(remove_duplicate=False)) if model is not None else {}
        self.tensors: dict[str, Tensor] = {}
        self.parts: dict[str, nn.Module] = {}
        self.given: dict[str, Any] = {}
        self.env: dict[str, Any] = {}
        self.constants: list[_Constant] = []
        self._of_code: dict[str, fx.Node] = {}
        self.guards: tuple[Guard, ...] = ()
        self.training = model is None and _is_training(program.graph_module.graph)

    def inputs(self, signature: inspect.Signature | None) -> None:
        """One placeholder an argument of ``forward``; items of a nested one are taken from it."""
        parameters = dict(signature.parameters) if signature is not None else {}
        given = named_inputs(self.program, list(parameters))
        self.guards = guards_of(self.program, given)
        for name, value in given:
            default = parameters[name].default if name in parameters else inspect.Parameter.empty
            node = self.graph.placeholder(name, default_value=default)
            node.meta.update(module_path="", source=None)
            self._take(node, value)

    def _take(self, node: fx.Node, value: Any) -> None:
        if isinstance(value, Named):
            self.given[value.name] = node
            return
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if _is_sequence(value) else ()
        for key, item in items:
            part = self.graph.call_function(operator.getitem, (node, key))
            part.meta.update(module_path="", source=None)
            self._take(part, item)

    def nodes(self, graph_module: fx.GraphModule, env: dict[str, Any]) -> None:
        """Every node of a graph; those of a nested one with ``env`` for its inputs."""
        outer, self.env = self.env, env
        last = _last_of_calls(graph_module.graph)
        for node in graph_module.graph.nodes:
            if node.op != "output":
                env[node.name] = self._value(node, graph_module, node in last)
        self.env = env if not outer else self.env
        if outer:
            self._nested = self._look_up(graph_module.graph.output_node().args[0])
            self.env = outer

    def _value(self, node: fx.Node, owner: fx.GraphModule, is_last: bool) -> Any:
        if node.op == "placeholder":
            return self.env[node.name] if node.name in self.env else self._placeholder(node)
        if node.op == "get_attr":
            found = _attribute(owner, str(node.target))
            return found if isinstance(found, fx.GraphModule) else self._constant(found)
        name = _name(node.target)
        if name in _ASSERTIONS:
            return None
        if name in _WRAPPERS:
            return self._inline(node, owner, _WRAPPERS[name])
        args, kwargs = self._look_up(node.args), self._look_up(node.kwargs)
        if self.islands.is_call(node):
            return self._island(node, args)
        if any(isinstance(value, fx.GraphModule) for value in args):
            return self._control_flow(node, name, args)
        return self._call(node, name, args, kwargs, is_last)

    def _placeholder(self, node: fx.Node) -> Any:
        path = self.program.tensors.get(node.name)
        if path is None:
            made = self.given.get(node.name)
            if made is not None and "val" in node.meta:
                made.meta["val"] = node.meta["val"]
            return made
        if re.fullmatch(r"lifted_tensor_\d+", path):
            return self._constant(self.program.state[path])
        return _Constant(path, self.program.state[path])

    def _get(self, path: str, tensor: Tensor) -> fx.Node:
        """A node for a tensor, made where it is used; one that the code makes is one node, which may be changed."""
        if path in self._of_code:
            return self._of_code[path]
        self.tensors[path] = tensor
        made = self.graph.create_node("get_attr", path)
        made.meta.update(module_path=path.rpartition(".")[0], source=None)
        if any(constant.path == path for constant in self.constants):
            made.meta[MADE_IN_CALL] = True
            self._of_code[path] = made
        return made

    def _constant(self, value: Any) -> Any:
        """A tensor of the code itself, under the name that the symbolic frontend gives it."""
        if not isinstance(value, Tensor):
            return value
        found = next((made for made in self.constants if made.tensor is value), None)
        if found is None:
            found = _Constant(f"_tensor_constant{len(self.constants)}", value)
            self.constants.append(found)
        return found

    def _inline(self, node: fx.Node, owner: fx.GraphModule, at: int) -> Any:
        nested = self._look_up(node.args[at])
        inputs = self._look_up(node.args[at + 1 :])
        names = [n.name for n in nested.graph.find_nodes(op="placeholder")]
        self.nodes(nested, dict(zip(names, inputs, strict=True)))
        return self._nested

    def _call(self, node: fx.Node, name: str, args: Any, kwargs: Any, is_last: bool) -> Any:
        if node.target is operator.getitem and not isinstance(args[0], fx.Node):
            return args[0][args[1]]
        first = args[0] if args else None
        if isinstance(first, _Constant) and (name in _COPIES or _counts_batches(node, first)):
            return first
        if _is_factory(node, args, kwargs):
            return self._constant(node.target(*args, **kwargs))  # type: ignore[operator]
        divisor = _divided_by(node, args)
        if divisor is not None:
            return self._create(node, operator.truediv, (args[1], divisor), {}, is_last)
        whole = _written_out(name, args)
        if whole is not None:
            return self._create(node, whole, (first,), {}, is_last)
        return self._create(node, node.target, self._in_evaluation(name, args), kwargs, is_last)

    def _create(self, node: fx.Node, target: Any, args: Any, kwargs: Any, is_last: bool) -> fx.Node:
        origin = origin_of_node(node, self.modules)
        args, kwargs = self._read((args, kwargs), str(origin["module_path"]))
        made = self.graph.create_node(node.op, target, args, kwargs, name=_candidate(node, origin) if is_last else None)
        made.meta.update(origin)
        if "val" in node.meta:
            made.meta["val"] = node.meta["val"]
        return made

    def _island(self, node: fx.Node, args: Any) -> Any:
        island = self.islands.called(node)
        made = self.graph.call_module(island.path, *self._read(island.arguments(args), ""))
        made.meta.update(
            origin_of_node(node, self.modules), module_path=island.path, module_class=type(self.modules[island.path]),
        )  # fmt: skip
        if island.reason is not None:
            made.meta["island_reason"] = island.reason
        values = node.meta.get("val")
        leaves = [self._item(made, keys) for keys in island.places()]
        for leaf, value in zip(leaves, values or (), strict=False):
            leaf.meta["val"] = value
        return leaves

    def _control_flow(self, node: fx.Node, name: str, args: Any) -> fx.Node:
        """A call of a module that runs the graphs among the arguments of an op."""
        origin = origin_of_node(node, self.modules)
        path, source = str(origin["module_path"]), origin["source"]
        found = control_flow(name, args)
        if found is None:
            raise CaptureError(
                f"{name} can't be captured.", where=path or "the model itself", source=source,
                why="It runs functions of its own on parts of its operands.",
                remedy=remedies("Write it with torch functions on tensors.", path, exports=False),
            )  # fmt: skip
        part, operands = found
        target = join(path, node.name)
        while target in {*self.parts, *self.modules, *self.program.state}:
            target += "_"
        self.parts[target] = part
        made = self.graph.call_module(target, self._read(operands, path))
        reason = f"control flow, {name}, at {source}" if source else f"control flow, {name}"
        made.meta.update(module_path=path, source=source, module_class=type(part), island_reason=reason)
        if "val" in node.meta:
            made.meta["val"] = node.meta["val"]
        return made

    def _item(self, made: fx.Node, keys: tuple[Any, ...]) -> fx.Node:
        for key in keys:
            made = self.graph.call_function(operator.getitem, (made, key))
            made.meta.update(module_path="", source=None)
        return made

    def _in_evaluation(self, name: str, args: Any) -> Any:
        at = _TRAINING_FLAGS.get(name)
        if not self.training or at is None or len(args) <= at or args[at] is not True:
            return args
        if "batch_norm" in name and args[_RUNNING_MEAN] is None:  # it has no other statistics than the input's
            return args
        return (*args[:at], False, *args[at + 1 :])

    def output(self) -> None:
        """The result, in the structure that the model returns."""
        flat = [self.env[r.name] if isinstance(r, Named) else r for r in self.program.results]
        flat = self._read(flat, "")
        result = self._returned(pytree.tree_unflatten(flat, self.program.out_spec))
        self.graph.output(result).meta.update(module_path="", source=None)

    def _returned(self, value: Any) -> Any:
        if isinstance(value, (fx.Node, *SCALARS, torch.dtype, torch.device)):
            return value
        if isinstance(value, dict):
            return {key: self._returned(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            items = [self._returned(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if dataclasses.is_dataclass(value):
            fields = {field.name: self._returned(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return self.graph.call_function(type(value), (), fields)
        raise CaptureError(
            f"The model returns {type(value).__name__}.",
            why="A graph returns tensors in tuples, lists, dicts and dataclasses.",
            remedy="Return one of these, or wrap the model in a module that does.",
        )

    def _look_up(self, value: Any) -> Any:
        return _map(value, lambda item: self.env[item.name] if isinstance(item, fx.Node) else item)

    def _read(self, value: Any, path: str) -> Any:
        """``value`` with nodes for the constants in it; one that modules share, under its path in that at ``path``."""
        own = vars(self.modules[path])["_parameters"] if path in self.modules else {}

        def node(item: Any) -> Any:
            if not isinstance(item, _Constant):
                return item
            name = next((name for name, tensor in own.items() if tensor is item.tensor), None)
            return self._get(item.path if name is None else join(path, name), item.tensor)

        return _map(value, node)


@dataclass(frozen=True)
class _Constant:
    """A tensor of the model, which becomes a node where it is used."""

    path: str
    tensor: Tensor


def _is_training(graph: fx.Graph) -> bool:
    """Whether a program was exported in training mode: as a layer of torch says, whose flag is not the code's own."""
    for node in graph.nodes:
        at = _TRAINING_FLAGS.get(_name(node.target))
        if at is not None and len(node.args) > at and node.args[at] is True and _in_layer(node):
            return True
    return False


def _in_layer(node: fx.Node) -> bool:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return bool(stack) and str(stack[-1][1]).startswith("torch.nn.modules.")


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    """``value`` with ``function`` of every item of its tuples, lists, dicts and slices."""
    if isinstance(value, (tuple, list)):
        items = [_map(item, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else (list if isinstance(value, list) else tuple)(items)
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_map(bound, function) for bound in (value.start, value.stop, value.step)))
    return function(value)


def _last_of_calls(graph: fx.Graph) -> set[fx.Node]:
    """For each call that the user wrote, the last of the nodes that it became."""
    last: dict[Any, fx.Node] = {}
    for node in graph.nodes:
        if node.op == "call_function":
            stack, function = node.meta.get("nn_module_stack"), node.meta.get("torch_fn")
            last[tuple(stack or ()), function or node.name] = node
    return set(last.values())


def _candidate(node: fx.Node, origin: Mapping[str, Any]) -> str:
    """The name that the symbolic frontend would give the node."""
    if "module_class" in origin:
        path = str(origin["module_path"]) or origin["module_class"].__name__
        return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", path.replace(".", "_")).lower()
    alias = origin.get("alias", node.target)
    if alias is node.target and isinstance(alias, torch._ops.OpOverload):
        return _name(alias).strip("_")
    return str(alias if isinstance(alias, str) else getattr(alias, "__name__", node.name)).strip("_")


def _name(target: Any) -> str:
    """The name of a function, of an op without its overload."""
    return str(getattr(getattr(target, "overloadpacket", target), "__name__", ""))


def _counts_batches(node: fx.Node, constant: _Constant) -> bool:
    """Whether a call is the counter of a batch norm, which only training needs."""
    buffer = node.args[0]
    alone = isinstance(buffer, fx.Node) and len(buffer.users) == 1
    return alone and constant.path.endswith("num_batches_tracked") and counts(node)


def _attribute(owner: nn.Module, path: str) -> Any:
    value: Any = owner
    for atom in path.split("."):
        value = getattr(value, atom)
    return value


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (tuple, list))


def _is_factory(node: fx.Node, args: Any, kwargs: Any) -> bool:
    """Whether the node makes the same tensor from numbers alone in every call."""
    found: list[Any] = []
    _map((args, kwargs), lambda item: found.append(item) if isinstance(item, (fx.Node, _Constant)) else None)
    if found or not isinstance(node.target, torch._ops.OpOverload):
        return False
    random = torch.Tag.nondeterministic_seeded in node.target.tags
    return not random and isinstance(node.meta.get("val"), Tensor)


def _written_out(name: str, args: Any) -> Callable[..., Any] | None:
    """The function of ``x`` that torch computes in steps of which this is the last."""
    if name not in ("div", "sub") or len(args) < 2 or not isinstance(args[1], fx.Node):
        return None
    x, step = args[:2]
    if name == "sub":
        return F.tanhshrink if step.target is _aten.tanh.default and step.args[0] is x else None
    inner = step.args[0] if step.target is _aten.add.Tensor and step.args[1:] == (1,) else None
    return (
        F.softsign if isinstance(inner, fx.Node) and inner.target is _aten.abs.default and inner.args[0] is x else None
    )


def _divided_by(node: fx.Node, args: Any) -> fx.Node | None:
    """``x`` where the node is the second step of a number divided by a tensor ``x``."""
    if node.target is not _aten.mul.Tensor or not isinstance(args[1], (int, float)):
        return None
    source = args[0]
    if not isinstance(source, fx.Node) or source.target is not _aten.reciprocal.default:
        return None
    division = "rtruediv" in str(node.meta.get("torch_fn")) or "rdiv" in str(node.meta.get("torch_fn"))
    x = source.args[0]
    return x if division and isinstance(x, fx.Node) else None
