"""Post-training calibration in the processes of torchrun, or in one."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from qfx.api import prepare_fx
from qfx.batches import without_label
from qfx.calibration import first_batch
from qfx.cli.config import load_qconfig_dict
from qfx.cli.conversion import preprocessing
from qfx.cli.data import load_batches
from qfx.cli.facts import Facts
from qfx.cli.model import load_float
from qfx.distributed import calibrate
from qfx.distributed.synchronize import gather, on_every_rank, rank_in, world_size
from qfx.errors import CalibrationError, InputError
from qfx.file.atomic import require_writable, write_atomically
from qfx.ir.snapshot import bytes_of
from qfx.models import PreparedModel
from qfx.quantization.fake_quantize import FakeQuantizeBase
from qfx.quantization.observer import Observer
from qfx.quantization.qconfig import get_default_qconfig


def calibrate_ranks(options: argparse.Namespace) -> Facts | None:
    """Calibrate and write; the facts on rank 0 alone.

    Raises:
        QfxError: What is wrong, on any rank.
    """
    require_writable(options.output, ".pt", ".json")
    torch.set_num_threads(options.threads)
    with _process_group(options.timeout):
        prepared, batches = on_every_rank(lambda: _prepared(options))
        _require_equal_weights(prepared)
        calibrate(prepared, batches)
        on_every_rank(lambda: _write(prepared, options.output) if rank_in() == 0 else None)
        if rank_in() != 0:
            return None
        count = len(list(_observed(prepared)))
        data = {"output": str(options.output), "values": count, "ranks": world_size()}
        return Facts(f"{options.output}: ranges of {count} values, {_ranks()}", data)


def _ranks() -> str:
    count = world_size()
    return "1 process" if count == 1 else f"{count} ranks"


@contextmanager
def _process_group(timeout: int) -> Iterator[None]:
    """The group of the processes that torchrun started; none for one process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "The ranks can't meet.", why=str(error).splitlines()[0], remedy="Start them with torchrun."
        ) from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def _prepared(options: argparse.Namespace) -> tuple[PreparedModel, Any]:
    """The prepared model and the batches. Only what is the same on every rank is looked at."""
    qconfig_dict = load_qconfig_dict(options.qconfig) if options.qconfig else {"": get_default_qconfig()}
    source = load_float(options.model)
    images = preprocessing(options.image_size, options.mean, options.std)
    head, batches = first_batch(load_batches(options.calibration, source.inputs, options.batch_size, images))
    if head is None:
        raise CalibrationError("The calibration data is empty.", remedy="Give 8 to 64 batches like real inputs.")
    return prepare_fx(source.capture, qconfig_dict, without_label(source.capture, head)), batches


def _require_equal_weights(prepared: nn.Module) -> None:
    digest = hashlib.sha256()
    for name, tensor in chain(prepared.named_parameters(), prepared.named_buffers()):
        digest.update(name.encode())
        digest.update(bytes_of(tensor))
    digests = gather(digest.hexdigest())
    different = next((rank for rank, theirs in enumerate(digests) if theirs != digests[0]), None)
    if different is not None:
        raise InputError(
            f"Rank {different} has other weights than rank 0.",
            why="The factory makes a random model.",
            remedy="Load a checkpoint in it, or call torch.manual_seed first.",
        )


def _write(prepared: PreparedModel, path: Path) -> None:
    content = {".pt": _state_dict, ".json": _qparams}[path.suffix](prepared)
    write_atomically(path, content)


def _state_dict(prepared: PreparedModel) -> bytes:
    buffer = io.BytesIO()
    torch.save(prepared.state_dict(), buffer)
    return buffer.getvalue()


def _qparams(prepared: PreparedModel) -> bytes:
    return (json.dumps(dict(_observed(prepared)), indent=1) + "\n").encode()


def _observed(prepared: PreparedModel) -> Iterator[tuple[str, dict[str, Any]]]:
    """Module path of each observer, and what it found.

    Raises:
        CalibrationError: It saw no data.
    """
    inner = {id(part) for m in prepared.modules() if isinstance(m, FakeQuantizeBase) for part in m.children()}
    for path, module in prepared.named_modules():
        if isinstance(module, (Observer, FakeQuantizeBase)) and id(module) not in inner:
            q = module.qparams()
            yield (
                path,
                {
                    "value": getattr(module, "label", None),
                    "scale": q.scale,
                    "zero_point": q.zero_point,
                    "dtype": q.dtype.name,
                    "quant_min": q.qmin,
                    "quant_max": q.qmax,
                },
            )
