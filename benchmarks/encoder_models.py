"""Transformer encoders of Hugging Face transformers, as users have them: ``load(name)``.

MiniLM and MPNet have their own weights. The others have the shape of their name and random weights, with which
activations spread like trained ones: matrices are normal with variance 1 / inputs, so that a layer keeps the variance
that it gets and attention's scores have a deviation near 1; the gains of layer norms are log-normal with deviation 0.5,
which makes some channels several times larger than others; biases and tables of embeddings are normal with deviation
0.1.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from benchmarks import encoder_weights, zoo

SIZES = {
    "minilm": (384, 12),
    "mpnet_base": (768, 12),
    "bert_base": (768, 12),
    "vit_b16": (768, 12),
    "whisper_tiny_encoder": (384, 6),
}
"""Width and heads."""

PRETRAINED = encoder_weights.NAMES
NAMES = tuple(SIZES)
_GAIN_DEVIATION, _BIAS_DEVIATION = 0.5, 0.1


class Sentences(nn.Module):
    """What sentence-transformers puts around its encoders: mean over the tokens, unit length."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token numbers and mask [batch, tokens] to unit vectors [batch, width]."""
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[:, :, None].to(hidden.dtype)
        return nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


class Text(nn.Module):
    """A text encoder's hidden state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token numbers and mask [batch, tokens] to [batch, tokens, width]."""
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


class Image(nn.Module):
    """An image classifier's logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Images [batch, 3, 224, 224] to logits [batch, classes]."""
        return self.model(pixel_values=x).logits


class Sound(nn.Module):
    """An audio encoder's hidden state."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, mels: Tensor) -> Tensor:
        """Log mel spectrograms [batch, 80, 3000] to [batch, 1500, width]."""
        return self.model(input_features=mels).last_hidden_state


def load(name: str, attention: str = "sdpa") -> nn.Module:
    """The named encoder in eval mode, without gradients; the same weights at every call.

    Args:
        name: Of ``NAMES``.
        attention: ``"sdpa"``, torch's function as transformers calls it by default, or ``"eager"``: two products and a
            softmax, which is what converters to ONNX and their fusions know.

    Raises:
        KeyError: ``name`` is not in ``NAMES``.
    """
    build = _BUILD[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = build(definitions(), attention)
    if name not in PRETRAINED:
        _draw(net)
    return net.eval().requires_grad_(False)


def definitions() -> ModuleType:
    """The package transformers, which imports beside a torchvision of another torch, and prints little."""
    zoo._timm()  # transformers imports torchvision, too
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _pretrained(name: str, package: ModuleType, attention: str) -> nn.Module:
    # MPNet knows eager attention only: what it takes for "sdpa" is what transformers takes by itself.
    options = {} if attention == "sdpa" else {"attn_implementation": attention}
    return Sentences(package.AutoModel.from_pretrained(str(encoder_weights.place(name)), **options))


def _bert_base(package: ModuleType, attention: str) -> nn.Module:
    return Text(package.BertModel(package.BertConfig(attn_implementation=attention), add_pooling_layer=False))


def _vit_b16(package: ModuleType, attention: str) -> nn.Module:
    config = package.ViTConfig(num_labels=1000, attn_implementation=attention)
    return Image(package.ViTForImageClassification(config))


def _whisper_tiny_encoder(package: ModuleType, attention: str) -> nn.Module:
    width, heads = SIZES["whisper_tiny_encoder"]
    sizes = {"d_model": width, "encoder_layers": 4, "encoder_attention_heads": heads, "encoder_ffn_dim": 4 * width}
    config = package.WhisperConfig(attn_implementation=attention, **sizes)
    return Sound(package.models.whisper.modeling_whisper.WhisperEncoder(config))


_BUILD: dict[str, Callable[[ModuleType, str], nn.Module]] = {
    **{name: functools.partial(_pretrained, name) for name in PRETRAINED},
    "bert_base": _bert_base,
    "vit_b16": _vit_b16,
    "whisper_tiny_encoder": _whisper_tiny_encoder,
}


def _draw(net: nn.Module) -> None:
    """Random values for every parameter, as the module says; sinusoids, which are a definition, stay."""
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if isinstance(module, nn.LayerNorm) and name == "weight":
                nn.init.normal_(parameter, std=_GAIN_DEVIATION)
                parameter.data.exp_()
            elif isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and name == "weight":
                nn.init.normal_(parameter, std=math.prod(parameter.shape[1:]) ** -0.5)
            else:
                nn.init.normal_(parameter, std=_BIAS_DEVIATION)


def spectrograms(count: int, seed: int) -> tuple[Tensor]:
    """Noise that is smooth in time and within [-1.5, 1.5], as Whisper's log mel spectrograms are: [count, 80, 3000]."""
    coarse = torch.randn(count, 80, 300, generator=torch.Generator().manual_seed(seed))
    return (nn.functional.interpolate(coarse, scale_factor=10, mode="linear").clamp(-1.5, 1.5),)
