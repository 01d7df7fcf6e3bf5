"""README and docs: every Python block runs, in order, every path exists, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from docs.op_coverage import PAGE, kernels, page
from qfx.lowering import emitters  # noqa: F401  (fills EMITTERS)
from qfx.ops import TABLE
from qfx.quantization import qconfig_dict as parser
from tests.integrations import nets as small
from tests.nets import small_net

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = ("README.md", "concepts.md", "extending.md", "pictures.md", "qconfig_dict.md", "training.md", "transformers.md")
"""Pages whose blocks run here; the command line, migration and troubleshooting have tests of their own."""


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


class Net(nn.Module):
    """The model of the examples: convolutions, and a block with children to name."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.block = small_net("ConvBnReluNet"), nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
        self.head = nn.ModuleDict({"proj": nn.Linear(10, 10)})
        self.encoder = nn.ModuleDict({"layer1": nn.Sequential(nn.Linear(10, 10), nn.GELU())})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block[1](self.block[0](x))
        return self.head["proj"](torch.sigmoid(self.encoder["layer1"](self.body(x))))


def names(run: str) -> dict[str, Any]:
    """What the examples take for granted."""
    torch.manual_seed(0)
    images = torch.randn(4, 3, 16, 16)
    loader = [(images, torch.arange(4)), (images + 0.1, torch.arange(4))]
    model: Any = Net().eval()
    default = {"": qfx.get_default_qconfig()}

    def train(prepared: Any) -> None:
        prepared(images).sum().backward()

    return {
        "__name__": run, "qfx": qfx, "torch": torch, "model": model, "net": model, "images": images, "x": images,
        "pixels": images.numpy(), "labels": [str(n) for n in range(10)],
        "batches": [images], "loader": loader, "batch": (images,), "calibration": [images], "train": train,
        "example_inputs": (images,), "qconfig_dict": default, "qmodel": qfx.quantize_fx(model, default, [images]),
    }  # fmt: skip


def transformers(folder: Path) -> dict[str, Any]:
    """What the examples with Hugging Face's models take for granted."""
    encoder = small.made("BertModel", "BertConfig", **small.SIZES)
    whole = small.sentence_transformer(folder / "float")
    return {
        "encoder": encoder, "tokenizer": small.word_tokenizer(), "texts": small.TEXTS, "sentence_transformer": whole,
    }  # fmt: skip


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("name", RUN)
def test_every_block_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(path for path in PAGES if path.name == name)
    monkeypatch.chdir(tmp_path)
    given = names(f"block_of_{path.stem}")
    if "quantize_encoder" in path.read_text():
        given |= transformers(tmp_path)
    for number, source in enumerate(blocks(path.read_text())):
        exec(compile(source, f"{name}, block {number}", "exec"), given)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    assert not [link for link in links if "://" not in link and not (path.parent / link).exists()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_path_in_the_tree_exists(path: Path) -> None:
    named = re.findall(r"`((?:qfx|tests|docs|benchmarks|examples|notebooks)/[\w/.]+)`", path.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_key_of_a_qconfig_dict_is_described() -> None:
    text = (ROOT / "docs" / "qconfig_dict.md").read_text()
    assert not [key for key in parser._SECTIONS if f"`{key or chr(34) * 2}`" not in text]


def test_the_list_of_docs_is_complete() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    books = {f"../notebooks/{book.name}" for book in (ROOT / "notebooks").glob("*.ipynb")}
    assert pages | books == set(re.findall(r"\]\(([^)]+)\)", text))


def test_the_op_table_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m docs.op_coverage"


def test_the_kernels_in_the_op_table_are_those_that_run() -> None:
    """For steps of a few networks here: what explain() names is among what the page counts."""
    model = qfx.quantize_fx(small_net("MobileNet"), {"": qfx.get_default_qconfig()}, [torch.randn(2, 3, 16, 16)])
    steps = [step for program in model.explain().parts for step in program.steps]
    rows = {op.family: op for op in TABLE.values() if op.kernels}
    named = [(step.op, set(step.kernels)) for step in steps if step.op in rows and step.kernels]
    assert {op for op, _ in named} >= {"conv", "mul", "mean", "quantize"}
    for op, ran in named:
        assert ran <= {name for name, _ in kernels(rows[op])}
