"""argparse with errors of one line, which name what was probably meant."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest option or choice, and status 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """As ``parse_args``; options that do not exist are told with the nearest that does."""
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            command = self._of(getattr(options, "command", None))
            near = _nearest(unknown[0].split("=")[0], command.option_strings)
            command.error(f"unexpected {unknown[0]!r}.{near}")
        return options

    @property
    def option_strings(self) -> list[str]:
        """Every option's names."""
        return [name for action in self._actions for name in action.option_strings]

    def _of(self, command: str | None) -> Parser:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and command in action.choices:
                found: Parser = action.choices[command]
                return found
        return self

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"there is no {value!r}.{_nearest(str(value), names)} It is one of {', '.join(names)}."
            )

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:  # argparse's own drops the error of a full disk or a closed pipe
            (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        """Say ``message`` in one line, and exit with status 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} See {self.prog} --help.\n")


def _nearest(word: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more.")
    return value


def seconds(text: str) -> float:
    """A time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0.")
    return value
