"""A transformers encoder to int8 in one call, inside the object that the user has."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from qfx import api
from qfx.arguments import explained
from qfx.errors import CalibrationError, InputError, UnsupportedError
from qfx.integrations import calls as calling
from qfx.integrations.calls import Call
from qfx.integrations.encoder import encoder_of, is_quantized
from qfx.integrations.form import Form, Result
from qfx.integrations.holders import Holder, holder_of
from qfx.quantization import default_dynamic_qconfig, get_default_qconfig
from qfx.quantization.accepted import require_cpu


@explained
def quantize_encoder(
    model: Any,
    texts: Iterable[Any] | None = None,
    tokenizer: Any = None,
    *,
    batches: Iterable[Mapping[str, Any]] | None = None,
    qconfig_dict: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """An encoder of Hugging Face transformers in int8, as the same kind of object.

    Args:
        model: A ``PreTrainedModel`` (BERT, RoBERTa, MPNet, T5's encoder, ViT, ...), a ``SentenceTransformer`` or
            another model of that package, or a ``pipeline(...)``; it is not changed. Its network comes back in qfx, of
            its own class: the same arguments, its ModelOutput, its config; any number of texts of any length.
        texts: Samples like those of real use, some dozens; then activations are quantized statically. Without any
            they are quantized as they come, each row (token) by its own range. A pipeline may take other samples than
            texts (images, say): whatever it is called with.
        tokenizer: What makes tensors of ``texts`` for a bare model: its tokenizer, or its image processor.
        batches: In place of ``texts``, calls as dicts of tensors. The result takes the arguments that these have.
        qconfig_dict: What to quantize and how, by the model's own module paths; by default all of it.
        options: More of :func:`qfx.quantize_fx`'s.

    Returns:
        An object of the class of ``model``. The network in it has a ``quantized_model``, the
        :class:`qfx.QuantizedModel` that runs. ``save_pretrained`` writes it, :func:`load_encoder` reads it.

    Raises:
        InputError: ``model`` holds no network of transformers, is in training mode or on another device than the CPU;
            or there are texts without a tokenizer.
        CalibrationError: The samples are none, or do not fit the model.
        UnsupportedError: The model is a decoder.
        QfxError: As for :func:`qfx.quantize_fx`.
    """
    holder = holder_of(model)
    network = holder.network
    _require_encoder(network)
    found = _samples(holder, texts, tokenizer, batches)
    calling.require_positions(network, found)
    what = "the samples" if found else "a call made up from its config"
    example = calling.widest(found) if found else calling.made_up(network)
    fills = calling.neutral(network, example, what)
    example = _masked(calling.completed(example, fills))
    form = _form(network, example, what, fills)
    quantized = api.quantize_fx(
        network,
        _qconfigs(qconfig_dict, static=bool(found)),
        [calling.completed(call, fills) for call in found] or None,
        example_inputs=example,
        **{"frontend": _frontend(example), **options},
    )
    return holder.around(encoder_of(type(network), copy.deepcopy(network.config), quantized, form))


def _qconfigs(given: Mapping[str, Any] | None, *, static: bool) -> Mapping[str, Any]:
    if given is not None:
        return given
    return {"": get_default_qconfig() if static else default_dynamic_qconfig}


def _frontend(example: Call) -> str:
    """An export leaves the sizes of texts free; those of images are fixed, as their tables of positions are."""
    return "auto" if calling.text_shape(example) is None else "export"


def _masked(example: Call) -> Call:
    """``example`` with a masked token at its end, so that capture sees a mask that says something."""
    mask = example.get("attention_mask")
    if mask is None or mask.dim() != 2 or mask.shape[1] < 2 or not bool(mask.bool().all()):
        return example
    mask = mask.clone()
    mask[-1, -1] = 0
    return {**example, "attention_mask": mask}


def _require_encoder(network: nn.Module) -> None:
    name = type(network).__name__
    if is_quantized(network):
        raise InputError(f"The {name} is quantized already.", remedy="Pass the float model.")
    require_cpu(network)
    if network.training:
        raise InputError(
            f"The {name} is in training mode.",
            why="It is quantized as it computes in evaluation mode, without dropout.",
            remedy="Call model.eval() first.",
        )
    if "decoder_input_ids" in calling.parameters_of(network):
        raise UnsupportedError(
            f"The {name} has a decoder.",
            why="Decoders keep a state from call to call, and a program of an encoder has none.",
            remedy="Quantize its encoder: quantize_encoder(model.get_encoder()).",
        )


def _samples(holder: Holder, texts: Any, tokenizer: Any, batches: Any) -> list[Call]:
    """The calls of the samples; none where there are no samples."""
    network = holder.network
    if texts is not None and batches is not None:
        raise InputError(
            "There are both texts and batches.", why="Each says what to calibrate with.", remedy="Pass one of them."
        )
    if batches is not None:
        return _some(calling.tensors_of(network, batches), "batches")
    if texts is None:
        return []
    if isinstance(texts, (str, bytes)):
        raise InputError("texts is one text.", why="Samples are several.", remedy="Pass a list: texts=[text, ...].")
    samples = _some([*texts], "texts")
    if holder.run is None:
        return calling.encoded(network, samples, tokenizer)
    if tokenizer is not None:
        raise InputError(
            "There is a tokenizer beside an object that has one.",
            why="Its samples are what the object makes of them.",
            remedy="Leave the tokenizer out.",
        )
    return _some(calling.recorded(network, samples, holder.run), "calls of the network")


def _some(found: list[Any], what: str) -> list[Any]:
    if not found:
        raise CalibrationError(
            f"There are no {what}.",
            why="Ranges are those that samples have.",
            remedy="Pass some dozens of samples; or none at all (texts=None) to quantize rows as they come.",
        )
    return found


def _form(network: nn.Module, example: Call, what: str, fills: Sequence[str]) -> Form:
    """What calls like ``example`` take and give."""
    result = calling.run_float(network, example, what)
    if isinstance(result, Mapping) and result.get("past_key_values") is not None:
        raise UnsupportedError(
            f"The {type(network).__name__} is a decoder: it returns past_key_values.",
            why="Decoders keep a state from call to call, and a program of an encoder has none.",
            remedy="Where it encodes whole texts, each in one call, set model.config.use_cache = False.",
        )
    takes = {name: example[name].dtype for name in calling.parameters_of(network) if name in example}
    return Form(takes, Result.of(result), tuple(fills), calling.positions_of(network))
