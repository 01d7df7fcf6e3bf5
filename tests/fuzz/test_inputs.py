"""The fuzzer of inputs, for a few seconds, and what it calls."""

from __future__ import annotations

import importlib
import re
import warnings

import pytest

import qfx
from tests.fuzz.calls import CALLS, UNCALLED, Call
from tests.fuzz.driver import fuzz
from tests.fuzz.inputs import FUZZER, folder
from tests.test_typing import PUBLIC

MODULES = {
    "qfx.quantization": "",
    "qfx.nn.quantized": "",
    "qfx.runtime": "",
    "qfx.nn.quantized.functional": "functional.",
    "qfx.nn.quantized.dynamic": "dynamic.",
}
"""Modules with public names, and what stands before these in the names of calls."""


def _names() -> set[str]:
    names = set(PUBLIC)
    for module, prefix in MODULES.items():
        names |= {prefix + name for name in importlib.import_module(module).__all__}
    return names


def _called(call: Call) -> str:
    """The public name that ``call`` begins with."""
    found = re.match(r"((functional|dynamic)\.)?\w+", call.name)
    assert found
    return found[0]


def test_every_public_name_is_called_or_says_why_not() -> None:
    called = {_called(call) for call in CALLS}
    plain = {name for name in _names() if isinstance(getattr(qfx.quantization, name, None), qfx.QConfig)}
    left = _names() - called - set(UNCALLED) - plain
    assert left == set()
    assert set(UNCALLED) <= _names()


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_the_good_arguments_are_good(call: Call) -> None:
    with warnings.catch_warnings(), folder():
        warnings.simplefilter("ignore")
        call.fn(**call.arguments())


def test_bad_inputs() -> None:
    outcome = fuzz(FUZZER, 4.0, 0)
    assert outcome.cases > 0
    assert [failure.text for failure in outcome.failures] == []
