"""qfx: int8 for PyTorch on CPUs.

``qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, calibration=batches)`` rewrites a float model to int8 and
runs it in qfx's own C++ runtime. Names are imported on first use, so that ``import qfx.runtime`` needs no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

_LAZY = {
    "qfx.api": ("convert_fx", "fuse_fx", "prepare_fx", "prepare_qat_fx", "quantize_fx"),
    "qfx.viz.draw": ("Picture", "draw", "to_dot"),
    "qfx.viz.networks": ("to_networkx",),
    "qfx.viz.report": ("write_report",),
    "qfx.models": ("PreparedModel", "QuantizedModel"),
    "qfx.passes.report": ("Record", "Report"),
    "qfx.runtime": ("cpu_info", "get_num_threads", "set_num_threads"),
    "qfx.errors": (
        "CalibrationError", "CaptureError", "ConversionError", "InputError", "QConfigError", "QfxError",
        "QuantizationError", "RuntimeLoadError", "UnsupportedError",
    ),
    "qfx.ir.types": ("QDType", "QParams", "QScheme", "dtype", "qscheme"),
    "qfx.lowering.custom": ("register_op",),
    "qfx.advice": (
        "NodeSensitivity", "Sensitivity", "Suggestion", "merge_qconfig_dict", "sensitivity", "suggest",
    ),
    "qfx.comparison": ("Comparison", "Deviation", "NodeComparison", "compare"),
    "qfx.eager": ("run_op",),
    "qfx.training.model": ("TrainableModel",),
    "qfx.training.schedule": ("QATSchedule",),
    "qfx.tensor": ("QTensor", "from_torch", "quantize_per_channel", "quantize_per_tensor"),
    "qfx.file.model": ("load", "save"),
    "qfx.rules": ("register_rule",),
}  # fmt: skip
_MEMBERS = {
    "QDType": ("quint8", "qint8", "qint32"),
    "QScheme": ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric"),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}
_ENUM_OF = {member: enum for enum, members in _MEMBERS.items() for member in members}

if TYPE_CHECKING:
    from qfx.api import convert_fx, fuse_fx, prepare_fx, prepare_qat_fx, quantize_fx
    from qfx.quantization import *  # noqa: F403

__all__ = ["convert_fx", "fuse_fx", "prepare_fx", "prepare_qat_fx", "quantize_fx"]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    elif name in _ENUM_OF:
        value = getattr(importlib.import_module("qfx.ir.types"), _ENUM_OF[name])[name]
    elif not name.startswith("_") and importlib.util.find_spec(f"qfx.{name}"):
        value = importlib.import_module(f"qfx.{name}")
    else:
        value = _from_quantization(name)
    globals()[name] = value
    return value


def _from_quantization(name: str) -> Any:
    if not name.startswith("_"):
        vocabulary = importlib.import_module("qfx.quantization")
        if name in vocabulary.__all__:
            return getattr(vocabulary, name)
    raise AttributeError(f"module 'qfx' has no attribute {name!r}")


def __dir__() -> list[str]:
    vocabulary = importlib.import_module("qfx.quantization").__all__
    return sorted({*globals(), *_MODULE_OF, *_ENUM_OF, *vocabulary})
