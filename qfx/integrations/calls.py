"""Calls of a float encoder, as dicts of tensors: made of texts, recorded while an object runs, or made up."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from qfx.errors import CalibrationError, InputError, QfxError

Call: TypeAlias = dict[str, Tensor]
"""The tensors of a call by name."""

IDS, EMBEDDED = "input_ids", "inputs_embeds"
FILLED: Mapping[str, Callable[[tuple[int, ...]], Tensor]] = {
    "attention_mask": lambda shape: torch.ones(shape, dtype=torch.int64),
    "token_type_ids": lambda shape: torch.zeros(shape, dtype=torch.int64),
}
"""What says nothing in most text encoders: they compute without it what they compute with it."""

_BATCH = 8
_ROWS, _TOKENS = 3, 11
_CLOSE = 1e-3
"""Sums in another order differ by less, another embedding by more."""


def parameters_of(network: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The arguments of ``forward`` by name."""
    return inspect.signature(network.forward).parameters


def completed(call: Mapping[str, Tensor], names: Iterable[str]) -> Call:
    """``call`` with those of ``names`` that it leaves out and that say nothing then."""
    shape = text_shape(call)
    absent = [name for name in names if name in FILLED and name not in call and shape is not None]
    return {**call, **{name: FILLED[name](shape) for name in absent}}  # type: ignore[arg-type]


def text_shape(call: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """How many texts of how many tokens; None where it has no texts."""
    if IDS in call:
        return tuple(call[IDS].shape)
    return tuple(call[EMBEDDED].shape[:2]) if EMBEDDED in call else None


# ------------------------------------------------------------------ where calls come from


def encoded(network: nn.Module, samples: Sequence[Any], tokenizer: Any) -> list[Call]:
    """Calls with ``samples`` as ``tokenizer`` makes tensors of them: texts of about one length together.

    Raises:
        InputError: There is no tokenizer.
    """
    if tokenizer is None:
        raise InputError(
            "There are sample texts, and no tokenizer.",
            why=f"A {type(network).__name__} takes tensors.",
            remedy="Pass the tokenizer (for images the image processor) as well, or tensors as batches=[{...}].",
        )
    are_texts = all(isinstance(sample, str) for sample in samples)
    options = {"padding": True} if are_texts else {}
    ordered = sorted(samples, key=len) if are_texts else list(samples)
    parts = [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]
    return tensors_of(network, (tokenizer(part, return_tensors="pt", **options) for part in parts))


def recorded(network: Any, samples: Sequence[Any], run: Callable[[Sequence[Any]], object]) -> list[Call]:
    """The calls that ``network`` gets while ``run`` runs what it is part of, which may not ask for its hooks."""
    found: list[Call] = []
    inner, own = network.forward, vars(network).get("forward")
    signature = inspect.signature(inner)

    @functools.wraps(inner)
    def keep(*args: Any, **kwargs: Any) -> Any:
        named = signature.bind(*args, **kwargs).arguments
        found.append({name: value.clone() for name, value in named.items() if isinstance(value, Tensor)})
        require_positions(network, found[-1:])
        return inner(*args, **kwargs)

    network.forward = keep
    try:
        with torch.no_grad():
            run(samples)
    finally:
        if own is None:
            del network.forward
        else:
            network.forward = own
    return found


def tensors_of(network: nn.Module, batches: Iterable[Any]) -> list[Call]:
    """``batches`` as calls: what the model has no argument for is left out.

    Raises:
        CalibrationError: A batch is no mapping of tensors, or has nothing that the model takes.
    """
    known, found = parameters_of(network), []
    for index, batch in enumerate(batches):
        values = {name: value for name, value in batch.items() if name in known} if _is_named(batch) else {}
        if not values or not all(isinstance(value, Tensor) for value in values.values()):
            raise CalibrationError(
                f"Batch {index} is no call of the {type(network).__name__}.",
                why=f"A batch holds tensors by the names of forward()'s arguments: {', '.join(known)}.",
                remedy="Pass what the tokenizer returns with return_tensors='pt'.",
            )
        found.append(values)
    return found


def _is_named(batch: Any) -> bool:
    return isinstance(batch, Mapping) or hasattr(batch, "items")


def made_up(network: nn.Module) -> Call:
    """A call with values that mean nothing, of the sizes that the model's config names.

    Raises:
        InputError: The config does not say what the model takes.
    """
    main = getattr(network, "main_input_name", IDS)
    try:
        return _MADE_UP[main](network)
    except (KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"What a {type(network).__name__} takes can't be made up.",
            why=f"Its config says too little of {main!r}.",
            remedy="Pass a call: batches=[{...}], tensors by the names of forward()'s arguments.",
        ) from error


def _tokens(network: Any) -> Call:
    entries = int(network.get_input_embeddings().weight.shape[0])
    length = min(_TOKENS, positions_of(network) or _TOKENS)
    ids = (torch.arange(_ROWS * length) * 7919 + 5).remainder(entries).reshape(_ROWS, length)
    return {IDS: ids}


def _images(network: Any) -> Call:
    config = network.config
    height, width = config.image_size if isinstance(config.image_size, (tuple, list)) else [config.image_size] * 2
    return {"pixel_values": _noise(2, config.num_channels, height, width)}


def _spectrograms(network: Any) -> Call:
    config = network.config
    return {"input_features": _noise(2, config.num_mel_bins, 2 * config.max_source_positions)}


def _sound(network: Any) -> Call:
    return {"input_values": _noise(2, 16_000)}


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


_MADE_UP: Mapping[str, Callable[[Any], Call]] = {
    IDS: _tokens,
    "pixel_values": _images,
    "input_features": _spectrograms,
    "input_values": _sound,
}
"""By the name of the main input."""

# ------------------------------------------------------------------ what holds for them


def positions_of(network: nn.Module) -> int | None:
    """The longest text that the table of positions has entries for; None where there is none.

    Tables with a padding entry count from behind it.
    """
    most = getattr(getattr(network, "config", None), "max_position_embeddings", None)
    for path, module in network.named_modules():
        if isinstance(module, nn.Embedding) and "position" in path.rpartition(".")[2] and isinstance(most, int):
            padding = module.padding_idx
            return min(most, module.num_embeddings - (0 if padding is None else padding + 1))
    return None


def require_positions(network: nn.Module, calls: Iterable[Mapping[str, Tensor]]) -> None:
    """Raise for a text that the table of positions is too short for.

    Raises:
        CalibrationError: With its length and the longest possible.
    """
    most = positions_of(network)
    for call in calls:
        shape = text_shape(call)
        if most is not None and shape is not None and shape[1] > most:
            raise CalibrationError(
                f"A sample text has {shape[1]} tokens, and the {type(network).__name__} takes {most} at most.",
                why="Its table of positions has no entries behind them.",
                remedy="Leave the text out or cut it, as your calls do.",
            )


def neutral(network: nn.Module, call: Call, what: str) -> list[str]:
    """Those of :data:`FILLED` that ``network`` takes, and whose values there are the same to it as none.

    Raises:
        InputError: It does not run on ``call``, which is ``what``.
    """
    plain = {name: tensor for name, tensor in call.items() if name not in FILLED}
    if text_shape(plain) is None:
        return []
    names = [name for name in FILLED if name in parameters_of(network)]
    wanted = _leaves(run_float(network, plain, what))
    found = {name: _leaves(run_float(network, completed(plain, [name]), what)) for name in names}
    return [name for name in names if _are_close(wanted, found[name])]


def _leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value] if isinstance(value, Tensor) else []


def _are_close(first: list[Tensor], second: list[Tensor]) -> bool:
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(
        a.shape == b.shape and torch.allclose(a, b, rtol=_CLOSE, atol=_CLOSE) for a, b in pairs
    )


def widest(calls: Sequence[Call]) -> Call:
    """The call with the most elements, with two rows or more, and not as many as tokens: what sizes are learnt from."""
    call = max(calls, key=lambda call: max(tensor.numel() for tensor in call.values()))
    (rows,) = {len(tensor) for tensor in call.values()} if _has_rows(call) else (0,)
    if not rows:
        return call
    wanted = 3 if (text_shape(call) or (0, 0))[1] == 2 else 2
    index = torch.arange(wanted).remainder(rows)
    return {name: tensor[index] for name, tensor in call.items()}


def _has_rows(call: Call) -> bool:
    """Whether the first dim of all tensors is the batch."""
    return len({len(tensor) if tensor.dim() else 0 for tensor in call.values()}) == 1


def run_float(network: nn.Module, call: Call, what: str) -> Any:
    """What the float model gives for ``call``, as its class of results.

    Raises:
        InputError: It does not run.
    """
    try:
        with torch.no_grad():
            return network(**call, return_dict=True)
    except QfxError:
        raise
    except Exception as error:
        raise InputError(
            f"The {type(network).__name__} does not run on {what}.",
            why=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            remedy="Pass calls that it takes: batches=[{...}], tensors by the names of forward()'s arguments.",
        ) from error
