"""Captured level: a model to a raw ``torch.fx`` trace; what can't be traced becomes a named float island."""

from __future__ import annotations

import inspect
from collections.abc import Collection

from torch import fx, nn

from qfx.errors import CaptureError
from qfx.frontends.defaults import by_name
from qfx.frontends.dependence import Example, changes_of_a_call
from qfx.frontends.fresh import remember
from qfx.frontends.leaves import (
    WHOLE,
    builtin_class,
    capture_whole,
    forget_gradient_hooks,
    forget_hooks,
    has_hooks,
)
from qfx.frontends.obstacles import remedies
from qfx.frontends.places import Place
from qfx.frontends.state import Snapshot
from qfx.frontends.tracer import Call, Failure, Tracer, of_class
from qfx.ir.computed import COMPUTED, ComputedWeight, bake_weights, copied
from qfx.ir.user_names import graph_module_of, token_path


def capture(
    model: nn.Module,
    *,
    non_traceable_module_name: Collection[str] = (),
    non_traceable_module_class: Collection[type[nn.Module]] = (),
    inputs: Collection[str] = (),
    example: Example | None = None,
    strict: bool = False,
) -> fx.GraphModule:
    """Traces a call of ``model`` as it computes in eval mode, hooks and all. A copy is traced.

    Every node has ``meta["module_path"]``, ``meta["source"]`` and, for a module, ``meta["module_class"]``. A part that
    can't be traced is one ``call_module`` node with ``meta["island_reason"]``. The result's ``meta`` has ``"training"``
    (whether the model was in training mode) and ``"specialized"`` (the defaulted arguments that were fixed, by name).

    Args:
        model: Any module.
        non_traceable_module_name: Paths of modules to keep whole, in float.
        non_traceable_module_class: Classes of modules to keep whole, in float.
        inputs: Names of ``forward`` arguments with a default that are to be inputs of the graph. The others with a
            default are fixed at it.
        example: Positional and keyword inputs, which are among ``inputs``. Those that are None, numbers,
            strings, dtypes or devices are fixed: code that asks for them is resolved. They also tell whether what a
            call leaves behind matters to the next.
        strict: Raise for a part that can't be traced.

    Raises:
        CaptureError: The model itself can't be traced or copied, or with ``strict`` a part of it.
    """
    computed: dict[str, ComputedWeight] = {}
    root = private_copy(model, computed)
    classes = tuple(non_traceable_module_class)
    call = Call.of(root, {*inputs, *by_name(inspect.signature(root.forward).parameters, example)}, example)
    if builtin_class(root) is not None:
        if not has_hooks(root):
            whole = capture_whole(root, call.inputs, of_class(root, classes))
        else:
            whole = _captured_in_a_holder(root, call, classes)
        whole.meta.update({"training": model.training, COMPUTED: computed})
        return whole.eval()
    islands: dict[str, str] = {}
    state: list[Place] = []
    before = Snapshot(root)

    def new_tracer() -> Tracer:
        return Tracer(root, islands, set(non_traceable_module_name), classes, call)

    while True:
        tracer = new_tracer()
        failure = tracer.attempt(before, new_tracer, example)
        if failure is None:
            break
        if failure.path in ("", *islands) or strict:
            raise capture_error(root, failure)
        islands[failure.path] = failure.why
        state += failure.state
    graph_module = graph_module_of(root, tracer.graph, type(model).__name__)
    graph_module.meta["training"] = model.training
    graph_module.meta["specialized"] = dict(tracer.specialized)
    graph_module.meta[COMPUTED] = computed
    kept_whole = [str(node.target) for node in graph_module.graph.nodes if "island_reason" in node.meta]
    if kept_whole and example is not None:
        state += [place for place in changes_of_a_call(root, before, example) if place.is_in(kept_whole)]
    _forget_traced_hooks(graph_module)
    remember(graph_module, state)
    return graph_module.eval()


def _forget_traced_hooks(captured: fx.GraphModule) -> None:
    """Takes the hooks off the layers that a graph calls: they are nodes of it now."""
    for node in captured.graph.find_nodes(op="call_module"):
        if "island_reason" not in node.meta:
            forget_hooks(captured.get_submodule(str(node.target)))


def capture_island(model: nn.Module, reason: str, inputs: Collection[str] = ()) -> fx.GraphModule:
    """``model`` as one float island of the Captured level: what no frontend can take apart, with every input it has.

    Args:
        model: Any module; a copy of it is called.
        reason: Why it is not taken apart.
        inputs: As in :func:`capture`.

    Raises:
        CaptureError: The model can't be copied.
    """
    whole = capture_whole(private_copy(model), inputs, reason, fixes_scalars=False)
    whole.meta["training"] = model.training
    return whole.eval()


def _captured_in_a_holder(model: nn.Module, call: Call, classes: tuple[type[nn.Module], ...]) -> fx.GraphModule:
    """A raw trace of a model that is one leaf with hooks around it; as :func:`capture_whole` makes of one without."""
    holder, name = nn.Module().eval(), token_path(type(model).__name__.lower())
    holder.add_module(name, model)
    tracer = Tracer(holder, {}, (), classes, call)
    failure = tracer.attempt(Snapshot(holder), lambda: Tracer(holder, {}, (), classes, call), None)
    if failure is not None:
        raise capture_error(holder, failure)
    for node in tracer.graph.nodes:
        node.meta["module_path"] = ""
    made = graph_module_of(holder, tracer.graph, type(model).__name__)
    made.meta.update({WHOLE: name, "specialized": dict(tracer.specialized)})
    _forget_traced_hooks(made)
    return made


def private_copy(model: nn.Module, computed: dict[str, ComputedWeight] | None = None) -> nn.Module:
    """A copy of ``model`` in eval mode, whose weights are plain tensors.

    Args:
        model: Any module.
        computed: Takes the weights that the model computes at each call, by path.

    Raises:
        CaptureError: It is no module, or can't be copied.
    """
    if not isinstance(model, nn.Module):
        raise CaptureError(f"{type(model).__name__} is not an nn.Module.", remedy="Wrap the function in an nn.Module.")
    try:
        root = copied(model).eval()
        found = bake_weights(root)
        if computed is not None:
            computed.update(found)
        forget_gradient_hooks(root)
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__} can't be copied.",
            why=f"{type(error).__name__}: {error}",
            remedy="Make copy.deepcopy(model) work: keep no locks or open files on the module.",
        ) from error
    return root


def capture_error(root: nn.Module, failure: Failure, done: str = "traced") -> CaptureError:
    """``failure`` of a part of ``root`` that can't be ``done``."""
    name = type(root.get_submodule(failure.path) if failure.path else root).__name__
    where = failure.path or "the model itself"
    return CaptureError(
        f"{name} can't be {done}.",
        where=where,
        source=failure.source,
        why=failure.construct,
        remedy=remedies(failure.remedy, failure.path, exports=failure.exports and done == "traced"),
    )
