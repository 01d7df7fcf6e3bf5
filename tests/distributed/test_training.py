"""Training on two ranks against one process with the joint batch: ranges, losses, accumulation, checkpoints."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import qfx
from qfx.distributed import load_checkpoint, synchronized_observers
from qfx.errors import InputError, UnsupportedError
from tests.distributed.ranks import Ranks

STEPS = 4


class Net(nn.Module):
    """Without batch norm: the mean over ranks of its gradients is the gradient of the joint batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)).mean((2, 3)))


def eager() -> nn.Module:
    torch.manual_seed(2)
    net = nn.Sequential(qfx.QuantStub(), Net(), qfx.DeQuantStub()).train()
    net.qconfig = qfx.get_default_qat_qconfig()
    return qfx.prepare_qat(net)


def graph() -> nn.Module:
    torch.manual_seed(2)
    qconfig = qfx.get_default_qat_qconfig()
    return qfx.prepare_qat_fx(Net().train(), {"": qconfig}, (data(0)[0],)).train()


MODELS = {"eager": eager, "graph": graph}


def data(step: int) -> tuple[Tensor, Tensor]:
    """A joint batch whose halves have different ranges."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 3, 6, 6, generator=generator)
    x[4:] = 3 * x[4:] + 1
    return x, torch.randint(0, 4, (8,), generator=generator)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def ranges(model: nn.Module) -> dict[str, Tensor]:
    """What observers found in activations; weights follow from gradients, whose sums have another order."""
    state = {k.removeprefix("module."): v.clone() for k, v in model.state_dict().items()}
    return {k: v for k, v in state.items() if k.endswith(("min_val", "max_val", "scale", "zero_point"))}


def half(rank: int, *joint: Tensor) -> list[Tensor]:
    return [t[4 * rank : 4 * rank + 4] for t in joint]


# ---------------------------------------------------------------- data parallel


def _train(rank: int, name: str) -> tuple[list[float], dict[str, Tensor]]:
    model = DistributedDataParallel(MODELS[name]())
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with synchronized_observers(model):
        losses = [step(model, optimizer, *half(rank, *data(i))) for i in range(STEPS)]
    return losses, ranges(model)


@pytest.mark.parametrize("name", MODELS)
def test_two_ranks_train_as_one_process_with_the_joint_batch(ranks: Ranks, name: str) -> None:
    model = MODELS[name]()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    want = [step(model, optimizer, *data(i)) for i in range(STEPS)]
    (first, ours), (second, theirs) = ranks.run(_train, name)
    assert [(a + b) / 2 for a, b in zip(first, second, strict=True)] == pytest.approx(want, rel=1e-5)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    alone = ranges(model)
    assert ours.keys() == alone.keys()
    for key, value in alone.items():
        assert torch.allclose(ours[key].double(), value.double(), rtol=1e-4, atol=1e-6), key


def _train_apart(rank: int) -> dict[str, Tensor]:
    model = eager()
    for i in range(2):
        model(*half(rank, data(i)[0]))
    return ranges(model)


def test_without_it_ranks_would_disagree(ranks: Ranks) -> None:
    first, second = ranks.run(_train_apart)
    assert any(not torch.equal(first[key], second[key]) for key in first)


def _accumulate(rank: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    model = DistributedDataParallel(eager())
    with synchronized_observers(model):
        for i in range(2):
            x, y = half(rank, *data(i))
            with model.no_sync():
                F.cross_entropy(model(x[:2]), y[:2], reduction="sum").div(8).backward()
            F.cross_entropy(model(x[2:]), y[2:], reduction="sum").div(8).backward()
    return [p.grad for p in model.parameters()], ranges(model)


def test_gradients_accumulate_between_exchanges(ranks: Ranks) -> None:
    model = eager()
    for i in range(2):
        x, y = data(i)
        for part in ([0, 1, 4, 5], [2, 3, 6, 7]):
            F.cross_entropy(model(x[part]), y[part], reduction="sum").div(16).backward()
    for gradients, found in ranks.run(_accumulate):
        for got, parameter in zip(gradients, model.parameters(), strict=True):
            assert parameter.grad is not None
            assert torch.allclose(got, parameter.grad, rtol=1e-4, atol=1e-6)
        assert all(torch.equal(found[key], value) for key, value in ranges(model).items())


def _empty_half(rank: int) -> dict[str, Tensor]:
    model = eager()
    with synchronized_observers(model):
        model[0](data(0)[0][: 8 * (1 - rank)])
    return ranges(model)


def test_a_rank_with_an_empty_batch_takes_part(ranks: Ranks) -> None:
    model = eager()
    model[0](data(0)[0])
    for got in ranks.run(_empty_half):
        assert all(torch.equal(got[key], value) for key, value in ranges(model).items())


def _copied(rank: int) -> bool:
    model = eager()
    with synchronized_observers(model):
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for twin in twins:
            twin(*half(rank, data(0)[0]))
    before = [m.synchronize for m in model.modules() if isinstance(m, qfx.FakeQuantize)]
    return all(s is None for s in before) and torch.equal(*(next(iter(ranges(t).values())) for t in twins))


def test_a_copied_model_exchanges_too_and_the_model_goes_back(ranks: Ranks) -> None:
    assert ranks.run(_copied) == [True, True]


def _histogram(_: int) -> str:
    model = nn.Sequential(qfx.FakeQuantize(qfx.HistogramObserver))
    model[0].label = "layer"
    with pytest.raises(UnsupportedError) as caught, synchronized_observers(model):
        pass
    return str(caught.value)


def test_an_observer_of_more_than_extremes_is_refused(ranks: Ranks) -> None:
    assert all("HistogramObserver" in text and "layer" in text for text in ranks.run(_histogram))


def test_in_one_process_nothing_changes() -> None:
    model = eager()
    with synchronized_observers(model) as same:
        assert same is model
        assert all(m.synchronize is None for m in model.modules() if isinstance(m, qfx.FakeQuantize))


# ---------------------------------------------------------------- checkpoints


def _resume(rank: int, name: str, folder: str) -> tuple[list[float], list[float]]:
    """Losses of a run that goes on, and of one that starts from its checkpoint."""
    model = DistributedDataParallel(MODELS[name]())
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with synchronized_observers(model):
        for i in range(2):
            step(model, optimizer, *half(rank, *data(i)))
        dcp.save({"model": model.state_dict()}, checkpoint_id=folder)
        straight = [step(model, optimizer, *half(rank, *data(i))) for i in range(2, STEPS)]
    torch.manual_seed(7)
    other = MODELS[name]()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    resumed = DistributedDataParallel(other)
    load_checkpoint(resumed, folder, "model")
    optimizer = torch.optim.SGD(resumed.parameters(), 0.05)
    with synchronized_observers(resumed):
        return straight, [step(resumed, optimizer, *half(rank, *data(i))) for i in range(2, STEPS)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_two_ranks_resumes_with_the_same_losses(ranks: Ranks, name: str, tmp_path: Path) -> None:
    for straight, resumed in ranks.run(_resume, name, str(tmp_path / "checkpoint")):
        assert straight == resumed


def _saved(folder: Path, model: nn.Module, key: str = "") -> Path:
    state: dict[str, Any] = {key: model.state_dict()} if key else model.state_dict()
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    return folder


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_observers_that_saw_nothing_take_what_was_saved(tmp_path: Path) -> None:
    trained = eager()
    trained(data(0)[0])
    fresh = load_checkpoint(eager(), _saved(tmp_path / "c", trained))
    state = fresh.state_dict()
    assert all(torch.equal(state[key], value) for key, value in trained.state_dict().items())


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_wrong_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no checkpoint"):
        load_checkpoint(eager(), tmp_path / "nothing")
    folder = _saved(tmp_path / "c", eager(), "model")
    with pytest.raises(InputError, match="has no '0"):
        load_checkpoint(eager(), folder)
    other = eager()
    other[1].second = nn.Linear(9, 4)
    with pytest.raises(InputError, match="second"):
        load_checkpoint(other, folder, "model")
