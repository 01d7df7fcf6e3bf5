"""What the tests of the library share: where it is installed, and files of small models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qfx
from tests.capi import installed
from tests.capi.native import Library, Saved
from tests.nets import small_net


class Pair(nn.Module):
    """Two inputs of two dtypes, two outputs of two shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.out = nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, ids: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = torch.relu(self.fc(self.embed(ids) + x))
        return {"logits": self.out(y), "mean": y.mean(1)}


@pytest.fixture(scope="session")
def prefix() -> Path:
    """The folder that the library is installed in."""
    return installed.build()


@pytest.fixture(scope="session")
def capi(prefix: Path) -> Library:
    """The functions of qfx.h."""
    return Library(installed.library())


@pytest.fixture(scope="session")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """One input, one output; the batch is free."""
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    model = qfx.quantize_fx(small_net("MobileNet"), {"": qfx.get_default_qconfig()}, [x])
    path = tmp_path_factory.mktemp("image") / "image.qfx"
    qfx.save(model, path, serving=True)
    return Saved(path, (x.numpy(),))


@pytest.fixture(scope="session")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    generator = torch.Generator().manual_seed(6)
    ids, x = torch.randint(0, 10, (2, 5), generator=generator), torch.randn(2, 5, 8, generator=generator)
    model = qfx.quantize_fx(Pair().eval(), {"": qfx.get_default_qconfig()}, [(ids, x)])
    path = tmp_path_factory.mktemp("pair") / "pair.qfx"
    qfx.save(model, path, serving=True, metadata={"labels": ["cat", "Hündin"]})
    return Saved(path, (ids.numpy(), x.numpy()))


@pytest.fixture
def image(capi: Library, image_model: Saved) -> Iterator[Any]:
    """An open model of it."""
    model = capi.open(image_model.path)
    yield model
    capi.function("close")(model)


@pytest.fixture
def pair(capi: Library, pair_model: Saved) -> Iterator[Any]:
    model = capi.open(pair_model.path)
    yield model
    capi.function("close")(model)
