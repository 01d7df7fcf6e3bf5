"""Reports, profiles and pictures of models that torch runs a part of, whatever values its part makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from qfx.runtime import Explanation

X = torch.randn(2, 3, 8, 8)
DEFAULT = {"": qfx.get_default_qconfig()}


class Around(nn.Module):
    """A convolution, what ``middle`` makes of its result, and another convolution."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.middle = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.middle(self.first(x)))


class Ends(nn.Module):
    """Torch at both ends, and results of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.conv(torch.sort(x, -1).values)
        return {"spectrum": torch.fft.rfft(y), "best": y.argmax(1), "pair": [y.sort(-1), None, y.shape[0]]}


class Whole(nn.Module):
    """No program at all."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, -1)


class Island(nn.Module):
    """A module whose code depends on data, between int8 layers."""

    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sort(-1).values if bool(x.sum() > 0) else x.sort(-2).values

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deciding, self.second = nn.Conv2d(3, 8, 1), Island.Deciding(), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.deciding(self.first(x)))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "a tuple and its item": lambda: Around(lambda y: y.cummax(-1)[0]),
    "an attribute of a tuple": lambda: Around(lambda y: y.sort(-1).values),
    "complex": lambda: Around(lambda y: torch.fft.irfft(torch.fft.rfft(y), 8)),
    "integers": lambda: Around(lambda y: y.argsort(-1).float()),
    "booleans": lambda: Around(lambda y: torch.where(y.cumsum(-1) > 0, y, -y)),
    "a list": lambda: Around(lambda y: torch.cat([p.cumsum(-1) for p in torch.tensor_split(y, 2, 1)], 1)),
    "nothing finite": lambda: Around(lambda y: (y.cumsum(-1) * float("nan")).nan_to_num(0.5)),
    "nothing at all": lambda: Around(lambda y: torch.cat([y.cumsum(-1), y[:0].cumsum(-1)])),
    "both ends": Ends,
    "no program": Whole,
    "an island": Island,
}


@pytest.fixture(scope="module", params=MODELS)
def models(request: pytest.FixtureRequest) -> tuple[nn.Module, qfx.QuantizedModel]:
    torch.manual_seed(0)
    model = MODELS[request.param]().eval()
    return model, qfx.quantize_fx(model, DEFAULT, [X])


def test_a_profile_has_the_parts_of_the_explanation(models: tuple[nn.Module, qfx.QuantizedModel]) -> None:
    _, quantized = models
    explained, profiled = quantized.explain().parts, quantized.profile(X, repeats=1).parts
    assert any(isinstance(part, tuple) for part in explained)
    assert len(explained) == len(profiled) == len(quantized.compiled.segments)
    for plan, timed in zip(explained, profiled, strict=True):
        if isinstance(plan, Explanation):
            assert [step.name for step in plan.steps] == [step.name for step in timed.steps]
        else:
            assert plan == timed


@pytest.mark.parametrize("compared", [False, True])
def test_a_report_with_data(models: tuple[nn.Module, qfx.QuantizedModel], compared: bool, tmp_path: Path) -> None:
    model, quantized = models
    page = qfx.write_report(
        tmp_path / "page.html", quantized, float_model=model if compared else None, data=[X]
    ).read_text()
    for record in quantized.report:
        assert f'"name":"{record.name}"' in page


def test_pictures_coloured_by_time_and_error(models: tuple[nn.Module, qfx.QuantizedModel]) -> None:
    model, quantized = models
    assert "digraph" in qfx.to_dot(quantized, level="program", heat=qfx.compare(model, quantized, [X])).source
    profile = quantized.profile(X, repeats=1)
    if any(isinstance(part, Explanation) for part in profile.parts):
        assert "digraph" in qfx.to_dot(quantized, heat=profile).source
        assert len(qfx.to_networkx(quantized, time=profile)) > 0
