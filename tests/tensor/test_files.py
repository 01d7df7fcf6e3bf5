"""Saving and loading."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from qfx.tensor import QTensor

ROOT = Path(__file__).parents[2]


def tensors() -> dict[str, QTensor]:
    x = torch.randn(4, 6)
    made = {d.name: qfx.quantize_per_tensor(x, 0.1, 7, d) for d in (qfx.quint8, qfx.qint8, qfx.qint32)}
    made["per channel"] = qfx.quantize_per_channel(x, torch.rand(6) + 0.1, list(range(6)), 1, qfx.qint8)
    made["strided"] = made["quint8"].t()[::2]
    return made


def through_torch(obj: Any) -> Any:
    file = io.BytesIO()
    torch.save(obj, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_qfx(obj: Any) -> Any:
    file = io.BytesIO()
    qfx.save(obj, file)
    file.seek(0)
    return qfx.load(file)


def through_pickle(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj))


@pytest.mark.inventory("S036")
@pytest.mark.parametrize("trip", [through_torch, through_qfx, through_pickle])
def test_round_trip(trip: Any) -> None:
    saved = tensors()
    loaded = trip(saved)
    for name, q in saved.items():
        assert isinstance(loaded[name], QTensor)
        assert torch.equal(loaded[name], q)
        assert loaded[name].qparams == q.qparams
        assert loaded[name].stride() == q.stride()


@pytest.mark.inventory("S036")
@pytest.mark.parametrize("trip", [through_torch, through_qfx])
def test_shared_storage_stays_shared(trip: Any) -> None:
    q = tensors()["quint8"]
    loaded = trip([q, q[1], q])
    loaded[1].fill_(3.0)
    assert (loaded[0][1] == 3.0).all()
    assert loaded[2].data_ptr() == loaded[0].data_ptr()


@pytest.mark.inventory("S036")
def test_state_dict(tmp_path: Path) -> None:
    module = nn.Module()
    module.register_buffer("weight", tensors()["per channel"])
    qfx.save(module.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert torch.equal(state["weight"], module.weight)


@pytest.mark.inventory("S036")
def test_loads_in_a_fresh_process_that_only_imports_qfx(tmp_path: Path) -> None:
    qfx.save(tensors(), tmp_path / "q.pt")
    program = f"import qfx; print(sorted(qfx.load({str(tmp_path / 'q.pt')!r}))[0])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == "per channel", done.stderr


@pytest.mark.inventory("S036")
def test_whole_modules_are_loaded_on_request_only(tmp_path: Path) -> None:
    qfx.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(qfx.InputError, match=r"pass weights_only=False"):
        qfx.load(tmp_path / "module.pt")
    assert isinstance(qfx.load(tmp_path / "module.pt", weights_only=False), nn.Linear)


@pytest.mark.inventory("S169")
def test_an_int8_model_takes_a_quarter(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512)).eval()
    quantized = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, [torch.randn(8, 512)])
    torch.save(model.state_dict(), tmp_path / "fp32.pt")
    qfx.save(quantized.state_dict(), tmp_path / "int8.pt")
    assert (tmp_path / "int8.pt").stat().st_size <= 0.27 * (tmp_path / "fp32.pt").stat().st_size
