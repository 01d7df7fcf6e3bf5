"""The command qfx-run: arrays in and out, and a sentence for each mistake."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import qfx
from tests.capi import installed
from tests.capi.native import Saved

DONE, FAILED, MISUSED = 0, 1, 2


@pytest.fixture(scope="session")
def command(prefix: Path) -> Path:
    return prefix / "bin" / "qfx-run"


def told(command: Path, *words: str | Path, status: int = DONE) -> str:
    """What it prints; of a mistake, its one line."""
    done: subprocess.CompletedProcess[str] = installed.run(command, *words)
    assert done.returncode == status, done.stdout + done.stderr
    if status == DONE:
        return done.stdout
    assert re.fullmatch(r"qfx-run: [^\n]+\.\n", done.stderr), done.stderr
    return done.stderr


def test_it_gives_what_python_gives(command: Path, image_model: Saved, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", image_model.inputs[0])
    out = tmp_path / "y.npy"
    assert told(command, image_model.path, tmp_path / "x.npy", "--output", out).startswith(
        "output: float32 (2, 10) in "
    )
    (want,) = image_model.expected()
    got = np.load(out)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("order", [("{ids}", "{x}"), ("x={x}", "ids={ids}"), ("x={x}", "{ids}")])
def test_inputs_have_places_or_names(order: tuple[str, ...], command: Path, pair_model: Saved, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.npy" for name in ("ids", "x")}
    for path, x in zip(paths.values(), pair_model.inputs, strict=True):
        np.save(path, x)
    told(command, pair_model.path, *(word.format(**paths) for word in order), "--output", tmp_path / "out")
    for name, want in zip(("logits", "mean"), pair_model.expected(), strict=True):
        assert np.load(tmp_path / "out" / f"{name}.npy").tobytes() == want.tobytes()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_version_and_order_is_read(
    version: tuple[int, int], order: str, command: Path, image_model: Saved, tmp_path: Path
) -> None:
    x = np.asarray(image_model.inputs[0], order=order)
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, x, version=version)
    told(command, image_model.path, tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert np.load(tmp_path / "y.npy").tobytes() == image_model.expected()[0].tobytes()


def header_of(text: bytes, version: int = 1) -> bytes:
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text


GOOD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 16, 16), }"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no .npy file"),
        (b"PK\x03\x04 something", "no .npy file"),
        (header_of(GOOD, version=4) + bytes(3072), "version 4"),
        (header_of(GOOD)[:9], "ends too early"),
        (header_of(GOOD)[:40], "within its header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "within its header"),
        (header_of(GOOD) + bytes(3071), "3071 bytes"),
        (header_of(GOOD) + bytes(3073), "3073 bytes"),
        (header_of(GOOD.replace(b"(1, 3,", b"(-1, 3,")), "no number"),
        (header_of(GOOD.replace(b"(1, 3,", b"(4611686018427387904, 4,")), "too large"),
        (header_of(GOOD.replace(b"16, 16", b"16, 70368744177664")), "too many elements"),
        (header_of(GOOD.replace(b"1, 3, 16, 16", b"1, " * 65)), "more than 64 dims"),
        (header_of(GOOD.replace(b"False", b"0")), "neither True nor False"),
        (header_of(GOOD.replace(b"'shape'", b"'shame'")), "'shame'"),
        (header_of(b"{'descr': '<f4', 'descr': '<f4'}"), "'descr'"),
        (header_of(b"{'descr': '<f4'}"), "does not have"),
        (header_of(b"{'descr': '<f4"), "does not end"),
        (header_of(GOOD + b"x"), "follows"),
        (header_of(b""), "no '{'"),
        (header_of(GOOD.replace(b"'<f4'", b"[('a', '<f4')]")), "records"),
        (header_of(GOOD.replace(b"<f4", b">f4")), "'>f4'"),
        (header_of(GOOD.replace(b"<f4", b"|O")), "'|O'"),
        (header_of(GOOD.replace(b"<f4", b"<f8")), "astype"),
    ],
)
def test_files_that_are_no_arrays(content: bytes, word: str, command: Path, image_model: Saved, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    text = told(command, image_model.path, tmp_path / "x.npy", status=FAILED)
    assert word in text
    assert "x.npy" in text


def test_random_inputs_are_those_of_their_seed(command: Path, pair_model: Saved, tmp_path: Path) -> None:
    results = []
    for seed in ("7", "7", "8"):
        words = ("--random", seed, "--shape", "ids=2,5", "--shape=x=2,5,8", "--output", tmp_path / "out")
        text = told(command, pair_model.path, *words)
        assert "logits: float32 (2, 5, 4)" in text
        results.append((tmp_path / "out" / "logits.npy").read_bytes())
    assert results[0] == results[1] != results[2]


def test_it_measures(command: Path, image_model: Saved) -> None:
    words = ("--random", "0", "--shape", "1,3,16,16", "--bench", "5", "--threads", "1")
    found = re.search(r"median ([\d.]+) ms, least ([\d.]+) ms, of 5 calls", told(command, image_model.path, *words))
    assert found is not None
    assert 0 < float(found[2]) <= float(found[1])


def test_it_tells_what_a_model_is(command: Path, pair_model: Saved) -> None:
    text = told(command, pair_model.path, "--info", "--isa", "scalar")
    python = qfx.runtime.load(pair_model.path)
    for value in (*python.inputs, *python.outputs):
        assert f"{value.name}: {value.dtype} ({', '.join(map(str, value.shape))})" in text
    assert "isa       scalar" in text
    assert "Hündin" in text or "H\\u00fcndin" in text


def test_help_and_version(command: Path) -> None:
    assert told(command, "--version") == f"qfx-run {qfx.__version__}\n"
    text = told(command, "--help")
    for option in ("output", "random", "shape", "bench", "threads", "isa", "max-memory", "max-products", "info"):
        assert f"--{option}" in text


@pytest.mark.parametrize(
    ("words", "told_words"),
    [
        ([], ("No model", "qfx.save")),
        (["{m}"], ("'x' is missing", "x=FILE.npy", "--random")),
        (["{m}", "--fast"], ("--fast", "--help")),
        (["{m}", "--bench"], ("--bench has no value",)),
        (["{m}", "--bench", "0"], ("'0'", "from 1 to")),
        (["{m}", "--threads", "two"], ("'two'", "from 1 to")),
        (["{m}", "--shape", "1,,2", "--random", "0"], ("''", "--shape")),
        (["{m}", "--random", "0"], ("'batch'", "--shape x=")),
        (["{m}", "y=x.npy"], ("no input 'y'", "takes x")),
        (["{m}", "x.npy", "x.npy"], ("more files or shapes than inputs",)),
        (["{m}", "x=a.npy", "x=b.npy"], ("'x' is given twice",)),
        (["{m}", "--random", "0", "--shape", "1048576,3,1048576,16"], ("too many elements",)),
        (["{m}", "--info", "--isa", "avx9000"], ("avx9000", "the levels are")),
    ],
)
def test_arguments_that_can_not_be_followed(
    words: list[str], told_words: tuple[str, ...], command: Path, image_model: Saved
) -> None:
    text = told(command, *(word.format(m=image_model.path) for word in words), status=MISUSED)
    for word in told_words:
        assert word in text


def test_one_file_holds_one_output(command: Path, pair_model: Saved) -> None:
    assert "2 outputs" in told(command, pair_model.path, "--random", "0", "--output", "y.npy", status=MISUSED)


def test_what_fails_says_why(command: Path, image_model: Saved, tmp_path: Path) -> None:
    random = ("--random", "0", "--shape", "1,3,16,16")
    assert "no.qfx" in told(command, tmp_path / "no.qfx", status=FAILED)
    cut = tmp_path / "cut.qfx"
    cut.write_bytes(image_model.path.read_bytes()[:-5])
    assert "damaged" in told(command, cut, *random, status=FAILED)
    assert "memory" in told(command, image_model.path, *random, "--max-memory", "100", status=FAILED)
    assert "multiplications" in told(command, image_model.path, *random, "--max-products", "100", status=FAILED)
    assert "no.npy" in told(command, image_model.path, tmp_path / "no.npy", status=FAILED)
    assert "(1, 4, 16, 16)" in told(command, image_model.path, "--random", "0", "--shape", "1,4,16,16", status=FAILED)
