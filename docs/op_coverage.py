"""Writes ``docs/ops.md`` from the op table, the alias tables and the kernel lists: ``python -m docs.op_coverage``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from docs.instruction_sets import levels
from qfx.ops.spellings import Alias, aliases_of
from qfx.ops.table import TABLE, Op

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "ops.md"

LEVELS = tuple(level.name for level in levels() if level.name != "scalar")
QUANTIZES = {
    "own": "observed",
    "share": "its input's",
    "fixed": "fixed",
    "float": "float",
    "none": "",
}
_INTRODUCTION = """# Ops

<!-- Written by `python -m docs.op_coverage` from the tables of the code; a test compares. -->

Every op that qfx knows, with every spelling that means it. What is not here runs in torch as it is, as a float island
between programs, and the report says so; [extending.md](extending.md) says how to add an op.

- **qparams** is how the result quantizes: *observed* by its own observer; with *its input's* parameters, integers moved
  as they are; *fixed*; or *float*: computed in float32 inside the program, between int8 values.
- **fused behind it** runs on the accumulator before it is rounded: a clamp (ReLU, ReLU6, hardtanh), a residual that is
  added, a table (any function of one value).
- **kernels** lists the instruction sets that have microkernels of their own; a scalar kernel gives the same bits
  anywhere else. *portable*: copies, or loops that every machine runs alike.
- Spellings: `nn.` is `torch.nn`, `F.` is `torch.nn.functional`, a leading dot a tensor method; `aten` is what
  `torch.export` and TorchScript call. In-place forms (`relu_`, `operator.iadd`) are left out; they mean the same. Ops
  with `_scalar` are arithmetic of a tensor with a number, in the spellings of `add`, `sub`, `mul`, `div` and `pow`.
"""
_NAMES = {"torch.nn.modules": "nn", "torch.nn.functional": "F", "torch._C._nn": "F", "torch.functional": "torch"}


def page() -> str:
    """The whole page."""
    rows = [op for op in TABLE.values() if op.fn.__module__.startswith("qfx.")]
    table = [_row(op) for op in rows if op.qparams != "none"]
    heads = ("op", "spellings", "aten", "qparams", "fused behind it", "kernels")
    lines = [_line(heads), _line("---" for _ in heads), *(_line(cells) for cells in table)]
    spelled = sum(len(aliases_of(op.name)) for op in rows)
    return "\n".join([_INTRODUCTION, *lines, "", f"{len(table)} ops, {spelled} spellings.", ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(op: Op) -> tuple[str, ...]:
    spellings = aliases_of(op.name)
    plain = [_spelled(alias) for alias in spellings if not _is_aten(alias)]
    aten = [_overload(alias.spelling) for alias in spellings if _is_aten(alias)]
    fused = [name for name in ("clamp", "residual", "table") if name in op.epilogues]
    return (f"`{op.name}`", _list(plain), _list(aten), _qparams(op), ", ".join(fused), isas(op))


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(set(names), key=str.lower) if not _is_in_place(name))


def _is_in_place(name: str) -> bool:
    return any(part.endswith("_") for part in name.split(".")) or name.startswith("operator.i")


def _is_aten(alias: Alias) -> bool:
    return isinstance(alias.spelling, torch._ops.OpOverload)


def _overload(overload: Any) -> str:
    return str(overload).removeprefix("aten.").removesuffix(".default")


def _spelled(alias: Alias) -> str:
    spelling = alias.spelling
    if isinstance(spelling, str):
        return f".{spelling}"
    if isinstance(spelling, type) and getattr(nn, spelling.__name__, None) is spelling:
        return f"nn.{spelling.__name__}"
    name = getattr(spelling, "__name__", str(spelling))
    if getattr(nn.functional, name, None) is spelling and getattr(torch, name, None) is not spelling:
        return f"F.{name}"
    if getattr(torch.special, name.removeprefix("special_"), None) is spelling:
        return f"torch.special.{name.removeprefix('special_')}"
    module = (getattr(spelling, "__module__", None) or "torch").removeprefix("_")
    return f"{'torch' if getattr(torch, name, None) is spelling else _NAMES.get(module, module)}.{name}"


def _qparams(op: Op) -> str:
    if op.fixed is None:
        return QUANTIZES[op.qparams]
    return f"fixed: {op.fixed.scale:.6g}, {op.fixed.zero_point}"


def isas(op: Op) -> str:
    """The instruction sets that have microkernels for the step of a row."""
    found = {isa for _, isa in kernels(op)}
    return ", ".join(isa for isa in LEVELS if isa in found) or "portable"


def kernels(op: Op) -> Iterator[tuple[str, str]]:
    """Name and instruction set of every microkernel of a row's step."""
    for folder, _, kinds in (family.partition(": ") for family in op.kernels.split(", ") if family):
        text = (ROOT / "qfx" / "kernels" / folder / "kernels.inc").read_text()
        for kind in kinds.split():
            start = rf"{kind}\(" if kind.startswith("QFX_") else rf"QFX_KERNEL\({kind}, "
            yield from re.findall(rf"^{start}(\w+), (\w+)", text, re.MULTILINE)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
