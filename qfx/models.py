"""What the public calls return: prepared and quantized models, ordinary ``nn.Module``s both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from qfx.errors import ConversionError, InputError, QfxError, UnsupportedError
from qfx.frontends.shapes import propagate_shapes
from qfx.ir.module import GraphCarrier
from qfx.lowering.compile import Compiled, compile_int8
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
        inputs = tuple(map(as_float32, self.bind(args, kwargs)))
        result = self.run_graph(*inputs)
        if self.info.get("example_inputs") is None:
            self.info["example_inputs"] = tuple(map(describe, inputs))
        return result


class QuantizedModel(GraphCarrier):
    """An int8 model. ``forward`` is one call of the runtime for every part that torch is not needed for.

    ``state_dict`` holds plain tensors under the float model's paths: int8 ``weight`` with ``weight_scale`` and
    ``weight_zero_point``, int32 ``bias`` with ``bias_scale``, and ``scale`` and ``zero_point`` of each activation.
    """

    def __init__(self, gm: fx.GraphModule, preserved: Mapping[str, Any], isa: str | None = None) -> None:
        super().__init__(gm, "qdq")
        self._compiled: Compiled | None = None
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
        """The executables, made from the current state on first use."""
        if self._compiled is None:
            if self.info.get("example_inputs") is None:
                raise ConversionError(
                    "The shapes of this model's inputs are not known yet.",
                    remedy="Call it once, or pass example_inputs to prepare_fx.",
                )
            self._compiled = compile_int8(run(LOWER, self.graph_module()), self.isa)
        return self._compiled

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
        return tuple(_checked(n, v) for n, v in zip(self.graph.find_nodes(op="placeholder"), given, strict=True))

    def _learn_shapes(self, given: tuple[Any, ...]) -> None:
        """Take the shapes of every value from the first inputs, for a model that was prepared without any."""
        described = tuple(map(describe, map(as_float32, given)))
        known = propagate_shapes(self.graph_module(), tuple(map(example, described)))
        for ours, theirs in zip(self.graph.nodes, known.graph.nodes, strict=True):
            ours.meta.update({k: theirs.meta[k] for k in ("shape", "dtype", "batch_dim") if k in theirs.meta})
        self.info["example_inputs"] = described

    def explain(self) -> ModelExplanation:
        """What the runtime runs: the steps of each program with kernel, tile, output shape and bytes."""
        return explain(self.compiled)

    def profile(self, *args: Any, repeats: int = 20, **kwargs: Any) -> ModelExplanation:
        """Median microseconds of every step for these inputs, as records."""
        return profile(self.compiled, self._inputs(args, kwargs), repeats)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._compiled = None  # made anew from the loaded tensors

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        probe = fn(torch.zeros(1))
        if probe.device.type != "cpu" or probe.dtype is not torch.float32:
            raise UnsupportedError(
                f"A quantized model can't move to {probe.device} or become {probe.dtype}.",
                why="Its integers and scales are for qfx's CPU kernels.",
                remedy="Keep it on the CPU; convert the float model instead.",
            )
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _not_copied(self) -> tuple[str, ...]:
        return (*super()._not_copied(), "_compiled")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_compiled"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compiled = None


def _preserve(target: nn.Module, preserved: Mapping[str, Any]) -> None:
    for name, value in preserved.items():
        if not hasattr(target, name):  # a part of the graph is there already, observed or quantized
            setattr(target, name, value)


def describe(value: Any) -> Any:
    """A tensor's shape and dtype, enough to make an example like it; anything else as it is."""
    return ("tensor", tuple(value.shape), value.dtype) if isinstance(value, Tensor) else ("value", value)


def example(description: Any) -> Any:
    """An example input of the described shape and dtype."""
    if description[0] == "value":
        return description[1]
    return torch.zeros(description[1], dtype=description[2])


_CASTABLE = (torch.float64, torch.float16, torch.bfloat16)


def as_float32(value: Any) -> Any:
    """A floating-point tensor of another precision as float32; anything else as it is."""
    return value.to(torch.float32) if isinstance(value, Tensor) and value.dtype in _CASTABLE else value


def _checked(node: fx.Node, value: Any) -> Any:
    """``value`` as the program takes it, or an InputError that names the input."""
    shape, wanted = node.meta.get("shape"), node.meta.get("dtype", torch.float32)
    arrives = node.meta.get("arrives_as")
    if shape is None or (wanted is not torch.float32 and arrives is None):
        return value
    what = f"Input {node.target!r}"
    if not isinstance(value, Tensor):
        raise InputError(f"{what} is {type(value).__name__}, not a tensor.", remedy="Pass a float32 CPU tensor.")
    if value.device.type != "cpu":
        raise InputError(f"{what} is on {value.device}.", why="qfx runs on the CPU.", remedy="Pass it .cpu().")
    if value.dim() != len(shape):
        raise InputError(
            f"{what} has rank {value.dim()} (shape {tuple(value.shape)}), but the model was prepared with rank "
            f"{len(shape)} (shape {tuple(shape)}).",
            remedy="Pass a tensor of that rank; a single sample needs a batch dimension.",
        )
    if arrives is not None:
        return _checked_codes(what, value, arrives.dtype.storage)
    value = as_float32(value)
    if value.dtype is not torch.float32:
        raise InputError(f"{what} has dtype {value.dtype}.", remedy="Pass floating point: the model quantizes itself.")
    return value


def _checked_codes(what: str, value: Tensor, storage: torch.dtype) -> Tensor:
    if value.dtype is not storage:
        raise InputError(f"{what} arrives quantized: it must be {storage}, not {value.dtype}.")
    return value if storage is torch.uint8 else (value.to(torch.int16) + 128).to(torch.uint8)


def _located(error: QfxError, compiled: Compiled) -> InputError:
    """A runtime error with the module path and source line of the step it names."""
    remedy = error.remedy or "Pass inputs of the shapes that the float model takes."
    for part in compiled.segments:
        for name, node in part.steps.items():
            if f"'{name}'" in error.what or f'"{name}"' in error.what:
                path, source = node.meta.get("module_path") or name, node.meta.get("source")
                return InputError(error.what, where=path, source=source, why=error.why, remedy=remedy)
    return InputError(error.what, where=error.where, source=error.source, why=error.why, remedy=remedy)
