"""The runtime: programs, executables, threads. Needs numpy only; torch tensors are taken where torch is there."""

from __future__ import annotations

from qfx.runtime._C import Program, ProgramBuilder
from qfx.runtime.cpu import Peaks, cpu_info, isa_names, peaks
from qfx.runtime.executable import Executable
from qfx.runtime.model import Model, ModelValue, load
from qfx.runtime.records import Explanation, MemoryRecord, StepRecord
from qfx.runtime.session import Session
from qfx.runtime.threads import get_num_threads, set_num_threads

__all__ = [
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
