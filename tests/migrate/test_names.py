"""The table of names holds together."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import warnings
from collections import Counter
from typing import Any

import pytest

from qfx.migrate.names import KINDS, TABLE, below, names, rows

WRITTEN = [row for row in rows() if row.kind in ("name", "module", "hand")]
MOVED = {row.new[0]: row.old for row in rows() if row.kind == "alias" and row.old.startswith("torch.ao.")}
GONE = {
    "torch.quantization.Observer": "never existed in torch; the specification names it",
    "torch.quantization.add_observer_": "private by now",
    "torch.quantization.get_observer_dict": "private by now",
    "torch.nn.quantized.ReLU": "removed from torch",
    "torch.nn.quantized.functional.relu": "removed from torch",
    "torch.quantization.quantizer": "moved out of torch",
    "torch.quantization.quantize_pt2e": "moved out of torch",
    "torch.quantization.observer._with_args": "an alias of a method",
    "torch.ao.ns": "not imported by torch itself",
}


def test_every_line_has_every_column() -> None:
    lines = TABLE.read_text().splitlines()
    assert lines[0].split("\t") == ["id", "kind", "old", "new", "keywords", "what"]
    for line in lines[1:]:
        cells = line.split("\t")
        assert len(cells) == 6, line
        assert all(cell == cell.strip() for cell in cells), line


def test_the_inventory_is_complete_and_in_order() -> None:
    assert [row.id for row in rows() if row.id] == [f"S{number:03}" for number in range(1, 224)]


def test_rows_are_of_a_known_kind_and_say_what_holds() -> None:
    for row in rows():
        assert row.kind in KINDS
        assert row.what
        assert bool(row.new) == (row.kind != "hand"), row
        assert all(re.fullmatch(r"(-\w+|\w+>\w+)", word) for word in row.keywords.split()), row


def test_no_name_stands_twice() -> None:
    twice = [old for old, count in Counter(row.old for row in WRITTEN).items() if count > 1]
    assert not twice


def test_other_paths_lead_to_names() -> None:
    for row in rows():
        if row.kind == "alias":
            assert below(row.old, "torch")
            end = row.new[0]
            assert names().find_module(end) or names().find(end), row


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("torch.ao.quantization.prepare", "qfx.quantization.prepare"),
        ("torch.ao.quantization.quantize.prepare", "qfx.quantization.prepare"),
        ("torch.ao.quantization.fuse_modules", "qfx.quantization.fuse_modules"),
        ("torch.quantization.fuse_modules.fuse_modules", "qfx.quantization.fuse_modules"),
        ("torch.ao.quantization.observer", "qfx.quantization.observer"),
        ("torch.ao.quantization.qconfig.QConfig", "qfx.quantization.qconfig.QConfig"),
        ("torch.ao.nn.intrinsic.qat.modules.conv_fused.ConvBn2d", "qfx.nn.intrinsic.qat.ConvBn2d"),
        ("torch.ao.quantization.quantize_fx.convert_fx", "qfx.convert_fx"),
    ],
)
def test_a_name_is_found_by_any_path(path: str, new: str) -> None:
    row = names().find(path)
    assert row is not None
    assert row.new[0] == new


def old_object(name: str) -> Any:
    """What torch has under ``name``, in the place where it is now."""
    for old, new in MOVED.items():
        name = new + name[len(old) :] if below(name, old) else name
    parts = name.split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for count in range(len(parts), 0, -1):
            try:
                found: Any = importlib.import_module(".".join(parts[:count]))
            except ImportError:
                continue
            return functools.reduce(getattr, parts[count:], found)
    raise AttributeError(name)


@pytest.mark.parametrize("name", [row.old for row in WRITTEN if row.old not in GONE])
def test_torch_had_every_name(name: str) -> None:
    old_object(name)


def keywords(function: Any) -> set[str] | None:
    """The names of its arguments; None where it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def new_object(name: str) -> Any:
    """What qfx has under ``name``."""
    module = names().module_of(name)
    rest = name[len(module) + 1 :]
    return functools.reduce(getattr, rest.split(".") if rest else [], importlib.import_module(module))


NAMES = [row for row in rows() if row.kind == "name" and row.old not in GONE]
CALLED = [row for row in NAMES if isinstance(old_object(row.old), type) or inspect.isroutine(old_object(row.old))]


@pytest.mark.parametrize("row", CALLED, ids=lambda row: row.old)
def test_arguments_that_qfx_names_otherwise_or_not_are_listed(row: Any) -> None:
    theirs, ours = keywords(old_object(row.old)), keywords(new_object(row.new[0]))
    if theirs is None or ours is None:
        return
    unknown = {row.renamed.get(name, name) for name in theirs - row.refused} - ours
    assert not unknown, f"{row.new[0]} takes no {', '.join(sorted(unknown))}: say so in the row's keywords"
    assert not row.refused & ours, f"{row.new[0]} takes {', '.join(sorted(row.refused & ours))} after all"
