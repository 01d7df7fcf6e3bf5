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
from qfx.passes.report import Report, build_report
from qfx.pipeline import LOWER, run


class PreparedModel(GraphCarrier):
    """A float model with observers: run calibration batches through it, then ``qfx.convert_fx`` it."""

    def __init__(self, gm: fx.GraphModule, preserved: Mapping[str, Any]) -> None:
        super().__init__(gm, "observed")
        self.eval()
        _preserve(self, preserved)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The float model's result; observers watch on the way."""
        inputs = self.bind(args, kwargs)
        if self.info.get("example_inputs") is None:
            self.info["example_inputs"] = tuple(map(describe, inputs))
        return self.run_graph(*inputs)


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
            gm = self.graph_module()
            if self.info.get("example_inputs") is None:
                raise ConversionError(
                    "The shapes of this model's inputs are not known yet.",
                    remedy="Call it once, or pass example_inputs to prepare_fx.",
                )
            if not self.info.get("has_shapes"):
                gm = propagate_shapes(gm, tuple(map(example, self.info["example_inputs"])))
            self._compiled = compile_int8(run(LOWER, gm), self.isa)
        return self._compiled

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model.

        Raises:
            InputError: An input has the wrong number, type, dtype, rank, shape or device.
        """
        given = self.bind(args, kwargs)
        if self.info.get("example_inputs") is None:
            self.info["example_inputs"] = tuple(map(describe, given))
        inputs = tuple(_checked(n, v) for n, v in zip(self.graph.find_nodes(op="placeholder"), given, strict=True))
        compiled = self.compiled
        try:
            return compiled.run(inputs)
        except QfxError as error:
            raise _located(error, compiled) from error

    def explain(self) -> str:
        """What the runtime runs: the steps of each program with kernel, tile, output shape and bytes."""
        from qfx.lowering.explain import explain

        return explain(self.compiled)

    def profile(self, *args: Any, repeats: int = 20, **kwargs: Any) -> Any:
        """Median microseconds of every step for these inputs, as records."""
        from qfx.lowering.explain import profile

        return profile(self.compiled, self.bind(args, kwargs), repeats)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As ``nn.Module``; the executables are made anew from the loaded tensors."""
        result = super().load_state_dict(*args, **kwargs)
        self._compiled = None
        return result

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        probe = fn(torch.zeros(1))
        if probe.device.type != "cpu" or probe.dtype is not torch.float32:
            raise UnsupportedError(
                f"A quantized model can't move to {probe.device} or become {probe.dtype}.",
                why="Its integers and scales are for qfx's CPU kernels.",
                remedy="Keep it on the CPU; convert the float model instead.",
            )
        return super()._apply(fn, recurse)

    def _not_copied(self) -> tuple[str, ...]:
        return (*super()._not_copied(), "_compiled")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_compiled"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._compiled = None


def _preserve(target: nn.Module, preserved: Mapping[str, Any]) -> None:
    for name, value in preserved.items():
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
    if value.dtype in _CASTABLE:
        return value.to(torch.float32)
    if value.dtype is not torch.float32:
        raise InputError(f"{what} has dtype {value.dtype}.", remedy="Pass floating point: the model quantizes itself.")
    return value


def _checked_codes(what: str, value: Tensor, storage: torch.dtype) -> Tensor:
    if value.dtype is not storage:
        raise InputError(f"{what} arrives quantized: it must be {storage}, not {value.dtype}.")
    return value if storage is torch.uint8 else (value.to(torch.int16) + 128).to(torch.uint8)


def _located(error: QfxError, compiled: Compiled) -> InputError:
    """A runtime error with the module path and source line of the step it names."""
    for part in compiled.segments:
        for name, node in part.steps.items():
            if f"'{name}'" in error.what or f'"{name}"' in error.what:
                path, source = node.meta.get("module_path") or name, node.meta.get("source")
                return InputError(error.what, where=path, source=source, why=error.why, remedy=error.remedy)
    return InputError(error.what, why=error.why, remedy=error.remedy)
