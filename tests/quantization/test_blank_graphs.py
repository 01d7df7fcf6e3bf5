"""Graph mode without data: a model to load a state into."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.errors import CalibrationError, ConversionError, UncalibratedWarning
from qfx.quantization.observer import MinMaxObserver, MovingAverageMinMaxObserver
from tests.covering import pairs
from tests.nets import NETS, settle, small_net
from tests.quantization import custom
from tests.quantization.test_custom_modules import CONVERT, PREPARE, STATIC


class Functions(nn.Module):
    """Fixed ranges, a join, a layer that is called twice, a transposed and a grouped convolution without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 2, stride=2, bias=False)
        self.grouped = nn.Conv2d(4, 4, 3, groups=2, padding=1, bias=False)
        self.last = nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x).relu()
        y = self.grouped(self.grouped(y).sigmoid())
        return self.last(torch.cat([y.tanh(), y], 1).mean((2, 3)))


class Twofold(nn.Module):
    """A static part, and a layer for which a dynamic qconfig can be given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: small_net(name) for name in NETS},  # type: ignore[misc]
    "Functions": lambda: settle(Functions(), 4, 3, 32, 32),
    "Twofold": lambda: settle(Twofold(), 4, 3, 32, 32),
}
QCONFIGS: dict[str, Any] = {
    "own": {"": qfx.get_default_qconfig()},
    "x86": {"": qfx.get_default_qconfig("x86")},
    "qnnpack": {"": qfx.get_default_qconfig("qnnpack")},
    "per tensor": {"": qfx.QConfig(MinMaxObserver, qfx.default_weight_observer)},
    "moving": {"": qfx.QConfig(MovingAverageMinMaxObserver, qfx.default_per_channel_weight_observer)},
    "some dynamic": {
        "": qfx.get_default_qconfig(),
        "object_type": [(nn.Linear, qfx.default_dynamic_qconfig)],
    },
}


def loaded_as_saved(prepare: Callable[[], Any], x: Tensor, custom_config: Any = None) -> None:
    """A model that saw ``x`` and one that saw nothing: the state of the first makes the second the first."""
    calibrated = prepare()
    calibrated(x)
    saved = qfx.convert_fx(calibrated.eval(), custom_config)
    with pytest.warns(UncalibratedWarning) as caught:
        blank = qfx.convert_fx(prepare().eval(), custom_config)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    want = saved(x)
    assert not torch.equal(blank(x), want)
    blank.load_state_dict(saved.state_dict())
    assert torch.equal(blank(x), want)


@pytest.mark.parametrize(("name", "qconfig", "shapes"), pairs(NETWORKS, QCONFIGS, ["known", "unknown"]))
def test_the_state_of_a_calibrated_model_counts(name: str, qconfig: str, shapes: str) -> None:
    example = (IMAGES,) if shapes == "known" else None
    loaded_as_saved(lambda: qfx.prepare_fx(NETWORKS[name](), QCONFIGS[qconfig], example), IMAGES)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_state_of_a_trained_model_counts(name: str) -> None:
    rules = {"": qfx.get_default_qat_qconfig()}
    loaded_as_saved(lambda: qfx.prepare_qat_fx(NETWORKS[name]().train(), rules, (IMAGES,)), IMAGES)


def test_custom_modules_are_blank_too() -> None:
    loaded_as_saved(lambda: qfx.prepare_fx(custom.net(), STATIC, (custom.X,), PREPARE), custom.X, CONVERT)


def test_the_prepared_model_stays_as_it_was() -> None:
    prepared = qfx.prepare_fx(small_net("ResidualNet"), STATIC, (IMAGES,))
    with pytest.warns(UncalibratedWarning):
        qfx.convert_fx(prepared)
    prepared(IMAGES)
    want = qfx.quantize_fx(small_net("ResidualNet"), STATIC, [IMAGES])
    assert torch.equal(qfx.convert_fx(prepared)(IMAGES), want(IMAGES))


def test_a_dynamic_model_needs_no_data() -> None:
    prepared = qfx.prepare_fx(small_net("ResidualNet"), {"": qfx.default_dynamic_qconfig}, (IMAGES,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qfx.convert_fx(prepared)


def test_calibration_that_missed_a_part_is_an_error() -> None:
    prepared = qfx.prepare_fx(small_net("ResidualNet"), STATIC, (IMAGES,))
    observers = [m for m in prepared.modules() if isinstance(m, qfx.quantization.Observer)]
    observers[-1].enabled = False
    prepared(IMAGES)
    with pytest.raises(CalibrationError, match="has seen no data"):
        qfx.convert_fx(prepared)


def test_one_call_without_data_is_an_error() -> None:
    for given in ({"example_inputs": (IMAGES,)}, {"calibration": lambda prepared: None}):
        with pytest.raises(CalibrationError, match="has seen no data"):
            qfx.quantize_fx(small_net("ResidualNet"), STATIC, **given)  # type: ignore[arg-type]


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.both = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(8, 4, 1)
        self.of_narrow = nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.wide.weight.mul_(200)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.narrow(x)
        return self.of_narrow(y), self.both(torch.cat([self.wide(x), y], 1))


def test_a_state_with_scales_that_the_model_lacks_is_refused_in_words() -> None:
    saved = qfx.quantize_fx(Heads().eval(), STATIC, [IMAGES])
    with pytest.warns(UncalibratedWarning):
        blank = qfx.convert_fx(qfx.prepare_fx(Heads().eval(), STATIC, (IMAGES,)))
    with pytest.raises(ConversionError, match="other values have a scale of their own") as caught:
        blank.load_state_dict(saved.state_dict())
    assert "qfx.save" in str(caught.value)
