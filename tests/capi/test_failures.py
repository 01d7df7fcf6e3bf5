"""Every way in which a call of qfx.h fails: its status, and what its text says."""

from __future__ import annotations

import ctypes as c
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.capi.native import ARGUMENT, FILE, INPUT, LIMIT, Buffer, Failed, Library, Saved, Tensor, ints, tensor

ONE, TWO = c.c_size_t(1), c.c_size_t(2)


def fails(status: int, *words: str, call: Callable[[], Any]) -> None:
    """It fails with that status, and a text of sentences that has these words."""
    with pytest.raises(Failed) as caught:
        call()
    assert caught.value.status == status, caught.value.text
    for word in words:
        assert word in caught.value.text
    assert caught.value.text.endswith(".")
    assert ".." not in caught.value.text


def test_files_that_can_not_be_opened(capi: Library, image_model: Saved, tmp_path: Path) -> None:
    fails(FILE, "no-such.qfx", "No such file", "Check the path", call=lambda: capi.open(tmp_path / "no-such.qfx"))
    fails(FILE, str(tmp_path), "folder", call=lambda: capi.open(tmp_path))
    fails(FILE, "no .qfx file", call=lambda: capi.open(b"PK something else"))
    fails(FILE, "no .qfx file", call=lambda: capi.open(b""))
    content = image_model.path.read_bytes()
    fails(FILE, "damaged", call=lambda: capi.open(content[:-1] + bytes([content[-1] ^ 1])))
    newer = content[:8] + (99).to_bytes(4, "little") + content[12:]
    fails(FILE, "version 99", "Update qfx", call=lambda: capi.open(newer))


def test_every_truncated_file_is_refused(capi: Library, image_model: Saved, tmp_path: Path) -> None:
    content, cut = image_model.path.read_bytes(), tmp_path / "cut.qfx"
    for size in [*range(0, 200, 7), *range(200, len(content), len(content) // 50), len(content) - 1]:
        cut.write_bytes(content[:size])
        fails(FILE, "cut.qfx", call=lambda: capi.open(cut))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"isa": b"avx9000"}, ("avx9000", "the levels are")),
        ({"threads": -1}, ("-1", "number of threads")),
        ({"size": 3}, ("size 3", "QFX_OPTIONS")),
    ],
)
def test_options_that_make_no_sense(
    options: dict[str, Any], words: tuple[str, ...], capi: Library, image_model: Saved
) -> None:
    fails(ARGUMENT, *words, call=lambda: capi.open(image_model.path, **options))


def test_limits_hold(capi: Library, image_model: Saved) -> None:
    fails(LIMIT, "bytes of memory", "allow more", call=lambda: capi.open(image_model.path, max_memory=100))
    tight = capi.open(image_model.path, max_products=1000)
    fails(LIMIT, "multiplications", "1000", call=lambda: capi.run(tight, image_model.inputs))
    loose = capi.open(image_model.path, max_products=10**12, max_memory=10**9)
    capi.run(loose, image_model.inputs)
    for each in (tight, loose):
        capi.function("close")(each)


def test_pointers_that_are_needed(capi: Library, image: Any, image_model: Saved) -> None:
    (x,) = image_model.inputs
    inputs, room = (Tensor * 1)(tensor(x)), np.zeros(1000, np.float32)
    buffer, made = c.byref(Buffer(room.ctypes.data, room.nbytes)), c.byref(c.c_void_p())
    bare = [(Tensor * 1)(tensor(x, data=None)), (Tensor * 1)(tensor(x, sizes=None))]
    calls: list[tuple[Any, ...]] = [
        ("path is NULL", "open", None, None, made),
        ("model is NULL", "open", str(image_model.path).encode(), None, None),
        ("bytes is NULL", "open_memory", None, ONE, None, made),
        ("model is NULL", "open_memory", b"x", ONE, None, None),
        ("model is NULL", "set_threads", None, 1),
        ("model is NULL", "run", None, inputs, ONE, buffer, ONE),
        ("inputs is NULL", "run", image, None, ONE, buffer, ONE),
        ("outputs is NULL", "run", image, inputs, ONE, None, ONE),
        ("has no data", "run", image, bare[0], ONE, buffer, ONE),
        ("has no sizes", "run", image, bare[1], ONE, buffer, ONE),
        ("its buffer has 0", "run", image, inputs, ONE, c.byref(Buffer(None, 10**6)), ONE),
        ("model is NULL", "run_new", None, inputs, ONE, made),
        ("results is NULL", "run_new", image, inputs, ONE, None),
        ("model is NULL", "output_sizes", None, inputs, ONE, c.c_size_t(0), ints([0, 0])),
        ("sizes is NULL", "output_sizes", image, inputs, ONE, c.c_size_t(0), None),
        ("no output 7", "output_sizes", image, inputs, ONE, c.c_size_t(7), ints([0, 0])),
        ("is NULL", "set_allocator", None, c.c_void_p(1), None),
    ]
    for words, *call in calls:
        fails(ARGUMENT, words, call=lambda call=call: capi.call(*call))


def test_counts_and_buffers_that_do_not_fit(capi: Library, image: Any, image_model: Saved) -> None:
    (x,), (y,) = image_model.inputs, image_model.expected()
    inputs, room = (Tensor * 2)(tensor(x), tensor(x)), np.zeros(y.size + 1, np.float32)
    whole = (Buffer * 2)(Buffer(room.ctypes.data, y.nbytes), Buffer(room.ctypes.data, y.nbytes))
    short, askew = Buffer(room.ctypes.data, y.nbytes - 1), Buffer(room.ctypes.data + 2, y.nbytes)
    bent = (Tensor * 1)(tensor(x, data=x.ctypes.data + 1))
    calls: list[tuple[Any, ...]] = [
        (("2 inputs", "has 1"), inputs, TWO, whole, ONE),
        (("2 outputs", "has 1"), inputs, ONE, whole, TWO),
        ((f"{y.nbytes} bytes", f"has {y.nbytes - 1}", "qfx_output_sizes"), inputs, ONE, c.byref(short), ONE),
        (("Align it to 4",), inputs, ONE, c.byref(askew), ONE),
        (("Align its data to 4",), bent, ONE, whole, ONE),
    ]
    for words, *args in calls:
        fails(ARGUMENT, *words, call=lambda args=args: capi.call("run", image, *args))
    assert not room.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ids, x: (ids.astype(np.int32), x), ("'ids'", "int32", "int64")),
        (lambda ids, x: (ids[0], x), ("'ids'", "rank 1", "rank 2")),
        (lambda ids, x: (ids, x[..., :7].copy()), ("'x'", "(2, 5, 7)")),
        (lambda ids, x: (ids, x[:, :3]), ("3", "5")),
        (lambda ids, x: (ids + 100, x), ("entries",)),
    ],
    ids=["dtype", "rank", "size", "sizes that differ", "values"],
)
def test_inputs_that_the_model_can_not_take(
    change: Any, words: tuple[str, ...], capi: Library, pair: Any, pair_model: Saved
) -> None:
    fails(INPUT, *words, call=lambda: capi.run(pair, change(*pair_model.inputs)))


def test_sizes_that_are_none(capi: Library, image: Any, image_model: Saved) -> None:
    made, (x,) = c.byref(c.c_void_p()), image_model.inputs
    for sizes in ((-1, 3, 16, 16), (2**62, 3, 16, 16), (2**40, 3, 16, 16)):
        inputs = (Tensor * 1)(tensor(x, sizes=ints(sizes)))
        fails(INPUT, "'x'", call=lambda inputs=inputs: capi.call("run_new", image, inputs, ONE, made))
    unknown = (Tensor * 1)(tensor(x, dtype=99))
    fails(INPUT, "dtype", call=lambda: capi.call("run_new", image, unknown, ONE, made))


def test_a_text_stays_until_the_next_failure_of_its_thread(capi: Library, image_model: Saved) -> None:
    with pytest.raises(Failed):
        capi.open(b"nothing")
    text = capi.text("error")
    capi.function("close")(capi.open(image_model.path))
    assert capi.text("error") == text
    told: list[str] = []
    other = threading.Thread(target=lambda: told.append(capi.text("error")))
    other.start()
    other.join()
    assert told == [""]
