"""What DATA may be: files of arrays, files of batches, iterables of Python code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.cli.model import called, named_object
from qfx.errors import InputError


def load_batches(spec: str, names: Iterable[str], batch_size: int) -> Iterable[Any]:
    """The batches that ``spec`` names.

    A ``.npz`` or ``.pt`` file of arrays has samples along their first axes: one array an input, by name if the names
    are the model's inputs, else in the file's order. A ``.pt`` file of a list, and ``module:iterable``, hold batches.

    Args:
        spec: A file, or ``module:iterable``, whose object may be a function that returns the iterable.
        names: Of the model's inputs.
        batch_size: Samples a batch, for arrays.

    Raises:
        InputError: The file can't be read or holds something else.
    """
    path = Path(spec)
    if path.suffix == ".npz":
        return _sliced(_read(path, _read_npz), list(names), batch_size, path)
    if path.suffix in (".pt", ".pth"):
        content = _read(path, lambda p: torch.load(p, map_location="cpu", weights_only=True))
        if isinstance(content, (list, tuple)):
            return content
        arrays = {"0": content} if isinstance(content, Tensor) else content
        return _sliced(arrays, list(names), batch_size, path)
    if ":" not in spec:
        raise InputError(
            f"DATA {spec!r} is no data that can be read.", remedy="Give a .npz or .pt file, or module:iterable."
        )
    found = named_object(spec, "DATA")
    batches = called(found, spec) if callable(found) and not isinstance(found, Iterable) else found
    if not isinstance(batches, Iterable) or isinstance(batches, (Tensor, Mapping, str)):
        raise InputError(
            f"DATA {spec!r} gives {type(batches).__name__}, not batches.",
            remedy="Name a list of batches, a DataLoader, or a function that returns one.",
        )
    return batches


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    if not path.exists():
        raise InputError(f"There is no file {str(path)!r}.", remedy="Check the path.")
    try:
        return read(path)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"{str(path)!r} can't be read.",
            why=f"{type(error).__name__}: {reason[0] if reason else ''}",
            remedy="Write it anew, with numpy.savez or torch.save, of plain arrays or tensors.",
        ) from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _sliced(arrays: Any, names: list[str], batch_size: int, path: Path) -> Iterable[Any]:
    if not isinstance(arrays, Mapping) or not all(isinstance(v, Tensor) and v.dim() > 0 for v in arrays.values()):
        raise InputError(
            f"{str(path)!r} holds something else than arrays with samples along the first axis.",
            remedy="Save one array an input, or a list of batches.",
        )
    counts = {name: len(value) for name, value in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError(
            f"The arrays of {str(path)!r} hold different numbers of samples: "
            f"{', '.join(f'{n} {c}' for n, c in counts.items())}.",
            remedy="Save as many samples for every input.",
        )
    return list(_batches(arrays, set(arrays) <= set(names), batch_size))


def _batches(arrays: Mapping[str, Tensor], by_name: bool, batch_size: int) -> Iterator[Any]:
    for start in range(0, max(map(len, arrays.values()), default=0), batch_size):
        parts = {name: value[start : start + batch_size] for name, value in arrays.items()}
        yield parts if by_name else tuple(parts.values())
