"""Runs TorchScript code on fx nodes: what depends on constants alone is computed, the rest is written to a graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qfx.frontends.constants import join
from qfx.frontends.mutation import MADE_IN_CALL, changes_operand
from qfx.frontends.torchscript import functions, hierarchy, overloads
from qfx.frontends.torchscript.aten import ATEN, compute
from qfx.frontends.torchscript.attributes import AttributeState
from qfx.frontends.torchscript.control import CONTROL
from qfx.frontends.torchscript.functions import FunctionValue
from qfx.frontends.torchscript.layers import rebuilt_layer, traced_results
from qfx.frontends.torchscript.lines import user_line
from qfx.frontends.torchscript.local import LocalTensors
from qfx.frontends.torchscript.modules import ModuleTree, ModuleValue, class_of, layer_class
from qfx.frontends.torchscript.numbers import as_tensor, of_numbers
from qfx.frontends.torchscript.obstacle import EVAL, REWRITE, STATE, Obstacle
from qfx.frontends.torchscript.primitives import PRIMITIVES
from qfx.frontends.torchscript.scripted_part import ScriptedPart
from qfx.frontends.torchscript.spelling import ORIGIN, spelling, written_in_one

Island = Callable[[str, nn.Module], "str | None"]
"""Why the module at a path is to stay whole, or None."""


@dataclass(frozen=True)
class Frame:
    """The code that runs now.

    Attributes:
        path: Path of the module that it belongs to; inside a layer of ``torch.nn``, that of the layer.
        function: Name of the method.
        source: The user's line that called it.
        layer: Class of the layer that it is inside of, if it is.
    """

    path: str
    function: str
    source: str | None = None
    layer: type[nn.Module] | None = None


class Translator:
    """Writes ``graph``; ``attributes`` holds the tensors and modules that it names.

    Args:
        tree: The model.
        island: Which modules not to enter.

    Attributes:
        whole: The name in ``attributes`` of a model that is not entered itself, else "".
    """

    def __init__(self, tree: ModuleTree, island: Island) -> None:
        self.tree, self.island = tree, island
        self.graph = fx.Graph()
        self.attributes: dict[str, Any] = {}
        self.whole = ""
        self.frames: list[Frame] = []
        self._nodes: dict[str, fx.Node] = {}
        self._numbers: set[fx.Node] = set()
        self._unnamed: dict[tuple[int, int], tuple[Tensor, Tensor, str]] = {}
        self._local = LocalTensors()
        self._here: Any = None
        self._state = AttributeState()

    def run(self, arguments: Sequence[Any]) -> None:
        """Translates the model's ``forward``.

        Raises:
            Obstacle: What the graph can't hold.
        """
        result = self.call_method(self.tree.root, "forward", arguments)
        self.graph.output(result)
        for node in reversed(self.graph.nodes):
            node.meta.pop(ORIGIN, None)
            if node in self._numbers and not node.users:
                self.graph.erase_node(node)

    # Calls.

    def call_method(self, owner: Any, name: str, arguments: Sequence[Any]) -> Any:
        """The result of a module's method."""
        if not isinstance(owner, ModuleValue):
            raise self.obstacle("a method of a class that is no nn.Module", REWRITE)
        forward = name.partition("__")[0] == "forward"  # forward__0 is the first overload
        reason = self.island(owner.path, owner.module) if forward and self.frames else None
        if reason is not None:
            return self._whole(owner, arguments, ScriptedPart(owner.module), reason)
        layer = layer_class(owner.module) if forward else None
        twin = rebuilt_layer(owner.module, layer)
        if twin is not None and (not self._in_layer() or isinstance(twin, nn.MultiheadAttention)):
            made = self._whole(owner, functions.bind(twin.forward, arguments)[0], twin, None)
            return self._parts(made, traced_results(owner.module) if isinstance(twin, nn.RNNBase) else None)
        if not owner.module._c._has_method(name):
            raise self.obstacle(f"a call of {name}(), which the module does not have", REWRITE)
        with self._entered(owner, name, layer):
            result = self.run_graph(owner.module._c._get_method(name).graph, [owner, *arguments])
        if layer is not None and not self._in_layer() and _made_in(result, owner.path):
            result._rename(self.graph._target_to_str(owner.path or type(owner.module).__name__))
        return result

    def call_function(self, node: Any, function: Any, arguments: Sequence[Any]) -> Any:
        """The result of a function that the node ``node`` calls."""
        if not isinstance(function, FunctionValue):
            raise self.obstacle("a call of a function that is computed", REWRITE)
        known = functions.functional(function)
        if known is not None:
            args, kwargs = functions.bind(known, arguments)
            return self.emit(known, self._operands(args), self._operands(kwargs))
        frame = replace(self.frames[-1], function=function.last, source=self.source())
        with self._pushed(frame):
            return self.run_graph(functions.body(node, function), arguments)

    def run_graph(self, graph: Any, arguments: Sequence[Any]) -> Any:
        """The result of a method's or function's graph."""
        env: dict[str, Any] = {v.debugName(): x for v, x in zip(graph.inputs(), arguments, strict=False)}
        results = self.run_block(graph, env)
        return results[0] if len(results) == 1 else tuple(results)

    def run_block(self, block: Any, env: dict[str, Any]) -> list[Any]:
        """The values that a block of nodes returns."""
        for node in block.nodes():
            self._step(node, env)
        return [env[value.debugName()] for value in block.outputs()]

    def _step(self, node: Any, env: dict[str, Any]) -> None:
        before, self._here = self._here, node
        kind, outputs = node.kind(), [value.debugName() for value in node.outputs()]
        if kind in CONTROL:
            values: Sequence[Any] = CONTROL[kind](self, node, env)
        else:
            operands = [env[value.debugName()] for value in node.inputs()]
            value = self._evaluate(node, kind, operands)
            values = [value] if len(outputs) == 1 else self._unpacked(value, len(outputs))
        env.update(zip(outputs, values, strict=True))
        self._here = before

    def _unpacked(self, value: Any, count: int) -> Sequence[Any]:
        """The ``count`` values of an operator that returns several, or none."""
        if isinstance(value, fx.Node) and count:
            return [self.emit(operator.getitem, (value, index)) for index in range(count)]
        return value if count else ()

    def _evaluate(self, node: Any, kind: str, operands: list[Any]) -> Any:
        if kind == "prim::CallMethod":
            return self.call_method(operands[0], node.s("name"), operands[1:])
        if kind == "prim::CallFunction":
            return self.call_function(node, operands[0], operands[1:])
        rule, special = PRIMITIVES.get(kind), ATEN.get(kind)
        try:
            if rule is not None:
                return rule(self, node, operands)
            result = special(self, operands) if special is not None else NotImplemented
        except (TypeError, AttributeError, LookupError) as error:
            raise self.obstacle(f"{kind} of a value that is computed ({error})", REWRITE) from error
        if kind.startswith("prim::"):
            raise self.obstacle(f"TorchScript's {kind}", REWRITE)
        if result is not NotImplemented:
            return result
        return self._operator(node, kind, operands)

    def _operator(self, node: Any, kind: str, operands: list[Any]) -> Any:
        overload = overloads.overload_of(node)
        if overload is None:
            raise self.obstacle(f"the operator {kind}, which torch has no function for", REWRITE)
        if any(isinstance(value, torch.Generator) for value in operands):
            raise self.obstacle("random numbers of a generator that the code holds", REWRITE)
        if self._local.computes(overload, operands):
            return self._local.shown(compute(self, overload, operands), overload, operands)
        number = of_numbers(self, overload, operands)
        if number is not NotImplemented:
            return number
        operands = [as_tensor(self, overload, index, value) for index, value in enumerate(operands)]
        values = [self._operand(overload, index, value) for index, value in enumerate(operands)]
        self._require_evaluation(overload, operands)
        args, kwargs = overloads.arguments(overload, values)
        origin = node.sourceRange()
        whole = written_in_one(overload, args, origin)
        if whole is not None:
            return self.emit(*whole)
        made = self.emit(overload, args, kwargs)
        if changes_operand(made, {}):
            self._local.change(operands[0])
        made.meta.update({"alias": spelling(overload, origin), ORIGIN: origin})
        return made

    def _require_evaluation(self, overload: Any, operands: list[Any]) -> None:
        if overload._opname == "batch_norm" and operands[5] is True and operands[3] is not None:
            raise self.obstacle("a batch norm that was traced in training mode", EVAL)

    def _whole(self, owner: ModuleValue, arguments: Sequence[Any], module: nn.Module, reason: str | None) -> fx.Node:
        """A call of a module that is not entered. The model itself is under the name of its class."""
        path = owner.path or type(module).__name__.lower()
        self.attributes[path] = module
        self.whole = "" if owner.path else path
        with self._entered(owner, "forward", class_of(owner.module) or type(module)):
            node = self.graph.call_module(path, self._operands(tuple(arguments)))
            self._place(node)
        if reason is not None:
            node.meta["island_reason"] = reason
        return node

    def _parts(self, made: fx.Node, parts: Sequence[Sequence[int]] | None) -> Any:
        """The parts of a value, each by the keys that lead to it; without them the value."""
        if parts is None:
            return made
        found = [reduce(lambda value, key: self.emit(operator.getitem, (value, key)), keys, made) for keys in parts]
        return found[0] if len(found) == 1 else tuple(found)

    # Writing nodes.

    def emit(self, target: Any, args: Any, kwargs: Mapping[str, Any] | None = None, *, number: bool = False) -> fx.Node:
        """A node that calls ``target``; a ``number`` is one that goes when nothing reads it."""
        node = self.graph.create_node("call_function", target, args, dict(kwargs or {}), name=name_of(target))
        if number:
            self._numbers.add(node)
        self._place(node)
        return node

    def method(self, name: str, *args: Any) -> fx.Node:
        """A node with the number that a method of a tensor returns."""
        node = self.graph.call_method(name, args)
        self._numbers.add(node)
        self._place(node)
        return node

    def is_number(self, value: object) -> bool:
        """Whether ``value`` is a node that computes a number or a shape."""
        return value in self._numbers if isinstance(value, fx.Node) else False

    def attribute(self, owner: Any, name: str) -> Any:
        """The value of ``owner.name``; tensors as ``get_attr`` nodes."""
        if not isinstance(owner, ModuleValue):
            raise self.obstacle(f"the attribute {name} of a class that is no nn.Module", REWRITE)
        path = join(owner.path, name)
        if path in self._state.assigned:
            return self._state.assigned[path]
        value = self.wrap(self.tree.attribute(owner, name), path)
        self._state.read(path, value)
        return value

    def assign(self, owner: Any, name: str, value: Any) -> None:
        """``owner.name = value``.

        Raises:
            Obstacle: The call has read the attribute, so it depends on the call before; or it is a buffer.
        """
        path = join(getattr(owner, "path", ""), name)
        buffers = dict(owner.module.named_buffers(recurse=False)) if isinstance(owner, ModuleValue) else {}
        if not isinstance(owner, ModuleValue) or path in self._state.seen or name in buffers:
            raise self.obstacle(f"an assignment to the module's attribute {name}, {path}", STATE)
        self._state.assigned[path] = value

    def require_own(self, container: Any) -> None:
        """Raises unless a list or dict that the code changes was made by it.

        Raises:
            Obstacle: It is an attribute of a module, or in one.
        """
        path = self._state.owner_of(container)
        if path is not None:
            raise self.obstacle(f"a change of the module's attribute {path}", STATE)

    def wrap(self, value: Any, path: str) -> Any:
        """``value`` with every tensor in it as the ``get_attr`` node under ``path``, or beside it."""
        if isinstance(value, Tensor):
            return self._get_attr(value, path)
        if isinstance(value, (list, tuple)):
            return type(value)(self.wrap(item, f"{path}_{index}") for index, item in enumerate(value))
        if isinstance(value, dict):
            return {key: self.wrap(item, f"{path}_{key}") for key, item in value.items()}
        return value

    def _get_attr(self, tensor: Tensor, path: str) -> fx.Node:
        base, suffix = path, 0
        while self.attributes.setdefault(path, tensor) is not tensor:
            suffix += 1
            path = f"{base}_{suffix}"
        if path not in self._nodes:
            node = self._nodes[path] = self.graph.create_node("get_attr", path)
            node.meta.update(module_path=path.rpartition(".")[0], source=None, shape=tuple(tensor.shape))
        return self._nodes[path]

    def _operand(self, overload: Any, index: int, value: Any) -> Any:
        """An argument of an operator; a constant that nothing names gets the operator's name and its part in it."""
        schema = overload._schema.arguments
        name = schema[min(index, len(schema) - 1)].name
        return self._named(overloads.as_argument(overload, index, value), overload._opname.strip("_"), name)

    def _operands(self, values: Any) -> Any:
        return self._named(values, "constant", "value")

    def _named(self, values: Any, owner: str, name: str) -> Any:
        def named(value: Tensor) -> fx.Node:
            view = self._local.view_of(value)
            if view is not None:
                made = self.emit(view.overload, *overloads.arguments(view.overload, self._operands(view.operands)))
                return made if view.item is None else self.emit(operator.getitem, (made, view.item))
            key = id(value), value._version
            if key not in self._unnamed:
                path = join(self.frames[-1].path, f"{owner}_{self._free(owner, name)}.{name}")
                self._unnamed[key] = value, value.detach().clone(), path
            node = self._get_attr(*self._unnamed[key][1:])
            node.meta[MADE_IN_CALL] = True
            return node

        return pytree.tree_map_only(Tensor, named, values)

    def _free(self, owner: str, name: str) -> int:
        """The first number of an unnamed constant's owner of which this part is not taken."""
        path, index = self.frames[-1].path, 0
        while join(path, f"{owner}_{index}.{name}") in self.attributes:
            index += 1
        return index

    def _place(self, node: fx.Node) -> None:
        frame = self.frames[-1]
        path, layer = (frame.path, frame.layer) if self._here is None else hierarchy.place(self._here, frame)
        node.meta.update(module_path=path, source=self.source())
        if layer is not None:
            node.meta["module_class"] = layer

    # Where the code is.

    def source(self) -> str | None:
        """The innermost line of the user's that runs now."""
        frame = self.frames[-1] if self.frames else None
        if frame is None or self._here is None:
            return None
        nodes = [self._here, *(value.node() for value in reversed(list(self._here.inputs())))]
        nodes = nodes if self._here.kind() == "prim::SetAttr" else nodes[:1]  # which has no place of its own
        lines = (user_line(node, frame.function) for node in nodes)
        return next((line for line in lines if line is not None), frame.source)

    def obstacle(self, construct: str, remedy: str) -> Obstacle:
        """An obstacle at the code that runs now."""
        return Obstacle(construct, remedy, self.source())

    @contextmanager
    def _entered(self, owner: ModuleValue, name: str, layer: type[nn.Module] | None) -> Iterator[None]:
        top = self.frames[-1] if self.frames else None
        if top is not None and top.layer is not None:
            frame = replace(top, function=name, source=self.source())
        else:
            frame = Frame(owner.path, name, self.source(), layer)
        with self._pushed(frame):
            try:
                yield
            except Obstacle as obstacle:
                if obstacle.path is None and name.partition("__")[0] == "forward":
                    obstacle.path = owner.path
                raise

    @contextmanager
    def _pushed(self, frame: Frame) -> Iterator[None]:
        self.frames.append(frame)
        yield
        self.frames.pop()

    def _in_layer(self) -> bool:
        return bool(self.frames) and self.frames[-1].layer is not None


def name_of(target: Any) -> str:
    """The name of a function or an aten overload, without the overload's."""
    return str(getattr(target, "_opname", None) or getattr(target, "__name__", target))


def _made_in(result: Any, path: str) -> bool:
    is_call = isinstance(result, fx.Node) and result.op == "call_function"
    return is_call and result.meta.get("module_path") == path
