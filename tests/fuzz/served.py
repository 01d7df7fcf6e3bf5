"""Small files that run without torch: one for each kind of step, one of a network, one with a state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qfx.file.container import Section, pack
from qfx.runtime import _C, Program, load
from tests.runtime.step_programs import small_network
from tests.runtime.test_session import decoder
from tests.runtime.test_steps import CASES

KEPT = Path(__file__).parent.parent / "data" / "steps"
"""Where they are kept as they were written once: readers of later versions have to read them too."""
HASHES = KEPT / "hashes.tsv"
"""What ``Model.verify`` says of each."""


def served(program: Program, shapes: Sequence[Sequence[int]]) -> bytes:
    """The file of a program, captured with inputs of these shapes."""

    def values(specs: Sequence[tuple[str, str, tuple[int, ...]]]) -> list[tuple[str, str, tuple[int | str, ...], int]]:
        sizes = [tuple(f"{name}_{d}" if n < 0 else n for d, n in enumerate(shape)) for name, _, shape in specs]
        return [(name, dtype, sizes[i], i) for i, (name, dtype, _) in enumerate(specs)]

    signature = _C.write_signature(
        values(program.input_specs),
        values(program.output_specs),
        [],
        "0",
        "{}",
        [tuple(s) for s in shapes],
        program,
    )
    return pack([Section("program", program.to_bytes()), Section("serving", signature, optional=True)])


def smallest() -> dict[str, bytes]:
    """By the name of the step, the smallest file with such a step that the tests of steps have."""
    files: dict[str, bytes] = {
        "network": served(small_network(blocks=1)[0], [(2, 3, 5, 4)]),
        "states": served(decoder(), [(2, 3), (2, 3)]),
    }
    for case in CASES:
        made = served(case.program(), [x.shape for x in case.inputs])
        files[case.op] = min(files.get(case.op, made), made, key=len)
    return files


def main() -> None:
    """Write those that are not kept yet."""
    known = dict(line.split("\t") for line in HASHES.read_text().splitlines()) if HASHES.exists() else {}
    for name, content in smallest().items():
        if name not in known:
            (KEPT / f"{name}.qfx").write_bytes(content)
            known[name] = load(content).verify().hash
    HASHES.write_text("".join(f"{name}\t{known[name]}\n" for name in sorted(known)))


if __name__ == "__main__":
    main()
