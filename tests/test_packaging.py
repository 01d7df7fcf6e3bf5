"""What the package says of itself, and what goes into a wheel."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def _project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found


def test_it_is_described() -> None:
    project = _project()["project"]
    assert project["keywords"]
    assert "Typing :: Typed" in project["classifiers"]
    least = project["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {least}" in project["classifiers"]


def test_all_brings_every_extra_of_a_user() -> None:
    extras = _project()["project"]["optional-dependencies"]
    (whole,) = extras["all"]
    assert set(re.findall(r"[a-z]+", whole.removeprefix("qfx"))) == set(extras) - {"all", "test", "dev", "demo"}


def test_whatever_an_extra_is_for_is_in_it() -> None:
    """Each module that qfx imports, of a package that is neither required nor Python's own, has an extra."""
    project = _project()["project"]
    listed = [
        *project["dependencies"],
        *(d for e in ("migrate", "images", "pandas", "onnx") for d in _extra(project, e)),
    ]
    names = {re.split(r"[<>=;\[ ]", each)[0].lower() for each in listed}
    known = {"pil": "pillow", "yaml": "pyyaml", "graphviz_pure": "graphviz-pure"}
    for path in (ROOT / "qfx").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "qfx":
                    assert known.get(top.lower(), top.lower()) in names, f"{path}: {module}"


def _extra(project: dict[str, Any], name: str) -> list[str]:
    found: list[str] = project["optional-dependencies"][name]
    return found


def test_a_wheel_holds_what_is_read_at_run_time() -> None:
    """Files beside the code that are no sources of the extension are not excluded."""
    excluded = _project()["tool"]["scikit-build"]["wheel"]["exclude"]
    data = [path for path in (ROOT / "qfx").rglob("*") if path.suffix in (".tsv", ".typed", ".css", ".js", ".html")]
    assert {"py.typed", "names.tsv"} <= {path.name for path in data}
    suffixes = {pattern.removeprefix("**") for pattern in excluded}
    assert not [path for path in data if "".join(path.suffixes) in suffixes]


def test_the_set_up_gets_torch_for_cpus() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install torch --index-url https://download.pytorch.org/whl/cpu" in readme
    assert "pip install '.[all]'" in readme
