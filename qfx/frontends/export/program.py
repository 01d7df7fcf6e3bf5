"""The only file that calls ``torch.export``: a module to a program, and what a program holds, as plain values."""

from __future__ import annotations

import importlib
import inspect
import itertools
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias, TypeGuard

import sympy  # type: ignore[import-untyped]
import torch
import torch.export
import torch.fx.experimental._config
import torch.fx.experimental.proxy_tensor
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
        conditions: What the code asked for about the inputs' sizes, as Python.
        ranges: The bounds of each symbol in these sizes.
        least: The least lower bound that is one: the exporter takes others for granted where torch's own check of a
            call does not.
        idle: Conditions that hold but for lengths of 0 and 1, and that operators asked for, not the code. They have
            special cases for these which compute the same.
        longer: Lengths that are free and must not be 1, because a ``squeeze`` leaves them.
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
    conditions: tuple[str, ...]
    ranges: Mapping[Any, Any]
    least: int
    idle: tuple[Any, ...]
    longer: tuple[Any, ...]


def is_exported(model: object) -> TypeGuard[torch.export.ExportedProgram]:
    """Whether ``model`` is a ``torch.export.ExportedProgram``."""
    return isinstance(model, torch.export.ExportedProgram)


Free: TypeAlias = Literal["all", "batch", "none"]
"""Every dim; every dim but those of images, tensors of rank 4 and more, of which the first is free; none."""


def export(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, strict: bool, free: Free
) -> torch.export.ExportedProgram:
    """``torch.export.export`` in inference.

    Without the assumption that a length is neither 0 nor 1 where that is possible: code that asks for these is then
    told of as any other condition. Otherwise the ranges of the program say that every length is at least 2.

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

    def exported() -> torch.export.ExportedProgram:
        return torch.export.export(model, args, dict(kwargs), dynamic_shapes=dims, strict=strict)

    with _quiet(), _hint_from_the_caller_alone(), torch.no_grad(), _in_this_thread():
        try:
            with torch.fx.experimental._config.patch(  # type: ignore[attr-defined]
                backed_size_oblivious=free != "none"
            ):
                return exported()
        except Exception:
            if free == "none":
                raise
            return exported()


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


def read(program: torch.export.ExportedProgram, *, own: bool = False) -> Program:
    """What ``program`` holds; ``own`` says that it is from :func:`export`."""
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
        tuple(_result(spec.arg) for spec in returned), changed, names, tuple(program._guards_code),
        program.range_constraints, 1 if own else _TORCH_CHECKS_FROM, tuple(_idle(program)) if own else (),
        tuple(_left_by_squeeze(program)),
    )  # fmt: skip


def _idle(program: torch.export.ExportedProgram) -> Iterator[Any]:
    values = (node.meta.get("val") for node in program.graph_module.graph.find_nodes(op="placeholder"))
    fake = next((value for value in values if isinstance(value, Tensor)), None)
    environment: Any = getattr(getattr(fake, "fake_mode", None), "shape_env", None)
    for guard in environment.guards if environment is not None else ():
        place = getattr(guard.sloc.framework_loc, "filename", "")
        if any(part in place for part in _OPERATORS) and _holds_from_two(guard.expr):
            yield guard.expr


def _left_by_squeeze(program: torch.export.ExportedProgram) -> Iterator[Any]:
    for node in program.graph_module.graph.nodes:
        if getattr(node.target, "overloadpacket", None) not in (torch.ops.aten.squeeze, torch.ops.aten.squeeze_):
            continue
        shape = node.args[0].meta["val"].shape
        wanted = node.args[1] if len(node.args) > 1 else range(len(shape))
        for dim in [wanted] if isinstance(wanted, int) else wanted:
            if fixed_extent(shape[dim]) is None:
                yield shape[dim].node.expr


_OPERATORS = ("torch/_ops.py", "torch/_subclasses/", "torch/_meta_registrations.py", "torch/_prims_common/")
"""Where the exporter runs operators on tensors without data. Python code asks elsewhere."""
_MOST_SYMBOLS = 5


def _holds_from_two(condition: Any) -> bool:
    symbols = sorted(condition.free_symbols, key=str)
    if not 0 < len(symbols) <= _MOST_SYMBOLS:
        return False
    tried = itertools.product(map(sympy.Integer, (2, 3)), repeat=len(symbols))
    return all(condition.xreplace(dict(zip(symbols, sizes, strict=True))) == sympy.true for sizes in tried)


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


def fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    """The length of the first tensor input's first dim, if the program takes no other."""
    nodes = {node.name: node for node in program.graph.find_nodes(op="placeholder")}
    values = (nodes[name].meta.get("val") for name in program.graph_signature.user_inputs if name in nodes)
    first = next((value for value in values if isinstance(value, Tensor) and value.dim()), None)
    return fixed_extent(first.shape[0]) if first is not None else None


def fixed_extent(extent: Any) -> int | None:
    """A length of an input's dim if the program takes no other."""
    if isinstance(extent, torch.SymInt):
        return int(extent.node.expr) if extent.node.expr.is_number else None
    return int(extent)


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
    """A length of 1 is not free: to be expanded to another length is all that it may be for."""
    if not isinstance(value, Tensor):
        return None
    return {dim: torch.export.Dim.AUTO for dim in range(value.dim()) if value.shape[dim] != 1}


def _no_image_size(value: Any) -> Any:
    free = _every_dim(value)
    return {dim: free[dim] for dim in free if dim == 0} if free and value.dim() >= _IMAGE_RANK else free


_TORCH_CHECKS_FROM = 3
"""A range from 2 on says that the exporter looked for no special case of 0 and 1; torch runs it with these too."""


_IMAGE_RANK = 4
_DIMS: dict[Free, Callable[[Any], Any]] = {"all": _every_dim, "batch": _no_image_size}
"""Dynamic dims of a value among the inputs, by which are to be free."""


def _positional_names(model: nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[:count]


@contextmanager
def _in_this_thread() -> Iterator[None]:
    """While active, an export leaves alone the modules that other threads call: its tracer takes them for its own."""
    cls: Any = torch.fx.experimental.proxy_tensor._ModuleStackTracer
    call_module, get, here = cls.call_module, cls.getattr, threading.get_ident()

    def called(self: Any, module: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        elsewhere = threading.get_ident() != here
        return forward(*args, **kwargs) if elsewhere else call_module(self, module, forward, args, kwargs)

    def read(self: Any, attr: Any, value: Any, cache: Any) -> Any:
        return value if threading.get_ident() != here else get(self, attr, value, cache)

    cls.call_module, cls.getattr = called, read
    try:
        yield
    finally:
        cls.call_module, cls.getattr = call_module, get


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
