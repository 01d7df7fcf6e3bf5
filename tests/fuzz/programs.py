"""Programs with hostile parts through the builder: a clear error, or the same result on every instruction set.

A real program is recorded as calls of the builder; a case changes some of their arguments, builds, loads and runs it.

``python -m tests.fuzz.programs --seconds 60 --seed 0``
"""

from __future__ import annotations

import copy
import functools
import random
import resource
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

import qfx
from qfx.errors import QfxError
from qfx.lowering import compile as lowering
from qfx.lowering.emit import Emission
from qfx.nn.quantized.dynamic import programs as recurrent
from qfx.runtime import Executable, Program, ProgramBuilder, isa_names
from qfx.runtime.dtypes import DTYPES as TYPES
from tests.fuzz.driver import Fuzzer, main
from tests.fuzz.networks import plan

REFUSALS = (QfxError, ValueError, TypeError, OverflowError, MemoryError)
PROGRAMS_A_NETWORK = 60
MOST_MEMORY = 6 << 30
LARGEST_RUN = 1 << 22
"""Elements of all inputs together above which a program is planned and not run."""


@dataclass
class Recorded:
    """A program as the calls that made it: ``(method, arguments, keywords)``; and inputs that it ran on."""

    calls: list[tuple[str, list[Any], dict[str, Any]]] = field(default_factory=list)
    inputs: list[np.ndarray] = field(default_factory=list)
    program: Any = None


class Recorder:
    """A builder that notes its calls."""

    def __init__(self, programs: list[Recorded]) -> None:
        self._builder, self._recorded = ProgramBuilder(), Recorded()
        programs.append(self._recorded)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._recorded.calls.append((name, copy.deepcopy(list(args)), copy.deepcopy(kwargs)))
            made = getattr(self._builder, name)(*args, **kwargs)
            if name == "build":
                self._recorded.program = made
            return made

        return call


@functools.lru_cache(maxsize=4)
def recorded(seed: int) -> list[Recorded]:
    """The programs that the network of a seed ran, with their inputs."""
    programs: list[Recorded] = []
    rng, load = random.Random(seed), Executable.__init__
    of: dict[int, Recorded] = {}

    def loaded(self: Executable, program: Any, *args: Any, **kwargs: Any) -> None:
        load(self, program, *args, **kwargs)
        of.update({id(self): made for made in programs if made.program is program})

    def noted(call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(self: Executable, *inputs: Any) -> Any:
            if id(self) in of:
                of[id(self)].inputs = [np.array(x) for x in inputs]
            return call(self, *inputs)

        return noting

    def emission(gm: Any) -> Emission:
        return Emission(gm, builder=Recorder(programs))  # type: ignore[arg-type]

    with (
        warnings.catch_warnings(),
        mock.patch.object(lowering, "Emission", emission),
        mock.patch.object(recurrent, "ProgramBuilder", partial(Recorder, programs)),
        mock.patch.object(Executable, "__init__", loaded),
        mock.patch.object(Executable, "__call__", noted(Executable.__call__)),
        mock.patch.object(Executable, "run", noted(Executable.run)),
    ):
        warnings.simplefilter("ignore")
        if rng.random() < 0.15:
            _run_recurrent(rng)
        else:
            given = plan(seed)
            model = qfx.quantize_fx(given.net, {"": given.qconfig}, given.inputs, example_inputs=given.inputs[0])
            model(given.inputs[0])
    return [p for p in programs if p.inputs]


def _run_recurrent(rng: random.Random) -> None:
    cls = rng.choice([nn.LSTM, nn.GRU, nn.RNN])
    layer = cls(rng.randint(1, 9), rng.randint(2, 7), rng.randint(1, 2), bidirectional=rng.random() < 0.5)
    layer.qconfig = rng.choice([qfx.default_dynamic_qconfig, qfx.float16_dynamic_qconfig])
    getattr(qfx.nn.quantized.dynamic, cls.__name__).from_float(layer)(torch.randn(3, 2, layer.input_size))


# ---------------------------------------------------------------- hostility


INTS = (-1, 0, 1, 2, 3, 7, 8, 255, 256, -129, 2**31 - 1, 2**31, -(2**31), 2**32, 2**32 + 1, 2**62, -(2**62), 2**63 - 1)
FLOATS = (float("nan"), float("inf"), -float("inf"), -1.0, 0.0, -0.0, 1e-45, 1e-38, 1e38, 3.5e38, 1e300, 0.5)
DTYPES = (np.uint8, np.int8, np.int32, np.float32, np.float64, np.int64)


def hostile(rng: random.Random, program: Recorded) -> Recorded:
    """``program`` with one to three arguments changed."""
    made = Recorded([(name, copy.deepcopy(args), copy.deepcopy(kwargs)) for name, args, kwargs in program.calls])
    steps = [call for call in made.calls if call[0] == "step"]
    if rng.random() < 0.3:
        made.calls[-1:-1] = [("state", [rng.randrange(12), rng.randrange(12)], {}) for _ in range(rng.randint(1, 2))]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        call = rng.choice(steps) if steps and rng.random() < 0.75 else rng.choice(made.calls)
        (_change_step if call[0] == "step" else _change_call)(rng, made, call)
    made.inputs = [_other_input(rng, x) for x in program.inputs]
    return made


def _change_step(rng: random.Random, program: Recorded, call: tuple[str, list[Any], dict[str, Any]]) -> None:
    _, args, kwargs = call
    kind = rng.choice(["inputs", "op", "output", *[k for k in kwargs if kwargs[k]] * 4])
    if kind == "inputs":
        ids = args[2]
        if ids and rng.random() < 0.7:
            ids[rng.randrange(len(ids))] = rng.choice([*range(12), -1, 10**6])
        else:
            args[2] = rng.choice([[], ids * 2, ids[:1]])
    elif kind == "op":
        args[0] = rng.choice([*_op_names(), "nothing"])
    elif kind == "output":
        other = rng.choice([*range(12), -1, 10**6])
        args[3] = rng.choice([other, [other], args[3][:-1], args[3] * 2]) if isinstance(args[3], list) else other
    else:
        kwargs[kind] = dict(kwargs[kind])
        _change_attribute(rng, kind, kwargs[kind])


def _change_attribute(rng: random.Random, kind: str, given: dict[str, Any]) -> None:
    if rng.random() < 0.05:
        given["surprise"] = 1
        return
    name = rng.choice(sorted(given))
    if rng.random() < 0.12:
        del given[name]
        return
    source = {"ints": INTS, "floats": FLOATS, "exprs": range(-1, 30), "constants": range(-1, 12), "text": ("", "relu")}
    value = rng.choice(list(source[kind]))
    old = given[name]
    if isinstance(old, list):
        if rng.random() < 0.7 and old:
            old[rng.randrange(len(old))] = value
        else:
            given[name] = rng.choice([[], [*old, value], old[:-1], value])
    else:
        given[name] = value if rng.random() < 0.9 else [value, value]


def _change_call(rng: random.Random, program: Recorded, call: tuple[str, list[Any], dict[str, Any]]) -> None:
    name, args, _ = call
    if name in ("constant", "constant_value"):
        args[-1] = _other_array(rng, args[-1])
    elif name == "value":
        if rng.random() < 0.4:
            args[1] = rng.choice(list(TYPES))
        else:
            shape = list(args[2])
            args[2] = rng.choice([shape[:-1], [*shape, -1], [rng.choice(INTS) for _ in shape], [-1] * 9])
    elif name == "state":
        args[:] = [rng.choice([0, 1, 2, 5, -1, 10**6]) for _ in range(rng.randint(2, 3))]
    elif name == "expr_const":
        args[0] = rng.choice(INTS)
    elif name in ("expr_dim", "expr"):
        args[rng.randrange(len(args))] = rng.choice([-1, 0, 1, 2, 9, 10**6, "floordiv", "mul", "sub", "nothing"])
    elif name == "build":
        args[rng.randrange(2)] = [rng.choice([0, 1, 2, 5, -1, 10**6]) for _ in range(rng.randint(0, 3))]


def _other_array(rng: random.Random, array: np.ndarray) -> np.ndarray:
    kind = rng.random()
    if kind < 0.25:
        with np.errstate(all="ignore"):
            return array.astype(rng.choice(DTYPES))
    if kind < 0.5:
        shape = list(array.shape) or [1]
        shape[rng.randrange(len(shape))] = rng.choice([0, 1, 2, 3, 17])
        return np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
    if kind < 0.6:
        return array.reshape(-1)
    limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
    with np.errstate(all="ignore"):
        return np.full_like(array, rng.choice(FLOATS if limits is None else (limits.min, limits.max)))


def _other_input(rng: random.Random, x: np.ndarray) -> np.ndarray:
    """Other lengths, an empty one among them; rarely a huge one that takes no memory; or other strides."""
    shape = list(x.shape)
    if not shape or rng.random() < 0.35:
        return x
    at = rng.randrange(len(shape))
    if rng.random() < 0.06:
        shape[at] = rng.choice([2**20, 2**31, 2**40])
        return np.broadcast_to(x[(slice(0, 1),) * x.ndim], [shape[at] if i == at else 1 for i in range(x.ndim)])
    shape[at] = rng.choice([0, 1, 2, 3, 5, 17, 33])
    made = np.resize(x, shape) if x.size else np.zeros(shape, x.dtype)
    return np.asfortranarray(made) if rng.random() < 0.3 else made


@functools.cache
def _op_names() -> list[str]:
    from qfx.runtime import _C

    return list(_C.op_names())


# ---------------------------------------------------------------- a case


def case(seed: int) -> None:
    """A hostile program; raises where two instruction sets differ, or where the error is none of ours."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    rng = random.Random(seed)
    programs = recorded(seed // PROGRAMS_A_NETWORK)
    if not programs:
        return
    program = hostile(rng, rng.choice(programs))
    levels = isa_names()
    results = [_result(program, isa) for isa in dict.fromkeys((levels[0], levels[-1]))]
    first = results[0]
    for other in results[1:]:
        assert (first is None) == (other is None), "one instruction set refuses what another runs"
        if first is not None and other is not None:
            same = all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(first, other, strict=True))
            assert same, f"{levels[0]} and {levels[-1]} differ"


def _result(program: Recorded, isa: str) -> tuple[np.ndarray, ...] | None:
    try:
        executable = Executable(_through_bytes(program, replay(program)), isa)
        if sum(x.size for x in program.inputs) > LARGEST_RUN:
            executable.explain(*(x.shape for x in program.inputs))
            return None
        return executable(*program.inputs)
    except REFUSALS as error:
        refusal = error
    if not str(refusal) and not isinstance(refusal, MemoryError):
        raise AssertionError(f"{type(refusal).__name__} without a word") from refusal
    return None


def _through_bytes(recorded: Recorded, program: Any) -> Any:
    """``program`` from its bytes, of which two in three times some were changed."""
    data = bytearray(program.to_bytes())
    assert Program.from_bytes(bytes(data)).to_bytes() == data
    rng = random.Random(len(data) + len(recorded.calls))
    tables = int.from_bytes(data[16:24], "little")
    for _ in range(rng.choice((0, 1, 3))):
        at = 64 + rng.randrange(tables)
        changed = rng.choice((rng.randbytes(1), rng.randbytes(8), b"\xff" * 8, bytes(8)))
        data[at : at + len(changed)] = changed
    return Program.from_bytes(bytes(data))


def replay(program: Recorded) -> Any:
    """The program of the recorded calls."""
    builder, made = ProgramBuilder(), None
    for name, args, kwargs in program.calls:
        made = getattr(builder, name)(*args, **kwargs)
    return made


FUZZER = Fuzzer("tests.fuzz.programs", case, apart=True, limit=120.0)

if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main(FUZZER))
