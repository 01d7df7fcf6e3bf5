"""Ten networks by other people's definitions, trained for two steps: int8 computes what was trained."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

import qfx
from benchmarks import zoo
from benchmarks.workloads import MLP, workload

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(not all(map(find_spec, ("timm", "torchvision"))), reason="the definitions come with `make zoo`"),
]


@pytest.mark.parametrize("name", [*zoo.NAMES, MLP])
def test_integers_are_within_one_quantum_of_the_trained_ones(name: str) -> None:
    given = workload(name)
    (x,) = given.inputs(4)
    if x.dim() == 4:
        x = torch.nn.functional.interpolate(x, size=96, mode="bilinear")
    model = qfx.prepare_qat_fx(given.load().requires_grad_(True), {"": qfx.get_default_qat_qconfig()}, (x,))
    optimizer = torch.optim.SGD(model.parameters(), 1e-5)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    comparison = qfx.compare(model.eval(), qfx.convert_fx(model), [x])
    assert comparison.first_beyond(1) is None, comparison
    assert sum(record.local_quanta is not None for record in comparison) >= 3
