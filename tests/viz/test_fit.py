"""Labels stay in their boxes, whatever font the viewer has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import qfx
from tests.viz.models import Sorted, images, quantized, residual
from tests.viz.test_page import browser  # noqa: F401  (a fixture)

OUTSIDE = """font => {
  for (const text of document.querySelectorAll("text")) text.setAttribute("font-family", font);
  const found = [];
  for (const group of document.querySelectorAll(".node, .cluster")) {
    const shape = group.querySelector("path, polygon, ellipse").getBBox();
    for (const text of group.querySelectorAll("text")) {
      const { x, width } = text.getBBox();
      if (x < shape.x - 0.5 || x + width > shape.x + shape.width + 0.5) found.push(text.textContent);
    }
  }
  return found;
}"""
FONTS = ("Helvetica", "DejaVu Sans", "serif", "monospace", "fantasy")


class Framed(torch.nn.Module):
    """Modules with names longer than what is in them."""

    def __init__(self) -> None:
        super().__init__()
        self.a_module_with_a_name_that_is_longer_than_its_boxes = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a_module_with_a_name_that_is_longer_than_its_boxes(x)


PICTURES: dict[str, Any] = {
    "int8": lambda: qfx.to_dot(residual()[2]),
    "program": lambda: qfx.to_dot(residual()[2], level="program"),
    "beside": lambda: qfx.to_dot(residual()[2], level="qdq", beside="int8"),
    "heat": lambda: qfx.to_dot(residual()[2], heat=residual()[2].profile(images(), repeats=1)),
    "observed": lambda: qfx.to_dot(residual()[1]),
    "islands": lambda: qfx.to_dot(quantized(Sorted(), images())),
    "frames": lambda: qfx.to_dot(quantized(Framed(), images())),
}


@pytest.mark.parametrize("name", PICTURES)
def test_no_label_leaves_its_box(name: str, browser: Any, tmp_path: Path) -> None:  # noqa: F811
    path = PICTURES[name]().save(tmp_path / "picture.svg")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.locator(".node text").count() > 3
    assert {font: page.evaluate(OUTSIDE, font) for font in FONTS} == {font: [] for font in FONTS}
    page.close()
