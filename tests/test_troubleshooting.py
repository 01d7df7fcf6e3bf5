"""docs/troubleshooting.md: every error class and construct has its entry, and the messages are those of the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import qfx
from qfx import errors
from qfx.frontends.obstacles import OBSTACLES, Obstacle

PAGE = Path(qfx.__file__).parent.parent / "docs" / "troubleshooting.md"
SOURCES = Path(qfx.__file__).parent
CLASSES = [
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.QfxError) and kind is not errors.QfxError
]
BEGIN, END = "<!-- generated: constructs -->\n", "<!-- end -->\n"


def section(name: str) -> str:
    """What the page says of a class."""
    found = re.search(rf"^## {name}:.*?(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{PAGE.name} has no section for {name}"
    return found[0]


def messages(name: str) -> list[str]:
    """The search terms of a section."""
    return re.findall(r"^\| `(.+?)` \|", section(name), re.MULTILINE)


@cache
def called() -> dict[str, set[str]]:
    """The first arguments of calls in the code, by the function's name, with … for what is filled in."""
    found: dict[str, set[str]] = {}
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                found.setdefault(node.func.id, set()).add(shown(node.args[0]))
    return found


def raised(name: str) -> set[str]:
    """The first lines of the errors of a class in the code, with … for what is filled in."""
    found = set(called().get(name, ()))
    for path in SOURCES.rglob("*.cc"):  # an error of a kernel becomes the runtime's, with "Input" before its name
        for kind, text in re.findall(r"throw (\w+)\((.*?)\);", path.read_text(encoding="utf-8"), re.DOTALL):
            if name == f"Input{kind}":
                found.add("…".join(re.findall(r'"(.*?)"', text)))
    return found


def shown(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in parts)


def entry(row: Obstacle) -> str:
    """The page's entry for a construct."""
    old, new = (
        "\n".join(filter(None, [f"# in __init__: {init}" if init else "", body]))
        for init, body in zip(row.init, (row.before, row.after), strict=True)
    )
    third = '\n\n`frontend="export"` takes it as it is.' if row.exports else ""
    note = f"\n\n{row.note}" if row.note else ""
    code = f"```python\n# instead of\n{old}\n# write\n{new}\n```"
    return f"### {row.name}\n\nIn `why`: {row.construct}.\n\n{code}{note}{third}\n"


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_section_whose_messages_are_the_codes(name: str) -> None:
    listed, known = messages(name), raised(name)
    assert listed
    for message in listed:
        assert any(fits(message, text) for text in known), f"{name} is never raised with {message!r}"


def fits(message: str, text: str) -> bool:
    """Whether an error of the code reads like a search term, whichever of the two is the vaguer."""
    told = len(text.replace("…", "")) >= 10
    return bool(re.match(pattern(message), text)) or (told and bool(re.fullmatch(pattern(text), message)))


def pattern(text: str) -> str:
    return ".+".join(map(re.escape, text.split("…")))


def test_every_construct_has_its_entry(request: pytest.FixtureRequest) -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    given, _, after = rest.partition(END)
    want = "\n" + "\n".join(map(entry, OBSTACLES)) + "\n"
    if request.config.getoption("--update-golden"):
        PAGE.write_text(before + BEGIN + want + END + after, encoding="utf-8")
        return
    assert given == want, "write it again: pytest tests/test_troubleshooting.py --update-golden"


def test_names_on_the_page_are_public() -> None:
    text = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    names = set(re.findall(r"\bqfx\.([A-Za-z_]\w*)", text))
    assert names
    assert not [name for name in names if not hasattr(qfx, name)]


def test_a_message_that_nobody_raises_is_found() -> None:
    assert not any(fits("No such … message.", text) for text in raised("InputError"))
    assert "There is no data to measure on." in raised("InputError")
