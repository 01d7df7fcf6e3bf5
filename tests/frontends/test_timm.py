"""Networks of timm: no opaque node is left, and the float output is the model's."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from torch import nn

import qfx
from qfx import patterns
from qfx.frontends import capture, normalize
from qfx.lowering.compiled import fetch_codes
from qfx.lowering.interpreter import interpret_integers
from qfx.ops import is_op

NETWORKS = {
    "resnet18": 0,
    "resnet50": 0,
    "mobilenetv2_100": 0,
    "mobilenetv3_large_100": 0,
    "efficientnet_b0": 0,
    "regnety_008": 0,
    "convnext_tiny": 0,
    "densenet121": 62,
    "ghostnet_100": 0,
    "repvgg_a0": 17,
    "hrnet_w18_small": 0,
    "vovnet39a": 0,
}
"""How many batch norms stand alone, with nothing before them to be folded into."""


def _define_missing_torchvision_ops() -> None:
    """timm imports torchvision, whose compiled operators may be missing or built for another torch."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for _ in range(30):
        try:
            import torchvision  # noqa: F401
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            library.define(f"{missing[1]}(Tensor a, Tensor b, float c) -> Tensor")
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
        else:
            return


@pytest.fixture(scope="module")
def timm() -> object:
    _define_missing_torchvision_ops()
    return pytest.importorskip("timm")


def randomize_norms(model: nn.Module) -> None:
    """Statistics and parameters away from their initial values."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
            nn.init.uniform_(module.weight, 0.9, 1.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore::FutureWarning:timm", "ignore::UserWarning:timm", "ignore::DeprecationWarning")
def test_network_normalizes_whole(name: str, timm: object) -> None:
    model = timm.create_model(name).eval()  # type: ignore[attr-defined]
    randomize_norms(model)
    graph_module = normalize(capture(model, strict=True))
    for rewrite in (
        patterns.eliminate_identities,
        patterns.fold_batch_norm,
        patterns.fold_scales,
        patterns.fold_padding,
        patterns.fuse_activations,
        patterns.fuse_residuals,
        patterns.eliminate_dead_code,
    ):
        graph_module = rewrite(graph_module)
    assert not [node.meta["opaque_reason"] for node in graph_module.graph.nodes if "opaque_reason" in node.meta]
    assert sum(is_op(node, "channel_affine") for node in graph_module.graph.nodes) == NETWORKS[name]
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected = model(x)
        difference = (graph_module(x) - expected).abs().max() / expected.abs().max()
    assert float(difference) < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:timm", "ignore::UserWarning:timm", "ignore::DeprecationWarning")
def test_a_vision_transformer_is_one_program(timm: object) -> None:
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(  # type: ignore[attr-defined]
        img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=10, global_pool="avg"
    ).eval()
    x = torch.randn(4, 3, 32, 32)
    quantized = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, [x])
    assert [part.executable is not None for part in quantized.compiled.segments] == [True]
    for batch in (1, 3):
        exact = interpret_integers(quantized.graph_module(), (x[:batch],))
        codes = fetch_codes(quantized.compiled, (x[:batch],))
        assert codes
        assert all(torch.equal(code, exact.codes[name].to(code.dtype)) for name, code in codes.items())
        assert torch.equal(quantized(x[:batch]), exact.output)
