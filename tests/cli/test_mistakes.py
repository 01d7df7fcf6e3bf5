"""Every argument wrong in the ways people get it wrong: one line, a status, and nothing written."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from qfx.cli import main

USUAL = ("quantize", "cli_models:make", "--calibration", "cli_models:batches", "-o", "out.qfx")


def quantize(**changed: str | None) -> tuple[str, ...]:
    """The usual arguments with options changed, added or (None) left out; ``model`` is MODEL."""
    options = {"calibration": "cli_models:batches", "output": "out.qfx", **changed}
    model = options.pop("model", "cli_models:make")
    words = [(f"--{k.replace('_', '-')}", v) for k, v in options.items() if v is not None]
    return ("quantize", str(model), *(word for pair in words for word in pair))


def data(name: str) -> tuple[str, ...]:
    return quantize(calibration=name)


MISUSED = {
    "no command": ((), "COMMAND"),
    "command": (("quantise",), "Did you mean 'quantize'?"),
    "no MODEL": (("quantize", "-o", "x.qfx"), "MODEL"),
    "no OUT": (("quantize", "m:f"), "-o/--output"),
    "option": ((*USUAL, "--calibraton", "x"), "Did you mean '--calibration'?"),
    "option with =": ((*USUAL, "--batchsize=3"), "Did you mean '--batch-size'?"),
    "one model more": ((*USUAL, "other:make"), "unexpected 'other:make'"),
    "no value": (("quantize", "m:f", "-o"), "expected one argument"),
    "batch size 0": (quantize(batch_size="0"), "'0' is no whole number of 1 or more"),
    "batch size text": (quantize(batch_size="many"), "'many' is no whole number"),
    "batch size 1.5": (quantize(batch_size="1.5"), "'1.5' is no whole number"),
    "batch size huge": (quantize(batch_size="9" * 30), "no whole number"),
    "frontend": (quantize(frontend="exprot"), "Did you mean 'export'?"),
    "mean": (quantize(mean="red"), "--mean"),
    "level": (("draw", "net.qfx", "-o", "x.svg", "--level", "int4"), "Did you mean 'int8'?"),
    "seconds": (("bench", "net.qfx", "--seconds", "-1"), "no number of seconds above 0"),
    "seconds nan": (("bench", "net.qfx", "--seconds", "nan"), "no number of seconds"),
    "empty OUT": (quantize(output=""), "no path"),
    "nothing to run on": (("run", "net.qfx"), "--input"),
}


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_one_line_with_status_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = MISUSED[name]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert "--help." in captured.err


FAILED = {
    "out suffix": (quantize(output="out.pt"), "Name it .qfx"),
    "out folder missing": (quantize(output="no/out.qfx"), "no folder 'no'"),
    "out is a folder": (quantize(output="folder.qfx"), "it is a folder"),
    "out below a file": (quantize(output="cfg.json/out.qfx"), "is no folder"),
    "out is a device": (quantize(output="null.qfx"), "a device or a pipe"),
    "out where none may write": (quantize(output="/proc/out.qfx"), "can't be written"),
    "out too long": (quantize(output="x" * 300 + ".qfx"), "can't be written"),
    "report suffix": (quantize(report="page.txt"), "Name it .html"),
    "model is missing": (quantize(model="net.pt2"), "no file 'net.pt2'"),
    "model is quantized": (quantize(model="net.qfx"), "quantized already"),
    "model is data": (quantize(model="data.npz"), "holds arrays"),
    "factory raises": (quantize(model="cli_models:broken"), "in broken: raise FileNotFoundError"),
    "factory exits": (quantize(model="cli_models:leaves"), "raises SystemExit"),
    "factory returns a number": (quantize(model="cli_models:not_a_model"), "gives int"),
    "config missing": (quantize(qconfig="no.json"), "no file 'no.json'"),
    "config key": (quantize(qconfig="key.json"), "Did you mean 'module_name'?"),
    "config path": (quantize(qconfig="path.json"), "Nearest: first"),
    "isa": (quantize(isa="avx3"), "avx3"),
    "data missing": (data("none.npz"), "no file 'none.npz'"),
    "data folder missing": (data("none/"), "no such file or folder"),
    "data empty folder": (data("folder.qfx"), "holds no images"),
    "data folder of text": (data("texts"), "holds no images"),
    "data empty file": (data("empty.npz"), "holds nothing"),
    "data truncated": (data("cut.npz"), "'cut.npz'"),
    "data of objects": (data("objects.npz"), "'objects.npz' can't be read"),
    "data of text": (data("text.npz"), "'text.npz' can't be read"),
    "data scalar": (data("scalar.npz"), "samples along the first axis"),
    "data uneven": (data("uneven.npz"), "a 2, b 3"),
    "data without samples": (data("none_in.npz"), "empty"),
    "data rank": (data("rank.npz"), "first"),
    "data channels": (data("channels.npz"), "first"),
    "data too many inputs": (data("two.npz"), "takes x"),
    "data of integers": (data("cli_models:integers"), "first"),
    "data is a model": (data("net.qfx"), "not data"),
    "data pickled": (data("pickled.pt"), "'pickled.pt' can't be read"),
    "data NaN": (data("cli_models:nan"), "not finite"),
    "data breaks off": (data("cli_models:breaks"), "in breaks: raise OSError"),
    "data is a number": (data("cli_models:not_a_model"), "gives int, not batches"),
    "data is a class": (data("cli_models:Net"), "not batches"),
    "image size": ((*quantize(), "--image-size", "1", "2", "3"), "height and width"),
    "std 0": ((*quantize(), "--std", "0", "1", "1"), "above 0"),
    "mean and std": ((*quantize(), "--mean", "0"), "one each for gray"),
    "run a float model": (("run", "cli_models:make", "--input", "data.npz"), "is a float model"),
    "run damaged": (("run", "damaged.qfx", "--input", "data.npz"), "damaged.qfx"),
    "run cut": (("run", "cut.qfx", "--input", "data.npz"), "cut.qfx"),
    "run on another rank": (("run", "net.qfx", "--input", "rank.npz"), "rank"),
    "run on other channels": (("run", "net.qfx", "--input", "channels.npz"), "channels"),
    "run on nothing": (("run", "net.qfx", "--input", "none_in.npz"), "no data"),
    "run to .npy": (("run", "net.qfx", "--input", "data.npz", "-o", "x.npy"), "Name it .npz"),
    "bench another model": (("bench", "net.qfx", "--float", "other:make"), "does not run"),
    "compare turned": (("compare", "net.qfx", "cli_models:make", "--data", "data.npz"), "quantized already"),
    "draw to a word": (("draw", "net.qfx", "-o", "picture"), ".svg"),
    "draw int8 without data": (("draw", "cli_models:make", "-o", "x.svg", "--level", "int8"), "--calibration DATA"),
    "draw observed of a file": (("draw", "net.qfx", "-o", "x.dot", "--level", "observed"), "observed"),
    "report without data": (("report", "net.qfx", "-o", "x.html", "--float", "cli_models:make"), "--data DATA"),
    "sensitivity of no node": (
        ("sensitivity", "cli_models:make", "--calibration", "data.npz", "--nodes", "frist"), "first",
    ),
    "jobs missing": (("batch", "no.toml"), "There is no file 'no.toml'"),
}  # fmt: skip


def _surroundings(folder: Path, quantized: Path) -> None:
    """What the mistakes are made with."""
    zeros = np.zeros((2, 3, 8, 8), np.float32)
    content = quantized.read_bytes()
    Path("folder.qfx").mkdir()
    Path("null.qfx").symlink_to("/dev/null")
    Path("texts").mkdir()
    Path("texts/labels.txt").write_text("cat\n")
    Path("key.json").write_text('{"": "default", "module_nam": []}')
    Path("path.json").write_text('{"": "default", "module_name": [["frist", null]]}')
    Path("other.py").write_text("from torch import nn\ndef make(): return nn.Linear(7, 7)\n")
    Path("empty.npz").touch()
    Path("cut.npz").write_bytes(Path("data.npz").read_bytes()[:400])
    np.savez("objects.npz", np.array([{"a": 1}], dtype=object))
    np.savez("text.npz", np.array(["cat", "dog"]))
    np.savez("scalar.npz", np.float32(3))
    np.savez("uneven.npz", a=zeros, b=np.zeros((3, 3), np.float32))
    np.savez("none_in.npz", zeros[:0])
    np.savez("rank.npz", zeros[0, 0])  # torch takes one image without a batch, but nothing less
    np.savez("channels.npz", np.zeros((2, 5, 8, 8), np.float32))
    np.savez("two.npz", a=zeros, b=zeros, c=zeros)
    torch.save(torch.nn.Linear(2, 2), "pickled.pt")
    Path("cut.qfx").write_bytes(content[:-100])
    Path("damaged.qfx").write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])


@pytest.mark.parametrize("name", FAILED)
def test_a_mistake_is_one_line_with_status_1(
    quantized: Path, folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = FAILED[name]
    _surroundings(folder, quantized)
    before = {p.name for p in folder.iterdir()}
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1, captured.err
    assert captured.err.startswith(f"qfx {arguments[0]}: ")
    assert message in captured.err
    assert {p.name for p in folder.iterdir()} - {"__pycache__"} <= before


def test_a_failed_run_leaves_an_earlier_result(folder: Path) -> None:
    assert main(quantize()) == 0
    before = Path("out.qfx").read_bytes()
    assert main(data("cli_models:nan")) == 1
    assert Path("out.qfx").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_places_where_one_may_not_write(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    assert main(quantize(output="locked/out.qfx")) == 1
    assert "'locked' is read-only" in capsys.readouterr().err
    Path("out.qfx").touch(mode=0o400)
    assert main(quantize()) == 1
    assert "it is read-only" in capsys.readouterr().err


def test_the_traceback_is_there_for_who_asks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main((*quantize(model="cli_models:broken"), "--traceback")) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("QFX_TRACEBACK", "1")
    assert main(quantize(model="cli_models:broken")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_one_line_too(
    quantized: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: str) -> None:
        raise AssertionError("first line\nsecond line")

    monkeypatch.setattr("qfx.cli.model.load_quantized", fail)
    assert main(["inspect", "net.qfx"]) == 1
    assert capsys.readouterr().err == "qfx inspect: AssertionError: first line (--traceback shows where)\n"


BOMBS: dict[str, Callable[[], bytes]] = {
    "array that claims a terabyte": lambda: _npy("(1099511627776,)", b"\0" * 64),
    "array with code for a header": lambda: _npy("__import__('os').mkdir('owned')", b""),
}


def _npy(shape: str, content: bytes) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content)
    return held.getvalue()


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_arrays(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bomb.npz").write_bytes(BOMBS[name]())
    assert main(data("bomb.npz")) == 1
    assert "'bomb.npz' can't be read" in capsys.readouterr().err
    assert not Path("owned").exists()
