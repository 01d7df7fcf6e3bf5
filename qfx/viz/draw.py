"""``qfx.draw``: a picture of a model at any level, or of two levels side by side."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qfx.arguments import explained
from qfx.errors import InputError
from qfx.file.atomic import write_atomically
from qfx.inputs import example
from qfx.ir.module import GraphCarrier
from qfx.viz.dot import Style, write_dot
from qfx.viz.heat import heat_of
from qfx.viz.pair import write_pair
from qfx.viz.read import LEVELS, read
from qfx.viz.render import FORMATS, render

_SOURCES = (".dot", ".gv")


@dataclass(frozen=True)
class Picture:
    """A picture that is not in a file yet; a notebook shows it.

    Attributes:
        source: In Graphviz's language.
    """

    source: str = field(repr=False)

    @explained
    def render(self, form: str = "svg") -> bytes:
        """The picture as ``"svg"``, ``"png"`` or ``"pdf"``.

        Raises:
            QfxError: As :func:`draw`.
        """
        return render(self.source, form)

    @explained
    def save(self, path: str | Path) -> Path:
        """Write it to ``path``, whose suffix is the format; as :func:`draw`."""
        return _save(self.source, Path(path))

    def _repr_svg_(self) -> str:
        return self.render().decode()


@explained
def draw(
    model: Any,
    path: str | Path | None = None,
    *,
    level: str | None = None,
    beside: str | Any = None,
    heat: Any = None,
    clusters: bool = True,
    legend: bool = True,
    example_inputs: Any = None,
) -> Path | Picture:
    """Draw a model.

    Boxes are ops, coloured by the arithmetic that they compute in; arrows are values, with shape, dtype and qparams;
    frames are the user's modules, or programs. Tooltips (svg) hold the reason, the source line and the rules that made
    the node. ``docs/pictures.md`` says how to read it.

    Args:
        model: A float module, an fx.GraphModule, or what ``prepare_fx``, ``convert_fx`` or ``quantize_fx`` returned.
        path: The file to write; its suffix is the format: ``.svg``, ``.png``, ``.pdf``, or ``.dot`` for the source.
            None: nothing is written.
        level: ``"float"``, ``"observed"``, ``"qdq"``, ``"int8"`` or ``"program"``; None: the one that the model has, of
            a quantized model ``"int8"``.
        beside: What to draw to the right of it, connected by what became of each node and by which rule: another
            level of the same model, or another model (the float model's picture beside the quantized one's).
        heat: Colours by a number instead: a :class:`qfx.Comparison` (SQNR), what ``qmodel.profile(x)`` returned
            (time), or a mapping of node names to numbers, high ones hot.
        clusters: Whether to draw the frames.
        legend: Whether to explain the colours.
        example_inputs: Inputs that show the shapes in a float module; left out, those of the quantized model beside it.

    Returns:
        The path, or a :class:`Picture` if ``path`` is None.

    Raises:
        InputError: The model has no such level, the suffix is no format, or the file can't be written.
        QfxError: Graphviz is needed for this format and missing, or fails.
    """
    source = picture_of(model, level, beside, heat, Style(None, clusters, legend), example_inputs)
    return Picture(source) if path is None else _save(source, Path(path))


@explained
def to_dot(model: Any, **options: Any) -> Picture:
    """The picture that ``draw(model, **options)`` makes, with its ``source`` in Graphviz's language."""
    made = draw(model, None, **options)
    assert isinstance(made, Picture)
    return made


def picture_of(model: Any, level: str | None, beside: Any, heat: Any, style: Style, example_inputs: Any = None) -> str:
    """The source of the picture that :func:`draw` makes."""
    style = replace(style, heat=heat_of(heat))
    if example_inputs is None:
        example_inputs = next(filter(None, map(_known_inputs, (model, beside))), None)
    scene = read(model, level, example_inputs)
    if beside is None:
        return write_dot(scene, style, LEVELS[scene.level].title)
    other = read(model, beside, example_inputs) if isinstance(beside, str) else read(beside, None, example_inputs)
    left, right = sorted((scene, other), key=lambda s: list(LEVELS).index(s.level))
    return write_pair(left, right, style)


def _known_inputs(model: Any) -> Any:
    """Inputs of the shapes that a prepared or quantized model has seen."""
    described = model.info.get("example_inputs") if isinstance(model, GraphCarrier) else None
    return None if described is None else tuple(map(example, described))


def _save(source: str, path: Path) -> Path:
    form = path.suffix.lower()
    if form not in (*_SOURCES, *(f".{name}" for name in FORMATS)):
        raise InputError(
            f"{path.name!r} does not say what to draw.",
            why=f"The suffix of the file is the format, and {form or 'no suffix'!r} is none.",
            remedy=f"Use {', '.join(f'.{name}' for name in FORMATS)} or {' or '.join(_SOURCES)}.",
        )
    write_atomically(path, source.encode() if form in _SOURCES else render(source, form[1:]))
    return path
