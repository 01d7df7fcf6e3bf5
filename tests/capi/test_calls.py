"""qfx.h, call by call: what models say of themselves, and what calls give."""

from __future__ import annotations

import ctypes as c
import gc
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qfx
from tests.capi import native
from tests.capi.installed import ROOT
from tests.capi.native import Buffer, Failed, Library, Saved, Tensor, ints, tensor


def same(got: list[np.ndarray], want: list[np.ndarray]) -> bool:
    return len(got) == len(want) and all(
        a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(got, want, strict=True)
    )


def test_the_version_is_that_of_the_package(capi: Library) -> None:
    assert capi.text("version_text") == qfx.__version__
    number = capi.function("version")()
    assert f"{number // 10000}.{number // 100 % 100}.{number % 100}" == qfx.__version__


def test_statuses_and_dtypes_are_those_of_the_header(capi: Library) -> None:
    header = (ROOT / "qfx" / "runtime" / "capi" / "qfx.h").read_text(encoding="utf-8")
    numbers = {name: int(number) for name, number in re.findall(r"QFX_(?:ERROR_)?(\w+) = (\d+)", header)}
    for name in ("ARGUMENT", "FILE", "PROGRAM", "INPUT", "LIMIT", "MEMORY", "INTERNAL"):
        assert numbers[name] == getattr(native, name)
    for name in ("uint8", "int8", "int32", "float32", "float16", "bfloat16", "int64", "bool"):
        assert capi.text("dtype_name", numbers[name.upper()]) == name
        bits = re.search(r"\d+", name)
        assert capi.function("dtype_size")(numbers[name.upper()]) == (int(bits[0]) // 8 if bits else 1)
    for number in (6, 7, 10, -1, 1000):
        assert capi.function("dtype_name")(number) is None
        assert capi.function("dtype_size")(number) == 0


@pytest.mark.parametrize("saved", ["image_model", "pair_model"])
def test_values_are_those_that_python_tells(saved: str, capi: Library, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(saved).path
    model, python = capi.open(path), qfx.runtime.load(path)
    for kind, values in (("input", python.inputs), ("output", python.outputs)):
        assert capi.values(model, kind) == [tuple(value) for value in values]
        assert not capi.function(kind)(model, len(values))
    assert capi.text("isa", model) == python.isa
    assert json.loads(capi.text("metadata", model)) == python.metadata
    json.loads(capi.text("structure", model))
    capi.function("close")(model)


def test_nothing_is_asked_of_no_model(capi: Library) -> None:
    capi.function("close")(None)
    capi.function("results_free")(None)
    for name in ("isa", "metadata", "structure", "input_count", "output_count", "threads"):
        assert not capi.function(name)(None)
    for name in ("input", "output", "result"):
        assert not capi.function(name)(None, 0)


@pytest.mark.parametrize("saved", ["image_model", "pair_model"])
def test_outputs_are_python_s(saved: str, capi: Library, request: pytest.FixtureRequest) -> None:
    found: Saved = request.getfixturevalue(saved)
    content = found.path.read_bytes()
    for file in (found.path, content):
        model = capi.open(file)
        assert same(capi.run(model, found.inputs), found.expected())
        capi.function("close")(model)


def test_outputs_go_to_buffers_of_the_caller(capi: Library, pair: Any, pair_model: Saved) -> None:
    expected = pair_model.expected()
    inputs = (Tensor * 2)(*map(tensor, pair_model.inputs))
    outputs, buffers = [], (Buffer * 2)()
    for i, value in enumerate(expected):
        sizes = ints([0] * value.ndim)
        capi.call("output_sizes", pair, inputs, c.c_size_t(2), c.c_size_t(i), sizes)
        assert tuple(sizes) == value.shape
        outputs.append(np.full(value.size + 1, 77, value.dtype))
        buffers[i] = Buffer(outputs[i].ctypes.data, outputs[i].nbytes)
    capi.call("run", pair, inputs, c.c_size_t(2), buffers, c.c_size_t(2))
    assert same([y[:-1].reshape(want.shape) for y, want in zip(outputs, expected, strict=True)], expected)
    assert [y[-1] for y in outputs] == [77, 77]


@pytest.mark.parametrize(
    "view",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: x[::-1, :, ::-1].copy()[::-1, :, ::-1],
        lambda x: np.broadcast_to(x[:1], x.shape),
    ],
    ids=["fortran", "every second", "backwards", "broadcast"],
)
def test_inputs_have_any_strides(
    view: Callable[[np.ndarray], np.ndarray], capi: Library, image: Any, image_model: Saved
) -> None:
    x = view(image_model.inputs[0])
    assert same(capi.run(image, [x]), [qfx.runtime.load(image_model.path)(x)])


def test_no_strides_are_dense_ones(capi: Library, image: Any, image_model: Saved) -> None:
    dense = tensor(image_model.inputs[0], strides=None)
    y = np.empty_like(image_model.expected()[0])
    buffer = Buffer(y.ctypes.data, y.nbytes)
    capi.call("run", image, c.byref(dense), c.c_size_t(1), c.byref(buffer), c.c_size_t(1))
    assert same([y], image_model.expected())


def test_results_outlive_their_model(capi: Library, image_model: Saved) -> None:
    model, results = capi.open(image_model.path), c.c_void_p()
    inputs = (Tensor * 1)(tensor(image_model.inputs[0]))
    capi.call("run_new", model, inputs, c.c_size_t(1), c.byref(results))
    capi.function("close")(model)
    (want,) = image_model.expected()
    found = capi.function("result")(results, 0).contents
    assert bytes((c.c_char * want.nbytes).from_address(found.data)) == want.tobytes()
    assert found.data % 64 == 0
    capi.function("results_free")(results)


def test_threads_change_no_bit(capi: Library, image_model: Saved) -> None:
    model = capi.open(image_model.path, threads=1)
    assert capi.function("threads")(model) == 1
    for threads in (2, 5, 0, 1):
        capi.call("set_threads", model, c.c_int32(threads))
        assert capi.function("threads")(model) == threads
        assert same(capi.run(model, image_model.inputs), image_model.expected())
    capi.function("close")(model)


def test_isa_levels_change_no_bit(capi: Library, image_model: Saved) -> None:
    for name in qfx.runtime.isa_names():
        model = capi.open(image_model.path, isa=name.encode())
        assert capi.text("isa", model) == name
        assert same(capi.run(model, image_model.inputs), image_model.expected())
        capi.function("close")(model)


def test_many_threads_call_one_model(capi: Library, pair: Any, pair_model: Saved) -> None:
    """And each has errors of its own."""
    expected, (ids, x), right = pair_model.expected(), pair_model.inputs, []

    def work(number: int) -> None:
        for _ in range(30):
            results = capi.run(pair, [ids, x])
            with pytest.raises(Failed, match=rf"\[2, {number}, 8\]"):
                capi.run(pair, [np.zeros((2, number), np.int64), x])
            right.append(same(results, expected))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6, 10)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert right == [True] * 120


def test_opening_and_closing_leaves_nothing(capi: Library, image_model: Saved) -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096

    def work(times: int) -> None:
        for _ in range(times):
            model = capi.open(image_model.path, threads=1)
            capi.run(model, image_model.inputs)
            capi.function("close")(model)

    work(20)
    before = resident()
    work(200)
    assert resident() - before < 2**20
