"""Frozen batch norms: running statistics used and kept in training, whatever ``train()`` says."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import qfx
from qfx.nn.intrinsic import qat as nniqat
from qfx.quantization import freeze_bn_stats, update_bn_stats
from qfx.quantization.batch_norm import has_frozen_bn_stats

PLAIN = {"1d": (nn.BatchNorm1d, (6, 4)), "2d": (nn.BatchNorm2d, (6, 4, 5, 5)), "3d": (nn.BatchNorm3d, (6, 4, 3, 3, 3))}


def settled(name: str) -> nn.Module:
    norm = PLAIN[name][0](4)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm


@pytest.mark.parametrize("name", PLAIN)
def test_a_frozen_batch_norm_evaluates_in_training(name: str) -> None:
    norm, x = settled(name), torch.randn(PLAIN[name][1])
    want = copy.deepcopy(norm).eval()(x)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    model = nn.Sequential(norm).apply(freeze_bn_stats).train()
    assert torch.equal(model(x), want)
    assert all(torch.equal(before[key], value) for key, value in norm.state_dict().items())
    assert norm.training
    model(x).sum().backward()
    assert norm.weight.grad is not None


def test_release_restores_training_and_leaves_evaluation_alone() -> None:
    norm, x = settled("2d"), torch.randn(6, 4, 5, 5)
    twin = copy.deepcopy(norm)
    model = nn.Sequential(norm).apply(freeze_bn_stats).apply(freeze_bn_stats)
    model(x)
    model.eval().apply(update_bn_stats)
    assert not norm.training
    assert not norm._forward_pre_hooks
    assert not norm._forward_hooks
    assert not norm._forward_hooks_always_called
    assert torch.equal(model.train()(x)[0], twin(x)[0])
    assert torch.equal(norm.running_mean, twin.running_mean)


def test_frozen_survives_deepcopy_and_pickle() -> None:
    norm, x = settled("2d"), torch.randn(6, 4, 5, 5)
    freeze_bn_stats(norm)
    for twin in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert has_frozen_bn_stats(twin)
        assert torch.equal(twin.train()(x), norm(x))


def test_a_failed_forward_keeps_the_mode() -> None:
    norm = settled("2d")
    freeze_bn_stats(norm)
    with pytest.raises(ValueError, match="4D"):
        norm(torch.randn(3))
    assert norm.training


def test_without_running_statistics_nothing_freezes() -> None:
    norm = nn.BatchNorm2d(4, track_running_stats=False).apply(freeze_bn_stats)
    assert not has_frozen_bn_stats(norm)
    assert not nn.ReLU().apply(freeze_bn_stats)._forward_pre_hooks


def test_a_fused_layer_decides_for_its_batch_norm() -> None:
    layer = nniqat.ConvBn2d(3, 4, 3, qconfig=qfx.get_default_qat_qconfig())
    model, x = nn.Sequential(layer).train(), torch.randn(2, 3, 8, 8)
    model.apply(freeze_bn_stats)
    before = layer.bn.running_mean.clone()
    model.train()(x)
    assert has_frozen_bn_stats(layer)
    assert torch.equal(layer.bn.running_mean, before)
    layer.update_bn_stats()
    model(x)
    assert not torch.equal(layer.bn.running_mean, before)
    model.apply(freeze_bn_stats).apply(update_bn_stats)
    assert not has_frozen_bn_stats(layer)
    assert layer.bn.training


def test_sync_batch_norm_freezes() -> None:
    norm = nn.SyncBatchNorm(4)
    freeze_bn_stats(norm)
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(norm.train()(x), nn.BatchNorm2d(4).eval()(x))


def test_a_frozen_batch_norm_compiles() -> None:
    torch._dynamo.reset()
    norm, x = settled("2d"), torch.randn(6, 4, 5, 5)
    freeze_bn_stats(norm)
    compiled = torch.compile(nn.Sequential(norm).train(), backend="eager")
    assert torch.equal(compiled(x), copy.deepcopy(norm).eval()(x))
    assert int(norm.num_batches_tracked) == 0
