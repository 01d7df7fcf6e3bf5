"""state_dict, deepcopy, pickle and torch.save of prepared and quantized models."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

import qfx
from qfx.models import PreparedModel, QuantizedModel
from tests.nets import small_net

DEFAULT = {"": qfx.get_default_qconfig()}
X, OTHER = torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(7))


def _through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def _through_file(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": _through_pickle,
    "torch.save": _through_file,
    "twice": lambda model: copy.deepcopy(_through_pickle(model)),
}
NETS = ("MobileNet", "DenseNet")


def prepared(name: str, *batches: torch.Tensor) -> PreparedModel:
    model = qfx.prepare_fx(small_net(name), DEFAULT, (X,))
    for batch in batches:
        model(batch)
    return model


@pytest.fixture(scope="module", params=NETS)
def quantized(request: pytest.FixtureRequest) -> QuantizedModel:
    return qfx.convert_fx(prepared(request.param, X))


@pytest.mark.parametrize("form", COPIES)
def test_a_copy_of_a_quantized_model_is_the_same_model(quantized: QuantizedModel, form: str) -> None:
    twin = COPIES[form](quantized)
    assert isinstance(twin, QuantizedModel)
    assert torch.equal(twin(OTHER), quantized(OTHER))
    assert str(twin.report) == str(quantized.report)
    assert list(twin.state_dict()) == list(quantized.state_dict())


@pytest.mark.parametrize("form", COPIES)
@pytest.mark.parametrize("batches", [(), (X,)], ids=["fresh", "calibrated"])
def test_a_copy_of_a_prepared_model_calibrates_and_converts(form: str, batches: tuple[torch.Tensor, ...]) -> None:
    model = prepared("MobileNet", *batches)
    twin = COPIES[form](model)
    assert isinstance(twin, PreparedModel)
    for each in (model, twin):
        each(OTHER)
    assert torch.equal(qfx.convert_fx(twin)(X), qfx.convert_fx(model)(X))


def test_copies_are_independent(quantized: QuantizedModel) -> None:
    before, twin = quantized(X), copy.deepcopy(quantized)
    twin.load_state_dict({k: torch.zeros_like(v) if k == "fc.weight" else v for k, v in twin.state_dict().items()})
    assert torch.equal(quantized(X), before)
    assert not torch.equal(twin(X), before)


def test_a_state_dict_holds_plain_tensors_under_the_float_paths(quantized: QuantizedModel) -> None:
    state = quantized.state_dict()
    assert all(type(v) is torch.Tensor for v in state.values())
    for key in (k for k in state if k.endswith(".weight")):
        layer = key.removesuffix(".weight")
        expected = {
            "weight": torch.int8, "weight_scale": torch.float32, "weight_zero_point": torch.int64,
            "bias": torch.int32, "bias_scale": torch.float32, "bias_zero_point": torch.int64,
        }  # fmt: skip
        assert {name: state[f"{layer}.{name}"].dtype for name in expected} == expected
        channels = len(state[key])
        assert {state[f"{layer}.{name}"].shape for name in expected if name != "weight"} == {(channels,)}
    for key in (k for k in state if k.rsplit(".", 1)[-1] in ("scale", "zero_point")):
        assert state[key].shape == ()
        assert state[key].dtype == (torch.float32 if key.endswith("scale") else torch.int64)


@pytest.mark.parametrize("name", NETS)
def test_float_weights_are_not_kept_beside_integers(name: str) -> None:
    model = qfx.convert_fx(prepared(name, X))
    floats = [t for t in model.state_dict().values() if t.dtype == torch.float32]
    assert max(t.numel() for t in floats) <= 24
    assert not sum(parameter.numel() for parameter in model.parameters())
    size = len(pickle.dumps(model.state_dict()))
    assert size < 0.9 * len(pickle.dumps(small_net(name).state_dict())) + 400 * len(model.state_dict())


@pytest.mark.parametrize("name", NETS)
def test_loading_a_state_dict_from_another_calibration_gives_that_model(name: str) -> None:
    source, target = qfx.convert_fx(prepared(name, X)), qfx.convert_fx(prepared(name, 3 * OTHER))
    before = target(OTHER)
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(OTHER), source(OTHER))
    assert not torch.equal(target(OTHER), before)
    assert str(target.report) == str(source.report)


def test_loading_through_a_module_around_it_counts_too() -> None:
    source, target = qfx.convert_fx(prepared("MobileNet", X)), qfx.convert_fx(prepared("MobileNet", 3 * OTHER))
    outer = nn.Sequential(target)
    outer(OTHER)
    outer.load_state_dict(nn.Sequential(source).state_dict())
    assert torch.equal(outer(OTHER), source(OTHER))


def test_integer_inputs_and_outputs_follow_a_loaded_state_dict() -> None:
    entry = {**DEFAULT, "input_quantized_idxs": [0], "output_quantized_idxs": [0]}
    models = []
    for batch in (X, 3 * OTHER):
        model = qfx.prepare_fx(small_net("ConvBnReluNet"), entry, (X,))
        model(batch)
        models.append(qfx.convert_fx(model))
    codes = torch.randint(0, 256, X.shape, dtype=torch.uint8)
    source, target = models
    assert not torch.equal(target(codes), source(codes))
    target.load_state_dict(source.state_dict())
    assert torch.equal(target(codes), source(codes))


@pytest.mark.parametrize("name", NETS)
def test_statistics_of_a_prepared_model_travel_in_its_state_dict(name: str) -> None:
    source, target = prepared(name, X, OTHER), prepared(name)
    target.load_state_dict(source.state_dict())
    assert torch.equal(qfx.convert_fx(target)(X), qfx.convert_fx(source)(X))


def test_a_float_checkpoints_keys_are_in_the_prepared_model() -> None:
    model = small_net("ResidualNet")
    keys = set(prepared("ResidualNet").state_dict())
    layers = {k for k in model.state_dict() if k.split(".")[0] in ("conv1", "conv2", "project", "fc")}
    assert layers <= keys


def test_a_missing_key_is_torchs_own_error(quantized: QuantizedModel) -> None:
    state = {k: v for k, v in quantized.state_dict().items() if k != "fc.weight"}
    with pytest.raises(RuntimeError, match=r"fc\.weight"):
        copy.deepcopy(quantized).load_state_dict(state)


def test_models_with_an_island_are_copied_whole() -> None:
    model = _Tokens()
    ids = torch.randint(0, 10, (3, 5))
    made = qfx.quantize_fx(model.eval(), DEFAULT, [ids])
    assert {r.decision for r in made.report} == {"int8", "float"}
    for form in COPIES.values():
        assert torch.equal(form(made)(ids), made(ids))


class _Tokens(nn.Module):
    """An embedding, which is no table op, before linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc = nn.Embedding(10, 12), nn.Linear(12, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.fc(self.embed(ids).mean(1))


def test_dynamic_models_are_copied_whole() -> None:
    model = qfx.quantize_fx(nn.Sequential(nn.Linear(6, 4), nn.Tanh()).eval(), {"": qfx.default_dynamic_qconfig})
    x = torch.randn(3, 6)
    fresh = _through_pickle(model)
    assert torch.equal(fresh(x), model(x))
    assert torch.equal(_through_pickle(model)(x), model(x))


def test_a_quantized_model_answers_for_dtype_and_device() -> None:
    """``next(model.parameters())`` is asked by many; nothing else sees the parameter that answers."""
    model = qfx.quantize_fx(nn.Sequential(nn.Linear(4, 4)).eval(), {"": qfx.get_default_qconfig()}, [torch.ones(2, 4)])
    state = model.state_dict()
    for asked in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), nn.Sequential(model)):
        parameter = next(asked.parameters())
        assert (parameter.dtype, parameter.device.type) == (torch.float32, "cpu")
        assert not parameter.requires_grad
        assert sum(p.numel() for p in asked.parameters()) == 0
    assert all(isinstance(value, torch.Tensor) and value.numel() for value in state.values())
    assert not set(dict(model.named_parameters())) & set(state)
    assert not model.load_state_dict(state, strict=True).missing_keys
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(dict(list(state.items())[1:]))
