"""``python -m qfx.migrate FILE... [--write] [--diff]``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qfx.errors import InputError
from qfx.file.atomic import write_atomically
from qfx.migrate.files import python_files

if TYPE_CHECKING:
    from qfx.migrate.rewrite import Migrated

DONE, LEFT, FAILED = 0, 1, 2
"""Exit status: nothing is left to do, some places need a hand, a file could not be read, parsed or written."""


@dataclass(frozen=True)
class File:
    """A file that parses: what it holds, and what it is to hold."""

    path: Path
    before: bytes
    after: Migrated

    @property
    def changes(self) -> bool:
        return self.before != self.after.text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        import libcst  # noqa: F401
    except ImportError:
        return _fail("qfx.migrate needs LibCST, which is not installed: pip install 'qfx[migrate]'")
    files: list[File] = []
    errors: list[str] = []
    for path in python_files(options.file):
        result = _read(path)
        if isinstance(result, File):
            files.append(result)
        else:
            errors.append(result)
    if errors:
        return _fail(*errors, *(["Nothing was written."] if options.write else []))
    if options.diff:
        for file in files:
            sys.stdout.writelines(_diff(file))
    for file in files:
        for at in file.after.findings:
            print(f"{file.path}:{at.line}:{at.column}: {at.name}: {at.remedy}")
    changed = [file for file in files if file.changes]
    if options.write:
        for file in changed:
            try:
                write_atomically(file.path, file.after.text)
            except InputError as error:
                return _fail(f"{file.path}: {error.why or error.what}")
    _summarize(len(files), changed, sum(len(file.after.findings) for file in files), options.write)
    return LEFT if any(file.after.findings for file in files) else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qfx.migrate",
        description="Rewrite code that uses torch.quantization, torch.ao.quantization and quantized tensors for qfx. "
        "Without --write it only tells what it would do.",
        epilog="Exit status: 0, nothing is left to do; 1, the places that are named need a hand; 2, a file could not "
        "be read, parsed or written. Where a file does not parse, no file is written.",
    )
    parser.add_argument("file", nargs="+", type=Path, help="Python files, or folders of them")
    parser.add_argument("--write", action="store_true", help="replace the files")
    parser.add_argument("--diff", action="store_true", help="show the changes")
    return parser


def _read(path: Path) -> File | str:
    """The file with what becomes of it, or what is wrong with it."""
    from libcst import ParserSyntaxError

    from qfx.migrate.rewrite import migrate

    try:
        text = path.read_bytes()
        return File(path, text, migrate(text))
    except OSError as error:
        return f"{path}: {error.strerror}"
    except ParserSyntaxError as error:
        return f"{path}:{error.editor_line}:{error.editor_column}: does not parse as Python: {error.message}"
    except (SyntaxError, ValueError) as error:  # an encoding that is unknown or not kept to
        return f"{path}: {error}"


def _diff(file: File) -> list[str]:
    before, after = (text.decode(errors="replace").splitlines(keepends=True) for text in (file.before, file.after.text))
    lines = difflib.unified_diff(before, after, str(file.path), str(file.path))
    return [line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines]


def _summarize(read: int, changed: Sequence[File], findings: int, written: bool) -> None:
    done = "changed" if written else "to change"
    print(f"{len(changed)} of {_files(read)} {done}; {findings} places need a hand.", file=sys.stderr)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _fail(*lines: str) -> int:
    for line in lines:
        print(line, file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
