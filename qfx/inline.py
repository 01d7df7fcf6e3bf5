"""What a notebook shows of an object: views, which lie above all that they show."""

from __future__ import annotations

from qfx.provided import Part, provided


class Inline:
    """Base of what a notebook shows as a picture or a table."""

    def _repr_html_(self) -> str:
        html: str = provided(Part.views)(self)
        return html
