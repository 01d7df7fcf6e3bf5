"""What a notebook shows of an object: views of :mod:`qfx.viz`, which is above all that it shows, found by name."""

from __future__ import annotations

import importlib

VIEWS = "qfx.viz.inline"
"""The module that has the views; it is imported when a notebook asks for one."""


class Inline:
    """Base of what a notebook shows as a picture or a table."""

    def _repr_html_(self) -> str:
        html: str = importlib.import_module(VIEWS).as_html(self)
        return html
