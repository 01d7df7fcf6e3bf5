"""``qfx quantize``: the file, the summary, the configuration."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import qfx
from qfx.cli import main
from qfx.cli.config import load_qconfig_dict
from qfx.errors import QConfigError, QfxError
from qfx.file.model import load


def quantize(*arguments: str, model: str = "cli_models:make", data: str = "cli_models:batches") -> int:
    return main(["quantize", model, "--calibration", data, "-o", "net.qfx", *arguments])


def test_the_file_is_what_quantize_fx_makes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize("--json") == 0
    facts = json.loads(capsys.readouterr().out)
    import cli_models

    net = cli_models.make().eval()
    want = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, cli_models.batches)
    got = load("net.qfx")
    reference, ours = [], []
    for batch in cli_models.batches:
        assert torch.equal(got(batch), want(batch))
        with torch.no_grad():
            reference.append(net(batch).flatten())
        ours.append(want(batch).flatten())
    exact, noisy = torch.cat(reference).double(), torch.cat(ours).double()
    sqnr = 10 * math.log10(float(exact.square().sum() / (noisy - exact).square().sum()))
    assert facts["sqnr_db"] == {"output": pytest.approx(sqnr, abs=1e-9)}
    assert (facts["int8"], facts["float"], facts["measured_batches"]) == (2, 0, 5)
    assert facts["bytes_before"] == 4 * sum(p.numel() for p in net.parameters())
    assert facts["bytes_after"] == Path("net.qfx").stat().st_size


def test_the_summary_says_what_stayed_float_and_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("cfg.json").write_text('{"": "default", "module_name": [["second", null]]}')
    assert quantize("--qconfig", "cfg.json") == 0
    text = capsys.readouterr().out
    assert text.startswith("net.qfx: 2 nodes, 1 int8, 1 float")
    assert "conv: " in text
    assert "SQNR against float" in text
    assert "kB" in text


def test_what_a_factory_prints_is_no_part_of_the_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantize("--json", model="cli_models:talks") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["nodes"] == 2
    assert "hello from the factory" in captured.err


def test_switches_reach_the_conversion(folder: Path) -> None:
    quantize("--no-bias-correction", "--no-adaptive-rounding")
    assert all(record.recovery == () for record in load("net.qfx").report)
    quantize()
    assert all(len(record.recovery) == 2 for record in load("net.qfx").report)


def test_a_dynamic_model_needs_no_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mlp.py").write_text("from torch import nn\ndef make(): return nn.Sequential(nn.Linear(8, 4))\n")
    Path("dynamic.json").write_text('{"object_type": [["torch.nn.Linear", "default_dynamic_qconfig"]]}')
    assert main(["quantize", "mlp:make", "--qconfig", "dynamic.json", "-o", "net.qfx"]) == 0
    assert "1 int8" in capsys.readouterr().out
    assert main(["quantize", "mlp:make", "-o", "net.qfx"]) == 1
    assert "Give --calibration DATA." in capsys.readouterr().err


# ---------------------------------------------------------------- configurations

TABLES = {
    "name": {"": {"activation": "MinMaxObserver", "weight": "default_weight_observer"}},
    "arguments": {
        "": {
            "activation": {"observer": "HistogramObserver", "bins": 64, "reduce_range": True},
            "weight": {"observer": "MinMaxObserver", "dtype": "qint8", "qscheme": "torch.per_tensor_symmetric"},
        }
    },
}


def test_a_qconfig_may_be_a_table_of_observers(folder: Path) -> None:
    Path("cfg.json").write_text(json.dumps(TABLES["name"]))
    assert load_qconfig_dict(Path("cfg.json"))[""] == qfx.QConfig(qfx.MinMaxObserver, qfx.default_weight_observer)
    Path("cfg.json").write_text(json.dumps(TABLES["arguments"]))
    weight = qfx.MinMaxObserver.with_args(dtype=qfx.qint8, qscheme=qfx.per_tensor_symmetric)
    activation = qfx.HistogramObserver.with_args(bins=64, reduce_range=True)
    assert load_qconfig_dict(Path("cfg.json"))[""] == qfx.QConfig(activation, weight)
    assert quantize("--qconfig", "cfg.json") == 0


def test_layers_of_one_table_share_a_qconfig(folder: Path) -> None:
    table = TABLES["arguments"][""]
    Path("cfg.json").write_text(json.dumps({"": table, "module_name": [["first", table]]}))
    found = load_qconfig_dict(Path("cfg.json"))
    assert found[""] is found["module_name"][0][1]


def test_a_table_without_activation_is_dynamic(folder: Path) -> None:
    Path("cfg.toml").write_text('[""]\nweight = "default_per_channel_weight_observer"\n')
    assert load_qconfig_dict(Path("cfg.toml"))[""] == qfx.per_channel_dynamic_qconfig


OBSERVER = "MinMaxObserver"
WRONG = {
    "observer": ({"activation": "HistogramObsever", "weight": "MinMaxObserver"}, "HistogramObserver"),
    "argument": (
        {"activation": {"observer": "MinMaxObserver", "reducerange": 1}, "weight": "MinMaxObserver"},
        "'reduce_range'",
    ),
    "field": ({"activations": "MinMaxObserver", "weight": "MinMaxObserver"}, "'activation'"),
    "no weight": ({"activation": "MinMaxObserver"}, "no weight"),
    "no observer": ({"activation": 3, "weight": "MinMaxObserver"}, "3 is no observer"),
    "dtype": ({"activation": {"observer": "MinMaxObserver", "dtype": "uint9"}, "weight": "MinMaxObserver"}, "quint8"),
    "name of a qconfig": ("default_per_chanel_qconfig", "'default_per_channel_qconfig'"),
    "number": (8, "the name of no qconfig"),
    "list": (["default"], "the name of no qconfig"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_qconfig_names_the_nearest(folder: Path, name: str) -> None:
    Path("cfg.json").write_text(json.dumps({"": WRONG[name][0]}))
    with pytest.raises(QConfigError) as caught:
        load_qconfig_dict(Path("cfg.json"))
    assert WRONG[name][1] in str(caught.value)


TEXTS = {
    "twice": ('{"": "default", "": null}', "there twice"),
    "deep": ("[" * 100_000, "RecursionError"),
    "latin-1": (b'{"": "\xe4"}', "UnicodeDecodeError"),
    "empty": ("", "JSONDecodeError"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_no_configuration(folder: Path, name: str) -> None:
    text = TEXTS[name][0]
    Path("cfg.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(QfxError) as caught:
        load_qconfig_dict(Path("cfg.json"))
    assert TEXTS[name][1] in str(caught.value)


def test_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pillow = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    Path("images/cats").mkdir(parents=True)
    for index in range(3):
        pixels = generator.integers(0, 256, (20 + index, 24, 3), dtype=np.uint8)
        pillow.fromarray(pixels).save(f"images/cats/{index}.png")
    assert quantize("--image-size", "16", "--batch-size", "2", "--json", data="images") == 0
    assert json.loads(capsys.readouterr().out)["measured_batches"] == 2
    Path("images/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    assert quantize(data="images") == 1
    assert "'images/broken.jpg' can't be read" in capsys.readouterr().err


def test_an_image_becomes_what_the_documentation_says(folder: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    from qfx.cli.images import ImageFolder, Preprocessing

    Path("images").mkdir()
    pillow.new("RGB", (32, 16), (255, 0, 51)).save("images/plain.png")
    how = Preprocessing((8, 4), (0.5, 0.25, 0.0), (0.5, 0.5, 2.0))
    (batch,) = list(ImageFolder(Path("images"), how, 2))
    assert batch.shape == (1, 3, 8, 4)
    want = torch.tensor([(1 - 0.5) / 0.5, (0 - 0.25) / 0.5, 0.2 / 2]).view(1, 3, 1, 1).expand(1, 3, 8, 4)
    torch.testing.assert_close(batch, want)
