"""``prepare_qat_fx``: what the model looks like, trains like, saves and refuses."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.training.finite import first_non_finite
from qfx.training.model import TrainableModel

QCONFIG = {"": qfx.get_default_qat_qconfig()}


class Net(nn.Module):
    """Convolution, batch norm and relu, a residual, a functional dropout, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.again, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn(self.conv(x)))
        x = F.relu(self.norm(self.again(x)) + x)
        return self.fc(F.dropout(x.mean((2, 3)), 0.25, self.training))


def data(batch: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, 3, 8, 8, generator=generator)
    return x, (x.mean((1, 2, 3)) > 0).long()


def prepared(net: nn.Module | None = None, qconfig_dict: Any = None) -> TrainableModel:
    torch.manual_seed(0)
    return qfx.prepare_qat_fx(net or Net(), qconfig_dict or QCONFIG, (data()[0],))


def train(model: nn.Module, steps: int, optimizer: Any = None, first: int = 0) -> list[float]:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses = []
    for step in range(first, first + steps):
        x, y = data(seed=step)
        optimizer.zero_grad()
        torch.manual_seed(step)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_names_are_those_of_the_float_model() -> None:
    net = Net()
    model = prepared(net)
    assert set(model.float_state_dict()) == set(net.state_dict())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert model.training
    assert all(a is not b for a in model.parameters() for b in net.parameters())


def test_tensors_that_are_not_saved_stay_so() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.offset = nn.Linear(192, 4), torch.linspace(0, 1, 192)
            self.register_buffer("scale", torch.linspace(1, 2, 192), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(1) * self.scale + self.offset)

    net = Shifted()
    model = prepared(net)
    assert model.float_state_dict().keys() == net.state_dict().keys()
    train(model, 1)
    net.load_state_dict(model.float_state_dict())
    assert qfx.compare(model.eval(), qfx.convert_fx(model), [data()[0]]).first_beyond(1) is None


def test_training_without_rounding_is_training_of_the_float_model() -> None:
    torch.manual_seed(0)
    net = Net().double().float()
    model = prepared(net)
    model.apply(qfx.disable_fake_quant)
    wanted = train(net, 5)
    assert train(model, 5) == pytest.approx(wanted, rel=1e-3)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(model.float_state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_batch_norm_sees_the_batch() -> None:
    model = prepared()
    before = model.bn.running_mean.clone()
    model(data()[0])
    assert not torch.equal(model.bn.running_mean, before)
    assert int(model.bn.num_batches_tracked) == 1


def test_rounding_reaches_the_gradients() -> None:
    model = prepared()
    train(model, 1)
    model.zero_grad()
    model(data()[0]).sum().backward()
    rounded = model.conv.weight.grad.clone()
    model.apply(qfx.disable_observer).apply(qfx.disable_fake_quant)
    model.zero_grad()
    model(data()[0]).sum().backward()
    assert model.conv.weight.grad.abs().sum() > 0
    assert not torch.equal(model.conv.weight.grad, rounded)


def test_evaluation_observes_nothing() -> None:
    model = prepared()
    train(model, 2)
    model.eval()
    state = copy.deepcopy(model.state_dict())
    model(data()[0] * 100)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_evaluation_before_any_data_is_refused() -> None:
    with pytest.raises(qfx.CalibrationError, match="x"):
        prepared().eval()(data()[0])


def test_conversion_before_any_data_is_told_of_and_refused_where_nothing_can_be_loaded() -> None:
    with pytest.warns(qfx.UncalibratedWarning, match="saw no data"):
        qfx.convert_fx(prepared().eval())
    with pytest.raises(qfx.CalibrationError, match="has seen no data"):
        qfx.quantize_fx(Net(), {"": qfx.get_default_qat_qconfig()}, train=lambda model: None, example_inputs=data()[0])


def test_conversion_in_training_mode_is_refused() -> None:
    model = prepared()
    train(model, 1)
    with pytest.raises(qfx.ConversionError, match="training mode"):
        qfx.convert_fx(model)


def test_observers_that_do_not_round_are_refused() -> None:
    with pytest.raises(qfx.QConfigError, match="HistogramObserver"):
        prepared(qconfig_dict={"": qfx.get_default_qconfig()})


def test_conversion_freezes_what_evaluation_computes() -> None:
    model = prepared()
    train(model, 20)
    model.eval()
    x = data(32, seed=99)[0]
    quantized = qfx.convert_fx(model, check=(x,))
    assert {record.decision for record in quantized.report if record.op in ("conv", "linear")} == {"int8"}
    wanted, got = model(x).detach(), quantized(x)
    noise, signal = (wanted - got).square().sum(), wanted.square().sum()
    assert 10 * torch.log10(signal / noise) > 30


def test_a_difference_at_conversion_is_named() -> None:
    model = prepared()
    train(model, 3)
    model.eval()
    quantized = qfx.convert_fx(model)
    with torch.no_grad():
        model.again.weight.mul_(1.5)
    from qfx.comparison.agreement import require_agreement

    with pytest.raises(qfx.ConversionError, match="again differs by"):
        require_agreement(model, quantized, (data()[0],))


def test_calibration_finds_the_first_ranges() -> None:
    def learn(model: nn.Module) -> None:
        train(model, 3)

    quantized = qfx.quantize_fx(Net(), QCONFIG, [data()[0]], train=learn)
    assert quantized(data()[0]).shape == (8, 4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_trains_on_alone(copied: Any) -> None:
    model = prepared()
    train(model, 2)
    twin = copied(model)
    state = copy.deepcopy(model.state_dict())
    assert train(twin, 2) == train(copied(model), 2)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


RESUME = """
import sys, torch, qfx
torch.set_num_threads({threads})
sys.path.insert(0, {root!r})
from tests.training.test_prepare_qat import prepared, train
saved = torch.load({path!r}, weights_only=True)
model = prepared()
model.load_state_dict(saved["model"])
optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
optimizer.load_state_dict(saved["optimizer"])
print(train(model, 3, optimizer, first=3))
"""


def test_a_checkpoint_resumes_in_another_process(tmp_path: Path) -> None:
    model = prepared()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    train(model, 3, optimizer)
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    wanted = train(model, 3, optimizer, first=3)
    script = RESUME.format(root=str(Path(__file__).parents[2]), path=str(path), threads=torch.get_num_threads())
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.strip() == str(wanted)


def test_float_checkpoints_go_both_ways() -> None:
    net = Net()
    train(net, 2)
    model = prepared()
    train(model, 2)
    ranges = {name: module.scale.clone() for name, module in model.fake_quants()}
    model.load_float_state_dict(net.state_dict())
    assert all(torch.equal(v, model.float_state_dict()[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(module.scale, ranges[name]) for name, module in model.fake_quants())
    train(model, 1)
    net.load_state_dict(model.float_state_dict())
    assert torch.equal(net.conv.weight, model.conv.weight)


def test_checkpoints_of_another_stage_are_named() -> None:
    model = prepared()
    train(model, 1)
    quantized = qfx.convert_fx(model.eval())
    with pytest.raises(qfx.ConversionError, match="of a float model, but this is a model that prepare_qat_fx made"):
        model.load_state_dict(Net().state_dict())
    with pytest.raises(qfx.ConversionError, match="of an int8 model, but"):
        model.load_state_dict(quantized.state_dict())
    with pytest.raises(qfx.ConversionError, match="prepare_qat_fx made, but this is an int8 model"):
        quantized.load_state_dict(model.state_dict())
    with pytest.raises(qfx.ConversionError, match=r"lacks 'conv\.weight'"):
        model.load_float_state_dict({k: v for k, v in Net().state_dict().items() if k != "conv.weight"})


def test_a_frozen_parameter_stays() -> None:
    net = Net()
    net.conv.weight.requires_grad_(False)
    model = prepared(net)
    before = model.conv.weight.clone()
    train(model, 2, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1))
    assert torch.equal(model.conv.weight, before)
    assert not model.conv.weight.requires_grad


def test_a_module_called_twice_shares_its_weight() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.conv(torch.relu(self.bn(self.conv(x)))))

    model = prepared(Twice())
    model(data()[0]).square().mean().backward()
    assert int(model.bn.num_batches_tracked) == 2
    assert model.conv.weight.grad is not None
    x = data()[0]
    assert qfx.compare(model.eval(), qfx.convert_fx(model), [x]).first_beyond(1) is None


def test_a_batch_of_one_is_explained() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model = prepared(net)
    with pytest.raises(qfx.InputError, match="drop_last=True"):
        model(torch.randn(1, 3, 8, 8))
    model(torch.randn(2, 3, 8, 8))


def test_divergence_names_the_first_node() -> None:
    model = prepared()
    train(model, 1)
    with torch.no_grad():
        model.again.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(qfx.CalibrationError, match=r"again(.|\n)*learning rate"):
        model(data()[0])
    model.apply(qfx.disable_observer)
    with pytest.raises(qfx.CalibrationError, match=r"first at again(.|\n)*learning rate"):
        model(data()[0])
    found = first_non_finite(model, data()[0])
    assert found is not None
    assert found.meta["module_path"] == "again"


def test_dropout_drops_in_training_only() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Dropout(0.5), nn.Linear(16, 4))
    model = prepared(net)
    x = data()[0]
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    assert not any(record.op == "dropout" for record in qfx.convert_fx(model).report)


def test_autocast_and_gradient_accumulation() -> None:
    model = prepared()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for seed in range(2):
        x, y = data(seed=seed)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
    assert all(p.grad is not None and p.grad.dtype is torch.float32 for p in model.parameters())
    optimizer.step()
    assert qfx.convert_fx(model.eval())(data()[0]).dtype is torch.float32


# torch's own tracing of an autograd.Function makes the warning.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_training_equals_eager() -> None:
    model = prepared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    x = data()[0]
    for _ in range(2):
        wanted, got = model(x), compiled(x)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
        wanted.sum().backward()
        got.sum().backward()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-4, msg=name)
