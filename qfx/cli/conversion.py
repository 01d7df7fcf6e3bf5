"""One conversion from start to end: load, calibrate, convert, measure, write."""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from qfx import quantize_fx
from qfx.cli.config import load_qconfig_dict
from qfx.cli.data import Keeping, load_batches
from qfx.cli.facts import Facts, decibel, size
from qfx.cli.images import Preprocessing
from qfx.cli.model import FloatModel, load_float
from qfx.cli.outputs import output_deviations
from qfx.errors import CalibrationError, InputError
from qfx.file.atomic import replacing, require_writable
from qfx.file.model import save
from qfx.models import QuantizedModel
from qfx.passes.report import Report
from qfx.quantization.qconfig import get_default_qconfig

MEASURED_BATCHES = 8
"""How many of the first calibration batches the outputs are compared on."""
_SHOWN = 10


@dataclass(frozen=True)
class Conversion:
    """What ``qfx quantize`` is asked for; the attributes are its arguments."""

    model: str
    output: Path
    calibration: str | None = None
    qconfig: Path | None = None
    frontend: str = "auto"
    batch_size: int = 32
    image_size: tuple[int, ...] = (224,)
    mean: tuple[float, ...] = Preprocessing.mean
    std: tuple[float, ...] = Preprocessing.std
    bias_correction: bool = True
    adaptive_rounding: bool = True
    rotation: bool = True
    smoothing: bool = True
    smooth_keys: bool = False
    strict: bool = False
    isa: str | None = None
    report: Path | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Conversion:
        """From parsed arguments."""
        given: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(cls)}
        frozen: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        return cls(**frozen)


def preprocessing(image_size: Iterable[int], mean: Iterable[float], std: Iterable[float]) -> Preprocessing:
    """How images become inputs, from the options.

    Raises:
        InputError: Sizes or channels that do not fit together.
    """
    sizes = tuple(image_size)
    if len(sizes) > 2:
        raise InputError(f"--image-size has {len(sizes)} values.", remedy="Give one, or height and width.")
    return Preprocessing((sizes[0], sizes[-1]), tuple(mean), tuple(std))


def convert(asked: Conversion) -> Facts:
    """Make the file that is asked for, and the page about it.

    Raises:
        QfxError: What is wrong; then no file is written.
    """
    require_writable(asked.output, ".qfx")
    if asked.report is not None:
        require_writable(asked.report, ".html")
    qconfig_dict = load_qconfig_dict(asked.qconfig) if asked.qconfig else {"": get_default_qconfig()}
    images = preprocessing(asked.image_size, asked.mean, asked.std)
    source = load_float(asked.model)
    batches = None
    if asked.calibration is not None:
        batches = Keeping(load_batches(asked.calibration, source.inputs, asked.batch_size, images), MEASURED_BATCHES)
    quantized = _quantized(source, qconfig_dict, batches, asked)
    kept = batches.kept if batches is not None else []
    deviations = output_deviations(source, quantized, kept)
    _write(quantized, source, kept, asked)
    return _facts(quantized, source, deviations, len(kept), asked)


def _quantized(
    source: FloatModel, qconfig_dict: Mapping[str, Any], batches: Keeping | None, asked: Conversion
) -> QuantizedModel:
    try:
        return quantize_fx(
            source.capture,
            qconfig_dict,
            batches,
            frontend=asked.frontend,
            bias_correction=asked.bias_correction,
            adaptive_rounding=asked.adaptive_rounding,
            rotation=asked.rotation,
            smoothing=asked.smoothing,
            smooth_keys=asked.smooth_keys,
            strict=asked.strict,
            isa=asked.isa,
        )
    except CalibrationError as error:
        if batches is not None:
            raise
        raise CalibrationError(
            error.what, where=error.where, source=error.source, why=error.why, remedy="Give --calibration DATA."
        ) from error


def _write(quantized: QuantizedModel, source: FloatModel, kept: list[Any], asked: Conversion) -> None:
    """Both files or none, as far as two renames go."""
    with contextlib.ExitStack() as files:
        part = files.enter_context(replacing(asked.output))
        with part.open("wb") as file:
            save(quantized, file)
        if asked.report is not None:
            from qfx import write_report

            page = files.enter_context(replacing(asked.report))
            write_report(page, quantized, float_model=source.module, data=kept or None)


def _facts(
    quantized: QuantizedModel,
    source: FloatModel,
    deviations: Mapping[str, float | None],
    batches: int,
    asked: Conversion,
) -> Facts:
    report = quantized.report
    kept_float = report.decided("float")
    after = asked.output.stat().st_size
    data = {
        "output": str(asked.output),
        "nodes": len(report),
        "int8": len(report.decided("int8")),
        "float": len(kept_float),
        "stayed_float": [{"name": r.name, "op": r.op, "module": r.module_path, "reason": r.reason} for r in kept_float],
        "frontend": getattr(report, "frontend", None),
        "frontend_reason": getattr(report, "frontend_reason", None),
        "sqnr_db": dict(deviations),
        "measured_batches": batches,
        "bytes_before": source.bytes,
        "bytes_after": after,
        "report": str(asked.report) if asked.report else None,
    }
    lines = [_headline(asked.output, report), *_stayed_float(report)]
    if deviations:
        ratios = ", ".join(decibel(v) if len(deviations) == 1 else f"{n} {decibel(v)}" for n, v in deviations.items())
        lines.append(f"SQNR against float, on the first {batches} calibration batches: {ratios}")
    lines.append(f"size: {size(source.bytes)} of float tensors, {size(after)} as a file")
    if asked.report:
        lines.append(f"report: {asked.report}")
    return Facts("\n".join(lines), data)


def _headline(output: Path, report: Report) -> str:
    counts = f"{len(report.decided('int8'))} int8, {len(report.decided('float'))} float"
    frontend, reason = getattr(report, "frontend", None), getattr(report, "frontend_reason", None)
    captured = f"; captured by {frontend}" if frontend else ""
    return f"{output}: {len(report)} nodes, {counts}{captured}{f' ({reason})' if captured and reason else ''}"


def _stayed_float(report: Report) -> list[str]:
    """The nodes in float, those of one reason together."""
    groups = Counter((r.op, r.reason) for r in report.decided("float"))
    lines = [
        f"  {op}{f' x{count}' if count > 1 else ''}: {reason or 'nothing beside it is int8'}"
        for (op, reason), count in groups.most_common(_SHOWN)
    ]
    more = len(groups) - _SHOWN
    return [*(["stayed float:"] if lines else []), *lines, *([f"  and {more} more kinds"] if more > 0 else [])]
