"""The only file that calls ``torch.export``: a module to a program, and what a program holds, as plain values."""

from __future__ import annotations

import importlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias, TypeGuard

import torch
import torch.export
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Program:
    """An exported graph and how its flat inputs and outputs belong to a call.

    Attributes:
        graph_module: The flat graph; it is not to be changed.
        tensors: Path of the parameter, buffer or constant behind each placeholder that stands for one, by name.
        state: Those tensors by path.
        persistent: Paths of the tensors that the model saves.
        inputs: Placeholder names of the user's inputs, None for a value that was fixed, in flat order.
        in_spec, out_spec: Structure of ``(args, kwargs)`` and of the result.
        results: What is returned, flat: names of nodes, or plain values.
        changed: Paths of the buffers that a call changes.
        names: Names of the positional arguments, as far as known.
    """

    graph_module: fx.GraphModule
    tensors: Mapping[str, str]
    state: Mapping[str, Tensor]
    persistent: frozenset[str]
    inputs: tuple[str | None, ...]
    in_spec: Any
    out_spec: Any
    results: tuple[Any, ...]
    changed: tuple[str, ...]
    names: tuple[str, ...]


def is_exported(model: object) -> TypeGuard[torch.export.ExportedProgram]:
    """Whether ``model`` is a ``torch.export.ExportedProgram``."""
    return isinstance(model, torch.export.ExportedProgram)


Free: TypeAlias = Literal["all", "batch", "none"]
"""Every dim; every dim but those of images, tensors of rank 4 and more, of which the first is free; none."""


def export(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, strict: bool, free: Free
) -> torch.export.ExportedProgram:
    """``torch.export.export`` in inference.

    Args:
        model: In evaluation mode.
        args, kwargs: Example inputs.
        strict: Capture with TorchDynamo instead of running the Python code.
        free: Which dims of inputs to leave free, as far as the model allows.

    Raises:
        Exception: Whatever stopped it.
    """
    names = [*_positional_names(model, len(args)), *kwargs]
    dims = None
    if free != "none":
        dims = dict(zip(names, pytree.tree_map(_DIMS[free], [*args, *kwargs.values()]), strict=True))
    with _quiet(), _hint_from_the_caller_alone(), torch.no_grad():
        return torch.export.export(model, args, dict(kwargs), dynamic_shapes=dims, strict=strict)


def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """``program`` without changes in place: each is a new value, and what was a view is computed from it."""
    with _quiet(), torch.no_grad():
        return program.run_decompositions({})


def runnable(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """``program`` as a module to be called as the one that it was exported from."""
    with _quiet():
        module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    return module


def read(program: torch.export.ExportedProgram) -> Program:
    """What ``program`` holds."""
    signature, state = program.graph_signature, {**program.state_dict, **program.constants}
    tensors = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    entry = program.module_call_graph[0].signature
    assert entry is not None, "an exported program without a root signature"
    given = [spec for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
    inputs = tuple(_placeholder(spec.arg) for spec in given)
    returned = [spec for spec in signature.output_specs if spec.kind.name == "USER_OUTPUT"]
    changed = (*signature.buffers_to_mutate.values(), *signature.parameters_to_mutate.values())
    names = tuple(entry.forward_arg_names or ())
    return Program(
        program.graph_module, tensors, {path: state[path] for path in tensors.values()},
        frozenset(program.state_dict), inputs, entry.in_spec, entry.out_spec,
        tuple(_result(spec.arg) for spec in returned), changed, names,
    )  # fmt: skip


def kept_state(program: Program) -> list[str]:
    """The paths of the buffers that a call changes, without those of batch norms, which only training does."""
    places = {path: name for name, path in program.tensors.items()}
    nodes = {node.name: node for node in program.graph_module.graph.find_nodes(op="placeholder")}
    return [path for path in program.changed if not _of_batch_norm(path, nodes[places[path]])]


def _of_batch_norm(path: str, buffer: fx.Node) -> bool:
    if path.endswith("num_batches_tracked"):
        return all(counts(user) for user in buffer.users)
    return any("batch_norm" in str(user.target) for user in buffer.users)


def counts(node: fx.Node) -> bool:
    """Whether ``node`` only counts the batches that a batch norm has seen."""
    if node.target not in (torch.ops.aten.add_.Tensor, torch.ops.aten.add.Tensor):
        return False
    copied = {torch.ops.aten.copy_.default}
    return all(user.op == "output" or user.target in copied for user in node.users)


def fixed_sizes(program: Program, name: str) -> tuple[int | None, ...] | None:
    """Of each dim of the input ``name`` but the first its length, if the program takes no other; None for no tensor."""
    node = next(n for n in program.graph_module.graph.find_nodes(op="placeholder") if n.name == name)
    value = node.meta.get("val")
    return (None, *map(_fixed, value.shape[1:])) if isinstance(value, Tensor) and value.dim() else None


def _fixed(extent: Any) -> int | None:
    if isinstance(extent, torch.SymInt):
        return int(extent.node.expr) if extent.node.expr.is_number else None
    return int(extent)


def fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    """The length of the first tensor input's first dim, if the program takes no other."""
    nodes = {node.name: node for node in program.graph.find_nodes(op="placeholder")}
    values = (nodes[name].meta.get("val") for name in program.graph_signature.user_inputs if name in nodes)
    first = next((value for value in values if isinstance(value, Tensor) and value.dim()), None)
    return _fixed(first.shape[0]) if first is not None else None


def _placeholder(argument: Any) -> str | None:
    return str(argument.name)


def _result(argument: Any) -> Any:
    """The name of a node wrapped as :class:`Named`, or the constant that is returned."""
    return argument.value if hasattr(argument, "value") else Named(str(argument.name))


@dataclass(frozen=True)
class Named:
    """A result that a node computes."""

    name: str


def _every_dim(value: Any) -> Any:
    return dict.fromkeys(range(value.dim()), torch.export.Dim.AUTO) if isinstance(value, Tensor) else None


def _no_image_size(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dim() >= _IMAGE_RANK:
        return {0: torch.export.Dim.AUTO}
    return _every_dim(value)


_IMAGE_RANK = 4
_DIMS: dict[Free, Callable[[Any], Any]] = {"all": _every_dim, "batch": _no_image_size}
"""Dynamic dims of a value among the inputs, by which are to be free."""


def _positional_names(model: nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[:count]


@contextmanager
def _quiet() -> Iterator[None]:
    """While active, the exporter's notes to its own developers are not shown."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    # A failed export prints the graph so far to stderr, with no switch for it.
    with warnings.catch_warnings(), replaced(_exporter(), "print", lambda *args, **kwargs: None):
        try:
            warnings.simplefilter("ignore")
            yield
        finally:
            logging.disable(before)


def _exporter() -> ModuleType:
    """The module of torch that exports; it is imported when it is needed."""
    return importlib.import_module("torch.export._trace")


@contextmanager
def replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """While active, ``name`` in the code of ``module`` means ``value``."""
    scope, missing = vars(module), object()
    before = scope.get(name, missing)
    scope[name] = value
    try:
        yield
    finally:
        if before is missing:
            del scope[name]
        else:
            scope[name] = before


def _hint_from_the_caller_alone() -> AbstractContextManager[None]:
    """While active, torch's transformers do not look into a mask for whether it is causal: only speed depends on it."""
    hint = lambda mask, is_causal=None, size=None: is_causal is True  # noqa: E731
    return replaced(nn.modules.transformer, "_detect_is_causal_mask", hint)
