"""What to change in a qconfig_dict: which nodes quantization hurts most, and remedies that have been tried."""

from qfx.advice.entries import merge_qconfig_dict
from qfx.advice.records import NodeSensitivity, Sensitivity
from qfx.advice.sensitivity import sensitivity
from qfx.advice.suggestions import Suggestion, suggest

__all__ = ["NodeSensitivity", "Sensitivity", "Suggestion", "merge_qconfig_dict", "sensitivity", "suggest"]
