"""Quantized encoders in folders: what is written, read, and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qfx.errors import InputError
from qfx.integrations import load_encoder
from tests.integrations.nets import SIZES

IDS = torch.randint(5, SIZES["vocab_size"], (2, 6), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def saved(quantized: Any, tokenizer: Any, tmp_path: Path) -> Path:
    quantized.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_gives_the_model_back(hf: Any, quantized: Any, saved: Path) -> None:
    assert {"config.json", "model.qfx", "qfx_encoder.json", "tokenizer.json"} <= {path.name for path in saved.iterdir()}
    loaded = load_encoder(saved)
    assert type(loaded) is type(quantized)
    assert loaded.form == quantized.form
    assert loaded.config.hidden_size == quantized.config.hidden_size
    inputs = hf.AutoTokenizer.from_pretrained(saved)(["the cat sat"], return_tensors="pt")
    assert torch.equal(loaded(**inputs).pooler_output, quantized(**inputs).pooler_output)


def test_a_class_that_has_moved_is_found(quantized: Any, saved: Path) -> None:
    _edit(saved, lambda stored: stored.update({"class": "transformers.models.once.modeling_once:BertModel"}))
    assert torch.equal(load_encoder(saved)(IDS)[0], quantized(IDS)[0])


def _edit(folder: Path, change: Callable[[Any], Any]) -> None:
    path = folder / "qfx_encoder.json"
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


DAMAGE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a later version": ("version 99", lambda stored: stored.update(version=99)),
    "a class that is not there": ("no class 'Nothing'", lambda s: s.update({"class": "transformers.models:Nothing"})),
    "a class of another package": ("no class 'system'", lambda s: s.update({"class": "os:system"})),
    "a class of no model": ("damaged", lambda s: s.update({"class": "transformers:BertConfig"})),
    "a class of no result": ("damaged", lambda s: s["form"]["gives"].update({"class": "transformers:BertModel"})),
    "no form": ("damaged", lambda stored: stored.pop("form")),
    "no dtype": ("damaged", lambda stored: stored["form"]["takes"].update(input_ids="load")),
    "names for a list": ("damaged", lambda stored: stored["form"].update(takes=[1])),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_can_not_be_read_is_told(saved: Path, name: str) -> None:
    said, change = DAMAGE[name]
    _edit(saved, change)
    with pytest.raises(InputError, match=said):
        load_encoder(saved)


def test_other_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no quantized encoder"):
        load_encoder(tmp_path)
    (tmp_path / "qfx_encoder.json").write_text("{")
    with pytest.raises(InputError, match="holds no quantized encoder"):
        load_encoder(tmp_path)


def test_transformers_is_not_imported_for_itself() -> None:
    program = (
        "import sys, qfx.integrations; print('transformers' in sys.modules, 'sentence_transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
