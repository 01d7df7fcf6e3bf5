"""Dynamic quantization of transformers' models, which nobody traces: every layer of them."""

from __future__ import annotations

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

SMALL = {"vocab_size": 200}
BERT = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128, **SMALL}
GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64, **SMALL}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, **SMALL}
DISTILLED = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, **SMALL}
IDS = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(0))
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Tensor]]] = {
    "BertModel": ("BertConfig", BERT, {"input_ids": IDS}),
    "RobertaModel": ("RobertaConfig", BERT, {"input_ids": IDS}),
    "DistilBertModel": ("DistilBertConfig", DISTILLED, {"input_ids": IDS}),
    "GPT2Model": ("GPT2Config", GPT2, {"input_ids": IDS}),
    "GPT2LMHeadModel": ("GPT2Config", GPT2, {"input_ids": IDS}),
    "T5Model": ("T5Config", T5, {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}),
    "T5ForConditionalGeneration": ("T5Config", T5, {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}),
}


@pytest.mark.parametrize("with_example", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_swapped(name: str, with_example: bool) -> None:
    zoo._timm()  # hides a torchvision of another torch
    import transformers

    config, settings, inputs = MODELS[name]
    torch.manual_seed(0)
    model = getattr(transformers, name)(getattr(transformers, config)(**settings)).eval()
    quantized = qfx.quantize_fx(
        model, {"": qfx.quantization.per_channel_dynamic_qconfig}, example_inputs=inputs if with_example else None
    )
    kinds = (nn.Linear, nn.Embedding)
    layers = {p for p, m in model.named_modules() if isinstance(m, kinds) or type(m).__name__ == "Conv1D"}
    assert layers <= {record.module_path for record in quantized.report.decided("int8")}
    with torch.no_grad():
        found, expected = (next(iter(m(**inputs).values())) for m in (quantized, model))
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), 0) > 0.999
