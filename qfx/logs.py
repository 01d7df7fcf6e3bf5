"""The loggers of qfx, which are silent where the user's program asks for none."""

from __future__ import annotations

import logging

logging.getLogger("qfx").addHandler(logging.NullHandler())


def logger(name: str) -> logging.Logger:
    """That of a module, by its name."""
    return logging.getLogger(name)
