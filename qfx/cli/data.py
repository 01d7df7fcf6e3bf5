"""What DATA may be: files of arrays, files of batches, folders of images, iterables of Python code."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qfx.cli.blame import retold, told
from qfx.cli.content import Content, content_of
from qfx.cli.images import ImageFolder, Preprocessing
from qfx.cli.model import called, named_object
from qfx.errors import InputError

_SUFFIXES = (".npz", ".npy", ".pt", ".pth")


def load_batches(
    spec: str, names: Iterable[str], batch_size: int, images: Preprocessing | None = None
) -> Iterable[Any]:
    """The batches that ``spec`` names.

    A ``.npz`` or ``.pt`` file of arrays has samples along their first axes: one array an input, by name if the names
    are the model's inputs, else in the file's order. A ``.pt`` file of a list, and ``module:iterable``, hold batches.
    A folder holds images.

    Args:
        spec: A file, a folder, or ``module:iterable``, whose object may be a function that returns the iterable.
        names: Of the model's inputs.
        batch_size: Samples a batch, for arrays and images.
        images: How images become inputs.

    Raises:
        InputError: The file can't be read or holds something else.
    """
    path = Path(spec)
    try:
        if spec and path.is_dir():
            return ImageFolder(path, images or Preprocessing(), batch_size)
        if spec and path.exists():
            return _of_file(path, list(names), batch_size)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"DATA {spec!r} can't be read.", why=f"{error}.", remedy="Check the path.") from error
    if spec.endswith(_SUFFIXES):
        raise InputError(f"There is no file {spec!r}.", remedy="Check the path.")
    if ":" not in spec:
        raise InputError(
            f"DATA {spec!r} is no data that can be read.",
            why="There is no such file or folder.",
            remedy="Give a .npz or .pt file, a folder of images, or module:iterable.",
        )
    return _of_code(spec)


def _of_code(spec: str) -> Iterable[Any]:
    found = named_object(spec, "DATA")
    batches = called(found, spec, "DATA") if callable(found) and not isinstance(found, Iterable) else found
    if not isinstance(batches, Iterable) or isinstance(batches, (Tensor, Mapping, str, bytes, np.ndarray)):
        raise InputError(
            f"DATA {spec!r} gives {type(batches).__name__}, not batches.",
            remedy="Name a list of batches, a DataLoader, or a function that returns one.",
        )
    return batches if isinstance(batches, (list, tuple)) else _Told(batches, spec)


class _Told:
    """An iterable of the user's whose errors name its line."""

    def __init__(self, batches: Iterable[Any], spec: str) -> None:
        self.batches, self.spec = batches, spec

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.batches
        except (Exception, SystemExit) as error:
            raise retold(f"DATA {self.spec!r} raises {type(error).__name__}.", error, "Correct it there.") from error

    def __length_hint__(self) -> int:
        try:
            return len(self.batches)  # type: ignore[arg-type]
        except Exception:
            return 0


def _of_file(path: Path, names: Sequence[str], batch_size: int) -> Iterable[Any]:
    content = content_of(path)
    if content not in _READERS:
        raise InputError(
            f"DATA {str(path)!r} holds {content.value}, not data.",
            remedy="Give a .npz or .pt file of arrays, a folder of images, or module:iterable.",
        )
    read = _read(path, _READERS[content])
    if isinstance(read, (list, tuple)):
        return read
    return _sliced({"0": read} if isinstance(read, Tensor) else read, names, batch_size, path)


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except Exception as error:
        is_pickle = isinstance(error, pickle.UnpicklingError)
        raise InputError(
            f"DATA {str(path)!r} can't be read.",
            why="It holds Python objects, or is damaged." if is_pickle else f"{told(error).rstrip('.')}.",
            remedy="Write it anew, with numpy.savez or torch.save, of plain arrays or tensors.",
        ) from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _read_npy(path: Path) -> Tensor:
    with path.open("rb") as opened:
        return torch.from_numpy(np.load(opened, allow_pickle=False))


def _read_pt(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


_READERS: dict[Content, Callable[[Path], Any]] = {
    Content.npz: _read_npz,
    Content.npy: _read_npy,
    Content.weights: _read_pt,
    Content.pickled: _read_pt,  # refuses objects, and reads tensors of torch before 1.6
    Content.broken: _read_npz,
}


def _sliced(arrays: Any, names: Sequence[str], batch_size: int, path: Path) -> Iterable[Any]:
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


class Keeping:
    """Batches that are remembered as they go by, up to a number of them."""

    def __init__(self, batches: Iterable[Any], most: int) -> None:
        self.batches, self.most, self.kept = batches, most, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        self.kept = []
        for batch in self.batches:
            if len(self.kept) < self.most:
                self.kept.append(batch)
            yield batch
