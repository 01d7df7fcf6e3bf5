"""A quantized encoder in a folder, beside its tokenizer: ``model.qfx``, ``config.json`` and ``qfx_encoder.json``."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from qfx.arguments import explained
from qfx.errors import InputError
from qfx.file.model import load
from qfx.integrations.encoder import QuantizedEncoder, encoder_of
from qfx.integrations.folder import FORM, NETWORK, VERSION
from qfx.integrations.form import Form, class_named
from qfx.integrations.holders import is_model, is_model_class

_MODULES, _SENTENCES = "modules.json", "config_sentence_transformers.json"
_PATCHED = threading.RLock()


@explained
def load_encoder(directory: Any, *, isa: str | None = None) -> Any:
    """What ``save_pretrained`` of a quantized encoder, or of the object around it, wrote.

    Args:
        directory: The folder.
        isa: Load for this instruction set instead of the best one here.

    Returns:
        The model, of its transformers class; of a folder of sentence-transformers the ``SentenceTransformer``. For a
        pipeline give it to ``pipeline(task, model=load_encoder(directory), tokenizer=directory)``.

    Raises:
        InputError: The folder holds no quantized encoder, or one that is damaged, or the class of one is not there.
        RuntimeLoadError: ``isa`` is unknown or not available on this CPU.
    """
    folder = Path(directory)
    if (folder / _MODULES).exists():
        return _sentence_model(folder, isa)
    return _model(folder, isa)


def _model(folder: Path, isa: str | None) -> Any:
    stored = _json(folder / FORM)
    try:
        version, name, form = int(stored["version"]), str(stored["class"]), stored["form"]
        if version > VERSION:
            raise InputError(
                f"{str(folder / FORM)!r} is of version {version}.",
                why=f"This qfx reads versions up to {VERSION}.",
                remedy="Read it with the qfx that wrote it, or a newer one.",
            )
        base, restored = class_named(name), Form.restored(form)
        if not is_model_class(base):
            raise ValueError(f"{name!r} is no class of a model")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{str(folder / FORM)!r} is damaged.",
            why=f"{type(error).__name__}: {error}.",
            remedy="Save the model again.",
        ) from error
    network = load(folder / NETWORK, isa=isa)
    config: Any = base.config_class.from_pretrained(str(folder))  # type: ignore[attr-defined]
    return encoder_of(base, config, network, restored)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path.parent)!r} holds no quantized encoder.",
            why=f"{path.name}: {getattr(error, 'strerror', None) or error}.",
            remedy="Give the folder that save_pretrained of a quantized encoder wrote.",
        ) from error


# ------------------------------------------------------------------ sentence-transformers


def _sentence_model(folder: Path, isa: str | None) -> Any:
    """The object that the folder is of, made by its package around the quantized network."""
    places = [folder / str(entry.get("path", "")) for entry in _json(folder / _MODULES)]
    place = next((place for place in places if (place / FORM).exists()), folder)
    network = _model(place, isa)
    name = "SentenceTransformer"
    if (folder / _SENTENCES).exists():
        name = str(_json(folder / _SENTENCES).get("model_type", name))
    cls = getattr(importlib.import_module("sentence_transformers"), name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise InputError(
            f"There is no class {name!r} in this version of sentence-transformers.",
            where=str(folder / _SENTENCES),
            remedy="Install the version that wrote it, or a newer one.",
        )
    with _found_at(place, network):
        made = cls(str(folder), device="cpu")
    if not any(module is network for module in made.modules()):
        raise InputError(
            f"{str(folder)!r} gives a {name} without the quantized network.",
            why="This version of sentence-transformers loads a network of another class.",
            remedy="Load the network alone: load_encoder of the folder that has the .qfx file.",
        )
    return made


@contextmanager
def _found_at(place: Path, network: QuantizedEncoder) -> Iterator[None]:
    """While active, ``from_pretrained`` of the network's class gives ``network`` for the folder ``place``."""
    base: Any = network._float_class
    assert is_model(network)
    inherited = base.from_pretrained

    def from_pretrained(cls: Any, path: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(path, (str, Path)) and Path(path).resolve() == place.resolve():
            return network
        return inherited.__func__(cls, path, *args, **kwargs)

    with _PATCHED:
        own = vars(base).get("from_pretrained")
        base.from_pretrained = classmethod(from_pretrained)
        try:
            yield
        finally:
            if own is None:
                del base.from_pretrained
            else:
                base.from_pretrained = own
