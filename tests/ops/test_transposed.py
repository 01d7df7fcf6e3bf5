"""Transposed convolutions against torch's, in float, and through to int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

import qfx
from qfx.patterns.rules.batch_norm import randomized

MODULES: tuple[type[nn.Module], ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def rows(gm: fx.GraphModule) -> list[str]:
    assert not gm.graph.find_nodes(op="call_module"), "nothing stays opaque"
    return [getattr(n.target, "__name__", "") for n in gm.graph.nodes if n.op == "call_function"]


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A transposed convolution with arguments that torch takes, and an input."""
    spatial = draw(st.integers(1, 3))
    extents = [
        (draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(4, 6)))
        for _ in range(spatial)
    ]
    kernel, stride, dilation, size = (tuple(part) for part in zip(*extents, strict=True))
    padding = tuple(draw(st.integers(0, d * (k - 1) + 2)) for k, _, d, _ in extents)
    beyond = tuple(draw(st.integers(0, max(s, d) - 1)) for _, s, d, _ in extents)
    groups = draw(st.sampled_from((1, 2)))
    length = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1 for (k, s, d, n), p, o in zip(extents, padding, beyond, strict=True)
    ]
    if min(length) < 1:
        padding = (0,) * spatial
    make: Any = MODULES[spatial - 1]
    layer = make(4, 6, kernel, stride, padding, beyond, groups, draw(st.booleans()), dilation)
    return layer.eval(), torch.randn(2, 4, *size)


@given(layers())
@settings(max_examples=80, deadline=None)
def test_normalized_transposed_convolutions_compute_what_torch_does(case: tuple[nn.Module, Tensor]) -> None:
    layer, x = case
    expected, normal = layer(x), qfx.fuse_fx(layer)
    rows(normal)
    result = normal(x)
    assert result.shape == expected.shape
    # Both are float32 sums of at most 4 * 5**3 products of numbers around 1.
    torch.testing.assert_close(result, expected, rtol=0, atol=4 * 5**3 * torch.finfo(torch.float32).eps)


class Functional(nn.Module):
    def __init__(self, fn: Callable[..., Tensor], spatial: int) -> None:
        super().__init__()
        self.weight, self.bias, self.fn = (
            nn.Parameter(torch.randn(3, 2, *[4] * spatial)),
            nn.Parameter(torch.ones(2)),
            fn,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x, self.weight, self.bias, stride=2, padding=1)


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_functional_spellings(spatial: int) -> None:
    fn = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spatial - 1]
    model, x = Functional(fn, spatial), torch.randn(1, 3, *[5] * spatial)
    normal = qfx.prepare_fx(model, {"": None}, (x,))
    torch.testing.assert_close(normal(x), model(x), rtol=1e-5, atol=1e-5)


def test_the_output_size_of_a_call_stays_float() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 4, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x, output_size=[12, 12])

    model, x = Sized(), torch.randn(1, 3, 5, 5)
    qmodel = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, [x])
    assert "output_size" in str(qmodel.report)
    torch.testing.assert_close(qmodel(x), model(x), rtol=1e-5, atol=1e-5)


def test_batch_norm_and_relu_join_the_convolution() -> None:
    model = randomized(nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU()))
    normal = qfx.fuse_fx(model)
    assert rows(normal) == ["conv", "pixel_shuffle", "slice_", "slice_"]
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(normal(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_int8_is_one_program_and_close_to_float(spatial: int) -> None:
    torch.manual_seed(spatial)
    make: Any = MODULES[spatial - 1]
    model = nn.Sequential(make(4, 8, 4, 2, 1), nn.ReLU(), make(8, 3, 2, 2)).eval()
    x = torch.randn(4, 4, *[6] * spatial)
    qmodel = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, [x])
    assert {record.decision for record in qmodel.report if record.op == "conv"} == {"int8"}
    assert len(qmodel.explain().parts) == 1
    expected, result = model(x), qmodel(x)
    sqnr = 10 * torch.log10(expected.square().sum() / (expected - result).square().sum())
    assert sqnr > 30


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 3, 6, 6)])
def test_an_image_without_a_batch_stays_float(shape: tuple[int, ...]) -> None:
    model, x = nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2, 1)).eval(), torch.randn(shape)
    prepared = qfx.prepare_fx(model, {"": qfx.get_default_qconfig()}, (x,))
    torch.testing.assert_close(prepared(x), model(x), rtol=1e-5, atol=1e-5)
