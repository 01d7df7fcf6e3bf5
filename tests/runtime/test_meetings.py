"""Works whose threads meet inside them, side by side in one plan."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from qfx.runtime import Executable, ProgramBuilder, get_num_threads, set_num_threads

INPUTS, TIMES = 8, 6


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


def two_layers(hidden: tuple[int, int]) -> tuple[Executable, list[np.ndarray]]:
    """Two recurrent layers that share nothing, so that only their meetings ask for a barrier between them."""
    rng, b = np.random.default_rng(0), ProgramBuilder()
    inputs, outputs, given = [], [], []
    for i, h in enumerate(hidden):
        arrays = [rng.normal(size=s).astype(np.float32) for s in ((TIMES, INPUTS), (1, 1, h))]
        arrays.append(np.ones(TIMES, np.int64))
        types = ("f32", "f32", "s64")
        values = [b.value(f"in{i}_{k}", types[k], [-1] * a.ndim) for k, a in enumerate(arrays)]
        constants = {name: b.constant(rng.normal(size=h).astype(np.float32)) for name in ("bias_ih", "bias_hh")}
        for name, columns in (("weight_ih", INPUTS), ("weight_hh", h)):
            constants[name] = b.constant(rng.integers(-128, 128, (h, columns), dtype=np.int8))
            constants[f"{name}_scale"] = b.constant(np.full(h, 1e-3, np.float32))
        results = [b.value(f"out{i}", "f32", [-1, -1]), b.value(f"state{i}", "f32", [-1, -1, -1])]
        b.step("rnn_tanh", f"layer{i}", values, results, ints={"directions": 1}, constants=constants)
        inputs += values
        outputs += results
        given += arrays
    return Executable(b.build(inputs, outputs)), given


def test_layers_whose_teams_differ_do_not_wait_for_each_other() -> None:
    exe, given = two_layers((96, 1024))
    set_num_threads(1)
    expected = exe(*given)
    set_num_threads(8)
    shapes = [x.shape for x in given]
    steps = exe.explain(*shapes).steps
    assert [s.barrier for s in steps if s.op == "rnn_tanh"][1]
    for _ in range(20):
        for ours, theirs in zip(exe(*given), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
