"""Weights that a file holds as kernels want them: same bits, shared pages, and nothing of another packing."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import ConversionError, RuntimeLoadError
from qfx.file.container import Section, pack, unpack
from qfx.file.sections import PROGRAM, SERVING
from qfx.runtime import _C, isa_names

LEVELS = tuple(_C.isa_levels())
STORED = Path(__file__).parents[1] / "data" / "packed.qfx"
"""As ``write_stored`` wrote it when ``kPackingVersion`` was raised last."""


class Everything(nn.Module):
    """A layer of every kind that packs weights: convolutions of each kernel, static and dynamic layers, few bits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.depthwise, self.wide = nn.Conv2d(24, 24, 3, 1, 1, groups=24), nn.Conv2d(24, 24, 5, 2, 2, groups=24)
        self.grouped, self.pointwise = nn.Conv2d(24, 32, 3, groups=4), nn.Conv2d(32, 40, 1)
        self.static, self.dynamic = nn.Linear(40, 33), nn.Linear(33, 64)
        self.sixteen, self.nibbles, self.lstm = nn.Linear(64, 64), nn.Linear(64, 40), nn.LSTM(40, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.wide(torch.relu(self.depthwise(torch.relu(self.stem(x))))))
        x = torch.relu(self.pointwise(torch.relu(self.grouped(x)))).flatten(2).transpose(1, 2)
        x = torch.relu(self.nibbles(torch.relu(self.sixteen(torch.relu(self.dynamic(torch.relu(self.static(x))))))))
        return self.lstm(x)[0]


def everything() -> Any:
    torch.manual_seed(0)
    rules = {
        "": qfx.get_default_qconfig(),
        "module_name": [
            ("dynamic", qfx.default_dynamic_qconfig),
            ("sixteen", qfx.float16_dynamic_qconfig),
            ("nibbles", qfx.weight_only_qconfig(4, 32)),
            ("lstm", qfx.default_dynamic_qconfig),
        ],
    }
    return qfx.quantize_fx(Everything().eval(), rules, [torch.randn(2, 3, 24, 24)])


def write_stored() -> None:
    """Write ``STORED`` anew: after ``kPackingVersion`` was raised, and only then."""
    qfx.save(everything(), STORED, graph=False, packed_for=LEVELS)


X = torch.randn(3, 3, 30, 26, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> Any:
    return everything()


@pytest.fixture(scope="module")
def packed(model: Any) -> bytes:
    buffer = io.BytesIO()
    qfx.save(model, buffer, graph=False, packed_for=LEVELS)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def parts(packed: bytes) -> dict[str, bytes]:
    known = [name for name, *_ in _C.sections(packed, "it")]
    return {name: bytes(part) for name, part in unpack(memoryview(packed), "it", known).items()}


def rebuilt(parts: dict[str, bytes]) -> bytes:
    return pack(
        [Section(name, part, optional=name.startswith("pack_") or name == SERVING) for name, part in parts.items()]
    )


@pytest.mark.parametrize("isa", isa_names())
def test_packed_weights_give_the_same_bits(model: Any, packed: bytes, parts: dict[str, bytes], isa: str) -> None:
    wanted = model(X).numpy()
    loaded = qfx.runtime.load(packed, isa=isa)
    assert loaded.is_packed
    assert np.array_equal(loaded(X.numpy()), wanted)
    plain = qfx.runtime.load(rebuilt({k: v for k, v in parts.items() if k != f"pack_{isa}"}), isa=isa)
    assert not plain.is_packed
    assert np.array_equal(plain(X.numpy()), wanted)


def test_kernels_compute_with_what_is_packed(packed: bytes, parts: dict[str, bytes]) -> None:
    """Or the tests here would hold nothing: with zeros for weights they compute something else."""
    isa = isa_names()[-1]
    changed = dict(parts)
    section = bytearray(changed[f"pack_{isa}"])
    head, rest = section[:64], section[64:]
    count = int.from_bytes(head[48:56], "little")
    start = -(-8 * count // 64) * 64
    rest[start:] = bytes(len(rest) - start)
    head[12:16] = zlib.crc32(rest).to_bytes(4, "little")
    changed[f"pack_{isa}"] = bytes(head + rest)
    loaded = qfx.runtime.load(rebuilt(changed), isa=isa)
    assert loaded.is_packed
    assert not np.array_equal(loaded(X.numpy()), qfx.runtime.load(packed, isa=isa)(X.numpy()))


@pytest.mark.parametrize("change", ["of another program", "of another level", "of another version", "cut", "changed"])
def test_what_is_packed_for_something_else_is_not_used(model: Any, parts: dict[str, bytes], change: str) -> None:
    isa = isa_names()[-1]
    name = f"pack_{isa}"
    section = bytearray(parts[name])
    if change == "of another program":
        other = nn.Sequential(nn.Conv2d(3, 4, 1))
        buffer = io.BytesIO()
        qfx.save(qfx.quantize_fx(other.eval(), {"": qfx.get_default_qconfig()}, [X]), buffer, packed_for=[isa])
        section = bytearray(_C.pack(_program(buffer.getvalue()), isa))
    elif change == "of another level":
        section = bytearray(parts[f"pack_{isa_names()[0]}"])
    elif change == "of another version":
        section[8] += 1
    elif change == "cut":
        section = section[:-64]
    else:
        section[200] ^= 1
    loaded = qfx.runtime.load(rebuilt({**parts, name: bytes(section)}), isa=isa)
    assert not loaded.is_packed
    assert np.array_equal(loaded(X.numpy()), model(X).numpy())


def _program(file: bytes) -> bytes:
    offset, size = next((at, size) for name, at, size, _ in _C.sections(file, "it") if name == PROGRAM)
    return file[offset : offset + size]


def test_parts_of_other_sizes_are_refused(parts: dict[str, bytes]) -> None:
    isa = isa_names()[-1]
    section = bytearray(parts[f"pack_{isa}"])
    head, rest = section[:64], section[64:]
    rest[0:8] = (int.from_bytes(rest[0:8], "little") - 1).to_bytes(8, "little")
    head[12:16] = zlib.crc32(rest).to_bytes(4, "little")
    with pytest.raises(RuntimeLoadError, match="packed for it is not what it wants"):
        qfx.runtime.load(rebuilt({**parts, f"pack_{isa}": bytes(head + rest)}), isa=isa)


def test_the_version_is_raised_when_packing_changes() -> None:
    """Else files of before would give wrong results. Raise kPackingVersion, then call write_stored()."""
    stored = STORED.read_bytes()
    program = _program(stored)
    names = [name for name, *_ in _C.sections(stored, "it")]
    kept = unpack(memoryview(stored), "it", names)
    found = {name: bytes(kept[name]) for name in names if name.startswith("pack_")}
    assert found.keys() == {f"pack_{level}" for level in LEVELS}
    for level in LEVELS:
        assert _C.pack(program, level) == found[f"pack_{level}"], level


@pytest.mark.parametrize("levels", [["z80"], "z80", ["neon512"]])
def test_levels_that_there_are_not_are_refused(model: Any, levels: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"packed_for names 'z80'|packed_for names 'neon512'"):
        qfx.save(model, tmp_path / "m.qfx", packed_for=levels)
    assert not list(tmp_path.iterdir())


_OWN = """
import sys, numpy as np
import qfx.runtime
def own():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024
x = np.zeros((1, 8), np.float32)
qfx.runtime.load(sys.argv[1])(x)  # all that is loaded once
before = own()
model = qfx.runtime.load(sys.argv[2])
model.threads = 1
print(own() - before)
"""


def test_processes_share_what_is_packed(tmp_path: Path) -> None:
    """The pages of 32 MiB of weights are the file's: a process has less than 1 MiB of its own."""
    isa = isa_names()[-1]
    big = nn.Sequential(*(nn.Linear(2048, 2048) for _ in range(8))).eval()
    small = nn.Sequential(nn.Linear(8, 8)).eval()
    rules = {"": qfx.default_dynamic_qconfig}
    qfx.save(qfx.quantize_fx(small, rules, example_inputs=torch.randn(1, 8)), tmp_path / "small.qfx")
    model = qfx.quantize_fx(big, rules, example_inputs=torch.randn(1, 2048))
    own = []
    for levels in ((), (isa,)):
        qfx.save(model, tmp_path / "big.qfx", graph=False, serving=True, packed_for=levels)
        done = subprocess.run(
            [sys.executable, "-c", _OWN, "small.qfx", "big.qfx"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(Path(qfx.__file__).parents[1]), "QFX_ISA": isa, "PATH": ""},
        )  # fmt: skip
        own.append(int(done.stdout))
    assert own[0] > 32 << 20
    assert own[1] < 1 << 20
