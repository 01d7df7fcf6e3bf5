"""The first steps of a network over one large image, a few rows at a time: the same integers, whatever the rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from qfx.runtime import Executable, get_num_threads, set_num_threads
from tests.runtime.step_programs import small_network


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("height", [512, 577])
def test_bands_give_what_whole_images_give(height: int, threads: int) -> None:
    program, ids = small_network(channels=16, blocks=2)
    exe, x = Executable(program), image(1, 3, height, 1024)
    set_num_threads(threads)
    steps = exe.explain(x.shape).steps
    assert steps[0].slices > 2
    assert {step.name: step.shape for step in steps}["quantize"] == (1, height, 1024, 3)
    whole, _ = exe.run_and_fetch([x], [ids["add1"]])  # keeps every value, so without bands
    np.testing.assert_array_equal(exe(x)[0], whole[0])


def test_bands_of_an_input_with_any_strides() -> None:
    exe, x = Executable(small_network(channels=16, blocks=2)[0]), image(1, 3, 512, 1024)
    expected = exe(x)[0]
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(exe(last)[0], expected)
    np.testing.assert_array_equal(exe(np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1])[0], expected)


def test_an_image_that_fits_the_caches_goes_through_whole() -> None:
    exe = Executable(small_network(channels=16, blocks=2)[0])
    assert {step.slices for step in exe.explain((1, 3, 224, 224)).steps} == {1}


def test_times_of_bands_add_up() -> None:
    exe, x = Executable(small_network(channels=16, blocks=2)[0]), image(1, 3, 512, 1024)
    for threads in (1, 2):
        set_num_threads(threads)
        times = [step.microseconds for step in exe.profile(x, repeats=2)]
        assert len(times) == len(exe.explain(x.shape).steps)
        assert all(t is not None and t > 0 for t in times)
