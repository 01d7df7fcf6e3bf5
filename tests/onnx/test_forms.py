"""Every row of the op table has a form in ONNX, which computes what the row says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
import torch

from qfx.errors import ConversionError
from qfx.onnx.forms import FORMS
from qfx.onnx.opset import OLDEST
from qfx.onnx.write import as_model
from qfx.ops import TABLE
from qfx.ops.sample import Sample
from tests.onnx.samples import one_call, run

CLOSE = {"rtol": 1e-5, "atol": 2e-6}
"""Float32 functions of two libraries, sums of a few dozen terms among them: some units in the last place."""

BUILT_IN = [name for name, op in TABLE.items() if op.fn.__module__.startswith("qfx.")]


def test_every_row_has_a_form() -> None:
    assert set(BUILT_IN) == set(FORMS)


def check(name: str, sample: Sample, *, opset: int, only_batch: bool) -> None:
    gm, inputs = one_call(TABLE[name], sample)
    want = torch.as_tensor(gm(*inputs)).numpy()
    (got,) = run(as_model(gm, opset=opset, only_batch=only_batch), *inputs)
    assert got.dtype == want.dtype
    got = got if want.ndim or TABLE[name].gives_tensor else got[0]  # a size is [1] in a file
    assert got.shape == want.shape
    if want.dtype.kind == "f":
        np.testing.assert_allclose(got, want, **CLOSE)
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", BUILT_IN)
def test_onnx_runtime_computes_what_the_row_says(name: str) -> None:
    for sample in TABLE[name].samples():
        if sample.kwargs.get("dtype") != "qint32":
            check(name, sample, opset=OLDEST, only_batch=True)


@pytest.mark.parametrize("name", BUILT_IN)
def test_lengths_may_stay_free_or_the_call_says_that_it_needs_them(name: str) -> None:
    for sample in TABLE[name].samples():
        if sample.kwargs.get("dtype") != "qint32":
            with suppress_unknown_sizes():
                check(name, sample, opset=OLDEST, only_batch=False)


@contextmanager
def suppress_unknown_sizes() -> Iterator[None]:
    """Lets errors pass that say that sizes must be known, and what to do."""
    try:
        yield
    except ConversionError as error:
        if not re.search(r'needs to know the size that it gets, .*\n.*sizes="batch"', str(error)):
            raise


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_newest_opset_has_every_form_too(name: str) -> None:
    for sample in TABLE[name].samples():
        if sample.kwargs.get("dtype") != "qint32":
            gm, _ = one_call(TABLE[name], sample)
            model = as_model(gm, opset=onnx.defs.onnx_opset_version(), only_batch=True)
            assert model.opset_import[0].version == onnx.defs.onnx_opset_version()


def test_integers_of_32_bits_are_no_activations() -> None:
    samples = [sample for sample in TABLE["quantize"].samples() if sample.kwargs["dtype"] == "qint32"]
    for sample in samples:
        with pytest.raises(ConversionError, match="ONNX rounds to integers of 8 bits"):
            as_model(one_call(TABLE["quantize"], sample)[0])
    assert samples
