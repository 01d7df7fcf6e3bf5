"""What MODEL may be, and what it may not be: files are told by their content, and run nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qfx.cli import main
from qfx.cli.content import Content, content_of
from qfx.cli.model import load_float, load_model, load_quantized
from qfx.errors import InputError


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def export(path: str) -> None:
    dims = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(net(), (X,), dynamic_shapes=dims), path)


def script(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net(), X), path)


@pytest.fixture(scope="module")
def exported() -> bytes:
    held = io.BytesIO()
    dims = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(net(), (X,), dynamic_shapes=dims), held)
    return held.getvalue()


@pytest.mark.parametrize("name", ["model.pt2", "model.bin", "model"])
def test_an_exported_program_is_known_by_its_content(folder: Path, name: str, exported: bytes) -> None:
    Path(name).write_bytes(exported)
    found = load_float(name)
    assert isinstance(found.capture, torch.export.ExportedProgram)
    assert torch.equal(found.module(X), net()(X))
    assert found.module(torch.cat([X, X])).shape[0] == 4
    assert found.bytes == 4 * (4 * 3 * 9 + 4)
    assert len(found.inputs) == 1


@pytest.mark.parametrize("name", ["model.pt", "model.ts", "model.pt2"])
def test_torchscript_is_known_by_its_content(folder: Path, name: str) -> None:
    script(name)
    found = load_float(name)
    assert isinstance(found.capture, torch.jit.ScriptModule)
    assert torch.equal(found.module(X), net()(X))
    assert found.signature.required == len(found.inputs) == 1


def test_a_quantized_file_is_known_by_its_content(quantized: Path) -> None:
    quantized.rename("model.pt")
    assert load_quantized("model.pt")(X).shape == (2, 4, 6, 6)
    with pytest.raises(InputError, match="quantized already"):
        load_float("model.pt")


@pytest.mark.parametrize(("make", "frontend"), [(export, "export"), (script, "torchscript")])
def test_a_file_is_quantized_by_its_own_frontend(
    folder: Path, make: Callable[[str], None], frontend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make("model.pt")
    assert main(["quantize", "model.pt", "--calibration", "data.npz", "-o", "out.qfx", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["frontend"], facts["int8"], facts["float"]) == (frontend, 1, 0)
    assert load_quantized("out.qfx")(X).shape == net()(X).shape


class Evil:
    """Whose unpickling makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def _evil_pickle(path: str) -> None:
    Path(path).write_bytes(pickle.dumps(Evil()))


def _evil_torch(path: str) -> None:
    torch.save(Evil(), path)


def _onnx(path: str) -> None:
    Path(path).write_bytes(b"\x08\x0a\x12\x07pytorch")


def _safetensors(path: str) -> None:
    text = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))


def _cut(path: str) -> None:
    script("whole.ts")
    Path(path).write_bytes(Path("whole.ts").read_bytes()[:900])


def _legacy(path: str) -> None:
    torch.save(net(), path, _use_new_zipfile_serialization=False)


REFUSED: dict[str, tuple[str, Callable[[str], object], str]] = {
    "whole module": ("net.pt", lambda p: torch.save(net(), p), "def make()"),
    "whole module, old": ("net.pt", _legacy, "def make()"),
    "hostile pickle": ("net.pkl", _evil_pickle, "would run any code"),
    "hostile torch file": ("net.pth", _evil_torch, "would run any code"),
    "state_dict": ("net.pth", lambda p: torch.save(net().state_dict(), p), "loads net.pth into the model"),
    "onnx": ("net.onnx", _onnx, "torch.export.save"),
    "safetensors": ("net.safetensors", _safetensors, "loads net.safetensors"),
    "truncated": ("net.ts", _cut, "truncated or damaged"),
    "empty": ("net.pt2", lambda p: Path(p).touch(), "nothing"),
    "python": ("net.py", lambda p: Path(p).write_text("x = 1\n"), "net:make"),
    "text": ("net.txt", lambda p: Path(p).write_text("hello"), "module:factory"),
    "folder": ("net", lambda p: Path(p).mkdir(), "is a folder"),
    "device": ("/dev/null", lambda p: None, "device"),
    "missing": ("mising.pt2", lambda p: Path("missing.pt2").touch(), "Did you mean 'missing.pt2'?"),
    "no colon": ("cli_models", lambda p: None, "Write module:name, such as cli_models:make"),
    "empty text": ("", lambda p: None, "MODEL is ''"),
    "NUL": ("a\0b", lambda p: None, "neither a file nor module:name"),
    "too long": ("x" * 5000, lambda p: None, "neither a file nor module:name"),
    "source file with a name": ("cli_models.py:make", lambda p: None, "Write cli_models:make."),
    "path with a name": ("lib/cli_models:make", lambda p: None, "Write module:name"),
    "relative module": (".cli_models:make", lambda p: None, "Write module:name"),
    "similar name": ("cli_models:mke", lambda p: None, "Did you mean 'make'?"),
    "syntax": ("wrong:make", lambda p: Path("wrong.py").write_text("def make(:\n"), "wrong.py:1"),
    "import": ("needs:make", lambda p: Path("needs.py").write_text("import nowhere\n"), "Install nowhere"),
    "raises": ("cli_models:broken", lambda p: None, "in broken: raise FileNotFoundError"),
    "exits": ("cli_models:leaves", lambda p: None, "in leaves: raise SystemExit"),
    "exits on import": ("exits:make", lambda p: Path("exits.py").write_text("raise SystemExit\n"), "exits.py:1"),
    "wants arguments": ("torch.nn:Conv2d", lambda p: None, "called without arguments"),
    "gives no model": ("cli_models:not_a_model", lambda p: None, "gives int"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_model_is_refused_and_does_nothing(folder: Path, name: str) -> None:
    spec, make, message = REFUSED[name]
    make(spec)
    with pytest.raises(InputError) as caught:
        load_model(spec)
    assert message in str(caught.value)
    assert caught.value.remedy
    assert not Path("owned").exists()


def _rewritten(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """An exported program whose graph is changed."""
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(held, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("models/model.json"):
                graph = json.loads(data)
                change(graph)
                data = json.dumps(graph).encode()
            target.writestr(name, data)
    return held.getvalue()


def _call(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.mkdir"


def _expression(text: str) -> Callable[[dict[str, Any]], None]:
    def change(graph: dict[str, Any]) -> None:
        values = graph["graph_module"]["graph"]["tensor_values"]
        sizes = next(v["sizes"] for v in values.values() if "as_expr" in v["sizes"][0])
        sizes[0]["as_expr"]["expr_str"] = text

    return change


HOSTILE = {
    "call": _call,
    "expression": _expression("__import__('os').mkdir('owned')"),
    "lower-case call": _expression("sympify('x')"),
    "text in a call": _expression("Symbol('os.mkdir(1)')"),
    "attribute": _expression("Symbol('x').func"),
    "no expression": _expression("1 +"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_is_refused_before_it_is_read(folder: Path, name: str, exported: bytes) -> None:
    Path("bad.pt2").write_bytes(_rewritten(exported, HOSTILE[name]))
    with pytest.raises(InputError, match=r"bad\.pt2"):
        load_model("bad.pt2")
    assert not Path("owned").exists()


def test_pickles_in_a_program_are_not_run(folder: Path, exported: bytes) -> None:
    held = io.BytesIO()
    torch.save(Evil(), held)
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(exported)) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            inside = held.getvalue() if name.endswith("sample_inputs/model.pt") else source.read(name)
            target.writestr(name, inside)
    Path("bad.pt2").write_bytes(changed.getvalue())
    with pytest.raises(InputError, match=r"bad\.pt2"):
        load_model("bad.pt2")
    assert not Path("owned").exists()


@pytest.mark.parametrize("make", [export, script])
def test_a_file_that_ends_early_never_loads(folder: Path, make: Callable[[str], None]) -> None:
    make("whole")
    content = Path("whole").read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9, 0.999):
        Path("cut.pt").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"cut\.pt"):
            load_model("cut.pt")


def test_content_is_told_without_reading_objects(folder: Path) -> None:
    torch.save({"a": [X, {"b": X}]}, "nested.pt")
    assert content_of(Path("nested.pt")) is Content.weights
    torch.save(torch.nn.Parameter(X), "parameter.pt")
    assert content_of(Path("parameter.pt")) is Content.weights
    torch.save([Evil()], "list.pt")
    assert content_of(Path("list.pt")) is Content.pickled
