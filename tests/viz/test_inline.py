"""What notebooks show."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import qfx
from tests.viz.models import Named, images, quantized, residual


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)


def test_models_show_pictures() -> None:
    _, prepared, quantized_model = residual()
    for model in (prepared, quantized_model):
        tags = _Tags(model._repr_html_()).found
        assert "svg" in tags
        assert "script" not in tags
    assert qfx.draw(quantized_model)._repr_svg_().count("<svg") == 1


def test_what_is_told_node_by_node_shows_tables() -> None:
    model, _, qmodel = residual()
    for told, rows in (
        (qmodel.report, len(qmodel.report)),
        (qfx.compare(model, qmodel, [images()]), len(qfx.compare(model, qmodel, [images()]))),
        (qmodel.profile(images(), repeats=1), sum(len(p.steps) for p in qmodel.explain().parts)),
    ):
        assert _Tags(told._repr_html_()).found.count("tr") == rows + 1


def test_hostile_names_stay_text() -> None:
    model = quantized(Named(), torch.randn(4, 4))
    for thing in (model, model.report, model.explain()):
        assert "script" not in _Tags(thing._repr_html_()).found


def test_without_graphviz_a_model_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert "pip install graphviz-pure" in residual()[2]._repr_html_()
