"""Which frontend captures a model, and why."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterator
from typing import Any, Literal

import torch
from torch import fx, nn

from qfx.capture_lock import capturing
from qfx.errors import CaptureError, InputError, shown
from qfx.frontends import symbolic
from qfx.frontends.defaults import Example
from qfx.frontends.leaves import ISLAND_REMEDY, builtin_class
from qfx.frontends.lengths_of_one import admit_lengths_of_one
from qfx.frontends.verify import require_same_results
from qfx.guards import GUARDS
from qfx.logs import logger

_log = logger(__name__)

Frontend = Literal["auto", "symbolic", "export", "torchscript"]
"""How to capture a model."""

FRONTENDS: tuple[Frontend, ...] = ("auto", "symbolic", "export", "torchscript")
FRONTEND, REASON = "frontend", "frontend_reason"
"""Keys of a graph's ``meta``: the frontend that captured it, and why that one, in words."""

_EXPORTED = "exported_program"
_KINDS = {"export": "an ExportedProgram", "torchscript": "TorchScript"}
_COMPOSITE = (nn.MultiheadAttention,)
"""Classes of torch that hold layers; symbolic tracing does not enter them, export does."""
_TABLES = (nn.Embedding, nn.EmbeddingBag)
"""Classes whose weights are looked up, not multiplied."""
_LAYERS = (*_TABLES, nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
"""Classes that are swapped as modules: torch.export would take them apart into functions of their tensors."""
_ENTERED = ("", "None", "torch", "_operator", "math", "builtins", "qfx")
"""Packages whose functions a graph calls anyway."""


def as_module(model: Any) -> Any:
    """An ExportedProgram as a module that :func:`capture` knows for one; anything else as it is."""
    if not _is_exported(model):
        return model
    from qfx.frontends.export import program

    with capturing():
        module = program.runnable(model)
    module.meta[_EXPORTED] = model
    return module


def example_inputs_of(model: Any) -> dict[str, Any] | tuple[Any, ...] | None:
    """The example inputs that a model from :func:`as_module` was exported with, if it has any."""
    exported = _program_of(model)
    example = exported.example_inputs if exported is not None else None
    if example is None:
        return None
    args, kwargs = example
    names = [str(n.target) for n in model.graph.find_nodes(op="placeholder")]
    return {**dict(zip(names, args, strict=False)), **kwargs} if kwargs else tuple(args)


def capture(
    model: nn.Module,
    *,
    frontend: str = "auto",
    example: Example | None = None,
    non_traceable_module_name: Collection[str] = (),
    non_traceable_module_class: Collection[type[nn.Module]] = (),
    inputs: Collection[str] = (),
    strict: bool = False,
    keep_layers: bool = False,
    keep_whole: bool = False,
) -> fx.GraphModule:
    """``model`` at the Captured level; ``meta["frontend"]`` and ``meta["frontend_reason"]`` say by which and why.

    ``"auto"`` is what the model is already, an exported program or TorchScript; for other modules symbolic tracing,
    and export where tracing fails or leaves more layers in float islands than export does. That export fixes the sizes
    of images (not of the batch); with ``"export"`` they are free.

    Args:
        model: A module, possibly from :func:`as_module`.
        frontend: One of :data:`FRONTENDS`.
        example: Positional and keyword inputs; export needs them.
        non_traceable_module_name, non_traceable_module_class, inputs, strict: As for the frontends.
        keep_layers: Modules may be swapped later, wherever they are, so an export keeps recurrent layers and embeddings
            as modules.
        keep_whole: A model that ``"auto"`` can't capture is one float island, unless ``strict``.

    Raises:
        CaptureError: The frontend can't capture the model.
        InputError: There is no such frontend.
    """
    if not isinstance(frontend, str) or frontend not in FRONTENDS:
        known = ", ".join(map(repr, FRONTENDS))
        raise InputError(f"There is no frontend {shown(frontend)}.", remedy=f"Use one of {known}.")
    options: dict[str, Any] = {
        "non_traceable_module_name": non_traceable_module_name,
        "non_traceable_module_class": non_traceable_module_class,
        "inputs": inputs,
        "strict": strict,
        "keep_layers": keep_layers,
    }
    try:
        if frontend == "auto" and keep_whole and not strict and example is None:
            _require_known_inputs(model, inputs)
        captured = _captured(model, frontend, example, options)
    except CaptureError as error:
        if frontend != "auto" or not keep_whole or strict or isinstance(model, torch.jit.ScriptModule):
            raise
        captured = _whole(model, error, inputs)
    _log.info("%s captured by %s: %s", type(model).__name__, captured.meta[FRONTEND], captured.meta[REASON])
    return captured


def _captured(model: nn.Module, frontend: str, example: Example | None, options: dict[str, Any]) -> fx.GraphModule:
    native = "export" if _program_of(model) else "torchscript" if isinstance(model, torch.jit.ScriptModule) else None
    if native is not None and frontend not in ("auto", native):
        raise CaptureError(
            f"The model can't be captured with frontend={frontend!r}.",
            why=f"It is {_KINDS[native]}.",
            remedy=f"Pass frontend={native!r} or 'auto', or the nn.Module that it was made from.",
        )
    part = _scripted_part(model, options["non_traceable_module_name"]) if native is None else None
    if part is not None and frontend not in ("auto", "torchscript"):
        raise CaptureError(
            f"The model can't be captured with frontend={frontend!r}.",
            where=part,
            why="This module is TorchScript.",
            remedy="Pass frontend='torchscript' or 'auto', or put the nn.Module that it was made from in its place.",
        )
    with capturing():
        if native is not None:
            return _with(native, model, example, options, f"the model is {_KINDS[native]}")
        if part is not None:
            return _with("torchscript", model, example, options, f"{part} is TorchScript")
        if frontend != "auto":
            return _with(frontend, model, example, options, "asked for")
        return _auto(model, example, options)


def _require_known_inputs(model: nn.Module, inputs: Collection[str]) -> None:
    """Which inputs a call gives is known, so that a trace may fix the others at None.

    Raises:
        CaptureError: Nothing says whether an input that may be None is one.
    """
    native = _program_of(model) is not None or isinstance(model, torch.jit.ScriptModule)
    if native or builtin_class(model) is not None:
        return
    open_ = [p for p in inspect.signature(model.forward).parameters.values() if p.default is None]
    unknown = [p.name for p in open_ if p.name not in inputs]
    if unknown:
        raise CaptureError(
            f"{type(model).__name__} can't be taken apart without example inputs.",
            why=f"forward() may get {', '.join(unknown)} or not, and computes something else with and without.",
            remedy="Pass example inputs, or data, that have the inputs of your calls.",
        )


def _scripted_part(model: nn.Module, whole: Collection[str]) -> str | None:
    """The path of the first module inside of ``model`` that is TorchScript, besides those to be kept ``whole``."""
    kept = tuple(f"{path}." for path in whole)
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and not f"{path}.".startswith(kept):
            return path
    return None


def _whole(model: nn.Module, error: CaptureError, inputs: Collection[str]) -> fx.GraphModule:
    """The model as one island, for what ``error`` says."""
    why = f"no frontend can take the model apart: {error.where or ''} {error.why or error.what}".replace("  ", " ")
    whole = symbolic.capture_island(model, error.why or error.what, inputs)
    whole.meta.update({FRONTEND: "symbolic", REASON: why, GUARDS: ()})  # it is called as the float model is
    return whole


def _with(
    frontend: str, model: nn.Module, example: Example | None, options: dict[str, Any], why: str
) -> fx.GraphModule:
    """Capture by one frontend; imports it first, since each takes its time."""
    options = dict(options)
    leaves = _LAYERS if options.pop("keep_layers") else ()
    if frontend == "symbolic":
        captured = symbolic.capture(model, example=example, **options)
    elif frontend == "export":
        from qfx.frontends import export

        captured = export.capture(_program_of(model) or model, example=example, leaves=leaves, **options)
    else:
        from qfx.frontends import torchscript

        captured = torchscript.capture(model, example=example, **options)
    if example is not None and not (_program_of(model) and captured.meta["training"]):
        require_same_results(model, captured, example)
        if frontend == "export":
            admit_lengths_of_one(model, captured, example)
    notes = (why, captured.meta.get(REASON, ""))
    captured.meta.update({FRONTEND: frontend, REASON: "; ".join(filter(None, notes))})
    return captured


def _auto(model: nn.Module, example: Example | None, options: dict[str, Any]) -> fx.GraphModule:
    try:
        traced = _with("symbolic", model, example, options, "the default")
        left, why = _in_islands(traced), ""
    except CaptureError as error:
        traced, failure = None, error
        left, why = 1, f"symbolic tracing failed: {error.where or ''} {error.why or error.what}".replace("  ", " ")
    if traced is not None and not left:
        return traced
    if example is None:
        if traced is None:
            raise failure
        return _asking_for_inputs(traced)
    why = why or "symbolic tracing leaves layers in float islands"
    try:
        exported = _with("export", model, example, {**options, "free": "batch"}, why)
    except CaptureError as error:
        if traced is None:
            raise failure from error
        traced.meta[REASON] += f"; export fails too: {error.why or error.what}"
        return traced
    if traced is None or (exported.meta.get("fixed_batch") is None and _in_islands(exported) < left):
        return exported
    traced.meta[REASON] += f"; export has no more of it: {exported.meta[REASON]}"
    return traced


def _asking_for_inputs(traced: fx.GraphModule) -> fx.GraphModule:
    """``traced``, whose islands say that they were not exported for want of example inputs."""
    islands = [call for call in _islands(traced) if "island_reason" not in call.meta]
    for call in islands:
        call.meta[ISLAND_REMEDY] = "pass example_inputs, so that export takes it apart"
    traced.meta[REASON] += "; export, which takes more apart, needs example_inputs" * bool(islands)
    return traced


def _islands(captured: fx.GraphModule) -> Iterator[fx.Node]:
    """Calls of modules that the frontend did not enter, of those that consist of layers."""
    for call in captured.graph.find_nodes(op="call_module"):
        inner = captured.get_submodule(str(call.target)).modules()
        if "island_reason" in call.meta or any(isinstance(module, _COMPOSITE) for module in inner):
            yield call


def _in_islands(captured: fx.GraphModule) -> int:
    """How many weights of layers are in modules and functions that the frontend did not enter."""
    whole = [captured.get_submodule(path) for path in {str(call.target) for call in _islands(captured)}]
    inner = [module for island in whole for module in island.modules() if not isinstance(module, _TABLES)]
    foreign = [n for call in captured.graph.nodes if _is_foreign(call) for n in call.all_input_nodes]
    given = [n for n in foreign if n.op == "get_attr"]
    weights = [p for module in inner for p in module.parameters(recurse=False)]
    weights += [value for value in (_attribute(captured, n) for n in given) if isinstance(value, nn.Parameter)]
    return sum(p.numel() for p in weights if p.dim() > 1)


def _is_foreign(node: fx.Node) -> bool:
    """Whether ``node`` calls a function of somebody's own, which ``torch.fx.wrap`` keeps from being entered."""
    package = str(getattr(node.target, "__module__", "")).partition(".")[0]
    return node.op == "call_function" and package not in _ENTERED


def _attribute(captured: fx.GraphModule, node: fx.Node) -> Any:
    return functools.reduce(getattr, str(node.target).split("."), captured)


def _program_of(model: Any) -> Any:
    return model.meta.get(_EXPORTED) if isinstance(model, fx.GraphModule) else None


def _is_exported(model: object) -> bool:
    """Whether ``model`` is an ExportedProgram, without importing torch.export for a model that is none."""
    return type(model).__module__.startswith("torch.export")
