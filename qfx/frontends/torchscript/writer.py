"""Writes the graph of TorchScript code that runs: nodes, the constants that they name, and where the code is."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from qfx.frontends.constants import join
from qfx.frontends.mutation import MADE_IN_CALL
from qfx.frontends.torchscript import hierarchy, overloads
from qfx.frontends.torchscript.lines import user_line
from qfx.frontends.torchscript.local import LocalTensors
from qfx.frontends.torchscript.obstacle import Obstacle
from qfx.frontends.torchscript.spelling import ORIGIN


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


class Writer:
    """Writes ``graph``; ``attributes`` holds the tensors and modules that it names.

    Attributes:
        frames: The code that runs now, the innermost last.
        here: The node of TorchScript that runs now.
        local: Tensors that the code makes and changes itself.
    """

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.attributes: dict[str, Any] = {}
        self.frames: list[Frame] = []
        self.here: Any = None
        self.local = LocalTensors()
        self._nodes: dict[str, fx.Node] = {}
        self._numbers: set[fx.Node] = set()
        self._unnamed: dict[tuple[int, int], tuple[Tensor, Tensor, str]] = {}

    def finish(self, result: Any) -> None:
        """The graph returns ``result``; numbers that nothing reads go."""
        self.graph.output(result)
        for node in reversed(self.graph.nodes):
            node.meta.pop(ORIGIN, None)
            if node in self._numbers and not node.users:
                self.graph.erase_node(node)

    # Nodes.

    def emit(self, target: Any, args: Any, kwargs: Mapping[str, Any] | None = None, *, number: bool = False) -> fx.Node:
        """A node that calls ``target``; a ``number`` is one that goes when nothing reads it."""
        node = self.graph.create_node("call_function", target, args, dict(kwargs or {}), name=name_of(target))
        if number:
            self._numbers.add(node)
        self.place(node)
        return node

    def method(self, name: str, *args: Any) -> fx.Node:
        """A node with the number that a method of a tensor returns."""
        node = self.graph.call_method(name, args)
        self._numbers.add(node)
        self.place(node)
        return node

    def is_number(self, value: object) -> bool:
        """Whether ``value`` is a node that computes a number or a shape."""
        return value in self._numbers if isinstance(value, fx.Node) else False

    # Constants.

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

    def operand(self, overload: Any, index: int, value: Any) -> Any:
        """An argument of an operator; a constant that nothing names gets the operator's name and its part in it."""
        schema = overload._schema.arguments
        name = schema[min(index, len(schema) - 1)].name
        return self._named(overloads.as_argument(overload, index, value), overload._opname.strip("_"), name)

    def operands(self, values: Any) -> Any:
        return self._named(values, "constant", "value")

    def _named(self, values: Any, owner: str, name: str) -> Any:
        def named(value: Tensor) -> fx.Node:
            view = self.local.view_of(value)
            if view is not None:
                made = self.emit(view.overload, *overloads.arguments(view.overload, self.operands(view.operands)))
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

    def place(self, node: fx.Node) -> None:
        frame = self.frames[-1]
        path, layer = (frame.path, frame.layer) if self.here is None else hierarchy.place(self.here, frame)
        node.meta.update(module_path=path, source=self.source())
        if layer is not None:
            node.meta["module_class"] = layer

    # Where the code is.

    def source(self) -> str | None:
        """The innermost line of the user's that runs now."""
        frame = self.frames[-1] if self.frames else None
        if frame is None or self.here is None:
            return None
        nodes = [self.here, *(value.node() for value in reversed(list(self.here.inputs())))]
        nodes = nodes if self.here.kind() == "prim::SetAttr" else nodes[:1]  # which has no place of its own
        lines = (user_line(node, frame.function) for node in nodes)
        return next((line for line in lines if line is not None), frame.source)

    def obstacle(self, construct: str, remedy: str) -> Obstacle:
        """An obstacle at the code that runs now."""
        return Obstacle(construct, remedy, self.source())

    @contextmanager
    def pushed(self, frame: Frame) -> Iterator[None]:
        self.frames.append(frame)
        yield
        self.frames.pop()

    def in_layer(self) -> bool:
        return bool(self.frames) and self.frames[-1].layer is not None


def name_of(target: Any) -> str:
    """The name of a function or an aten overload, without the overload's."""
    return str(getattr(target, "_opname", None) or getattr(target, "__name__", target))
