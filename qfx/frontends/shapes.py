"""Shapes and dtypes of every tensor of a graph, from example inputs, without computing."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qfx.errors import InputError
from qfx.frontends.without_data import call_without_data
from qfx.ir.module import bind_nodes
from qfx.ir.nodes import has_default
from qfx.ops.extents import assumed_rank
from qfx.ops.table import op_of


def propagate_shapes(graph_module: fx.GraphModule, example_inputs: Any) -> fx.GraphModule:
    """Sets ``meta`` ``shape``, ``dtype`` and ``batch_dim`` of every tensor node, and returns the graph module.

    Shapes are tuples of ints as seen with these inputs. ``batch_dim`` is the dim that follows the inputs' first dim,
    or None. Nothing is computed unless an opaque module can't run on tensors without data.

    Args:
        graph_module: Any level; its nodes' metadata changes.
        example_inputs: A tensor, a tuple of positional arguments, or a dict by name.

    Raises:
        InputError: The inputs do not fit the model.
    """
    if _is_island(graph_module.graph):
        return graph_module
    args = bind_inputs(graph_module, example_inputs)
    seen = _run(graph_module, args)
    batch = _batch(args)
    wider = Seen() if batch is None else _run_wider(graph_module, args, batch)
    for node, (shape, dtype) in seen.items():
        node.meta["shape"], node.meta["dtype"] = shape, dtype
        node.meta["batch_dim"] = None
        if node in wider and len(wider[node][0]) == len(shape):
            changes = [(dim, *pair) for dim, pair in enumerate(zip(shape, wider[node][0], strict=True))]
            changes = [(dim, before, after) for dim, before, after in changes if before != after]
            if len(changes) == 1 and changes[0][1:] == (batch, batch + 1):  # type: ignore[operator]
                node.meta["batch_dim"] = changes[0][0]
    return graph_module


def learn_shapes(graph_module: fx.GraphModule, example_inputs: Any) -> fx.GraphModule:
    """As :func:`propagate_shapes`, for a graph that passes have changed, perhaps before any shape was known.

    Raises:
        InputError: The inputs do not fit the model; or they have no batch where the passes took them to have one, and
            that makes a difference.
    """
    unknown = [node for node in graph_module.graph.nodes if "shape" not in node.meta]
    propagate_shapes(graph_module, example_inputs)
    plain = all(map(_works_without_batch, graph_module.graph.nodes))
    for node in unknown:
        assumed = assumed_rank(node)
        shape = None if assumed is None else node.args[0].meta.get("shape")
        if shape is not None and len(shape) != assumed and not plain:
            raise InputError(
                f"{node.name} got a value of shape {shape}, without a batch dimension.",
                where=node.meta.get("module_path"),
                source=node.meta.get("source"),
                why=f"The model was prepared without example inputs, so this value was taken to be of rank {assumed}.",
                remedy="Prepare it with example_inputs of the shapes that it will get, or add a batch dimension of 1.",
            )
    return graph_module


def _works_without_batch(node: fx.Node) -> bool:
    """Whether no rank was needed to make the node what it is."""
    if node.op != "call_function":
        return node.op != "call_module"
    op = op_of(node)
    folded = any("affine" in rule for rule, _ in node.meta.get("rules", ()))
    return op is not None and not folded and (op.pointwise is not None or op.any_rank)


def record_shapes(
    captured: fx.GraphModule, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> fx.GraphModule:
    """Sets ``meta`` ``shape`` and ``dtype`` of every tensor node of a captured model, and returns the model.

    A node whose value is a number of Python's has ``meta["number"]``.

    Normalization reads ranks and dtypes from there. No dim becomes a constant by it.

    Args:
        captured: The result of a frontend; its nodes' metadata changes.
        args: Positional example inputs.
        kwargs: Example inputs by name.

    Raises:
        InputError: The inputs do not fit the model.
    """
    if _is_island(captured.graph):
        return captured
    named = [n for n in captured.graph.find_nodes(op="placeholder") if not str(n.target).startswith("*")]
    seen = _run(captured, bind_nodes(named, args, kwargs or {}))
    for node, (shape, dtype) in seen.items():
        node.meta["shape"], node.meta["dtype"] = shape, dtype
    for node in seen.numbers:
        node.meta["number"] = True
    return captured


def _is_island(graph: fx.Graph) -> bool:
    """Whether a graph is nothing but a call of a module that nobody looks into: no pass reads its shapes."""
    calls = [node for node in graph.nodes if node.op.startswith("call_")]
    return len(calls) == 1 and "island_reason" in calls[0].meta and calls[0].meta.get("module_path") == ""


def bind_inputs(graph_module: fx.GraphModule, inputs: Any) -> tuple[Any, ...]:
    """Inputs in the order of the graph's placeholders.

    Raises:
        InputError: There are too many or too few, or a name is unknown.
    """
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    names = [str(node.target) for node in placeholders]
    required = [str(n.target) for n in placeholders if not has_default(n) and not str(n.target).startswith("*")]
    if isinstance(inputs, Mapping):
        unknown, missing = sorted(set(inputs) - set(names)), [name for name in required if name not in inputs]
        if unknown or missing:
            raise InputError(
                f"The example inputs are named {sorted(inputs)}, the model's inputs {names}.",
                remedy="Give one value for each of the model's inputs, by name.",
            )
        return tuple(inputs[name] for name in names if name in inputs)
    args = tuple(inputs) if isinstance(inputs, Sequence) else (inputs,)
    variadic = any(name.startswith("*") for name in names)
    if len(args) < len(required) or (len(args) > len(names) and not variadic):
        raise InputError(
            f"There are {len(args)} example inputs, and the model takes {len(required)}: {', '.join(names)}.",
            remedy="Pass example_inputs as a tuple with one value for each argument of forward.",
        )
    return args


class Seen(dict[fx.Node, tuple[tuple[int, ...], torch.dtype]]):
    """Shape and dtype of every tensor; ``numbers`` has the nodes whose values are numbers of Python's."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[fx.Node] = []


class _Recorder(fx.Interpreter):
    """Runs a graph and notes the shape and dtype of every tensor."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.extra_traceback = False
        self.seen = Seen()
        self.current: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self.current = n
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.seen[n] = (tuple(int(extent) for extent in value.shape), value.dtype)
        elif isinstance(value, (int, float)):
            self.seen.numbers.append(n)
        return value


class _MetaRecorder(_Recorder):
    """A recorder whose tensors have no data."""

    def fetch_attr(self, target: str) -> Any:
        value = super().fetch_attr(target)
        return _to_meta(value) if isinstance(value, Tensor) else value

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        tensors = (*module.parameters(), *module.buffers())
        # A copy, because what a module keeps from one call to the next must not be a tensor without data.
        return copy.deepcopy(module, {id(tensor): _to_meta(tensor) for tensor in tensors})(*args, **kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if op_of(target) is None:
            return super().call_function(target, args, kwargs)
        return call_without_data(target, args, kwargs)


def _run(graph_module: fx.GraphModule, args: tuple[Any, ...]) -> Seen:
    try:
        return _run_meta(graph_module, args)
    except Exception:
        recorder = _Recorder(graph_module)
        try:
            with torch.no_grad():
                recorder.run(*args)
        except Exception as error:
            raise _misfit(recorder, args, error) from error
        return recorder.seen


def _run_meta(graph_module: fx.GraphModule, args: tuple[Any, ...]) -> Seen:
    recorder = _MetaRecorder(graph_module)
    with torch.no_grad():
        recorder.run(*pytree.tree_map_only(Tensor, _to_meta, args))
    return recorder.seen


def _to_meta(value: Tensor) -> Tensor:
    return value.to("meta")


def _batch(args: tuple[Any, ...]) -> int | None:
    """The first dim of the first tensor."""
    tensors = [value for value in pytree.tree_leaves(args) if isinstance(value, Tensor) and value.dim() > 0]
    return int(tensors[0].shape[0]) if tensors else None


def _run_wider(graph_module: fx.GraphModule, args: tuple[Any, ...], batch: int) -> Seen:
    """As with a batch larger by one, or nothing when the model does not take one."""

    def widen(value: Tensor) -> Tensor:
        if value.dim() == 0 or value.shape[0] != batch:
            return value
        return value.new_empty((batch + 1, *value.shape[1:]))

    try:
        return _run_meta(graph_module, pytree.tree_map_only(Tensor, widen, args))
    except Exception:
        return Seen()


def _misfit(recorder: _Recorder, args: tuple[Any, ...], error: Exception) -> InputError:
    node = recorder.current
    shapes = [tuple(value.shape) for value in pytree.tree_leaves(args) if isinstance(value, Tensor)]
    return InputError(
        f"Inputs of shapes {shapes} do not run through the model: {node.name if node else 'it'} fails.",
        where=node.meta.get("module_path") if node else None,
        source=node.meta.get("source") if node else None,
        why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        remedy="Pass inputs with the shapes and dtypes that the float model accepts.",
    )
