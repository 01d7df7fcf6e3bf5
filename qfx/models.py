"""What the public calls return: prepared and quantized models, ordinary ``nn.Module``s both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import is_
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, fx, nn

from qfx.arguments import explained
from qfx.errors import ConversionError, InputError, InputSumsError, UnsupportedError
from qfx.inputs import as_float32, checked, describe, example, require_no_foreign_array
from qfx.ir.module import GraphCarrier
from qfx.ir.stages import Stage, require_stage, stage_of
from qfx.ir.user_names import reserve, token_path
from qfx.lowering.compiled import Compiled
from qfx.lowering.direct import Run
from qfx.lowering.recorded_state import RecordedState
from qfx.lowering.sources import Sources
from qfx.lowering.torch_operator import is_differentiated, unwatched
from qfx.lowering.unread import ReadLater
from qfx.memory import Layout, layout_of

if TYPE_CHECKING:
    from qfx.lowering.explain import ModelExplanation
    from qfx.passes.report import Report

# Functions here import what they need of the compiler, so that a model in a file runs without loading it.

_PLACEHOLDER = "_placeholder"
"""The parameter of a quantized model that has no other; no state_dict holds it."""

reserve([_PLACEHOLDER])


class PreparedModel(GraphCarrier):
    """A float model with observers: run calibration batches through it, then ``qfx.convert_fx`` it."""

    def __init__(self, gm: fx.GraphModule, preserved: Mapping[str, Any]) -> None:
        super().__init__(gm, "observed")
        self.eval()
        _preserve(self, preserved)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The float model's result; observers watch on the way.

        Raises:
            InputError: The inputs do not fit the model. Observers before the layer that failed have seen the batch.
            CalibrationError: A value that is not finite.
        """
        if torch.compiler.is_dynamo_compiling():
            torch._dynamo.graph_break("an observer looks at values as they come; compile without fullgraph=True")
        given = self.bind(args, kwargs)
        names = [f"Input {str(node.target)!r}" for node in self.graph.find_nodes(op="placeholder")]
        for name, value in zip(names, given, strict=True):
            require_no_foreign_array(name, value)
        inputs = tuple(map(as_float32, given, names))
        self._require_guards(inputs)
        if self.info.get("example_inputs") is not None:
            return self.run_graph(*inputs)
        try:
            result = self.run_graph(*inputs)
        except InputError as error:
            remedy = f"{error.remedy} If it takes these, prepare it with them as example_inputs."
            details = {"where": error.where, "source": error.source, "why": error.why}
            raise InputError(error.what, **details, remedy=remedy) from error
        self.info["example_inputs"] = tuple(map(describe, inputs))
        return result

    def observing(self) -> AbstractContextManager[None]:
        """While active, observers watch what runs through the model, as they do here always."""
        return nullcontext()


class QuantizedModel(ReadLater):
    """An int8 model. ``forward`` is one call of the runtime for every part that torch is not needed for.

    ``state_dict`` holds plain tensors under the float model's paths: int8 ``weight`` with ``weight_scale`` and
    ``weight_zero_point``, int32 ``bias`` with ``bias_scale``, and ``scale`` and ``zero_point`` of each activation.
    They are buffers; ``parameters()`` has those of the parts that torch runs, or one float32 parameter without
    elements, so that ``next(model.parameters())`` tells dtype and device.
    """

    def __init__(self, gm: fx.GraphModule, preserved: Mapping[str, Any], isa: str | None = None) -> None:
        super().__init__(gm, "qdq")
        self._forget_programs()
        self.isa = isa
        self._answer_for_dtype()
        self.requires_grad_(False)
        self.eval()
        _preserve(self, preserved)

    @property
    def report(self) -> Report:
        """One record a node: what was decided and why."""
        from qfx.passes.report import build_report

        return build_report(self.shared_graph_module())

    def graph_module(self) -> fx.GraphModule:
        """The QDQ graph: float operations between quantize and dequantize.

        What torch runs is there as copies that have the same parameters, so that its calls change no state here.
        """
        gm = self.shared_graph_module()
        for path in {str(node.target) for node in gm.graph.find_nodes(op="call_module")}:
            part = gm.get_submodule(path)
            gm.set_submodule(path, copy.deepcopy(part, {id(kept): kept for kept in part.parameters()}))
        return gm

    def shared_graph_module(self) -> fx.GraphModule:
        """As :meth:`graph_module`, with this model's own modules: for a pass to rewrite."""
        return super().graph_module()

    def __repr__(self) -> str:
        report = self.report
        layers, floats = report.layers(), len(report.decided("float"))
        integer = sum(record.decision == "int8" for record in layers)
        told = [f"{integer} of {len(layers)} layers int8", f"{len(report)} nodes, {floats} in float"]
        told += [f"captured by {report.frontend}"] if report.frontend else []
        return f"{type(self).__name__}({'; '.join(told)})"

    @property
    def compiled(self) -> Compiled:
        """The executables, made from the current state on first use, and anew when one of its tensors is another."""
        if self._compiled is not None and not (self._sources is None or self._sources.are_as_they_were()):
            self._forget_programs()
        if self._compiled is None or self._compiled.is_bare:
            from qfx.lowering.compile import compile_int8

            with self.lowered() as int8:
                self._compiled = compile_int8(int8, self.isa)
        return self._compiled

    @contextmanager
    def lowered(self) -> Iterator[fx.GraphModule]:
        """The Int8 graph of the current state, with the tensors themselves where tracers have stand-ins.

        Raises:
            ConversionError: The shapes of the inputs are not known.
        """
        from qfx.passes.stored import require_graph
        from qfx.pipeline import LOWER, run

        if self.info.get("example_inputs") is None:
            raise ConversionError(
                "The shapes of this model's inputs are not known yet.",
                remedy="Call it once, or pass example_inputs to prepare_fx.",
            )
        if self._sources is None or not self._sources.are_stood_in_for():
            self._sources = Sources(self, self.graph)
        with unwatched(), self._sources.in_place():
            require_graph(self, self.graph)
            yield run(LOWER, self.shared_graph_module())

    def _running(self) -> Compiled:
        """What calls run: the program of a file as long as the tensors are those of the file, too."""
        compiled, sources = self._compiled, self._sources
        if compiled is not None and compiled.is_bare and sources is not None and sources.are_as_they_were():
            return compiled
        return self.compiled

    def __dir__(self) -> list[str]:
        """What can be read now: torch.jit reads all of it."""
        unknown = self.info.get("example_inputs") is None
        return [n for n in super().__dir__() if not (unknown and n == "compiled")]  # type: ignore[no-untyped-call]

    @explained
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ``nn.Module.load_state_dict``, for the state_dict of an int8 model.

        Raises:
            ConversionError: It is that of a model at another stage, or of one whose data gave other values a scale.
            QuantizationError: A scale, zero point or integer in it is none.
        """
        own = self.state_dict()
        if stage_of(own) is Stage.quantized:
            require_stage(state_dict, Stage.quantized, "Load it into a model of that stage, then call qfx.convert_fx.")
        if strict:
            _require_same_scales(own.keys(), state_dict.keys())
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Raises:
            InputError: An input has the wrong number, type, dtype, rank, shape or device.
        """
        if torch.compiler.is_dynamo_compiling():
            from qfx.lowering.opaque import call_opaque

            if torch.compiler.is_exporting():  # dynamo itself must tell it: it can't follow the making of our errors
                torch._dynamo.graph_break("torch.export.export can't take a quantized model with strict=True")
            return call_opaque(self._state, args, kwargs)
        layout = layout_of(args) if type(args) is tuple and not kwargs else None
        compiled, sources = self._compiled, self._sources
        if layout is None or compiled is None or sources is None or is_differentiated(args):
            return self._call(args, kwargs)
        run = compiled.passed.get(layout)
        return self._run(run, args) if run and sources.are_unchanged() else self._call(args, kwargs, layout)

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], layout: Layout | None = None) -> Any:
        try:
            inputs = self._inputs(args, kwargs)
        except (InputError, fx.proxy.TraceError):
            given = [args] if isinstance(args, fx.Proxy) else [*args, *kwargs.values()]
            tracer = next((v.tracer for v in given if isinstance(v, fx.Proxy)), None)
            if tracer is None:
                raise
            return self._call_recorded(tracer, args, kwargs)
        compiled = self._running()
        result = self._run(compiled.run, inputs)
        if layout is not None and len(inputs) == len(args) and all(map(is_, inputs, args)):
            compiled.remember(layout, inputs)
        return result

    def _run(self, run: Run, inputs: tuple[Any, ...]) -> Any:
        try:
            return run(inputs)
        except InputError as error:
            raise _located(error, self._running()) from error

    def _call_recorded(self, tracer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.Proxy:
        """This model as one node of the graph that torch.fx traces."""
        if tracer.root is self:
            raise UnsupportedError(
                "torch.fx can't trace a quantized model.",
                why="It runs programs, not torch functions.",
                remedy="Read its graph as model.graph, or call torch.export.export(model, example_inputs).",
            )
        return tracer.create_proxy("call_module", tracer.path_of_module(self), args, dict(kwargs))

    def __prepare_scriptable__(self) -> NoReturn:
        raise UnsupportedError(
            "torch.jit.script can't take a quantized model.",
            why="It runs programs, not TorchScript.",
            remedy="Record it with torch.jit.trace or torch.export, or compile it with torch.compile.",
        )

    def _inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """The inputs of a call as the programs take them."""
        given = self.bind(args, kwargs)
        graph, info = self._called()
        if info.get("example_inputs") is None:
            self._learn_shapes(given)
        placeholders = graph.find_nodes(op="placeholder")
        inputs = tuple(checked(n, v) for n, v in zip(placeholders, given, strict=True))
        self._require_guards(inputs, [str(n.target) for n in placeholders if "arrives_as" in n.meta])
        return inputs

    def _learn_shapes(self, given: tuple[Any, ...]) -> None:
        """Take the shapes of every value from the first inputs, for a model that was prepared without any."""
        from qfx.frontends.shapes import learn_shapes

        with unwatched():
            described = tuple(map(describe, map(as_float32, given)))
            known = learn_shapes(self.shared_graph_module(), tuple(map(example, described)))
        for ours, theirs in zip(self.graph.nodes, known.graph.nodes, strict=True):
            ours.meta.update({k: theirs.meta[k] for k in ("shape", "dtype", "batch_dim") if k in theirs.meta})
        self.info["example_inputs"] = described

    def explain(self) -> ModelExplanation:
        """What the runtime runs: the steps of each program with kernel, tile, output shape and bytes."""
        from qfx.lowering.explain import explain

        return explain(self.compiled)

    def profile(self, *args: Any, repeats: int = 20, **kwargs: Any) -> ModelExplanation:
        """Median microseconds of every step for these inputs, as records."""
        from qfx.frontends.fresh import islands_unchanged
        from qfx.lowering.explain import profile

        with islands_unchanged(self, self.graph):
            return profile(self.compiled, self._inputs(args, kwargs), repeats)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *args: Any,
    ) -> None:
        from qfx.passes.stored import require_graph

        self._rename(state_dict, prefix)
        require_graph(self, self.graph, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *args)
        missing_keys[:] = [key for key in missing_keys if key != prefix + _PLACEHOLDER]
        self._forget_programs()
        if local_metadata.get("assign_to_params_buffers"):
            self._sources = None  # the children's tensors are about to be others

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        _require_in_place(fn(torch.zeros(1)))

        def kept(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            return made if made.dtype == tensor.dtype else tensor  # weights and scales of 16 bits stay

        return super()._apply(kept, recurse)  # type: ignore[no-untyped-call]

    def _not_copied(self) -> tuple[str, ...]:
        return (*super()._not_copied(), "_compiled", "_sources", "_state")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget_programs()
        self._answer_for_dtype()

    def _answer_for_dtype(self) -> None:
        """Have a parameter where there is none, without elements: ``next(model.parameters())`` is asked for dtype and
        device by many."""
        if next(self.parameters(), None) is None:
            self.register_parameter(_PLACEHOLDER, nn.Parameter(torch.empty(0), requires_grad=False))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.pop(prefix + _PLACEHOLDER, None)

    def _forget_programs(self) -> None:
        """Programs are made anew from the tensors when they are needed, and compilers record them anew."""
        self._compiled = None
        self._sources = Sources(self, self.graph)
        self._state = RecordedState(self._call)


def _require_in_place(probe: Tensor) -> None:
    """Raise unless a tensor that went through a module-wide conversion is still float32 on the CPU."""
    if probe.device.type != "cpu":
        raise UnsupportedError(
            f"A quantized model can't move to {probe.device}.",
            why="Its integers and scales are for qfx's CPU kernels.",
            remedy="Keep it on the CPU; move the float model to run that there.",
        )
    if probe.dtype is not torch.float32:
        raise UnsupportedError(
            f"A quantized model can't become {probe.dtype}.",
            why="Its weights are int8 already, and its scales must stay float32 to mean the same.",
            remedy=f"Keep it as it is; for {probe.dtype} call the same method on the float model.",
        )


def _preserve(target: nn.Module, preserved: Mapping[str, Any]) -> None:
    for name, value in preserved.items():
        if not hasattr(target, token_path(name)):  # a part of the graph is there already, observed or quantized
            setattr(target, token_path(name), value)


def _require_same_scales(own: Iterable[str], given: Iterable[str]) -> None:
    """Raise if two models of one structure differ in which values have scales: conversion knows it from the data."""
    differing = set(own) ^ set(given)
    if differing and all(name.rpartition(".")[2] in ("scale", "zero_point") for name in differing):
        raise ConversionError(
            "The state is that of a model in which other values have a scale of their own.",
            where=", ".join(sorted({name.rpartition(".")[0] for name in differing})),
            why="Operands of a concatenation keep one of their own where calibration finds ranges that are far apart.",
            remedy="Calibrate both models with the same data, or keep the model whole with qfx.save and qfx.load.",
        )


def _remedy(error: InputError) -> str:
    """What to do about a step that refuses its shapes: torch refuses them too, but for sums that are too long."""
    if isinstance(error, InputSumsError):
        return (
            "Quantize the model with example_inputs of these shapes: a product of so many elements stays float then. "
            'Or give what calls it the qconfig None: by its path in "module_name", or its function in "object_type".'
        )
    return (
        "Pass inputs of the shapes that the float model takes; where it takes these too, quantize again with example "
        "inputs of theirs."
    )


def _located(error: InputError, compiled: Compiled) -> InputError:
    """A runtime error with the module path and source line of the step that it happened in, which is its ``where``."""
    for part in compiled.segments:
        path, source = part.places.get(error.where or "", (None, None))
        if path is not None:
            return type(error)(error.what, where=path, source=source, why=error.why, remedy=_remedy(error))
    remedy = error.remedy or _remedy(error)
    return type(error)(error.what, where=error.where, source=error.source, why=error.why, remedy=remedy)
