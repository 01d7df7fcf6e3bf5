"""Workloads of several inputs, texts, and that every contender for encoders takes them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qfx
from benchmarks import artefacts, bench, contenders, photos, sentences, workloads
from benchmarks.contest import Cell
from benchmarks.metrics import cosines, outputs
from benchmarks.timing import Sample
from benchmarks.work import multiply_accumulates
from benchmarks.workloads import Attention, Workload


class Encoder(nn.Module):
    """One layer of a text encoder over token numbers and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(50, 64), nn.LayerNorm(64)
        self.query, self.key, self.value, self.last = (nn.Linear(64, 64) for _ in range(4))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.norm(self.table(ids))
        bias = (1.0 - mask[:, None, :].to(x.dtype)) * -1e4
        scores = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2) / 8.0 + bias, -1)
        return x + self.last(scores @ self.value(x))


def _load() -> nn.Module:
    torch.manual_seed(0)
    return Encoder().eval().requires_grad_(False)


def _samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, 12, (count, 1), generator=draw)
    return torch.randint(0, 50, (count, 12), generator=draw), (torch.arange(12) < lengths).long()


GIVEN = Workload("small encoder", _load, _samples, ("ids", "mask"), attention=Attention("bert", 1, 64))


def test_calibration_splits_every_input_alike() -> None:
    whole = _samples(workloads.CALIBRATION_SAMPLES, photos.CALIBRATION_SEED)
    batches = GIVEN.calibration(5)
    assert all(len(ids) == len(mask) for ids, mask in batches)
    for index, tensor in enumerate(whole):
        assert torch.equal(torch.cat([batch[index] for batch in batches]), tensor)


@pytest.mark.slow
@pytest.mark.parametrize("name", contenders.ENCODING)
def test_every_contender_for_encoders_takes_several_inputs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if contenders.missing(name):
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(artefacts, "CACHE", tmp_path)
    monkeypatch.setattr(contenders, "workload", lambda _name: GIVEN)
    before = torch.get_num_threads(), qfx.get_num_threads()
    contenders.quantized.cache_clear()
    try:
        batches = [_samples(3, 11)]
        with torch.inference_mode():
            found = outputs(contenders.TABLE[name].load(GIVEN, 3, 1), batches)
    finally:
        torch.set_num_threads(before[0])
        qfx.set_num_threads(before[1])
        contenders.quantized.cache_clear()
    assert float(cosines(outputs(_load(), batches), found).min()) > 0.99


@pytest.mark.skipif(find_spec("sklearn") is None, reason="the sentences come with scikit-learn")
def test_evaluation_and_calibration_share_no_sentence() -> None:
    evaluated = sentences.texts(sentences.EVALUATED, photos.EVALUATION_SEED)
    calibrated = sentences.texts(workloads.CALIBRATION_SAMPLES, photos.CALIBRATION_SEED)
    assert len(set(evaluated)) == sentences.EVALUATED
    assert len(set(calibrated)) == workloads.CALIBRATION_SAMPLES
    assert not set(evaluated) & set(calibrated)


def test_encoders_are_measured_when_they_are_named() -> None:
    assert bench.parse([]).networks == list(workloads.NAMES)
    assert bench.parse(["resnet18", bench.ENCODERS]).networks == ["resnet18", *workloads.ENCODERS]
    with pytest.raises(SystemExit):
        bench.parse(["no such network"])


def test_one_of_ours_is_no_peer_of_the_other() -> None:
    times = {"qfx": 2.0, "qfx dynamic": 1.0, "openvino int8": 4.0}
    cell = Cell({name: Sample(ms, ms, ms, 1, (ms,), 0.0) for name, ms in times.items()}, {}, {}, [])
    found = {verdict.what: verdict.value for verdict in bench.judge_rows({("minilm", 1, 1): cell})}
    assert found["minilm, batch 1, threads 1: time over the best peer's"] == 0.5
    assert found["minilm, batch 1, threads 1: time of qfx dynamic over the best peer's"] == 0.25
    assert found["geometric mean of 1 rows of encoders"] == pytest.approx(0.5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_multiply_accumulates_are_those_of_layers_and_of_attention(mode: type) -> None:
    rows, keys, width, heads = 12, 12, 64, 4

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.conv = nn.Linear(width, width), nn.Conv1d(heads, heads, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            split = self.first(x).view(1, rows, heads, width // heads).transpose(1, 2)
            joined = nn.functional.scaled_dot_product_attention(split, split, split)
            return self.conv(joined.reshape(1, heads, -1))

    with mode():
        found = multiply_accumulates(Attending(), (torch.zeros(1, rows, width),))
    linear, attention, conv = rows * width * width, 2 * rows * keys * width, rows * width * heads * 3
    assert found == linear + attention + conv
