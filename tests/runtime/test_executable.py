"""Calls: inputs and their errors, threads, concurrency, plan cache, reports."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from qfx.errors import InputError
from qfx.runtime import _C, Executable, ProgramBuilder, cpu_info, get_num_threads, isa_names, set_num_threads
from tests.runtime.step_programs import one_step, small_network

SHAPE = (2, 3, 40, 24)


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    yield
    _C.set_num_threads(0)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_every_isa_and_thread_count_gives_the_same_bits() -> None:
    program, ids = small_network(channels=24, blocks=3)
    names = [n for n in ids if n != "x"]
    x = images(7, 3, 40, 24)
    results = []
    for isa in isa_names():
        for threads in (1, 2, 3):
            set_num_threads(threads)
            outputs, fetched = Executable(program, isa).run_and_fetch([x], [ids[n] for n in names])
            results.append((outputs[0], fetched))
    for outputs, fetched in results[1:]:
        np.testing.assert_array_equal(outputs, results[0][0])
        for name in names:
            np.testing.assert_array_equal(fetched[ids[name]], results[0][1][ids[name]], err_msg=name)


def test_batch_split_does_not_matter() -> None:
    exe = Executable(small_network()[0])
    x = images(5, 3, 20, 20)
    np.testing.assert_array_equal(exe(x)[0], np.concatenate([exe(x[i : i + 1])[0] for i in range(5)]))


def test_fetched_values_are_those_of_the_call() -> None:
    program, ids = small_network()
    exe = Executable(program)
    x = images(*SHAPE)
    outputs, fetched = exe.run_and_fetch([x], [ids["mean"], ids["logits"]])
    np.testing.assert_array_equal(outputs[0], exe(x)[0])
    np.testing.assert_array_equal(fetched[ids["logits"]], outputs[0])
    np.testing.assert_array_equal(fetched[ids["mean"]].astype(np.float32) * np.float32(0.125), outputs[0])


@pytest.mark.parametrize("value", [-1, 10**6, 0])
def test_values_that_cannot_be_fetched(value: int) -> None:
    with pytest.raises(InputError, match=str(value)):
        Executable(small_network()[0]).run_and_fetch([images(*SHAPE)], [value])


def test_torch_and_numpy_agree_for_every_layout() -> None:
    exe = Executable(small_network()[0])
    x = images(*SHAPE)
    expected = exe(x)[0]
    t = torch.from_numpy(x)
    wide = torch.zeros(2, 5, 40, 48)
    wide[:, 1:4, :, ::2] = t
    layouts = (t, t.to(memory_format=torch.channels_last), wide[:, 1:4, :, ::2], t.clone().requires_grad_())
    for tensor in layouts:
        (y,) = exe(tensor)
        assert type(y) is torch.Tensor
        assert y.is_contiguous()
        np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(exe(np.asfortranarray(x))[0], expected)
    np.testing.assert_array_equal(exe(x[:, :, ::-1][:, :, ::-1])[0], expected)


def test_unaligned_numpy_input() -> None:
    exe = Executable(small_network()[0])
    x = images(1, 3, 8, 8)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    shifted = raw[1:].view(np.float32).reshape(x.shape)
    shifted[...] = x
    np.testing.assert_array_equal(exe(shifted)[0], exe(x)[0])


def test_zero_size_batch() -> None:
    exe = Executable(small_network()[0])
    (y,) = exe(torch.zeros(0, 3, 8, 8))
    assert y.shape == (0, 8)
    assert exe(np.zeros((0, 3, 8, 8), np.float32))[0].shape == (0, 8)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "takes 1 inputs"),
        ((torch.zeros(1, 3, 8, 8), torch.zeros(1)), "takes 1 inputs"),
        ((torch.zeros(1, 3, 8, 8, dtype=torch.float64),), "float64"),
        ((torch.zeros(1, 3, 8, 8, dtype=torch.uint8),), "uint8"),
        ((torch.zeros(3, 8, 8),), "3 dimensions"),
        ((torch.zeros(1, 3, 8, 8, device="meta"),), "meta"),
        ((torch.zeros(1, 3, 8, 8).to_sparse(),), "layout"),
        ((torch.zeros(1, 4, 8, 8),), r"\[1, 4, 8, 8\]"),
        ((np.zeros((1, 3, 8, 8)),), "float64"),
        ((np.zeros((3, 8, 8), np.float32),), "3 dimensions"),
        ((np.zeros((1, 4, 8, 8), np.float32),), r"\[1, 4, 8, 8\]"),
        (([[1.0]],), "list"),
        ((None,), "NoneType"),
    ],
)
def test_inputs_that_do_not_fit(inputs: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Executable(small_network()[0])(*inputs)


def test_mixed_kinds_of_input() -> None:
    x = images(2, 3)
    exe = Executable(one_step("add_f32", [x, x], ("f32", 2)))
    with pytest.raises(InputError, match="x1"):
        exe(x, torch.from_numpy(x))
    with pytest.raises(InputError, match="x1"):
        exe(torch.from_numpy(x), x)


def test_a_failed_call_leaves_the_executable_usable() -> None:
    exe = Executable(small_network()[0])
    x = images(*SHAPE)
    expected = exe(x)[0]
    for bad in (x[:, :2], x.astype(np.float64), x[0]):
        with pytest.raises(InputError):
            exe(bad)
    np.testing.assert_array_equal(exe(x)[0], expected)


def test_plans_are_cached_and_bounded() -> None:
    exe = Executable(small_network()[0])
    for size in range(8, 40):
        exe(images(1, 3, size, 8))
    assert exe._core.cached_plans == 16
    before = exe._core.plan((((1, 3, 39, 8), (936, 312, 8, 1)),))
    assert exe._core.plan((((1, 3, 39, 8), (7, 312, 8, 1)),)) is before, "the stride of a size-1 dim does not matter"
    assert exe._core.plan((((1, 3, 39, 8), (936, 1, 24, 3)),)) is not before


def test_plan_of_a_dropped_executable_stays_valid() -> None:
    plan = _C.Executable(small_network()[0]).plan((((1, 3, 8, 8), (192, 64, 8, 1)),))
    assert plan.works[0][2] == "quantize"


@pytest.mark.parametrize("threads", [1, 2])
def test_concurrent_calls_do_not_disturb_each_other(threads: int) -> None:
    set_num_threads(threads)
    exe = Executable(small_network(channels=16)[0])
    inputs = [images(1 + i % 3, 3, 16 + i, 24) * (1 + i) for i in range(12)]
    expected = [exe(x)[0] for x in inputs]

    def check(i: int) -> None:
        for _ in range(10):
            np.testing.assert_array_equal(exe(inputs[i])[0], expected[i])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(check, range(12)))


def test_calls_release_the_gil() -> None:
    """Two calls that both wait for a common number of heartbeats of a third thread end."""
    exe = Executable(small_network(channels=64, blocks=4)[0])
    x = images(8, 3, 64, 64)
    exe(x)
    beats = 0
    stop = threading.Event()

    def beat() -> None:
        nonlocal beats
        while not stop.is_set():
            beats += 1
            stop.wait(0.0005)

    thread = threading.Thread(target=beat)
    thread.start()
    before = beats
    for _ in range(5):
        exe(x)
    during = beats - before
    stop.set()
    thread.join()
    assert during >= 2


def test_oversubscription_gives_the_right_result() -> None:
    exe = Executable(small_network(channels=16)[0])
    x = images(2, 3, 32, 32)
    expected = exe(x)[0]
    set_num_threads(16)
    for _ in range(3):
        np.testing.assert_array_equal(exe(x)[0], expected)


def test_number_of_threads() -> None:
    assert get_num_threads() == torch.get_num_threads()
    set_num_threads(3)
    assert get_num_threads() == 3
    for bad in (0, -1, 1.5, True, "2"):
        with pytest.raises(InputError):
            set_num_threads(bad)  # type: ignore[arg-type]


def test_denormal_flushing_of_the_caller_does_not_matter() -> None:
    x = np.full((4,), 1e-40, np.float32)
    exe = Executable(one_step("add_f32", [x, x], ("f32", 1)))
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU can't flush denormals")
    try:
        (y,) = exe(x, x)
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(y, x + x)
    assert y[0] != 0


def test_explain_lists_the_steps() -> None:
    program, _ = small_network()
    explanation = Executable(program).explain(SHAPE)
    assert [s.name for s in explanation.steps] == program.step_names
    assert all(s.kernel and s.cost > 0 and s.bytes > 0 for s in explanation.steps)
    assert explanation.steps[1].shape == (2, 40, 24, 8)
    text = str(explanation)
    assert all(s.name in text and s.kernel in text for s in explanation.steps)
    with pytest.raises(InputError):
        Executable(program).explain((2, 3, 40))


def test_profile_times_every_step() -> None:
    exe = Executable(small_network()[0])
    records = exe.profile(images(*SHAPE), repeats=3)
    assert len(records) == len(exe.explain(SHAPE).steps)
    assert all(r.microseconds is not None and r.microseconds >= 0 for r in records)


def test_program_of_constants_needs_no_inputs() -> None:
    b = ProgramBuilder()
    c, y = b.constant_value("c", images(3)), b.value("y", "f32", (3,))
    b.step("add_f32", "double", [c, c], y)
    np.testing.assert_array_equal(Executable(b.build([], [y]))()[0], images(3) * 2)


def test_cpu_info() -> None:
    info = cpu_info()
    assert info["isa"] in info["isas"]
    assert info["thread_pool"] == "libgomp", "torch is loaded, so its pool is shared"


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


SCRIPT_WITHOUT_TORCH = """
import sys, os
sys.modules["torch"] = None
import numpy as np
from qfx.runtime import Executable, cpu_info, set_num_threads
sys.path.insert(0, os.getcwd())
from tests.runtime.step_programs import small_network
exe = Executable(small_network(channels=16)[0])
x = np.random.default_rng(0).normal(size=(2, 3, 40, 24)).astype(np.float32)
expected = None
for n in (1, 2, 5, 2):
    set_num_threads(n)
    for _ in range(20):
        y = exe(x)[0]
        expected = y if expected is None else expected
        assert np.array_equal(y, expected)
assert cpu_info()["thread_pool"] == "qfx"
pid = os.fork()
if pid == 0:
    os._exit(0 if np.array_equal(exe(x)[0], expected) else 1)
assert os.waitpid(pid, 0)[1] == 0
print("ok", expected.sum())
"""


def test_without_torch_on_the_own_pool() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT_WITHOUT_TORCH], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    exe = Executable(small_network(channels=16)[0])
    assert run.stdout.split() == ["ok", str(exe(images(*SHAPE))[0].sum())]


SCRIPT_FORK_AFTER_GOMP = """
import os, sys, torch
sys.path.insert(0, os.getcwd())
from qfx.runtime import Executable, set_num_threads
from tests.runtime.step_programs import small_network
set_num_threads(2)
exe = Executable(small_network(channels=32)[0])
x = torch.randn(4, 3, 64, 64)
expected = exe(x)[0]
pid = os.fork()
if pid == 0:
    os._exit(0 if torch.equal(exe(x)[0], expected) else 1)
assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_forked_child_does_not_wait_for_its_parents_threads() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT_FORK_AFTER_GOMP], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("shape", [(0, 8, 1, 1), (3, 8, 1, 1)])
def test_flatten_of_an_empty_batch_keeps_its_other_dims(shape: tuple[int, ...]) -> None:
    b = ProgramBuilder()
    x, y = b.value("x", "u8", (-1, 8, 1, 1)), b.value("y", "u8", (-1, 8))
    b.step("reshape", "flatten", [x], y, exprs={"shape": [b.expr_dim(x, 0), b.expr_const(-1)]})
    assert Executable(b.build([x], [y]))(np.zeros(shape, np.uint8))[0].shape == (shape[0], 8)
