"""Runs TorchScript code on fx nodes: what depends on constants alone is computed, the rest is written to a graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import fx, nn

from qfx.frontends.constants import join
from qfx.frontends.mutation import changes_operand
from qfx.frontends.torchscript import functions, overloads
from qfx.frontends.torchscript.aten import ATEN, compute
from qfx.frontends.torchscript.attributes import AttributeState
from qfx.frontends.torchscript.control import CONTROL
from qfx.frontends.torchscript.functions import FunctionValue
from qfx.frontends.torchscript.layers import rebuilt_layer, traced_results
from qfx.frontends.torchscript.modules import ModuleTree, ModuleValue, class_of, layer_class
from qfx.frontends.torchscript.numbers import as_tensor, of_numbers
from qfx.frontends.torchscript.obstacle import EVAL, REWRITE, STATE, Obstacle
from qfx.frontends.torchscript.primitives import PRIMITIVES
from qfx.frontends.torchscript.scripted_part import ScriptedPart
from qfx.frontends.torchscript.spelling import ORIGIN, spelling, written_in_one
from qfx.frontends.torchscript.writer import Frame, Writer

Island = Callable[[str, nn.Module], "str | None"]
"""Why the module at a path is to stay whole, or None."""


class Translator(Writer):
    """Runs the code of ``tree``, and writes what depends on inputs.

    Args:
        tree: The model.
        island: Which modules not to enter.

    Attributes:
        whole: The name in ``attributes`` of a model that is not entered itself, else "".
    """

    def __init__(self, tree: ModuleTree, island: Island) -> None:
        super().__init__()
        self.tree, self.island = tree, island
        self.whole = ""
        self._state = AttributeState()

    def run(self, arguments: Sequence[Any]) -> None:
        """Translates the model's ``forward``.

        Raises:
            Obstacle: What the graph can't hold.
        """
        self.finish(self.call_method(self.tree.root, "forward", arguments))

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
        if twin is not None and (not self.in_layer() or isinstance(twin, nn.MultiheadAttention)):
            made = self._whole(owner, functions.bind(twin.forward, arguments)[0], twin, None)
            return self._parts(made, traced_results(owner.module) if isinstance(twin, nn.RNNBase) else None)
        if not owner.module._c._has_method(name):
            raise self.obstacle(f"a call of {name}(), which the module does not have", REWRITE)
        with self._entered(owner, name, layer):
            result = self.run_graph(owner.module._c._get_method(name).graph, [owner, *arguments])
        if layer is not None and not self.in_layer() and _made_in(result, owner.path):
            result._rename(self.graph._target_to_str(owner.path or type(owner.module).__name__))
        return result

    def call_function(self, node: Any, function: Any, arguments: Sequence[Any]) -> Any:
        """The result of a function that the node ``node`` calls."""
        if not isinstance(function, FunctionValue):
            raise self.obstacle("a call of a function that is computed", REWRITE)
        known = functions.functional(function)
        if known is not None:
            args, kwargs = functions.bind(known, arguments)
            return self.emit(known, self.operands(args), self.operands(kwargs))
        frame = replace(self.frames[-1], function=function.last, source=self.source())
        with self.pushed(frame):
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
        before, self.here = self.here, node
        kind, outputs = node.kind(), [value.debugName() for value in node.outputs()]
        if kind in CONTROL:
            values: Sequence[Any] = CONTROL[kind](self, node, env)
        else:
            operands = [env[value.debugName()] for value in node.inputs()]
            value = self._evaluate(node, kind, operands)
            values = [value] if len(outputs) == 1 else self._unpacked(value, len(outputs))
        env.update(zip(outputs, values, strict=True))
        self.here = before

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
        if self.local.computes(overload, operands):
            return self.local.shown(compute(self, overload, operands), overload, operands)
        number = of_numbers(self, overload, operands)
        if number is not NotImplemented:
            return number
        operands = [as_tensor(self, overload, index, value) for index, value in enumerate(operands)]
        values = [self.operand(overload, index, value) for index, value in enumerate(operands)]
        self._require_evaluation(overload, operands)
        args, kwargs = overloads.arguments(overload, values)
        origin = node.sourceRange()
        whole = written_in_one(overload, args, origin)
        if whole is not None:
            return self.emit(*whole)
        made = self.emit(overload, args, kwargs)
        if changes_operand(made, {}):
            self.local.change(operands[0])
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
            node = self.graph.call_module(path, self.operands(tuple(arguments)))
            self.place(node)
        if reason is not None:
            node.meta["island_reason"] = reason
        return node

    def _parts(self, made: fx.Node, parts: Sequence[Sequence[int]] | None) -> Any:
        """The parts of a value, each by the keys that lead to it; without them the value."""
        if parts is None:
            return made
        found = [reduce(lambda value, key: self.emit(operator.getitem, (value, key)), keys, made) for keys in parts]
        return found[0] if len(found) == 1 else tuple(found)

    # Attributes of modules.

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

    @contextmanager
    def _entered(self, owner: ModuleValue, name: str, layer: type[nn.Module] | None) -> Iterator[None]:
        top = self.frames[-1] if self.frames else None
        if top is not None and top.layer is not None:
            frame = replace(top, function=name, source=self.source())
        else:
            frame = Frame(owner.path, name, self.source(), layer)
        with self.pushed(frame):
            try:
                yield
            except Obstacle as obstacle:
                if obstacle.path is None and name.partition("__")[0] == "forward":
                    obstacle.path = owner.path
                raise


def _made_in(result: Any, path: str) -> bool:
    is_call = isinstance(result, fx.Node) and result.op == "call_function"
    return is_call and result.meta.get("module_path") == path
