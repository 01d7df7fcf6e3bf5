"""Samples of the ops that move elements."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from qfx.errors import InputError
from qfx.ops.sample import Sample, Samples, call, normal, refused


def cat() -> list[Sample]:
    return [
        call([normal(2, 3, 4), normal(2, 5, 4, seed=1)], dim=1),
        call([normal(2, 3, 4), normal(2, 3, 1, seed=1), normal(2, 3, 2, seed=2)], dim=-1),
        call([normal(2, 3)], dim=0),
    ]


def stack() -> list[Sample]:
    same = [normal(2, 3, seed=seed) for seed in range(3)]
    return [call(same, dim=0), call(same, dim=-1), call(same[:2], dim=1)]


def pad() -> list[Sample]:
    image = normal(2, 3, 5, 6)
    return [
        call(image, pad=(1, 2, 3, 0), mode="constant", value=None),
        call(image, pad=(1, 2), mode="constant", value=0.5),
        call(image, pad=(-1, 2, 0, -2), mode="constant", value=0.0),
        call(image, pad=(0, 0, 0, 0, 1, 2), mode="constant", value=-1.0),
        call(image, pad=(2, 1, 3, 4), mode="reflect", value=None),
        call(image, pad=(2, 1, 3, 4), mode="replicate", value=None),
        call(image, pad=(2, 1, 3, 4), mode="circular", value=None),
        call(normal(2, 3, 5), pad=(2, 1), mode="reflect", value=None),
    ]


_X = partial(normal, 2, 4, 3, 6)

_MOVES: Mapping[str, Samples] = {
    "pixel_shuffle": lambda: [call(normal(2, 12, 3, 5), factor=2), call(normal(9, 2, 2), factor=3)],
    "pixel_unshuffle": lambda: [call(normal(2, 3, 4, 6), factor=2), call(normal(1, 1, 6, 3), factor=3)],
    "channel_shuffle": lambda: [call(normal(2, 12, 3, 5), groups=3), call(normal(1, 6, 4), groups=2)],
    "reshape": lambda: [call(_X(), (2, -1)), call(_X(), (8, 18)), call(_X(), (2, 2, 2, 3, 6)), call(_X(), (-1,))],
    "dropout": lambda: [call(_X())],
    "flatten": lambda: [call(_X(), start_dim=1, end_dim=-1), call(_X(), start_dim=-3, end_dim=2)],
    "permute": lambda: [call(_X(), dims=(0, 2, 3, 1)), call(_X(), dims=(-1, 0, -2, 1)), call(_X(), dims=(3, 2, 1, 0))],
    "transpose": lambda: [call(_X(), dim0=1, dim1=2), call(_X(), dim0=-1, dim1=0), call(_X(), dim0=2, dim1=2)],
    "slice": lambda: [
        call(_X(), dim=1, start=1, end=3, step=1),
        call(_X(), dim=-1, start=None, end=-1, step=2),
        call(_X(), dim=3, start=-4, end=None, step=3),
        call(_X(), dim=2, start=1, end=100, step=1),
        call(_X(), dim=0, start=None, end=None, step=1),
    ],
    "select": lambda: [call(_X(), dim=1, index=2), call(_X(), dim=-1, index=-1), call(_X(), dim=0, index=0)],
    "squeeze": lambda: [
        call(normal(2, 1, 3, 1)),
        call(normal(2, 1, 3, 1), dim=1),
        call(normal(2, 1, 3, 1), dim=-1),
        call(normal(2, 1, 3, 1), dim=(1, 3)),
        call(normal(2, 1, 3, 1), dim=0),
    ],
    "unsqueeze": lambda: [call(_X(), dim=0), call(_X(), dim=-1), call(_X(), dim=2)],
    "expand": lambda: [
        call(normal(2, 1, 3), (2, 4, 3)),
        call(normal(2, 1, 3), (-1, 4, -1)),
        call(normal(1, 3), (5, 2, 3)),
    ],
    "windows": lambda: [
        call(_X(), dims=(2,), size=(2,), stride=(1,), dilation=(1,)),
        call(_X(), dims=(-1,), size=(2,), stride=(3,), dilation=(2,)),
        call(_X(), dims=(2, 3), size=(3, 2), stride=(1, 2), dilation=(1, 1)),
        call(_X(), dims=(3, 1), size=(2, 3), stride=(2, 1), dilation=(3, 1)),
        call(_X(), dims=(0,), size=(1,), stride=(2,), dilation=(1,)),
    ],
}

_REFUSED: Mapping[str, Samples] = {
    "cat": lambda: [refused(RuntimeError, "Sizes of tensors must match", [normal(2, 3), normal(3, 4)], dim=1)],
    "stack": lambda: [refused(RuntimeError, "equal size", [normal(2, 3), normal(2, 4)], dim=0)],
    "pad": lambda: [
        refused(RuntimeError, "even|divisible", _X(), pad=(1,), mode="constant", value=None),
        refused(RuntimeError, "less than the corresponding", _X(), pad=(7, 7, 7, 7), mode="reflect", value=None),
        refused(NotImplementedError, "mode", _X(), pad=(1, 1), mode="mirror", value=None),
    ],
    "pixel_shuffle": lambda: [refused(RuntimeError, "divisible", normal(2, 3, 4, 4), factor=2)],
    "pixel_unshuffle": lambda: [refused(RuntimeError, "divisible", normal(2, 3, 5, 4), factor=2)],
    "channel_shuffle": lambda: [
        refused(InputError, "divisible by 5", normal(2, 12, 3, 3), groups=5),
        refused(InputError, "channel_shuffle needs", normal(2, 12), groups=3),
    ],
    "reshape": lambda: [refused(RuntimeError, "invalid for input", _X(), (5, -1))],
    "flatten": lambda: [
        refused(IndexError, "out of range", _X(), start_dim=1, end_dim=4),
        refused(RuntimeError, "start_dim cannot come after", _X(), start_dim=3, end_dim=1),
    ],
    "permute": lambda: [refused(RuntimeError, "permute", _X(), dims=(0, 1))],
    "transpose": lambda: [refused(IndexError, "out of range", _X(), dim0=0, dim1=4)],
    "slice": lambda: [
        refused(InputError, "along dim 4", _X(), dim=4, start=0, end=1, step=1),
        refused(InputError, "step -1", _X(), dim=1, start=None, end=None, step=-1),
    ],
    "select": lambda: [refused(IndexError, "out of range", _X(), dim=1, index=4)],
    "squeeze": lambda: [refused(IndexError, "out of range", _X(), dim=4)],
    "unsqueeze": lambda: [refused(IndexError, "out of range", _X(), dim=5)],
    "expand": lambda: [refused(RuntimeError, "expanded size", normal(2, 3), (4, 3))],
    "windows": lambda: [
        refused(InputError, "window of 7 along dim 3", _X(), dims=(3,), size=(4,), stride=(1,), dilation=(2,)),
        refused(InputError, "along dim 4", _X(), dims=(4,), size=(1,), stride=(1,), dilation=(1,)),
    ],
    "dropout": lambda: [refused(TypeError, "unexpected keyword", _X(), p=0.5)],
    "size": lambda: [refused(IndexError, "out of range", _X(), dim=4)],
}

GOOD: dict[str, Samples] = {
    "cat": cat,
    "stack": stack,
    "pad": pad,
    **_MOVES,
    "size": lambda: [call(_X(), dim=1), call(_X(), dim=-1)],
}
BAD: dict[str, Samples] = {**_REFUSED}
