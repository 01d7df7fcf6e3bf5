"""The command line: ``qfx COMMAND ...``. A command is a module of this package with ``configure`` and ``run``."""

from qfx.cli.main import main

__all__ = ["main"]
