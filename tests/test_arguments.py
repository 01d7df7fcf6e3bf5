"""Arguments against annotations: what a raw error is explained by, and what is never refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

import qfx
from qfx.arguments import checked, explained, explaining, fits

X = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (3, int, True), (np.int64(3), int, True), (torch.tensor(3), int, True), (2**63, int, False), (3.0, int, False),
        (3, float, True), (torch.tensor([0.5]), float, True), ("3", float, False), (X, float, False),
        (1j, float, False),
        (True, bool, True), (np.bool_(False), bool, True), (1, bool, True), (2, bool, False), (X, bool, False),
        (None, int | None, True), ("a", Literal["a", "b"], True), (X, Literal["a"], False),
        (len, Callable[..., Any], True),
        ({}, Mapping[str, Any], True), ([], Mapping[str, Any], False), ([1, 2], Sequence[int], True),
        ("12", Sequence[str], False), ([1, "2"], Sequence[int], False), (nn.Linear, type[nn.Module], True),
        (nn.Linear(1, 1), type[nn.Module], False), (int, type[nn.Module], False), (object(), Any, True),
        (qfx.QScheme.per_tensor_affine, qfx.QScheme, True), ([3, 3], tuple[int, int], True),
    ],
)  # fmt: skip
def test_what_fits(value: Any, hint: Any, right: bool) -> None:
    assert fits(value, hint) is right


@explained
def half(x: int, run: Callable[[], Any] | None = None) -> Any:
    return run() if run else x // 2


def test_only_what_fails_is_refused() -> None:
    assert half(3.0) == 1.0  # type: ignore[arg-type]
    with pytest.raises(qfx.InputError, match=r"half can't take x='3'\.") as caught:
        half("3")  # type: ignore[arg-type]
    assert caught.value.remedy == "Pass a whole number of 64 bits."
    assert isinstance(caught.value.__cause__, TypeError)


def test_errors_of_the_callers_code_and_pythons_stay() -> None:
    with pytest.raises(ZeroDivisionError):
        half(3, lambda: 1 // 0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        half(3, y=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        half()  # type: ignore[call-arg]


def test_constructors_look_first() -> None:
    class Keeps:
        @checked
        def __init__(self, x: int) -> None:
            self.x = x

    assert Keeps(np.int32(3)).x == 3  # type: ignore[arg-type]
    with pytest.raises(qfx.InputError, match=r"Keeps can't take x='3'\."):
        Keeps("3")  # type: ignore[arg-type]


def test_what_torch_refuses_is_told() -> None:
    with (
        pytest.raises(qfx.InputError, match="groups must be a positive integer"),
        explaining(nn.Conv2d, (3, 4, 3), {"groups": 0}),
    ):
        nn.Conv2d(3, 4, 3, groups=0)
    with pytest.raises(TypeError, match="unexpected keyword"), explaining(nn.Conv2d, (3, 4, 3), {"nothing": 0}):
        nn.Conv2d(3, 4, 3, nothing=0)  # type: ignore[call-arg]
