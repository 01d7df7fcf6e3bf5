"""The folder that a quantized encoder is written into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qfx.errors import InputError
from qfx.file.atomic import write_atomically
from qfx.file.model import save
from qfx.integrations.form import name_of

NETWORK, FORM = "model.qfx", "qfx_encoder.json"
"""Its files beside the config."""

VERSION = 1


def write(encoder: Any, directory: Any) -> None:
    """Write the files of ``encoder`` into ``directory``."""
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{str(folder)!r} can't be a folder.", why=f"{error.strerror}.", remedy="Check the path."
        ) from error
    encoder.config.architectures = [type(encoder).__name__]
    encoder.config.save_pretrained(str(folder))
    save(encoder.quantized_model, folder / NETWORK)
    stored = {"version": VERSION, "class": name_of(encoder._float_class), "form": encoder.form.stored()}
    write_atomically(folder / FORM, json.dumps(stored, indent=1).encode())
