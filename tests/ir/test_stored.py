"""Numbers of quantized state, of every dtype and in every range that a role has."""

from __future__ import annotations

import itertools

import pytest
import torch

from qfx.ir.stored import Role, problem

DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)
ENDS = (-(2**31), -129, -128, -127, 0, 1, 127, 128, 255, 256, 2**31 - 1)
RANGES = [(low, high) for low, high in itertools.product(ENDS, ENDS) if low <= high]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_integers_are_in_the_range_of_their_role(dtype: torch.dtype) -> None:
    least, most = (0, 1) if dtype is torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    kept = [end for end in ENDS if least <= end <= most]
    for low, high in RANGES:
        for value in (least, most, *kept):
            found = problem(torch.tensor([min(max(low, least), most), value], dtype=dtype), Role("integers", low, high))
            fits = all(low <= number <= high for number in (min(max(low, least), most), value))
            assert (found is None) == fits, (low, high, value)
