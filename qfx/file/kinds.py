"""Every kind of values in a file: the plain ones, and what refers to functions, layers and qconfigs.

Qconfigs import observers, so they are looked up where there is one.
"""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import nn

from qfx.file.modules import read_module, write_module
from qfx.file.targets import function_name, function_named
from qfx.file.values import PLAIN, Kind, Reader, Writer

_FUNCTIONS = (FunctionType, BuiltinFunctionType, torch._ops.OpOverload)


def _is_qconfig(value: Any) -> bool:
    bases = [(cls.__module__, cls.__name__) for cls in type(value).__mro__]
    return ("qfx.quantization.qconfig", "QConfig") in bases


def _write_qconfig(writer: Writer, value: Any) -> Any:
    from qfx.file.qconfigs import write_qconfig

    return write_qconfig(writer, value)


def _read_qconfig(reader: Reader, content: Any) -> Any:
    from qfx.file.qconfigs import read_qconfig

    return read_qconfig(reader, content)


KINDS: tuple[Kind, ...] = (
    *PLAIN,
    Kind("qconfig", _is_qconfig, _write_qconfig, _read_qconfig),
    Kind("module", lambda value: isinstance(value, nn.Module), write_module, read_module),
    Kind(
        "function",
        lambda value: type(value) in _FUNCTIONS,
        lambda _, value: function_name(value),
        lambda _, content: function_named(content),
    ),
)
