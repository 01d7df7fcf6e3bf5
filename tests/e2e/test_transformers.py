"""Models of Hugging Face transformers, small and with random weights: one program from ids to outputs."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qfx
from benchmarks import zoo

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.skipif(find_spec("transformers") is None, reason="the definitions come with `make zoo`"),
    pytest.mark.filterwarnings("ignore"),
]

Inputs = Callable[[int, int, int], dict[str, Tensor]]
TEXT = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40,
}  # fmt: skip
IMAGE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
DISTILLED = {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 40}
DISENTANGLED = {
    **TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8, "share_att_key": True,
    "norm_rel_ebd": "layer_norm", "max_relative_positions": -1,
}  # fmt: skip
T5 = {
    "vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
}  # fmt: skip
DECODER = {**TEXT, "num_key_value_heads": 2, "head_dim": 8, "use_cache": False}
"""Of a decoder, grouped heads among it; without a cache, it is a prefill."""
GEMMA3 = {**DECODER, "sliding_window": 11, "layer_types": ["sliding_attention", "full_attention"]}
"""With a window in which every place sees a token: a row that sees none is zero in front of a norm, which returns
whatever rounding makes of zero."""
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
WHISPER = {
    "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_layers": 1,
    "decoder_attention_heads": 4, "num_mel_bins": 16, "max_source_positions": 30,
}  # fmt: skip
WAV2VEC2 = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "conv_dim": [32, 32, 32], "conv_kernel": [10, 3, 3], "conv_stride": [5, 2, 2], "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "mask_time_prob": 0.0,
}  # fmt: skip
GPT2 = {"vocab_size": 99, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "use_cache": False}


def tokens(batch: int, length: int, seed: int) -> dict[str, Tensor]:
    """Ids, the shorter sequences padded."""
    ids = torch.randint(5, 99, (batch, length), generator=torch.Generator().manual_seed(seed))
    lengths = torch.arange(batch) % length + max(length // 2, 1)
    return {"input_ids": ids, "attention_mask": (torch.arange(length) < lengths[:, None]).long()}


def images(batch: int, _: int, seed: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed))}


def spectra(batch: int, _: int, seed: int) -> dict[str, Tensor]:
    return {"input_features": torch.randn(batch, 16, 60, generator=torch.Generator().manual_seed(seed))}


def sound(batch: int, length: int, seed: int) -> dict[str, Tensor]:
    return {"input_values": torch.randn(batch, 100 + 20 * length, generator=torch.Generator().manual_seed(seed))}


MODELS: dict[str, tuple[dict[str, Any], Inputs]] = {
    "Bert": (TEXT, tokens),
    "Roberta": ({**TEXT, "pad_token_id": 1}, tokens),
    "MPNet": (TEXT, tokens),
    "DistilBert": (DISTILLED, tokens),
    "Albert": ({**TEXT, "embedding_size": 16}, tokens),
    "Electra": ({**TEXT, "embedding_size": 16}, tokens),
    "DebertaV2": (DISENTANGLED, tokens),
    "CLIPText": ({**TEXT, "eos_token_id": 98, "bos_token_id": 97, "pad_token_id": 1}, tokens),
    "T5Encoder": (T5, tokens),
    "GPT2": (GPT2, tokens),
    "ViT": (IMAGE, images),
    "CLIPVision": (IMAGE, images),
    "Swin": (SWIN, images),
    "Dinov2": (IMAGE, images),
    "SiglipText": (TEXT, tokens),
    "SiglipVision": (IMAGE, images),
    "Whisper": (WHISPER, spectra),
    "Wav2Vec2": (WAV2VEC2, sound),
    "Llama": (DECODER, tokens),
    "Qwen3": (DECODER, tokens),
    "Gemma3Text": (GEMMA3, tokens),
    "GPTJ": ({**GPT2, "rotary_dim": 4}, tokens),
    "Glm": ({**DECODER, "pad_token_id": 0}, tokens),
    "Cohere": ({**DECODER, "pad_token_id": 0}, tokens),
}
CONVOLVES = {"Wav2Vec2": 2}
"""How many convolutions a dynamic qconfig leaves to torch: one of a single channel, and one by groups."""
LEAST = {"static": 25.0, "dynamic": 30.0}
"""dB of signal over noise."""
SHAPES = {"static": [(3, 7), (2, 12), (1, 20)], "dynamic": [(3, 7), (2, 12), (1, 20), (2, 1), (1, 1)]}
"""Batches and lengths. A token alone sees but itself, which is not what the samples of calibration are like."""


def build(name: str) -> nn.Module:
    """The model with weights that keep the variance of activations, as trained ones do."""
    zoo._timm()  # hides a torchvision of another torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name.removesuffix('Encoder')}Config")
    net: nn.Module = getattr(transformers, f"{name}Model")(config(**MODELS[name][0]))
    if name == "Whisper":
        net = net.encoder
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, nn.Embedding):
                nn.init.normal_(parameter)
            elif parameter.dim() > 1:
                inputs = parameter.shape[0] if type(module).__name__ == "Conv1D" else parameter[0].numel()
                nn.init.normal_(parameter, std=inputs**-0.5)
            elif type(module).__name__.endswith("Norm") and parameter is module.weight:
                nn.init.normal_(parameter, std=0.2)
                parameter.data.exp_()
            else:
                nn.init.normal_(parameter, std=0.1)
    return net.eval().requires_grad_(False)


def quantized(net: nn.Module, name: str, kind: str) -> Any:
    inputs = MODELS[name][1]
    if kind == "dynamic":
        return qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig}, example_inputs=inputs(3, 7, 0))
    return qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [inputs(3, n, n) for n in (7, 9, 20)])


def signal_over_noise(want: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(want.square().sum() / (want - got).square().sum()))


@torch.no_grad()
@pytest.mark.parametrize("kind", LEAST)
@pytest.mark.parametrize("name", MODELS)
def test_it_is_one_program_with_every_linear_layer_in_int8(name: str, kind: str) -> None:
    net = build(name)
    model = quantized(net, name, kind)
    nodes = [node for part in model.compiled.segments if part.executable is None for node in part.segment.nodes]
    assert [node.target.__name__ for node in nodes] == ["conv"] * (CONVOLVES.get(name, 0) if kind == "dynamic" else 0)
    layers = [record for record in model.report if record.op == "linear"]
    assert layers
    assert {record.decision for record in layers} <= {"int8"}
    for batch, length in SHAPES[kind]:
        given = MODELS[name][1](batch, length, 5)
        want, got = net(**given)[0], model(**given)
        first = got if isinstance(got, Tensor) else next(iter(got.values())) if isinstance(got, dict) else got[0]
        assert signal_over_noise(want, first) > LEAST[kind]


def test_a_sequence_longer_than_the_table_of_places_is_an_error() -> None:
    model = quantized(build("Bert"), "Bert", "dynamic")
    with pytest.raises(qfx.InputError):
        model(**tokens(2, 41, 0))
