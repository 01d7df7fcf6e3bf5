"""What long calls show: a bar with a total where one is known, on a terminal, and nothing when asked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.calibration import first_batch
from qfx.progress import length

IMAGES = list(torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0)))
DEFAULT = {"": qfx.get_default_qconfig()}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


class Refusing:
    """What can't say how long it is."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Tensor]:
        return iter(IMAGES)


class Sized(Refusing):
    def __len__(self) -> int:
        return 3


SOURCES: dict[str, tuple[Any, int | None]] = {
    "list": (IMAGES, 3),
    "tuple": (tuple(IMAGES), 3),
    "DataLoader": (torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.cat(IMAGES)), batch_size=2), 3),
    "Sized": (Sized(), 3),
    "IterableDataset": (torch.utils.data.DataLoader(Stream(), batch_size=None), None),
    "no length": (Refusing(), None),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_length_of_data_is_known_where_it_says_so(name: str) -> None:
    data, expected = SOURCES[name]
    assert length(data) == expected
    assert length(first_batch(data)[1]) == expected
    assert length(iter(Refusing())) in (None, 3)


def test_a_generator_has_no_length() -> None:
    assert length(x for x in IMAGES) is None


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


@pytest.mark.parametrize(
    ("name", "total"), [("list", "/3"), ("DataLoader", "/3"), ("Sized", "/3"), ("no length", "0batch")]
)
def test_calibration_shows_its_total(name: str, total: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    qfx.quantize_fx(net(), DEFAULT, SOURCES[name][0])
    assert "calibrating" in terminal.getvalue()
    assert total in terminal.getvalue()


CALLS = {
    "sensitivity": lambda model, q, **o: qfx.sensitivity(model, DEFAULT, IMAGES, **o),
    "suggest": lambda model, q, **o: qfx.suggest(model, q, IMAGES, trials=1, **o),
    "compare": lambda model, q, **o: qfx.compare(model, q, IMAGES, **o),
}
LABELS = {"sensitivity": "sensitivity", "suggest": "sensitivity", "compare": "comparing"}


@pytest.mark.parametrize("name", CALLS)
def test_long_calls_show_where_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    q = qfx.quantize_fx(model, DEFAULT, IMAGES)
    shown = {}
    for label, stream, options in (
        ("terminal", Terminal(), {}),
        ("quiet", Terminal(), {"progress": False}),
        ("file", io.StringIO(), {}),
    ):
        monkeypatch.setattr("sys.stderr", stream)
        CALLS[name](model, q, **options)
        shown[label] = stream.getvalue()
    assert LABELS[name] in shown["terminal"]
    assert "%" in shown["terminal"]
    assert shown["quiet"] == shown["file"] == ""
