"""``qfx calibrate`` in one process, and with every argument wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.cli import main
from tests.cli.command import assert_same, calibrate, usual


def model() -> nn.Module:
    import cli_models

    made: nn.Module = cli_models.make()
    return made


def calibrated(batches: list[Tensor]) -> qfx.PreparedModel:
    torch.set_num_threads(1)
    prepared = qfx.prepare_fx(model(), {"": qfx.get_default_qconfig()}, batches[0])
    for batch in batches:
        prepared(batch)
    return prepared


# ---------------------------------------------------------------- one process


@pytest.mark.parametrize("data", ["batches", "stream"])
def test_the_state_is_that_of_a_prepared_model(folder: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate(*usual("out.pt", f"cli_models:{data}")) == 0
    import cli_models

    want = calibrated(cli_models.batches)
    state = torch.load("out.pt", weights_only=True)
    assert_same(state, want.state_dict())
    fresh = qfx.prepare_fx(model(), {"": qfx.get_default_qconfig()}, cli_models.batches[0])
    fresh.load_state_dict(state)
    x = cli_models.batches[0]
    assert torch.equal(qfx.convert_fx(fresh)(x), qfx.convert_fx(want)(x))
    assert capsys.readouterr().out == "out.pt: ranges of 2 values, 1 process\n"


def test_json_holds_the_qparams(folder: Path) -> None:
    assert calibrate(*usual("out.json")) == 0
    import cli_models

    want = calibrated(cli_models.batches)
    got = json.loads(Path("out.json").read_text())
    assert len(got) == 2
    for path, entry in got.items():
        qparams = want.get_submodule(path).qparams()
        assert (entry["scale"], entry["zero_point"]) == (qparams.scale, qparams.zero_point)
        assert (entry["dtype"], entry["quant_min"], entry["quant_max"]) == ("quint8", qparams.qmin, qparams.qmax)


@pytest.mark.parametrize("kind", ["npz", "named npz", "tensor", "dict", "list"])
def test_files_of_data(folder: Path, kind: str) -> None:
    samples = torch.from_numpy(np.load("data.npz")["arr_0"])
    batches = [samples[:2], samples[2:4], samples[4:]]
    write: dict[str, tuple[str, Callable[[], None]]] = {
        "npz": ("data.npz", lambda: None),
        "named npz": ("named.npz", lambda: np.savez("named.npz", x=samples.numpy())),
        "tensor": ("data.pt", lambda: torch.save(samples, "data.pt")),
        "dict": ("data.pt", lambda: torch.save({"x": samples}, "data.pt")),
        "list": ("data.pt", lambda: torch.save(batches, "data.pt")),
    }
    name, save = write[kind]
    save()
    assert calibrate(*usual("out.pt", name), "--batch-size", "2") == 0
    assert_same(torch.load("out.pt", weights_only=True), calibrated(batches).state_dict())


CONFIGS = {
    "cfg.toml": '"" = "default"\n[object_type]\n"torch.nn.Conv2d" = "float"\n',
    "cfg.yaml": "'': fbgemm\nobject_type:\n- [torch.nn.Conv2d, null]\n",
    "more.json": '{"": "default_qconfig", "module_name": [["first", null], ["second", null]]}',
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(folder: Path, name: str) -> None:
    Path(name).write_text(CONFIGS[name])
    arguments = ("cli_models:make", "--calibration", "data.npz", "-o", "out.json")
    assert calibrate(*arguments) == 0
    assert json.loads(Path("out.json").read_text())
    assert calibrate(*arguments, "--qconfig", name) == 0
    assert not json.loads(Path("out.json").read_text())


def test_a_model_may_be_an_object(folder: Path) -> None:
    assert calibrate("cli_models:instance", "--calibration", "data.npz", "-o", "out.pt") == 0


# ---------------------------------------------------------------- mistakes


BAD = {
    "no module": (["nowhere:make", *usual("o.pt")[1:]], "nowhere can't be imported"),
    "no colon": (["cli_models", *usual("o.pt")[1:]], "module:name"),
    "no factory": (["cli_models:mak", *usual("o.pt")[1:]], "has no 'mak'"),
    "factory raises": (["cli_models:broken", *usual("o.pt")[1:]], "FileNotFoundError: weights.pt"),
    "no model": (["cli_models:not_a_model", *usual("o.pt")[1:]], "gives int"),
    "no data file": (usual("o.pt", "none.npz"), "no file 'none.npz'"),
    "no data": (usual("o.pt", "folder"), "no data that can be read"),
    "not data": (usual("o.pt", "cli_models:not_a_model"), "gives int, not batches"),
    "truncated": (usual("o.pt", "cut.npz"), "'cut.npz' can't be read"),
    "pickle": (usual("o.pt", "bad.pt"), "'bad.pt' can't be read"),
    "NaN": (usual("o.pt", "cli_models:nan"), "not finite"),
    "wrong shape": (usual("o.pt", "wrong.npz"), "first"),
    "uneven arrays": (usual("o.pt", "uneven.npz"), "different numbers of samples"),
    "no samples": (usual("o.pt", "empty.npz"), "empty"),
    "no config": (["cli_models:make", "--qconfig", "no.json", *usual("o.pt")[3:]], "no file 'no.json'"),
    "config kind": (["cli_models:make", "--qconfig", "cfg.ini", *usual("o.pt")[3:]], "no configuration file"),
    "config text": (["cli_models:make", "--qconfig", "cut.json", *usual("o.pt")[3:]], "no valid JSON"),
    "config list": (["cli_models:make", "--qconfig", "list.json", *usual("o.pt")[3:]], "holds no table"),
    "config key": (["cli_models:make", "--qconfig", "key.json", *usual("o.pt")[3:]], "unknown key 'objct_type'"),
    "qconfig name": (["cli_models:make", "--qconfig", "name.json", *usual("o.pt")[3:]], "fbgem"),
    "type name": (["cli_models:make", "--qconfig", "type.json", *usual("o.pt")[3:]], "no type 'torch.nn.Linea'"),
    "output kind": (usual("out.txt"), "'out.txt'"),
    "output folder": (usual("missing/out.pt"), "can't be written"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_and_a_status(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = BAD[name]
    Path("cut.npz").write_bytes(Path("data.npz").read_bytes()[:300])
    Path("bad.pt").write_bytes(b"\x80\x04garbage")
    np.savez("wrong.npz", np.zeros((2, 5, 8, 8), np.float32))
    np.savez("uneven.npz", a=np.zeros((2, 3), np.float32), b=np.zeros((3, 3), np.float32))
    np.savez("empty.npz", np.zeros((0, 3, 8, 8), np.float32))
    Path("cut.json").write_text('{"": "default"')
    Path("list.json").write_text("[1]")
    Path("key.json").write_text('{"": "default", "objct_type": []}')
    Path("name.json").write_text('{"": "fbgem"}')
    Path("type.json").write_text('{"": "default", "object_type": [["torch.nn.Linea", null]]}')
    before = set(folder.iterdir())
    assert calibrate(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if line.startswith("qfx calibrate: ")]
    assert len(lines) == len(captured.err.splitlines()) == 1
    assert message in lines[0]
    assert {p for p in folder.iterdir() if p.name != "__pycache__"} <= before


def test_a_failed_run_leaves_an_earlier_result(folder: Path) -> None:
    assert calibrate(*usual("out.pt")) == 0
    before = Path("out.pt").read_bytes()
    assert calibrate(*usual("out.pt", "cli_models:nan")) == 1
    assert Path("out.pt").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["calibrate"], ["calibrat"], ["calibrate", "m:f", "--batch-size", "0"]])
def test_arguments_that_do_not_parse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_interrupt_has_its_own_status(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str) -> nn.Module:
        raise KeyboardInterrupt

    monkeypatch.setattr("qfx.cli.ranks.load_float", interrupt)
    assert calibrate(*usual("out.pt")) == 130
