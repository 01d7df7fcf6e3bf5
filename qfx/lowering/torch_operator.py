"""A program's call as an operator of torch, ``qfx::run``, so that everything that looks at what torch computes sees it.

Tracers, ``torch.export``, ``torch.compile``, fake tensors and functional transforms meet one operator with an
implementation for each of them. A call that nobody watches goes past the dispatcher.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from qfx import memory
from qfx.errors import RuntimeLoadError, UnsupportedError
from qfx.memory import are_plain, is_watched, kind_of


class Program(Protocol):
    """What the operator calls: a program of a model, or a layer that quantizes its input itself."""

    def compute(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Fresh results for plain tensors, while nobody watches torch."""

    def recheck(self, inputs: Sequence[Tensor]) -> None:
        """Raise where a recorded graph passes what the program does not hold for."""

    def without_values(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Results for tensors that have sizes only, which may be symbols."""


_PROCESS = secrets.token_hex(8)
"""Names this process in recorded graphs, so that a graph of another one is not taken for one of this."""

_programs: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""Every program that was ever called through the dispatcher, by its name in recorded graphs."""

_recorded: dict[str, Program] = {}
"""Those that a recorded graph may name: a graph holds names only, so they stay as long as the process."""


def run_program(part: Program, inputs: Sequence[Any]) -> Sequence[Any]:
    """One call of ``part``'s program, seen by whoever watches torch.

    Raises:
        InputError: As :class:`qfx.runtime.Executable`.
        UnsupportedError: A derivative is asked for that integers do not have.
    """
    if not inputs or (are_plain(inputs) and not is_watched() and not is_differentiated(inputs)):
        return part.compute(inputs)
    if torch._C._get_tracing_state() is not None and torch.onnx.is_in_onnx_export():
        raise UnsupportedError(
            "torch.onnx can't export a quantized model.",
            why="It sees calls of programs, and ONNX has no operator that calls one.",
            remedy="Call qfx.to_onnx(model, path).",
        )
    try:
        outputs: list[Tensor] = torch.ops.qfx.run(list(inputs), name_of(part))
    except (AssertionError, NotImplementedError) as error:  # what torch says of tensors that it can't bring together
        raise UnsupportedError(
            f"A quantized model does not run on {', '.join(kind_of(x) for x in inputs)} here.",
            why=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
            remedy="Pass plain CPU tensors, or, under a FakeTensorMode, fake ones.",
        ) from error
    return outputs


@contextmanager
def unwatched() -> Iterator[None]:
    """As :func:`qfx.memory.unwatched`, and tensors are made on the CPU."""
    with memory.unwatched(), torch.device("cpu"):
        yield


def name_of(part: Program) -> str:
    """The name of ``part`` in recorded graphs."""
    name = vars(part).get("recorded_name")
    if name is None:
        name = vars(part)["recorded_name"] = f"{len(_programs)}-{secrets.token_hex(4)}@{_PROCESS}"
        _programs[name] = part
    if is_watched():
        _recorded[name] = part
    return str(name)


def is_differentiated(inputs: Sequence[Tensor]) -> bool:
    """Whether a derivative by one of ``inputs`` may be asked for."""
    return torch.is_grad_enabled() and (any(x.requires_grad for x in inputs) or forward_ad._current_level >= 0)


def _named(program: str) -> Program:
    part = _programs.get(program)
    if part is not None:
        return part
    here = program.endswith(f"@{_PROCESS}")
    raise RuntimeLoadError(
        "A recorded graph calls a program of a quantized model that this process does not have.",
        why="The model is gone." if here else "A traced or exported graph names the programs of its own process.",
        remedy="Save the quantized model with qfx.save, load it with qfx.load, and trace or export it anew.",
    )


# ---------------------------------------------------------------- implementations


def _on_cpu(inputs: list[Tensor], program: str) -> list[Tensor]:
    part = _named(program)
    part.recheck(inputs)
    return list(part.compute(inputs))


def _fake(inputs: list[Tensor], program: str) -> list[Tensor]:
    return _named(program).without_values(inputs)


def _batched(info: Any, in_dims: Any, inputs: list[Tensor], program: str) -> tuple[list[Tensor], list[int]]:
    """One call for each item of the batch: what ``torch.vmap`` means, for programs that mix a batch's images too."""
    dims, _ = in_dims
    items = [
        [x if d is None else x.movedim(d, 0)[i] for x, d in zip(inputs, dims, strict=True)]
        for i in range(info.batch_size)
    ]
    results = [torch.ops.qfx.run(item, program) for item in items]
    stacked = [torch.stack(values) for values in zip(*results, strict=True)]
    return stacked, [0] * len(stacked)


class _Run(torch.autograd.Function):
    """A call of which ``backward`` asks for a gradient in vain."""

    @staticmethod
    def forward(ctx: Any, program: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(torch.ops.qfx.run(list(inputs), program))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        # An operator raises, where and when this runs: a compiler that records it gets what has the right shape.
        given = [g for g in grads if g is not None]
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        return None, *(torch.ops.qfx.refuse_gradient(x.detach(), given) if asked else None for x, asked in wanted)


def _differentiable(inputs: list[Tensor], program: str) -> list[Tensor]:
    if is_differentiated(inputs):
        if any(_has_tangent(x) for x in inputs if x.is_floating_point()):
            raise _no_derivative("Forward-mode AD (jvp, dual tensors) asks for a derivative of a quantized model.")
        if any(x.requires_grad for x in inputs):
            if torch._C._are_functorch_transforms_active():
                raise _no_derivative("torch.func asks for a derivative of a quantized model.")
            return list(_Run.apply(program, *inputs))  # type: ignore[no-untyped-call]
    with torch._C._AutoDispatchBelowAutograd():
        outputs: list[Tensor] = torch.ops.qfx.run(inputs, program)
    return outputs


def _has_tangent(x: Tensor) -> bool:
    return forward_ad.unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]


def _no_derivative(what: str) -> UnsupportedError:
    return UnsupportedError(
        what,
        why="Only the forward pass is defined on integers.",
        remedy="Train the model that qfx.prepare_qat_fx returns, or pass x.detach() to the quantized model.",
    )


def _refuse_gradient(x: Tensor, grads: list[Tensor]) -> Tensor:
    raise _no_derivative("backward() reaches a quantized model, which passes no gradient on.")


_library: Any = torch.library.Library("qfx", "DEF")  # type: ignore[no-untyped-call]
_library.define("run(Tensor[] inputs, str program) -> Tensor[]")
_library.define("refuse_gradient(Tensor x, Tensor[] grads) -> Tensor")
_library.impl("run", _on_cpu, "CPU")
_library.impl("run", _differentiable, "Autograd")
_library.impl("refuse_gradient", _refuse_gradient, "CompositeExplicitAutograd")
torch.library.register_fake("qfx::run", _fake, lib=_library)
torch.library.register_fake("qfx::refuse_gradient", lambda x, grads: torch.empty_like(x), lib=_library)
torch.library.register_vmap("qfx::run", _batched, lib=_library)
