"""The names that ``import qfx`` shows, and the modules that have them."""

from __future__ import annotations

VERSION = "0.1.0"

NAMES = {
    "qfx.api": ("convert_fx", "fuse_fx", "prepare_fx", "prepare_qat_fx", "quantize_fx"),
    "qfx.imported": ("from_pt2e", "from_torch_ao"),
    "qfx.viz.draw": ("Picture", "draw", "to_dot"),
    "qfx.viz.networks": ("to_networkx",),
    "qfx.viz.report": ("write_report",),
    "qfx.models": ("PreparedModel", "QuantizedModel"),
    "qfx.passes.report": ("Record", "Report"),
    "qfx.runtime": ("cpu_info", "get_num_threads", "set_num_threads"),
    "qfx.errors": (
        "CalibrationError", "CaptureError", "ConversionError", "InputError", "QConfigError", "QfxError",
        "QuantizationError", "RuntimeLoadError", "StaysFloatWarning", "UncalibratedWarning", "UnsupportedError",
        "UnusedEntryWarning",
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
    "qfx.onnx.export": ("to_onnx",),
    "qfx.rules": ("register_rule",),
}  # fmt: skip
MEMBERS = {
    "QDType": ("quint8", "qint8", "qint32"),
    "QScheme": ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric"),
}

MODULE_OF = {name: module for module, names in NAMES.items() for name in names}
"""By name."""

ENUM_OF = {member: enum for enum, members in MEMBERS.items() for member in members}
"""Members of enums that are names of qfx too: the enum by name."""
