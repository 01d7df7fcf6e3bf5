"""qfx: int8 for PyTorch on CPUs.

``qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, calibration=batches)`` rewrites a float model to int8 and
runs it in qfx's own C++ runtime. Names are imported on first use, so that ``import qfx.runtime`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qfx.provided import Part as _Part
from qfx.provided import provide as _provide
from qfx.public import ENUM_OF as _ENUM_OF
from qfx.public import MODULE_OF as _MODULE_OF
from qfx.public import VERSION as _VERSION

__version__ = _VERSION

# What lower layers ask of higher ones: only this file, which lies above all, knows where it is.
_provide({
    _Part.views: ("qfx.viz.inline", "as_html"),
    _Part.numeric_rules: ("qfx.eager.functions", "rule_of"),
    _Part.layers: ("qfx.nn.swaps", "LAYERS"),
    _Part.prepare: ("qfx.api", "prepare_fx"),
    _Part.convert: ("qfx.api", "convert_fx"),
    _Part.to_qdq: ("qfx.pipeline", "to_qdq"),
})  # fmt: skip

if TYPE_CHECKING:  # what type checkers see; the rest of the module says it once more, for Python
    from qfx import advice as advice
    from qfx import backends as backends
    from qfx import cli as cli
    from qfx import comparison as comparison
    from qfx import distributed as distributed
    from qfx import errors as errors
    from qfx import file as file
    from qfx import integrations as integrations
    from qfx import ir as ir
    from qfx import migrate as migrate
    from qfx import nn as nn
    from qfx import onnx as onnx
    from qfx import ops as ops
    from qfx import quantization as quantization
    from qfx import rules as rules
    from qfx import runtime as runtime
    from qfx import tensor as tensor
    from qfx import training as training
    from qfx import viz as viz
    from qfx.advice import NodeSensitivity as NodeSensitivity
    from qfx.advice import Sensitivity as Sensitivity
    from qfx.advice import Suggestion as Suggestion
    from qfx.advice import merge_qconfig_dict as merge_qconfig_dict
    from qfx.advice import suggest as suggest
    from qfx.advice.sensitivity import sensitivity as sensitivity
    from qfx.api import convert_fx as convert_fx
    from qfx.api import fuse_fx as fuse_fx
    from qfx.api import prepare_fx as prepare_fx
    from qfx.api import prepare_qat_fx as prepare_qat_fx
    from qfx.api import quantize_fx as quantize_fx
    from qfx.comparison import Comparison as Comparison
    from qfx.comparison import Deviation as Deviation
    from qfx.comparison import NodeComparison as NodeComparison
    from qfx.comparison.compare import compare as compare
    from qfx.eager import run_op as run_op
    from qfx.errors import CalibrationError as CalibrationError
    from qfx.errors import CaptureError as CaptureError
    from qfx.errors import ConversionError as ConversionError
    from qfx.errors import InputError as InputError
    from qfx.errors import QConfigError as QConfigError
    from qfx.errors import QfxError as QfxError
    from qfx.errors import QuantizationError as QuantizationError
    from qfx.errors import RuntimeLoadError as RuntimeLoadError
    from qfx.errors import StaysFloatWarning as StaysFloatWarning
    from qfx.errors import UncalibratedWarning as UncalibratedWarning
    from qfx.errors import UnsupportedError as UnsupportedError
    from qfx.errors import UnusedEntryWarning as UnusedEntryWarning
    from qfx.file.model import load as load
    from qfx.file.model import save as save
    from qfx.imported import from_pt2e as from_pt2e
    from qfx.imported import from_torch_ao as from_torch_ao
    from qfx.ir.types import QDType as QDType
    from qfx.ir.types import QParams as QParams
    from qfx.ir.types import QScheme as QScheme
    from qfx.ir.types import dtype as dtype
    from qfx.ir.types import qscheme as qscheme
    from qfx.lowering.custom import register_op as register_op
    from qfx.models import PreparedModel as PreparedModel
    from qfx.models import QuantizedModel as QuantizedModel
    from qfx.onnx.export import to_onnx as to_onnx
    from qfx.passes.report import Record as Record
    from qfx.passes.report import Report as Report
    from qfx.quantization import *  # noqa: F403
    from qfx.rules import register_rule as register_rule
    from qfx.runtime import cpu_info as cpu_info
    from qfx.runtime import get_num_threads as get_num_threads
    from qfx.runtime import set_num_threads as set_num_threads
    from qfx.tensor import QTensor as QTensor
    from qfx.tensor import from_torch as from_torch
    from qfx.tensor import quantize_per_channel as quantize_per_channel
    from qfx.tensor import quantize_per_tensor as quantize_per_tensor
    from qfx.training.model import TrainableModel as TrainableModel
    from qfx.training.schedule import QATSchedule as QATSchedule
    from qfx.viz.draw import Picture as Picture
    from qfx.viz.draw import draw as draw
    from qfx.viz.draw import to_dot as to_dot
    from qfx.viz.networks import to_networkx as to_networkx
    from qfx.viz.report import write_report as write_report

    quint8 = QDType.quint8
    qint8 = QDType.qint8
    qint32 = QDType.qint32
    per_tensor_affine = QScheme.per_tensor_affine
    per_tensor_symmetric = QScheme.per_tensor_symmetric
    per_channel_affine = QScheme.per_channel_affine
    per_channel_symmetric = QScheme.per_channel_symmetric

__all__ = ["convert_fx", "fuse_fx", "prepare_fx", "prepare_qat_fx", "quantize_fx"]


if not TYPE_CHECKING:  # which would take any name for one of qfx's

    def __getattr__(name: str) -> Any:
        if name in _MODULE_OF:
            value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        elif name in _ENUM_OF:
            value = getattr(importlib.import_module("qfx.ir.types"), _ENUM_OF[name])[name]
        elif not name.startswith("_") and _is_module(name):
            value = importlib.import_module(f"qfx.{name}")
        else:
            value = _from_quantization(name)
        globals()[name] = value
        return value


def _is_module(name: str) -> bool:
    from importlib.util import find_spec  # late, as it takes as long as the rest of this file

    return find_spec(f"qfx.{name}") is not None


def _from_quantization(name: str) -> Any:
    if not name.startswith("_"):
        vocabulary = importlib.import_module("qfx.quantization")
        if name in vocabulary.__all__:
            return getattr(vocabulary, name)
    raise AttributeError(f"module 'qfx' has no attribute {name!r}")


def __dir__() -> list[str]:
    vocabulary = importlib.import_module("qfx.quantization").__all__
    return sorted({*globals(), *_MODULE_OF, *_ENUM_OF, *vocabulary})
