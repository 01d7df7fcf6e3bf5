"""Whole networks by other people's definitions; `make zoo` installs those."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import qfx

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(not all(map(find_spec, ("timm", "torchvision"))), reason="the definitions come with `make zoo`"),
]

NAMES = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "regnety",
    "convnext_tiny",
    "densenet121",
    "efficientnet_lite0",
)


@pytest.mark.parametrize("name", NAMES)
def test_converts_with_every_convolution_and_linear_layer_in_int8(name):
    from benchmarks import photos, zoo
    from benchmarks.metrics import logits, sqnr

    model = zoo.load(name)
    qmodel = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, calibration=photos.calibration(16))
    left = [r for r in qmodel.report if r.op in ("conv", "linear") and r.decision != "int8"]
    assert not left
    batches = photos.evaluation(8, batch=4)
    assert sqnr(logits(model, batches), logits(qmodel, batches)) > 5.0
