"""The attention step against its definition, bit for bit, and against float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from qfx.errors import InputError, RuntimeLoadError
from qfx.runtime import Executable, isa_names
from tests.attention_definition import attention
from tests.runtime.step_programs import one_step

F = np.float32
LEAST = np.finfo(F).min
LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class Case:
    """``q`` [B, H, L, D], ``k`` [B, G, S, D] and ``v`` [B, G, S, E] of these sizes; ``change`` writes into operands."""

    label: str
    sizes: tuple[int, ...]  # B, H, G, L, S, D, E
    mask: tuple[int, ...] = ()
    bool_mask: bool = False
    causal: bool = False
    change: Callable[..., None] = lambda *_: None
    scale: float = field(default=0.0)

    def operands(self) -> list[np.ndarray]:
        rng = np.random.default_rng(len(self.label))
        b, h, g, rows, keys, d, e = self.sizes
        shapes = (b, h, rows, d), (b, g, keys, d), (b, g, keys, e)
        made = [(2 * rng.normal(size=s) * rng.lognormal(size=(*s[:-1], 1))).astype(F) for s in shapes]
        if self.mask:
            made.append(rng.random(self.mask) < 0.7 if self.bool_mask else rng.normal(size=self.mask).astype(F))
        self.change(*made)
        return made

    @property
    def factor(self) -> float:
        return float(F((self.scale or 1 / math.sqrt(max(self.sizes[5], 1))) * LOG2E))


def sink(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    """A key that takes nearly everything, of small values, before a diffuse tail."""
    q[..., 0] = 8
    k[..., 0] = 0
    k[..., 0, 0] = 9
    v[..., 0, :] *= F(1e-3)


def hidden_rows(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray) -> None:
    mask[..., 0, :] = -np.inf
    mask[..., 1, :] = LEAST
    mask[..., 2, ::2] = LEAST
    mask[..., 2, 1::2] = -np.inf
    mask[..., 3, :-1] = -np.inf
    mask[..., 4, :] = -1e35


def padding(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray) -> None:
    mask[..., 20:] = LEAST
    mask[0] = LEAST


def broken(operand: int, value: float) -> Callable[..., None]:
    def change(*operands: np.ndarray) -> None:
        operands[operand][0, -1, 1, 0] = value

    return change


def zeros(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    q[:, :, ::3], k[:, :, ::4], v[:, :, ::5] = 0, 0, 0


CASES = [
    Case("plain", (2, 3, 3, 20, 40, 16, 16)),
    Case("long", (1, 1, 1, 17, 300, 64, 64)),
    Case("grouped", (2, 6, 2, 5, 33, 8, 8)),
    Case("one query", (1, 4, 2, 1, 77, 32, 32)),
    Case("odd depth", (1, 2, 2, 9, 31, 67, 64)),
    Case("one column", (2, 2, 1, 18, 35, 1, 1)),
    Case("other width", (1, 2, 2, 7, 50, 12, 37)),
    Case("causal", (2, 2, 2, 70, 70, 16, 16), causal=True),
    Case("causal, more keys", (1, 2, 1, 20, 90, 16, 16), causal=True),
    Case("causal, fewer keys", (1, 2, 1, 90, 20, 16, 16), causal=True),
    Case("bool mask", (2, 2, 2, 19, 45, 16, 16), (2, 2, 19, 45), bool_mask=True),
    Case("bool padding", (2, 2, 2, 19, 45, 16, 16), (2, 1, 1, 45), bool_mask=True),
    Case("bool and causal", (2, 2, 2, 45, 45, 16, 16), (2, 1, 1, 45), bool_mask=True, causal=True),
    Case("bool by query", (2, 2, 2, 19, 45, 16, 16), (2, 1, 19, 1), bool_mask=True),
    Case("bool of heads", (2, 4, 2, 19, 45, 16, 16), (1, 4, 1, 1), bool_mask=True),
    Case("positions", (3, 2, 2, 49, 49, 32, 32), (1, 2, 49, 49)),
    Case("float padding", (2, 2, 1, 19, 45, 16, 16), (2, 1, 1, 45)),
    Case("float and causal", (2, 2, 2, 45, 45, 16, 16), (1, 1, 45, 45), causal=True),
    Case("hidden rows", (2, 2, 2, 19, 45, 16, 16), (2, 2, 19, 45), change=hidden_rows),
    Case("hidden rows, causal", (2, 2, 2, 45, 45, 16, 16), (1, 1, 45, 45), causal=True, change=hidden_rows),
    Case("least float as padding", (2, 2, 2, 19, 45, 16, 16), (2, 1, 1, 45), change=padding),
    Case("mask with infinity", (1, 2, 2, 4, 40, 16, 16), (1, 2, 4, 40), change=broken(3, np.inf)),
    Case("mask with NaN", (1, 2, 2, 4, 40, 16, 16), (1, 2, 4, 40), change=broken(3, np.nan)),
    Case("sink", (1, 2, 2, 20, 200, 16, 16), change=sink),
    Case("zeros", (1, 2, 2, 20, 40, 16, 16), change=zeros),
    Case("large scale", (1, 2, 2, 20, 100, 16, 16), scale=30.0),
    *(Case(f"{value} in {'qkv'[i]}", (2, 2, 2, 5, 40, 8, 8), change=broken(i, value))
      for i in range(3) for value in (np.nan, np.inf, -np.inf, 3e38, 1e-40)),
    *(Case(f"no {name}", tuple(0 if i in at else n for i, n in enumerate((2, 2, 2, 3, 4, 5, 6))))
      for name, at in (("batch", [0]), ("heads", [1, 2]), ("queries", [3]), ("keys", [4]), ("depth", [5]),
                       ("width", [6]))),
]  # fmt: skip


def run(operands: list[np.ndarray], isa: str, factor: float, causal: bool = False, **perms: list[int]) -> np.ndarray:
    floats, ints = {"factor": factor}, {"causal": int(causal)} | perms
    return Executable(one_step("attention", operands, ("f32", 4), ints=ints, floats=floats), isa)(*operands)[0]


@pytest.mark.parametrize("isa", isa_names())
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.label)
def test_equals_its_definition(case: Case, isa: str) -> None:
    operands = case.operands()
    y = run(operands, isa, case.factor, case.causal)
    np.testing.assert_array_equal(y, attention(*operands, factor=case.factor, causal=case.causal))


@pytest.mark.parametrize("isa", isa_names())
def test_reads_and_writes_what_linear_layers_wrote(isa: str) -> None:
    """[batch, rows, heads, columns]: heads and rows change places, in memory and back."""
    operands = Case("in place", (2, 4, 2, 21, 35, 16, 24)).operands()
    perm = [0, 2, 1, 3]
    moved = [np.ascontiguousarray(x.transpose(perm)) for x in operands]
    y = run(moved, isa, 0.3, q_perm=perm, k_perm=perm, v_perm=perm, perm=perm)
    np.testing.assert_array_equal(y.transpose(perm), attention(*operands, factor=0.3))
    y = run([operands[0], moved[1], operands[2]], isa, 0.3, k_perm=perm)
    np.testing.assert_array_equal(y, attention(*operands, factor=0.3))


def in_float64(q: np.ndarray, k: np.ndarray, v: np.ndarray, factor: float) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    e = np.exp2((q @ k.swapaxes(-1, -2)) * factor)
    return (e / e.sum(-1, keepdims=True)) @ v


@pytest.mark.parametrize("keys", [1, 8, 30])
def test_is_near_attention(keys: int) -> None:
    """Scores move by at most ``slack``, half a code of either operand in each product; so do the logs of weights.

    Weights are rounded by half of 1/255 of their block's greatest, values by half a code.
    """
    rng = np.random.default_rng(keys)
    q, k, v = (rng.normal(size=(1, 2, n, 16)).astype(F) for n in (24, keys, keys))
    factor = 0.3
    sq, sk = (np.abs(x).max(-1, keepdims=True) / 127 for x in (q, k))
    off_q = np.abs(k).sum(-1)[..., None, :] * sq / 2
    off_k = (np.abs(q) + sq / 2).sum(-1, keepdims=True) * sk.swapaxes(-1, -2) / 2
    slack = float((off_q + off_k).max()) * factor
    largest = float(np.abs(v).max())
    bound = largest * (2 ** (2 * slack) - 1 + keys * 0.5 / 255 + 0.5 / 127)
    error = np.abs(run([q, k, v], isa_names()[-1], factor) - in_float64(q, k, v, factor))
    assert error.max() <= bound


SHAPES: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("batches do not broadcast", [(3, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4)], {}),
    ("batches do not broadcast", [(1, 2, 3, 4), (3, 2, 3, 4), (2, 2, 3, 4)], {}),
    ("heads of k and v do not broadcast", [(1, 6, 3, 4), (1, 3, 3, 4), (1, 2, 3, 4)], {}),
    ("not the same rows", [(1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 4, 4)], {}),
    ("not the same columns", [(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 4)], {}),
    ("not a multiple", [(1, 3, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)], {}),
    ("does not broadcast to \\[1, 2, 3, 5\\]", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (1, 2, 3, 4)], {}),
    ("are \\[batch, heads, rows, columns\\]", [(2, 3, 4), (2, 3, 4), (2, 3, 4)], {}),
    ("last in memory", [(1, 2, 3, 4)] * 3, {"k_perm": [0, 1, 3, 2]}),
    ("'perm' is not a permutation", [(1, 2, 3, 4)] * 3, {"perm": [0, 1, 1, 3]}),
    ("sums of 32769 products", [(1, 1, 1, 32769)] * 3, {}),
]


@pytest.mark.parametrize(("message", "shapes", "ints"), SHAPES, ids=[s[0] for s in SHAPES])
def test_refuses(message: str, shapes: list[tuple[int, ...]], ints: dict[str, Any]) -> None:
    operands = [np.zeros(shape, F) for shape in shapes]
    with pytest.raises((InputError, RuntimeLoadError), match=message):
        run(operands, isa_names()[-1], 1.0, **ints)
