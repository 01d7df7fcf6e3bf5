"""What every test starts from: fixed seeds, one torch thread a worker, golden files."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    # Two workers with two threads each would fight for two cores; a test of threading sets its own number.
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    gc.freeze()  # all cases live to the end: no collection has to look at them


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed notes a traceback for devices that are not there


@pytest.fixture
def registries() -> Iterator[None]:
    """What the test registers (ops, rules) is gone afterwards, and the number of threads as it was."""
    import qfx
    from qfx.lowering.emitters import EMITTERS
    from qfx.ops import spellings, table
    from qfx.patterns.registered import REGISTERED

    kept: Any = (table.TABLE, table._BY_TARGET, spellings.ALIASES, EMITTERS, REGISTERED)
    before, threads = [dict(registry) for registry in kept], qfx.get_num_threads()
    yield
    for registry, content in zip(kept, before, strict=True):
        registry.clear()
        registry.update(content)
    qfx.set_num_threads(threads)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` compares ``text`` with tests/golden/<name>; ``--update-golden`` writes it."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} does not exist: run pytest --update-golden and read what it wrote"
        assert text == path.read_text(), f"differs from {path}: if the change is meant, run pytest --update-golden"

    return compare
