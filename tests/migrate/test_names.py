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
    "torch.quantization._numeric_suite": "torch.ao.ns has it",
    "torch.quantization._numeric_suite.compare_weights": "torch.ao.ns has it",
    "torch.quantization._numeric_suite_fx": "torch.ao.ns has it",
    "torch.quantization._numeric_suite_fx.extract_weights": "torch.ao.ns has it",
    "torchao.quantization": "a package of its own",
    "torchao.quantization.pt2e": "a package of its own",
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


MODULES = [row for row in rows() if row.kind == "module"]


def public(module: Any) -> set[str]:
    return {name for name in getattr(module, "__all__", dir(module)) if not name.startswith("_")}


@pytest.mark.parametrize("row", MODULES, ids=lambda row: row.old)
def test_what_both_have_under_one_name_is_rewritten(row: Any) -> None:
    """Of a module of torch and its counterpart; graph mode's counterpart is qfx itself."""
    old, new = old_object(row.old), importlib.import_module(row.new[0])
    shared = {n for n in public(old) if n in public(new) or (row.new[0] == "qfx" and hasattr(new, n))}
    for name in sorted(name for name in shared if not inspect.ismodule(getattr(old, name, None))):
        found = names().find(f"{row.old}.{name}")
        if row.old == "torch.quantization.quantize_fx" and found is None:
            continue  # what that file imports for itself
        assert found is not None, f"{row.old}.{name}"
        assert found.kind in ("name", "same"), f"{found.old} is by hand, but {row.new[0]}.{name} is here"


def test_everything_that_torch_exports_is_in_the_table() -> None:
    import torch.ao.quantization as theirs

    here = [name for name in theirs.__all__ if hasattr(theirs, name)]
    missing = [name for name in here if names().find(f"torch.quantization.{name}") is None]
    assert not missing


@pytest.mark.parametrize(
    "package",
    ["torch.nn.quantized", "torch.nn.quantized.dynamic", "torch.nn.intrinsic", "torch.nn.intrinsic.qat", "torch.nn.qat",
     "torch.nn.intrinsic.quantized"],
)  # fmt: skip
def test_every_layer_that_torch_has_is_in_the_table(package: str) -> None:
    theirs = old_object(package)
    layers = [name for name in public(theirs) if isinstance(getattr(theirs, name), type)]
    assert not [name for name in sorted(layers) if names().find(f"{package}.{name}") is None]


@pytest.mark.parametrize("row", [row for row in rows() if row.kind == "hand"], ids=lambda row: row.old)
def test_what_needs_a_hand_names_only_what_is_there(row: Any) -> None:
    """The remedy's own names resolve, so that following it works."""
    for name in re.findall(r"qfx(?:\.\w+)+", row.what):
        new_object(name)


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("training in graph mode", "qfx.prepare_qat_fx"),
        ("exported programs", "qfx.quantize_fx"),
        ("comparison of every node", "qfx.compare"),
        ("a ranking of the nodes", "qfx.sensitivity"),
        ("mappings", "qfx.QConfigMapping"),
        ("custom configurations", "qfx.PrepareCustomConfig"),
    ],
)
def test_what_the_page_must_not_call_absent(capability: str, name: str) -> None:
    new_object(name)
    page = (TABLE.parents[2] / "docs" / "migrating.md").read_text()
    assert name.rpartition(".")[2] in page, capability
