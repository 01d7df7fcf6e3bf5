"""Bad inputs to public calls: each gives a result, or an error of qfx's; none a raw error or the end of the process.

A case takes one call with good arguments (``calls.py``), and puts something hostile (``values.py``) in the place of one
or two of them.
"""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import numpy as np
from torch import Tensor

import qfx
from tests.fuzz.calls import CALLS, Call
from tests.fuzz.driver import Fuzzer, main
from tests.fuzz.values import HOSTILE

WITHOUT_MEMORY = ("freed", "cut short", "freed float64", "freed view")
"""For tensors only: torch can't even print them."""

OWN = {
    "calibration": ("function", "class", "module", "quantized", "closed file", "liar"),
    "data": ("closed file", "liar"),
    "calib_data": tuple(HOSTILE),
    "run_args": tuple(HOSTILE),
    "metric": ("function", "class", "module", "quantized", "liar"),
    "watch": ("function", "class", "module", "quantized", "liar"),
}
"""What is the caller's own code, whose errors are the caller's."""

SIZES = {
    "num_embeddings", "embedding_dim", "in_features", "out_features", "input_size", "hidden_size", "num_layers",
    "embed_dim", "in_channels", "out_channels", "num_features",
}  # fmt: skip
"""What gets as much memory as it says: nobody has the memory or the time of 2**31."""
LIMITS = set(itertools.product(("PACTFakeQuantize", "default_pact_fake_quant"), ("inference", "fake", "meta")))
"""What torch refuses of any module with parameters: inference tensors in autograd, fake and real ones together."""

TORCHS = {
    **{f"QTensor.{name}": (Exception,) for name in ("to", "reshape", "permute", "__getitem__")},
    **dict.fromkeys(("MaxPool2d", "MaxPool2d()"), (Exception,)),
}
"""Calls that are torch's where an argument is of no use to it, and what it may raise."""

# ---------------------------------------------------------------- a case


def case(seed: int) -> None:
    """The call, the place and the hostile value of ``seed``: every pair comes once before any comes twice."""
    pairs = _pairs()
    call, names, kind = pairs[seed % len(pairs)]
    arguments = call.arguments()
    for name in names:
        arguments[name] = HOSTILE[kind]()
    random = Random(seed)
    if seed >= len(pairs):  # afterwards, another argument is hostile too
        arguments[random.choice(sorted(arguments))] = HOSTILE[random.choice(sorted({*HOSTILE} - {*WITHOUT_MEMORY}))]()
    try:
        with warnings.catch_warnings(), folder():
            warnings.simplefilter("ignore")
            call.fn(**arguments)
    except qfx.QfxError as error:
        if not error.remedy:
            what = f"{call.name}({', '.join(names)}={kind})"
            raise AssertionError(f"{what}: no remedy in {error}") from error
    except TORCHS.get(call.name, ()):
        pass
    except Exception as error:
        what = f"{call.name}({', '.join(names)}={kind})"
        raise AssertionError(f"{what} raised {type(error).__name__}: {error}") from error
    finally:
        qfx.set_num_threads(1)


@contextmanager
def folder() -> Iterator[None]:
    """While active, names of files are those of a folder that is gone afterwards."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _applies(call: Call, name: str, kind: str, good: Any) -> bool:
    if kind in OWN.get(name, ()) or (call.name, kind) in LIMITS or (name in SIZES and kind == "2**31"):
        return False
    return kind not in WITHOUT_MEMORY or isinstance(good, (Tensor, np.ndarray))


@functools.cache
def _pairs() -> list[tuple[Call, tuple[str, ...], str]]:
    """Every argument of every call with every hostile value, in an order that does not stay with one call."""
    pairs = [
        (call, (name,), kind)
        for call, kind in itertools.product(CALLS, HOSTILE)
        for name, good in call.arguments().items()
        if _applies(call, name, kind, good)
    ]
    Random(0).shuffle(pairs)
    return pairs


FUZZER = Fuzzer("tests.fuzz.inputs", case, apart=True)

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main(FUZZER))
