"""Captured level through ``torch.export``; what can't be exported becomes a named float island."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import Parameter
from torch.utils import _pytree as pytree

from qfx.errors import CaptureError, InputError
from qfx.frontends.boundaries import mark_boundaries
from qfx.frontends.defaults import Example, by_name, distinct
from qfx.frontends.dependence import changes_of_a_call, changes_that_matter
from qfx.frontends.export import program as exporter
from qfx.frontends.export.graph import build
from qfx.frontends.export.islands import Islands, hold_sizes
from qfx.frontends.fresh import remember
from qfx.frontends.functional import functionalized
from qfx.frontends.leaves import builtin_class
from qfx.frontends.mutation import mutation_hazards
from qfx.frontends.state import Snapshot
from qfx.frontends.symbolic import capture_error, private_copy
from qfx.frontends.tracer import Failure, of_class
from qfx.guards import GUARDS, Guard, require, tensors_of
from qfx.ir.boundary import Boundary, boundary_of
from qfx.ir.computed import COMPUTED, ComputedWeight
from qfx.ir.module import adopt_attributes
from qfx.ir.user_names import found, graph_module_of, put_tokens

FIXED_BATCH = "fixed_batch"
"""Key of ``meta``: the only batch size that the graph takes, None where it takes any."""


def capture(
    model: Any,
    *,
    example: Example | None = None,
    non_traceable_module_name: Collection[str] = (),
    non_traceable_module_class: Collection[type[nn.Module]] = (),
    inputs: Collection[str] = (),
    strict: bool = False,
    free: exporter.Free = "all",
    leaves: tuple[type[nn.Module], ...] = (),
) -> fx.GraphModule:
    """Exports ``model`` as it computes in eval mode, with every dim in ``free`` free that the model allows to be.

    Nodes and ``meta`` are as :func:`qfx.frontends.symbolic.capture` gives them; calls are of aten ops. ``meta`` has
    ``"frontend_reason"`` too: what to know about this capture, "" if nothing.

    Args:
        model: A module, which is not changed, or a ``torch.export.ExportedProgram``, whose dims stay what they are.
        example: Inputs of a module.
        non_traceable_module_name: Paths of modules to keep whole, in float.
        non_traceable_module_class: Classes of modules to keep whole, in float.
        inputs: As for the symbolic frontend; an export has the inputs of ``example``.
        strict: Raise for a part that can't be exported.
        free: Which dims of the inputs of a module are to be free. ``"batch"`` fixes the sizes of images, with which
            torch.export takes minutes where a network computes with them.
        leaves: Classes of modules that stay modules of the graph, without being islands.

    Raises:
        CaptureError: The model, or with ``strict`` a part of it, can't be exported, or there are no example inputs.
    """
    if exporter.is_exported(model):
        return _from_program(model)
    if example is None:
        raise CaptureError(
            "torch.export needs example inputs.",
            why="It runs the model.",
            remedy="Pass example_inputs, or calibration data whose first batch serves as such.",
        )
    computed: dict[str, ComputedWeight] = {}
    root, example = private_copy(model, computed), distinct(example)
    reasons = _named(root, non_traceable_module_name, tuple(non_traceable_module_class), leaves)
    before = Snapshot(root)
    changing = changes_of_a_call(root, before, example)
    while True:
        state = changes_that_matter(root, before, example, reasons) if changing else []
        attempt = Failure.of_state(root, state) if state else _attempt(root, reasons, example, free, before)
        if isinstance(attempt, fx.GraphModule):
            break
        if attempt.path in ("", *reasons) or strict:
            raise capture_error(root, attempt, "exported")
        reasons[attempt.path] = attempt.why
    attempt.meta["training"] = model.training
    attempt.meta["specialized"] = _specialized(model, example)
    attempt.meta[COMPUTED] = computed
    remember(attempt, [place for place in changing if place.is_in(reasons)])
    return attempt.eval()


@dataclass(frozen=True)
class _Way:
    """One way to export: with which inputs, by which of torch's two captures, and what is lost by it."""

    example: Example
    free: exporter.Free
    strict: bool
    note: str


def _ways(example: Example, free: exporter.Free) -> Iterator[_Way]:
    wide, note = _widened(example), "" if free == "all" else "the sizes of images are those of the examples"
    yield _Way(wide, free, False, note)
    if wide is not example:
        yield _Way(example, free, False, note)
    yield _Way(example, "none", False, "the sizes of its inputs are fixed")
    yield _Way(wide, free, True, "; ".join(filter(None, ("captured by TorchDynamo", note))))


def _attempt(
    root: nn.Module, reasons: Mapping[str, str | None], example: Example, free: exporter.Free, before: Snapshot
) -> fx.GraphModule | Failure:
    """The Captured graph, or why there is none: the failure of the plainest way, which says most."""
    failure: Failure | None = None
    for way in _ways(example, free):
        if way.strict and (reasons or (failure is not None and failure.path)):
            break
        islands = Islands(root, reasons)
        try:
            with islands.kept_whole([way.example, *_wider(way.example)] if reasons else []):
                exported = exporter.export(root, *way.example, strict=way.strict, free=way.free)
        except Exception as error:
            failure = Failure.of(_module_at_fault(root, error), error) if failure is None or not way.strict else failure
            continue
        finally:
            before.restore()
        captured = _captured(exported, root, islands)
        try:
            require(captured.meta[GUARDS], by_name(inspect.signature(root.forward).parameters, example))
        except InputError as error:
            failure = failure or Failure.of("", error)
            continue
        _hold_island_sizes(captured, islands, by_name(inspect.signature(root.forward).parameters, example))
        hazard = next(iter(mutation_hazards(captured.graph, dict(captured.named_modules()))), None)
        if hazard is not None:
            node, why = hazard
            return Failure.of_mutation(node, why)
        fixed = captured.meta[FIXED_BATCH] = exporter.fixed_batch(exported)
        size = "" if fixed is None or way.free == "none" else f"the batch size is fixed at {fixed}"
        captured.meta["frontend_reason"] = "; ".join(filter(None, (way.note, size)))
        return captured
    assert failure is not None
    return failure


def _hold_island_sizes(captured: fx.GraphModule, islands: Islands, example: Mapping[str, Any]) -> None:
    """What the export took for constants in the results of islands is checked, where sizes that are free may change it.

    The run with a larger batch tells what follows the batch.
    """
    free = [dim for guard in captured.meta[GUARDS] if guard.kind == "sizes" for dim, size in enumerate(guard.wanted)
            if size is None]  # fmt: skip
    known = {guard.path for guard in captured.meta[GUARDS] if guard.kind == "sizes"}
    tensors = [found for name, value in example.items() for found in tensors_of((name,), value)]
    unknown = any(path not in known for path, _ in tensors) or any(free)
    if (
        islands.calls
        and (unknown or any(shaped.wider is None for shaped in islands.shaped))
        and not hold_sizes(islands)
    ):
        captured.meta[GUARDS] += tuple(Guard("sizes", path, tuple(value.shape)) for path, value in tensors)


def _captured(exported: Any, root: nn.Module, islands: Islands) -> fx.GraphModule:
    built = build(exporter.read(exported, own=True), root, islands)
    modules = dict(root.named_modules(remove_duplicate=False))
    graph = functionalized(built.graph, {**modules, **built.parts})
    mark_boundaries(graph, modules)
    for path, tensor in built.tensors.items():
        if found(root, path) is None:  # a number that the code makes a tensor of
            owner, _, name = path.rpartition(".")
            root.get_submodule(owner).register_buffer(name, tensor.detach().clone(), persistent=False)
    for path, part in built.parts.items():
        owner, _, name = path.rpartition(".")
        root.get_submodule(owner).add_module(name, part)
    captured = graph_module_of(root, graph, type(root).__name__)
    adopt_attributes(captured, root)
    put_tokens(captured)
    captured.meta[GUARDS] = built.guards
    return captured


def _from_program(exported: Any) -> fx.GraphModule:
    read = exporter.read(exported)
    empty = nn.Module()
    built = build(read, None, Islands(empty, {}))
    graph = functionalized(built.graph, built.parts)
    hazards = list(mutation_hazards(graph, built.parts))
    if hazards:
        read = exporter.read(exporter.functional(exported))
        built = build(read, None, Islands(empty, {}))
        graph = built.graph
    state = exporter.kept_state(read)
    if state:
        node, why = next((found for found in hazards if state[0] in found[1]), (None, None))
        raise CaptureError(
            "The exported program changes its own state.",
            where=state[0].rpartition(".")[0],
            source=node.meta["source"] if node is not None else None,
            why=why or f"The buffer {state[0]} is not the same after a call.",
            remedy="Export the model without caches, or pass the nn.Module, whose part at fault then stays float.",
        )
    copies: dict[int, Tensor] = {}
    for tensor in built.tensors.values():
        copy = tensor.detach().clone()
        copies.setdefault(id(tensor), Parameter(copy, False) if isinstance(tensor, Parameter) else copy)
    attributes: dict[str, Any] = {path: copies[id(tensor)] for path, tensor in built.tensors.items()}
    captured = graph_module_of({**attributes, **built.parts}, graph, "ExportedProgram")
    captured.meta.update(training=built.training, specialized={}, frontend_reason="")
    captured.meta[GUARDS] = built.guards
    return captured.eval()


def _named(
    root: nn.Module,
    names: Collection[str],
    classes: tuple[type[nn.Module], ...],
    leaves: tuple[type[nn.Module], ...],
) -> dict[str, str | None]:
    """The modules that stay whole from the beginning, outermost ones only, each with the reason."""
    found: dict[str, str | None] = {}
    for path, module in root.named_modules():
        if any(path.startswith(f"{outer}.") for outer in found) or not path:
            continue
        reason = "named in non_traceable_module_name" if path in names else of_class(module, classes)
        is_leaf = bool(leaves) and builtin_class(module) in leaves
        if reason is not None or is_leaf or _is_boundary(root, path, module):
            found[path] = reason
    return found


def _is_boundary(root: nn.Module, path: str, module: nn.Module) -> bool:
    """Whether ``module`` is a stub, or the observed result of a FloatFunctional."""
    if boundary_of(module) not in (None, Boundary.RESULT):
        return True
    owner, _, name = path.rpartition(".")
    return name == "activation_post_process" and boundary_of(root.get_submodule(owner)) is Boundary.RESULT


def _specialized(model: nn.Module, example: Example) -> dict[str, Any]:
    args, kwargs = example
    parameters = list(inspect.signature(model.forward).parameters.values())[len(args) :]
    return {p.name: p.default for p in parameters if p.name not in kwargs and p.default is not p.empty}


def _module_at_fault(root: nn.Module, error: BaseException) -> str:
    """Path of the innermost module whose code ``error`` passed through, "" for the model itself."""
    paths = {id(module): path for path, module in root.named_modules()}
    found = ""
    for frame, _ in walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and id(owner) in paths:
            found = paths[id(owner)]
    return found


def _widened(example: Example) -> Example:
    """Inputs of a batch of one as a batch of two: the exporter takes a length of one for a constant."""
    tensors = [x for x in pytree.tree_leaves(example) if isinstance(x, Tensor) and x.dim()]
    if not tensors or tensors[0].shape[0] != 1:
        return example
    return _repeated(example, 1)


def _wider(example: Example) -> list[Example]:
    """The inputs with a batch larger by one."""
    tensors = [x for x in pytree.tree_leaves(example) if isinstance(x, Tensor) and x.dim()]
    return [_repeated(example, int(tensors[0].shape[0]))] if tensors else []


def _repeated(example: Example, batch: int) -> Example:
    def repeat(x: Tensor) -> Tensor:
        return torch.cat([x, x[:1]]) if x.dim() and x.shape[0] == batch else x

    repeated: Example = pytree.tree_map_only(Tensor, repeat, example)
    return repeated
