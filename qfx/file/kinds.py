"""Every kind of values in the file of a graph: the plain ones, and what refers to functions, layers and qconfigs."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType

import torch
from torch import nn

from qfx.file.modules import read_module, write_module
from qfx.file.qconfigs import read_qconfig, write_qconfig
from qfx.file.targets import function_name, function_named
from qfx.file.values import PLAIN, Kind
from qfx.quantization.qconfig import QConfig

_FUNCTIONS = (FunctionType, BuiltinFunctionType, torch._ops.OpOverload)

KINDS: tuple[Kind, ...] = (
    *PLAIN,
    Kind("qconfig", lambda value: isinstance(value, QConfig), write_qconfig, read_qconfig),
    Kind("module", lambda value: isinstance(value, nn.Module), write_module, read_module),
    Kind(
        "function",
        lambda value: type(value) in _FUNCTIONS,
        lambda _, value: function_name(value),
        lambda _, content: function_named(content),
    ),
)
