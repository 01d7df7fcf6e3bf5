"""Writes ``docs/program_format.md`` and ``qfx/runtime/steps.py`` from the runtime's tables:
``python -m docs.program_format``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from qfx.file.container import ALIGNMENT, MOST_SECTIONS, VERSION
from qfx.file.sections import CALL, GRAPH, PARTS, PROGRAM, SERVING, TENSORS
from qfx.runtime import _C
from qfx.runtime.dtypes import DTYPES
from qfx.runtime.schema import ANY, RANK, SPATIAL, Attribute, Operand, Schema, schemas

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "program_format.md"
MODULE = ROOT / "qfx" / "runtime" / "steps.py"
WIDTH = 120

_INTRODUCTION = """\
# The program format

<!-- Written by `python -m docs.program_format` from the tables of the runtime; a test compares. -->

A program is what `quantize_fx` compiles to: values, constants, expressions over sizes, and steps in the order in which
they run. `Program.to_bytes()` and `Program.from_bytes()` are its bytes; all that is said here of a program is checked
when one is built and when one is read, by the same code.

- **Values** have a name, a type and a shape, in which -1 is a size that is known only when inputs are. A value is an
  input of the program, a constant, or a result of one step; the program's outputs are any of them. Inputs and outputs
  are of types whose elements have bytes of their own.
- **States** are inputs that live from run to run: each names the output that the next run takes it as, of its type and
  of a shape that it may have, and may name a constant, as which it begins. States have names of their own, and no two
  become one output. A call takes and gives them like other inputs and outputs; a session keeps them.
- **Constants** are dense data in row-major order. A value may hold one, steps name others as attributes.
- **Expressions** are integers: a number, a dim of a value, or a sum, difference, product, quotient (rounded down) or
  negative of earlier ones.
- **Steps** have a name, an operation, operands, results and attributes, as the tables below say.

Elements of images are channels last. A *code* is an integer from 0 to 255, what a u8 value holds; q codes mean
`(q - zero_point) * scale`. [numerics.md](numerics.md) says what is computed, exactly.

## Bytes

All numbers are little-endian. A head of 64 bytes: `\\x89QFXPRG\\n`, the version (u32), 0 (u32), the bytes of the tables
(u64) and of the constants (u64), zeros. Then the tables, up to a multiple of 64; then the constants' data, each from a
multiple of 64 on; then 64 zeros. Lists and texts (UTF-8) begin with their length (u64). The version is 2 where there
are states, else 1. The tables are:

| table | fields of an entry |
|---|---|
| constants | type (u8), shape (s64s) |
| values | name, type (u8), shape (s64s), the constant that it holds or -1 (s32) |
| expressions | kind (u8: {kinds}), two operands (s64): a number, a value and its dim, or expressions; else 0 |
| steps | operation, name, operands (s32s), results (s32s), attributes by name in order: integers (s64s), numbers \
(f64s), expressions (s32s), constants (s32), texts |
| inputs, outputs | values (s32) |
| states, in version 2 only | an input and an output (s32), the constant that it begins as or -1 (s32) |

## Types
"""


def page() -> str:
    """The document."""
    kinds = ", ".join(f"{i} {name}" for i, name in enumerate(_C.expr_kinds()))
    lines = [
        _INTRODUCTION.replace("{kinds}", kinds),
        "| number | name | bits | numpy | torch |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {i} | {d.name} | {d.bits} | {d.numpy} | {d.torch} |" for i, d in enumerate(DTYPES.values())]
    lines += ["", "Elements of 4 bits lie two a byte, the first in the low half; data as a whole rounds up to a byte."]
    lines += ["", "## Steps", ""]
    lines += textwrap.wrap(
        "An attribute that is not required says what stands where it is left out. Flags say what the planner may do: "
        "*per_image*: every image of the batch is computed from that image alone; *row_window*: rows of an image from "
        "a window of rows; *strided_input*: program inputs are read with any strides; *pixel_strides*: with any "
        "distance between pixels.",
        WIDTH,
    )
    for schema in schemas().values():
        lines += ["", *_section(schema)]
    return "\n".join([*lines, "", *_files()]) + "\n"


_FILES = """\
## Files

A `.qfx` file is sections behind a table. All numbers are little-endian. The header of 32 bytes:
`\\x89QFX\\r\\n\\x1a\\n`, the version (u32), the number of sections (u32, at most {sections}), the size of the file
(u64), 0 (u32), and the CRC-32 of header and table, itself taken as 0 (u32). A row of the table has 40 bytes: the name
(16 bytes of ASCII, filled up with zeros), offset and size (u64), the CRC-32 of the content and flags (u32; 1: who
does not know the name may skip it). Contents lie in the order of the table, each from the next multiple of
{alignment} on with zeros between; the file ends with the last one. The version is {version}: files of version 1 hold
no program, and all of their tensors themselves.

| section | holds |
|---|---|
| {program} | the bytes of the program, or of several one after the other |
| {serving} | how a model that is one program is called without torch, below |
| `pack_` and a level's name | weights as that level's kernels want them, which may be skipped |
| {call}, {parts}, {graph}, {tensors} | for `qfx.load`, which runs models in torch: JSON, and its tensors |

A file of a later version, or with a section that is not known and may not be skipped, is refused. So is one with a
byte that is not as said here.

### The serving section

The version (u32, 1), then these, written as the tables of a program are:

| table | fields |
|---|---|
| inputs | name, type (u8), shape (sizes), its place among the program's inputs or -1 (s32), the shape of the \
example (s64s) |
| outputs | name, type (u8), shape (sizes), its place among the program's outputs (s32) |
| conditions | what inputs must meet: nodes, and a text. A node is an operation (u8: {operations}), two operands (s64: \
a number, an input and its dim, or earlier nodes) and a number (f64); the last one must not be 0 |
| structure, metadata | JSON: what a call returns, of outputs by number; the user's own |
| costs | of a call with the example's shapes: bytes of memory and multiplications of integers (u64) |

A size is a number (s64) or -1, and the name of one that calls choose. *Memory* counts constants, inputs and outputs,
and of the other values the most that live at once if steps run in their order, each in memory of its own: the same on
every level, so that reading can count it again. Packed weights and threads' own memory come to it;
`qfx.runtime.load(max_memory=...)` holds both counts against the limit before anything is allocated. `qfx verify` counts
what is stated again, and prints the SHA-256 of the outputs for inputs that are the same everywhere: number i is
SplitMix64 from the seed i on; floats are its upper 24 bits as (n - 2^23) / 2^22, bytes its upper 8 bits (bools the
lowest of them), other integers its upper 32 bits modulo the rows of the smallest table that indices reach, else 128.
The hash is of each output's type by name, its sizes (s64s) and its elements, a NaN as ones.
"""


def _files() -> list[str]:
    facts = {
        "sections": MOST_SECTIONS,
        "alignment": ALIGNMENT,
        "version": VERSION,
        "operations": ", ".join(f"{i} `{name}`" for i, name in enumerate(_C.size_operations())),
        **{name: f"`{name}`" for name in (PROGRAM, SERVING, CALL, PARTS, TENSORS)},
        "graph": f"`{GRAPH}`",
    }
    return _FILES.format(**facts).rstrip("\n").split("\n")


def _section(schema: Schema) -> Iterator[str]:
    yield f"### {schema.op}"
    yield ""
    yield schema.about + (f" ({', '.join(schema.flags)})" if schema.flags else "")
    yield ""
    yield "| part | name | what |"
    yield "|---|---|---|"
    for o in schema.operands:
        yield f"| operand | `{o.name}` | {_types(o.types)}{_PRESENCE[o.presence]} |"
    for r in schema.results:
        yield f"| result | `{r.name}` | {_types(r.types)} |"
    for a in schema.attributes:
        yield f"| {_entries(a)} | `{a.name}` | {_about(a)} |"


_PRESENCE = {"required": "", "optional": " or none", "any": ", any number of one type"}


def _types(types: tuple[str, ...]) -> str:
    every = tuple(d.name for d in DTYPES.values() if d.bits % 8 == 0)
    return "any type of whole bytes" if types == every else " or ".join(types) or "of the operand's type"


def _entries(a: Attribute) -> str:
    if a.kind == "constant":
        return f"constant of {_types(a.types)}"
    kind = "flag" if a.is_flag else "expression" if a.kind == "expr" else a.kind
    counts = {1: "", ANY: ", any number", SPATIAL: ", one a spatial dim", RANK: ", one a dim"}
    return kind + counts.get(a.count, f", {a.count} of them")


def _about(a: Attribute) -> str:
    parts = [a.about] if a.about else []
    if (a.low, a.high) == (0, 255) and a.count == 1:
        parts.append("a code")
    elif a.kind == "integer" and not a.is_flag and a.low > -(2**31) + 1:
        parts.append(f"at least {a.low:g}" if a.high == 2**31 - 1 else f"{a.low:g} to {a.high:g}")
    if a.fallback:
        parts.append(f"else {', '.join(f'{v:g}' for v in a.fallback)}")
    elif not a.required:
        parts.append("or none")
    return "; ".join(parts)


# ---------------------------------------------------------------- the constructors


def module() -> str:
    """The text of ``qfx/runtime/steps.py``."""
    head = '''\
"""The steps of a program, one constructor an operation.

Written by ``python -m docs.program_format`` from the runtime's table of steps; a test compares. Operands, expressions
and constants are ids that a ProgramBuilder gave. What is left out is what the table says.
"""

from __future__ import annotations

from collections.abc import Sequence

from qfx.runtime.writing import Step
'''
    return head + "".join(f"\n\n{_constructor(schema)}" for schema in schemas().values())


def _constructor(schema: Schema) -> str:
    first = [_parameter(o) for o in schema.operands]
    ordered = sorted(schema.attributes, key=lambda a: not a.required)
    rest = [f"{a.name}: {_annotation(a)}" + ("" if a.required else " | None = None") for a in ordered]
    inputs = "xs" if schema.operands[0].presence == "any" else f"[{', '.join(o.name for o in schema.operands)}]"
    results = ", ".join(f'"{r.name}": {_only(r.types)}' for r in schema.results)
    lines = [f"def {schema.op}(", *_listed(first + (["*", *rest] if rest else []), 1), ") -> Step:"]
    lines += [*_docstring(schema, ordered), "    return Step.of("]
    lines += _listed([f'"{schema.op}"', inputs, f"{{{results}}}"], 2)
    for kind, word in _WORDS.items():
        own = [a.name for a in schema.attributes if a.kind == kind]
        if own:
            lines += [f"        {word}={{", *_listed([f'"{name}": {name}' for name in own], 3), "        },"]
    return "\n".join([*lines, "    )", ""])


_WORDS = {"integer": "ints", "number": "floats", "expr": "exprs", "constant": "constants", "text": "text"}
_PYTHON = {"integer": "int", "number": "float", "expr": "int", "constant": "int", "text": "str"}


def _parameter(o: Operand) -> str:
    kinds = {"required": "int", "optional": "int | None = None", "any": "Sequence[int]"}
    return f"{o.name}: {kinds[o.presence]}"


def _annotation(a: Attribute) -> str:
    one = "bool" if a.is_flag else _PYTHON[a.kind]
    return one if a.count == 1 else f"Sequence[{one}]"


def _only(types: tuple[str, ...]) -> str:
    return f'"{types[0]}"' if len(types) == 1 else "None"


def _listed(items: Iterable[str], depth: int) -> list[str]:
    return ["    " * depth + item + "," for item in items]


def _docstring(schema: Schema, attributes: list[Attribute]) -> list[str]:
    operands = ", ".join(f"``{o.name}`` {_types(o.types)}{_PRESENCE[o.presence]}" for o in schema.operands)
    results = ", ".join(f"``{r.name}`` {_types(r.types)}" for r in schema.results)
    lines = ["", "Takes " + operands + ". Gives " + results + "."]
    told = [(a.name, _about(a)) for a in attributes if _about(a) or a.kind == "constant"]
    if told:
        lines += ["", "Args:"]
    for name, about in told:
        a = next(a for a in attributes if a.name == name)
        text = f"{_entries(a)}; {about}" if a.kind == "constant" and about else about or _entries(a)
        lines.append(f"    {name}: {text[0].upper()}{text[1:]}.")
    wrapped = [f'    """{schema.about}']
    for line in lines:
        indent = "    " if line.startswith("    ") else ""
        wrapped += textwrap.wrap(line, WIDTH, initial_indent="    ", subsequent_indent=f"        {indent}") or [""]
    return [*wrapped, '    """']


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    MODULE.write_text(module(), encoding="utf-8")
