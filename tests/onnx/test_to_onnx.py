"""``qfx.to_onnx``: what its files hold, what they compute, and what it refuses."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import qfx
from benchmarks.onnx_agreement import RUNTIMES, a_layer_at_a_time, agreement, quanta
from qfx.errors import ConversionError, InputError, QfxError
from qfx.onnx import export, write
from tests.lowering.test_bags import QCONFIGS, Ranking, quantized
from tests.lowering.test_bags import inputs as bags
from tests.nets import NETS, small_net
from tests.onnx.samples import run

DEFAULT = {"": qfx.get_default_qconfig()}


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


class Texts(nn.Module):
    """An encoder layer over token numbers, with a padding mask, and a dict of results."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.table, self.norm, self.width = nn.Embedding(50, width), nn.LayerNorm(width), width
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        x = self.norm(self.table(ids))
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, 4, self.width // 4).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :].bool())
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, self.width))
        return {"hidden": x + self.narrow(F.gelu(self.wide(x))), "ends": (x[:, 0], x[:, -1])}


class Steps(nn.Module):
    """A recurrent layer in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 12, bidirectional=True, batch_first=True), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0])


class Shuffled(nn.Module):
    """Channel shuffle, groups, resampling, a transposed convolution's neighbours, pools that overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.shuffle, self.last = nn.ChannelShuffle(4), nn.Conv2d(16, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(F.relu6(self.first(x)), 3, 2, ceil_mode=True)
        y = self.shuffle(F.leaky_relu(self.second(y), 0.1))
        return self.last(F.interpolate(y, scale_factor=2.0, mode="bilinear"))


def tokens(batch: int, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, length // 2 :] = 0
    return torch.randint(0, 50, (batch, length), generator=generator), mask


def steps(batch: int, length: int) -> tuple[Tensor]:
    return (torch.randn(batch, length, 8, generator=torch.Generator().manual_seed(length)),)


class Windows(nn.Module):
    """A layer over windows that slide along a row of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.unfold(1, 8, 4))))


def rows(count: int, length: int) -> tuple[Tensor]:
    return (torch.randn(count, length, generator=torch.Generator().manual_seed(length)),)


class Case:
    """A network, what it is prepared with, and inputs of other sizes."""

    def __init__(self, make: Any, given: tuple[Tensor, ...], other: tuple[Tensor, ...], qconfig: Any = DEFAULT) -> None:
        self.make, self.given, self.other, self.qconfig = make, given, other, qconfig

    @functools.cache  # noqa: B019  (there are as many cases as CASES has)
    def quantized(self) -> qfx.QuantizedModel:
        torch.manual_seed(2)
        return qfx.quantize_fx(self.make().eval(), self.qconfig, [self.given])


DYNAMIC = {"": qfx.quantization.default_dynamic_qconfig}
GROUPS = {"": qfx.quantization.groups_dynamic_qconfig(4)}
NARROW = {"": qfx.get_default_qconfig("fbgemm")}
WEIGHTS = {4: qfx.quantization.int4_weight_only_qconfig, 8: qfx.quantization.int8_weight_only_qconfig}
CASES: dict[str, Case] = {
    **{name: Case(lambda name=name: small_net(name), (images(8),), (images(3, 1),)) for name in NETS},
    "7 bits": Case(lambda: small_net("ResidualNet"), (images(8),), (images(3, 1),), NARROW),
    "Shuffled": Case(Shuffled, (images(4),), (images(3, 1),)),
    "Texts": Case(Texts, tokens(4, 12), tokens(3, 7)),
    "Texts, dynamic": Case(Texts, tokens(4, 12), tokens(3, 7), DYNAMIC),
    "Texts, groups": Case(Texts, tokens(4, 12), tokens(3, 7), GROUPS),
    "Windows": Case(Windows, rows(4, 40), rows(3, 27)),
    "Bags": Case(Ranking, bags(6, 4), bags(9, 5, seed=1)),
    "Steps": Case(Steps, steps(4, 6), steps(2, 9)),
    "Steps, dynamic": Case(Steps, steps(4, 6), steps(2, 9), DYNAMIC),
}


def named(qmodel: qfx.QuantizedModel, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip((str(node.target) for node in qmodel.graph.find_nodes(op="placeholder")), inputs, strict=True))


def as_files_say(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph with attention and recurrent layers in float, as files have them."""
    for node in graph.graph.nodes:
        if node.kwargs.get("integers"):
            node.update_kwarg("integers", False)
    return graph


@pytest.mark.parametrize("runtime", ["ONNX Runtime", "ONNX Runtime, plain", "OpenVINO"])
@pytest.mark.parametrize("name", CASES)
def test_each_layer_is_within_one_quantum(name: str, runtime: str, tmp_path: Path) -> None:
    """Every quantized value computed from qfx's values in front of it: what a runtime rounds otherwise is a tie."""
    if runtime == "OpenVINO":
        pytest.importorskip("openvino")
    qmodel = CASES[name].quantized()
    inputs = named(qmodel, CASES[name].other)
    graph = as_files_say(qmodel.graph_module())
    found = a_layer_at_a_time(graph, inputs, RUNTIMES[runtime], tmp_path / "layers.onnx")
    assert found.farthest <= 1.0


@pytest.mark.parametrize("name", NETS)
def test_onnx_runtime_gives_the_outputs_of_qfx(name: str, tmp_path: Path) -> None:
    qmodel = CASES[name].quantized()
    qfx.to_onnx(qmodel, tmp_path / "net.onnx")
    for x in (images(1, 3), images(5, 4)):
        (got,), want = run(str(tmp_path / "net.onnx"), x), qmodel(x).numpy()
        assert agreement([want], [got], quanta([want])).within >= 0.99


# ------------------------------------------------------------------ what is in a file


def written(qmodel: qfx.QuantizedModel, folder: Path, **options: Any) -> onnx.ModelProto:
    qfx.to_onnx(qmodel, folder / "net.onnx", **options)
    return onnx.load(folder / "net.onnx")


def shape_of(info: onnx.ValueInfoProto) -> list[Any]:
    return [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim]


def attribute_of(node: onnx.NodeProto, name: str) -> Any:
    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), None)


def test_weights_are_int8_along_their_channels_and_biases_int32(tmp_path: Path) -> None:
    qmodel = CASES["ConvBnReluNet"].quantized()
    model, state = written(qmodel, tmp_path), qmodel.state_dict()
    stored = {one.name: one for one in model.graph.initializer}
    for path in ("conv1.weight", "conv2.weight", "fc.weight", "conv1.bias", "conv2.bias", "fc.bias"):
        assert np.array_equal(onnx.numpy_helper.to_array(stored[path]), state[path].numpy())
        (reader,) = [node for node in model.graph.node if path in node.input]
        assert reader.op_type == "DequantizeLinear"
        assert attribute_of(reader, "axis") == 0
        assert list(reader.input[1:2]) == [f"{path}_scale"]
    kinds = {path: stored[path].data_type for path in stored if path.endswith(("weight", "bias"))}
    assert set(kinds.values()) == {onnx.TensorProto.INT8, onnx.TensorProto.INT32}
    assert not any(
        len(one.raw_data) > 64 and one.data_type == onnx.TensorProto.FLOAT
        for one in stored.values()
        if "scale" not in one.name
    )


def test_a_matrix_for_more_than_rows_is_stored_transposed(tmp_path: Path) -> None:
    qmodel = CASES["Texts"].quantized()
    model = written(qmodel, tmp_path)
    (weight,) = [one for one in model.graph.initializer if one.name == "wide.weight"]
    assert np.array_equal(onnx.numpy_helper.to_array(weight), qmodel.state_dict()["wide.weight"].numpy().T)
    (reader,) = [node for node in model.graph.node if "wide.weight" in node.input]
    assert attribute_of(reader, "axis") == 1


def test_names_and_sizes_are_the_users(tmp_path: Path) -> None:
    model = written(CASES["Texts"].quantized(), tmp_path)
    assert {one.name: shape_of(one) for one in model.graph.input} == {
        "ids": ["batch", "ids_dim_1"],
        "mask": ["batch", "mask_dim_1"],
    }
    outputs = {one.name: shape_of(one) for one in model.graph.output}
    assert outputs == {"hidden": ["batch", "ids_dim_1", 32], "ends_0": ["batch", 32], "ends_1": ["batch", 32]}
    assert any(node.name.startswith("wide/") for node in model.graph.node)


def test_sizes_of_the_batch_alone(tmp_path: Path) -> None:
    model = written(CASES["ResidualNet"].quantized(), tmp_path, sizes="batch")
    assert [shape_of(one) for one in (*model.graph.input, *model.graph.output)] == [["batch", 3, 32, 32], ["batch", 10]]


@pytest.mark.parametrize("opset", [21, onnx.defs.onnx_opset_version()])
def test_the_opset_is_the_one_that_is_asked_for(opset: int, tmp_path: Path) -> None:
    model = written(CASES["ResidualNet"].quantized(), tmp_path, opset=opset)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
    onnx.checker.check_model(model, full_check=True)


def test_what_arrives_and_leaves_as_integers_does_so_in_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    qmodel = qfx.quantize_fx(net, {**DEFAULT, "input_quantized_idxs": [0], "output_quantized_idxs": [0]}, [images(8)])
    model = written(qmodel, tmp_path)
    assert {one.type.tensor_type.elem_type for one in (*model.graph.input, *model.graph.output)} == {
        onnx.TensorProto.UINT8
    }
    (node,) = qmodel.graph.find_nodes(op="placeholder")
    scale, zero = node.meta["arrives_as"].scale, node.meta["arrives_as"].zero_point
    x = qfx.quantize_per_tensor(images(2, 5), scale, zero, qfx.quint8).int_repr()
    (got,) = run(str(tmp_path / "net.onnx"), x)
    assert np.abs(got.astype(int) - qmodel(x).numpy()).max() <= 1


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_in_fewer_bits_stay_so(bits: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    qmodel = qfx.quantize_fx(net, {"": WEIGHTS[bits]}, [x])
    model = written(qmodel, tmp_path)
    kind = {4: onnx.TensorProto.INT4, 8: onnx.TensorProto.INT8}[bits]
    assert kind in {one.data_type for one in model.graph.initializer}
    (got,) = run(str(tmp_path / "net.onnx"), x)
    np.testing.assert_allclose(got, qmodel(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("qconfig", QCONFIGS)
def test_bags_take_rows_of_tables_in_any_bits(qconfig: str, tmp_path: Path) -> None:
    """Of as many as the offsets say, of any number of indices, empty ones among them."""
    torch.manual_seed(0)
    qmodel = quantized(Ranking(), qconfig, *bags(6, 4))
    qfx.to_onnx(qmodel, tmp_path / "net.onnx")
    for other in (bags(9, 5, seed=1), bags(2, 3, seed=2)):
        (got,), want = run(str(tmp_path / "net.onnx"), *other), qmodel(*other).numpy()
        if qconfig == "static":
            assert agreement([want], [got], quanta([want])).within >= 0.99
        else:
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ what is refused


class Island(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(self.fc(x)).real


def test_what_only_torch_computes_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    x = torch.randn(4, 8)
    qmodel = qfx.quantize_fx(Island().eval(), DEFAULT, [x])
    with pytest.raises(ConversionError, match=r"can't be written as ONNX(.|\n)*source(.|\n)*fft(.|\n)*what to do"):
        qfx.to_onnx(qmodel, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_pool_to_a_size_needs_to_know_the_size_that_it_gets(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d((4, 7))).eval()
    qmodel = qfx.quantize_fx(net, DEFAULT, [images(2)])
    with pytest.raises(ConversionError, match=r'the model leaves it free(.|\n)*sizes="batch"'):
        qfx.to_onnx(qmodel, tmp_path / "net.onnx")
    qfx.to_onnx(qmodel, tmp_path / "net.onnx", sizes="batch")
    (got,), want = run(str(tmp_path / "net.onnx"), images(3, 2)), qmodel(images(3, 2)).numpy()
    assert agreement([want], [got], quanta([want])).within >= 0.99


@pytest.mark.parametrize("opset", [20, onnx.defs.onnx_opset_version() + 1])
def test_other_opsets_are_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"opset is {opset}"):
        qfx.to_onnx(CASES["ConvBnReluNet"].quantized(), tmp_path / "net.onnx", opset=opset)
    assert not list(tmp_path.iterdir())


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    qmodel = CASES["ConvBnReluNet"].quantized()
    with pytest.raises(InputError, match="sizes is 'all'"):
        qfx.to_onnx(qmodel, tmp_path / "net.onnx", sizes="all")
    with pytest.raises(InputError, match="qmodel is of type Linear"):
        qfx.to_onnx(nn.Linear(2, 2), tmp_path / "net.onnx")
    with pytest.raises(InputError, match="there is no folder"):
        qfx.to_onnx(qmodel, tmp_path / "none" / "net.onnx")


def test_a_model_of_unknown_shapes_is_refused(tmp_path: Path) -> None:
    prepared = qfx.prepare_fx(nn.Sequential(nn.Linear(4, 4)).eval(), {"": qfx.quantization.default_dynamic_qconfig})
    with pytest.raises(ConversionError, match="shapes of this model's inputs are not known"):
        qfx.to_onnx(qfx.convert_fx(prepared), tmp_path / "net.onnx")


def test_what_is_too_large_for_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "MOST_BYTES", 1000)
    with pytest.raises(ConversionError, match="holds 2 GB at most"):
        qfx.to_onnx(CASES["ConvBnReluNet"].quantized(), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(QfxError, match=r"pip install 'qfx\[onnx\]'"):
        qfx.to_onnx(CASES["ConvBnReluNet"].quantized(), tmp_path / "net.onnx")


def test_an_input_and_an_output_of_one_name_are_refused(tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": torch.relu(x)}

    qmodel = qfx.quantize_fx(Same(), DEFAULT, [images(2)])
    with pytest.raises(ConversionError, match="Two inputs or outputs of the model would be called 'x'"):
        qfx.to_onnx(qmodel, tmp_path / "net.onnx")
