"""``torch.distributed.checkpoint`` and observers whose buffers grow with the data."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from qfx.errors import InputError
from qfx.quantization.fake_quantize import FakeQuantizeBase
from qfx.quantization.observer import ChannelMean, Observer
from qfx.quantization.observer.base import resize_buffer


def load_checkpoint(model: nn.Module, checkpoint: str | PathLike[str], key: str = "") -> nn.Module:
    """Load what ``torch.distributed.checkpoint.save`` wrote of ``model.state_dict()``; returns ``model``.

    ``torch.distributed.checkpoint.load`` writes into the tensors that a model has, and those of observers that have
    seen no data yet are empty: this makes room for them first.

    Args:
        model: Prepared like the one that was saved; wrapped like it too.
        checkpoint: The checkpoint's folder.
        key: Under which name of the saved dict the state is: ``"model"`` for ``save({"model": ..., ...})``.

    Raises:
        InputError: There is no checkpoint, it lacks ``key``, or holds another model's state.
    """
    sizes = _sizes(checkpoint, f"{key}." if key else "")
    state = model.state_dict()
    missing = [name for name, value in state.items() if isinstance(value, Tensor) and name not in sizes]
    if missing:
        raise InputError(
            f"The checkpoint has no {missing[0]!r}{f' under {key!r}' if key else ''}, which the model has.",
            why=f"{len(missing)} of the model's {len(state)} tensors are missing in {checkpoint}.",
            remedy="Load it into a model prepared like the one that was saved, and name the key it was saved under.",
        )
    for path, name in _growing(model):
        full = f"{path}.{name}" if path else name
        resize_buffer(model.get_submodule(path), name, sizes[full])
    _require_sizes(model.state_dict(), sizes)
    state = model.state_dict()
    load({key: state} if key else state, checkpoint_id=checkpoint)
    model.load_state_dict(state)
    return model


def _sizes(checkpoint: str | PathLike[str], prefix: str) -> dict[str, torch.Size]:
    try:
        metadata = FileSystemReader(checkpoint).read_metadata()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{checkpoint} is no checkpoint.",
            why=f"{type(error).__name__}: {error}",
            remedy="Pass the folder that torch.distributed.checkpoint.save wrote.",
        ) from error
    tensors = {k: v for k, v in metadata.state_dict_metadata.items() if isinstance(v, TensorStorageMetadata)}
    return {k.removeprefix(prefix): v.size for k, v in tensors.items() if k.startswith(prefix)}


def _growing(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Module path and name of the buffers whose shapes follow the data."""
    for path, module in model.named_modules():
        if isinstance(module, (Observer, ChannelMean, FakeQuantizeBase)):
            for name, _ in module.named_buffers(recurse=False):
                yield path, name


def _require_sizes(state: dict[str, Tensor], sizes: dict[str, torch.Size]) -> None:
    for name, value in state.items():
        if isinstance(value, Tensor) and value.shape != sizes[name]:
            raise InputError(
                f"{name!r} is {tuple(sizes[name])} in the checkpoint and {tuple(value.shape)} in the model.",
                remedy="Load it into a model of the same architecture.",
            )
