"""What the public calls return: prepared and quantized models, ordinary ``nn.Module``s both."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.errors import ConversionError, InputError, QfxError, UnsupportedError
from qfx.frontends.shapes import learn_shapes
from qfx.inputs import as_float32, checked, describe, example, require_no_foreign_array
from qfx.ir.module import GraphCarrier
from qfx.ir.stages import Stage, require_stage, stage_of
from qfx.ir.stored import require_graph
from qfx.lowering.compile import Compiled, compile_int8
from qfx.lowering.emit import TOO_LONG
from qfx.lowering.explain import ModelExplanation, explain, profile
from qfx.passes.report import Report, build_report
from qfx.pipeline import LOWER, run


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
        given = self.bind(args, kwargs)
        for node, value in zip(self.graph.find_nodes(op="placeholder"), given, strict=True):
            require_no_foreign_array(f"Input {str(node.target)!r}", value)
        inputs = tuple(map(as_float32, given))
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


class QuantizedModel(GraphCarrier):
    """An int8 model. ``forward`` is one call of the runtime for every part that torch is not needed for.

    ``state_dict`` holds plain tensors under the float model's paths: int8 ``weight`` with ``weight_scale`` and
    ``weight_zero_point``, int32 ``bias`` with ``bias_scale``, and ``scale`` and ``zero_point`` of each activation.
    """

    def __init__(self, gm: fx.GraphModule, preserved: Mapping[str, Any], isa: str | None = None) -> None:
        super().__init__(gm, "qdq")
        self._compiled: _Loaded | None = None
        self.isa = isa
        self.requires_grad_(False)
        self.eval()
        _preserve(self, preserved)

    @property
    def report(self) -> Report:
        """One record a node: what was decided and why."""
        return build_report(self.graph_module())

    @property
    def compiled(self) -> Compiled:
        """The executables, made from the state on first use, and again where a tensor of it has changed."""
        if self._compiled is None or self._compiled.is_stale():
            if self.info.get("example_inputs") is None:
                raise ConversionError(
                    "The shapes of this model's inputs are not known yet.",
                    remedy="Call it once, or pass example_inputs to prepare_fx.",
                )
            require_graph(self, self.graph)
            members = [module._buffers for module in self.modules() if module._buffers]
            tensors = _tensors_of(members)
            versions = _versions_of(tensors)
            compiled = compile_int8(run(LOWER, self.graph_module()), self.isa)
            self._compiled = _Loaded(compiled, members, tensors, versions)
        return self._compiled.compiled

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ``nn.Module.load_state_dict``, for the state_dict of an int8 model.

        Raises:
            ConversionError: It is that of a model at another stage.
            QuantizationError: A scale, zero point or integer in it is none.
        """
        if stage_of(self.state_dict()) is Stage.quantized:
            require_stage(state_dict, Stage.quantized, "Load it into a model of that stage, then call qfx.convert_fx.")
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Raises:
            InputError: An input has the wrong number, type, dtype, rank, shape or device.
        """
        inputs = self._inputs(args, kwargs)
        compiled = self.compiled
        try:
            return compiled.run(inputs)
        except QfxError as error:
            raise _located(error, compiled) from error

    def _inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """The inputs of a call as the programs take them."""
        given = self.bind(args, kwargs)
        if self.info.get("example_inputs") is None:
            self._learn_shapes(given)
        return tuple(checked(n, v) for n, v in zip(self.graph.find_nodes(op="placeholder"), given, strict=True))

    def _learn_shapes(self, given: tuple[Any, ...]) -> None:
        """Take the shapes of every value from the first inputs, for a model that was prepared without any."""
        described = tuple(map(describe, map(as_float32, given)))
        known = learn_shapes(self.graph_module(), tuple(map(example, described)))
        for ours, theirs in zip(self.graph.nodes, known.graph.nodes, strict=True):
            ours.meta.update({k: theirs.meta[k] for k in ("shape", "dtype", "batch_dim") if k in theirs.meta})
        self.info["example_inputs"] = described

    def explain(self) -> ModelExplanation:
        """What the runtime runs: the steps of each program with kernel, tile, output shape and bytes."""
        return explain(self.compiled)

    def profile(self, *args: Any, repeats: int = 20, **kwargs: Any) -> ModelExplanation:
        """Median microseconds of every step for these inputs, as records."""
        return profile(self.compiled, self._inputs(args, kwargs), repeats)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        require_graph(self, self.graph, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._compiled = None  # made anew from the loaded tensors

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        _require_in_place(fn(torch.zeros(1)))
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _not_copied(self) -> tuple[str, ...]:
        return (*super()._not_copied(), "_compiled")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compiled = None


@dataclass(frozen=True, eq=False)
class _Loaded:
    """Executables, and the tensors that they were made from.

    Attributes:
        compiled: The executables.
        members: Where the modules hold their tensors.
        tensors: What was there.
        versions: How often each had been written to.
    """

    compiled: Compiled
    members: list[dict[str, Tensor | None]]
    tensors: list[Tensor]
    versions: list[int]

    def is_stale(self) -> bool:
        """Whether a tensor has been replaced, or written to by an operation that torch counts."""
        now = _tensors_of(self.members)
        same = len(now) == len(self.tensors) and all(map(operator.is_, now, self.tensors))
        return not same or _versions_of(now) != self.versions


def _tensors_of(members: list[dict[str, Tensor | None]]) -> list[Tensor]:
    return [tensor for own in members for tensor in own.values() if tensor is not None]


def _versions_of(tensors: list[Tensor]) -> list[int]:
    try:
        return [tensor._version for tensor in tensors]
    except RuntimeError:  # of an inference tensor, which counts nothing
        return [-1 if tensor.is_inference() else tensor._version for tensor in tensors]


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
        if not hasattr(target, name):  # a part of the graph is there already, observed or quantized
            setattr(target, name, value)


def _remedy(error: QfxError) -> str:
    """What to do about a step that refuses its shapes: torch refuses them too, but for sums that are too long."""
    if TOO_LONG in error.what:
        return (
            "Quantize the model with example_inputs of these shapes: a product of so many elements stays float then. "
            'Or give what calls it the qconfig None: by its path in "module_name", or its function in "object_type".'
        )
    return "Pass inputs of the shapes that the float model takes."


def _located(error: QfxError, compiled: Compiled) -> InputError:
    """A runtime error with the module path and source line of the step it names."""
    remedy = error.remedy or _remedy(error)
    for part in compiled.segments:
        for name, node in part.steps.items():
            if f"'{name}'" in error.what or f'"{name}"' in error.what:
                path, source = node.meta.get("module_path") or name, node.meta.get("source")
                return InputError(error.what, where=path, source=source, why=error.why, remedy=remedy)
    return InputError(error.what, where=error.where, source=error.source, why=error.why, remedy=remedy)
