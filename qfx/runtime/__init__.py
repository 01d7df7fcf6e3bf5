"""The runtime: programs, executables, models of files, threads. Needs numpy only; takes torch's tensors where torch is.

Names are imported on first use, so that a model of a file is soon there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see; the rest says it once more, for Python
    from qfx.runtime._C import Program as Program
    from qfx.runtime._C import ProgramBuilder as ProgramBuilder
    from qfx.runtime.cpu import Peaks as Peaks
    from qfx.runtime.cpu import cpu_info as cpu_info
    from qfx.runtime.cpu import isa_names as isa_names
    from qfx.runtime.cpu import peaks as peaks
    from qfx.runtime.executable import Executable as Executable
    from qfx.runtime.model import Certificate as Certificate
    from qfx.runtime.model import Model as Model
    from qfx.runtime.model import ModelValue as ModelValue
    from qfx.runtime.model import load as load
    from qfx.runtime.records import Explanation as Explanation
    from qfx.runtime.records import MemoryRecord as MemoryRecord
    from qfx.runtime.records import StepRecord as StepRecord
    from qfx.runtime.session import Session as Session
    from qfx.runtime.threads import get_num_threads as get_num_threads
    from qfx.runtime.threads import set_num_threads as set_num_threads

_NAMES = {
    "_C": ("Program", "ProgramBuilder"),
    "cpu": ("Peaks", "cpu_info", "isa_names", "peaks"),
    "executable": ("Executable",),
    "model": ("Certificate", "Model", "ModelValue", "load"),
    "records": ("Explanation", "MemoryRecord", "StepRecord"),
    "session": ("Session",),
    "threads": ("get_num_threads", "set_num_threads"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = ("_C", "cpu", "dtypes", "executable", "model", "records", "schema", "session", "steps", "tensors", "threads")

__all__ = [
    "Certificate",
    "Executable",
    "Explanation",
    "MemoryRecord",
    "Model",
    "ModelValue",
    "Peaks",
    "Program",
    "ProgramBuilder",
    "Session",
    "StepRecord",
    "cpu_info",
    "get_num_threads",
    "isa_names",
    "load",
    "peaks",
    "set_num_threads",
]


if not TYPE_CHECKING:  # which would take any name for one of these

    def __getattr__(name: str) -> Any:
        if name in _MODULE_OF:
            value = getattr(importlib.import_module(f"qfx.runtime.{_MODULE_OF[name]}"), name)
        elif name in _MODULES:
            value = importlib.import_module(f"qfx.runtime.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_MODULES})
