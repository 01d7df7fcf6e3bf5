"""What ``qfx batch`` is asked for: a TOML file of jobs, each with the arguments of ``qfx quantize``."""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from qfx import __version__
from qfx.cli import quantize
from qfx.cli.formats import read_config
from qfx.cli.parser import Parser
from qfx.errors import InputError

_OWN = ("name",)
_PATHS = ("output", "qconfig", "report")
_SPECS = ("model", "calibration")
"""Paths, or ``module:name``, or a path if there is a file of that name."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Job:
    """One conversion, in plain values, so that it can go to another process or machine.

    Attributes:
        name: What the table calls it.
        folder: Where ``module:name`` is looked for.
        arguments: Of ``qfx quantize``.
        output: The file it writes.
    """

    name: str
    folder: str
    arguments: tuple[str, ...]
    output: Path

    @property
    def options(self) -> argparse.Namespace:
        """The arguments, parsed."""
        return _parse(self.name, self.arguments)

    def digest(self) -> str:
        """What the result depends on: the arguments, the contents of the files that they name, the version of qfx.

        Of data, names, sizes and times count instead of contents. The code behind ``module:name`` does not count.
        """
        options = self.options
        parts = [__version__, json.dumps(self.arguments)]
        parts += [_content(options.qconfig), _content(options.model), _listing(options.calibration)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_jobs(path: Path) -> list[Job]:
    """The jobs of a TOML file, or of the same in JSON or YAML.

    Raises:
        InputError: It can't be read, or a job is not what ``qfx quantize`` takes.
    """
    content = read_config(path)
    if not isinstance(content, dict):
        raise InputError(f"{str(path)!r} is no list of jobs.", remedy="Write [[job]] for each.")
    folder = path.resolve().parent
    for key in content:
        if key not in ("defaults", "job"):
            near = "Did you mean [[job]]?" if key == "jobs" else "Write [defaults] and [[job]]."
            raise InputError(f"{str(path)!r} has an unknown key {key!r}.", remedy=near)
    defaults, tables = content.get("defaults", {}), content.get("job", [])
    if not isinstance(defaults, dict) or not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise InputError(f"{str(path)!r} is no list of jobs.", remedy="Write [defaults] once, and [[job]] for each.")
    if not tables:
        raise InputError(f"{str(path)!r} holds no jobs.", remedy='Write [[job]], model = "...", output = "...".')
    jobs = [_job({**defaults, **table}, index, folder) for index, table in enumerate(tables)]
    for what, values in (("name", [j.name for j in jobs]), ("output", [str(j.output) for j in jobs])):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise InputError(f"Two jobs have the {what} {twice[0]!r}.", remedy=f"Give each its own {what}.")
    return jobs


def _job(table: Mapping[str, Any], index: int, folder: Path) -> Job:
    where = f"Job {index + 1}"
    name = table.get("name", Path(str(table.get("output", where))).stem)
    if not isinstance(name, str) or not name:
        raise InputError(f"{where} has the name {name!r}.", remedy="Write a text.")
    known = {option.removeprefix("--") for option in _parser(name).option_strings if option.startswith("--")}
    known = (known | {"model", *_OWN}) - {"help", "json"}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key.replace("_", "-"), known, n=1)
            remedy = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(sorted(known))}."
            raise InputError(f"Job {name!r} has an unknown key {key!r}.", remedy=remedy)
    for key in ("model", "output"):
        if key not in table:
            raise InputError(f"Job {name!r} has no {key}.", remedy=f'Write {key} = "...".')
    arguments = [
        word for key, value in table.items() if key not in (*_OWN, "model") for word in _words(name, key, value, folder)
    ]
    arguments += ["--", _text(name, "model", table["model"], folder)]
    return Job(name, str(folder), tuple(arguments), _parse(name, arguments).output)


def _words(name: str, key: str, value: Any, folder: Path) -> list[str]:
    """The arguments that ``key = value`` stands for."""
    if isinstance(value, bool):
        return [f"--{key}"] if value else []
    values = value if isinstance(value, list) else [value]
    return [f"--{key}", *(_text(name, key, v, folder) for v in values)]


def _text(name: str, key: str, value: Any, folder: Path) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise InputError(f"Job {name!r}: {key} is {value!r}.", remedy="Write a text or a number.")
    if key in _PATHS or (key in _SPECS and (folder / str(value)).exists()):
        return str(folder / str(value))
    return str(value)


class _JobParser(Parser):
    """The parser of a job, whose errors are those of a file."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {' '.join(message.split())}", remedy="Correct the job.")


def _parser(name: str) -> Parser:
    parser = _JobParser(prog=f"Job {name!r}", add_help=False)
    quantize.configure(parser)
    return parser


def _parse(name: str, arguments: Any) -> argparse.Namespace:
    return _parser(name).parse(arguments)


def _content(name: Any) -> str:
    """Digest of a file's content; the name itself where there is no such file."""
    path = Path(str(name))
    if not path.is_file():
        return str(name)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _listing(name: Any) -> str:
    """Names, sizes and times of the data's files."""
    path = Path(str(name))
    files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
    return json.dumps([str(name), *((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file())])


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    return _content(path)
