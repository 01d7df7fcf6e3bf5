"""docs/migrating.md: its tables are the table of names, and its examples are what the tool makes of them, and run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from qfx.migrate.document import BEGIN, document
from qfx.migrate.rewrite import migrate

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "migrating.md"
EXAMPLES = ("Dynamic", "Static", "Quantization-aware training")


def sections() -> dict[str, list[str]]:
    """The Python blocks below each heading."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^#+ ", PAGE.read_text().partition(BEGIN)[0], flags=re.MULTILINE)[1:]:
        found[section.split("\n", 1)[0]] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return found


def example(start: str) -> tuple[str, str]:
    """The two blocks of the example whose heading starts so."""
    ((before, after),) = [blocks for heading, blocks in sections().items() if heading.startswith(start)]
    return before, after


def test_the_tables_are_up_to_date(request: pytest.FixtureRequest) -> None:
    text = document(PAGE.read_text())
    if request.config.getoption("--update-golden"):
        PAGE.write_text(text)
    assert text == PAGE.read_text(), "pytest tests/migrate --update-golden writes them"


@pytest.mark.parametrize("start", EXAMPLES)
def test_the_tool_makes_the_second_form_of_the_first(start: str) -> None:
    before, after = example(start)
    migrated = migrate(before.encode())
    assert migrated.text.decode() == after
    assert migrated.findings == ()


@pytest.mark.inventory("S223")
@pytest.mark.parametrize("start", EXAMPLES)
def test_the_second_form_runs_as_written(start: str) -> None:
    (setting,) = sections()["Three examples"]
    assert run(setting + example(start)[1]) == ""


@pytest.mark.parametrize("start", EXAMPLES)
def test_the_first_form_ran_too(start: str) -> None:
    (setting,) = sections()["Three examples"]
    assert run("import warnings\nwarnings.simplefilter('ignore')\n" + setting + example(start)[0], "ignore") == ""


def run(program: str, warnings: str = "error") -> str:
    """What ``program`` has to complain of in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return "" if done.returncode == 0 else done.stderr
