from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import qfx.nn.intrinsic as nni
import qfx.nn.intrinsic.quantized as nniq
import qfx.nn.quantized as nnq
from qfx.errors import InputError
from qfx.quantization import convert, get_default_qconfig, prepare
from qfx.quantization.stubs import QuantWrapper
from tests.nets import settle

LAYERS = {"Conv1d": nn.Conv1d, "Conv2d": nn.Conv2d, "Conv3d": nn.Conv3d}
ROWS = {
    "ConvBn1d": "S057",
    "ConvBn2d": "S058",
    "ConvBnReLU1d": "S059",
    "ConvBnReLU2d": "S060",
    "ConvReLU1d": "S061",
    "ConvReLU2d": "S062",
    "ConvReLU3d": "S063",
    "LinearReLU": "S064",
}
NAMES = [*ROWS, "ConvBn3d", "ConvBnReLU3d"]
PARAMS = [pytest.param(n, marks=pytest.mark.inventory(ROWS[n]) if n in ROWS else ()) for n in NAMES]


def members(name: str) -> list[nn.Module]:
    """Float layers for the container ``name``, their batch norm not trivial."""
    if name == "LinearReLU":
        return [nn.Linear(6, 4), nn.ReLU()]
    dims = int(name[-2])
    made: list[nn.Module] = [LAYERS[f"Conv{dims}d"](3, 4, 3, padding=1)]
    if "Bn" in name:
        made.append(getattr(nn, f"BatchNorm{dims}d")(4))
    if "ReLU" in name:
        made.append(nn.ReLU())
    settle(nn.Sequential(*made), *shape(name))
    return made


def shape(name: str) -> tuple[int, ...]:
    return (5, 6) if name == "LinearReLU" else (4, 3, *[7] * int(name[-2]))


@pytest.mark.parametrize("name", PARAMS)
class TestContainer:
    def test_computes_the_sequence_of_its_members(self, name: str) -> None:
        layers = members(name)
        fused = getattr(nni, name)(*layers).eval()
        x = torch.randn(shape(name))
        assert torch.equal(fused(x), nn.Sequential(*layers)(x))
        assert [fused[i] for i in range(len(fused))] == layers

    def test_an_observer_among_its_children_is_not_run_as_a_member(self, name: str) -> None:
        fused = getattr(nni, name)(*members(name)).eval()
        x = torch.randn(shape(name))
        expected = fused(x)
        fused.qconfig = get_default_qconfig()
        prepared = prepare(fused)
        calls: list[Any] = []
        prepared.activation_post_process.register_forward_hook(lambda *_: calls.append(1))
        assert torch.equal(prepared(x), expected)
        assert len(calls) == 1

    def test_convert_swaps_it_for_one_module(self, name: str) -> None:
        model = QuantWrapper(nn.Sequential(getattr(nni, name)(*members(name)))).eval()
        model.qconfig = get_default_qconfig()
        prepared = prepare(model)
        x = torch.randn(shape(name))
        prepared(x)
        converted = convert(prepared)
        wanted = getattr(nniq, name.replace("Bn", "")) if "ReLU" in name else getattr(nnq, name.replace("Bn", ""))
        assert type(converted.module[0]) is wanted
        step = converted.module[0].scale
        assert (converted(x) - model(x)).abs().max() < 8 * step

    def test_refuses_members_of_other_types(self, name: str) -> None:
        layers = members(name)
        for wrong in (layers[::-1], layers[:1], [*layers, nn.ReLU()], [nn.Identity(), *layers[1:]], []):
            with pytest.raises(InputError, match=f"{name} takes"):
                getattr(nni, name)(*wrong)

    def test_copies_and_pickles(self, name: str) -> None:
        fused = getattr(nni, name)(*members(name)).eval()
        x = torch.randn(shape(name))
        for twin in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
            assert type(twin) is type(fused)
            assert torch.equal(twin(x), fused(x))
