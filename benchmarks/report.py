"""What every benchmark prints: the machine first, then a markdown table row by row."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ISAS = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
PACKAGES = ("qfx", "torch", "torchao", "onnxruntime", "openvino", "nncf", "executorch", "timm", "numpy")


def machine() -> dict[str, str]:
    """Processor, the instruction sets that matter to int8, cores and package versions."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", cpuinfo)
    family = re.search(r"cpu family\s*: (\d+)\nmodel\s*: (\d+)", cpuinfo)
    flags = set(cpuinfo.split())
    return {
        "processor": name[1] if name else platform.processor() or platform.machine(),
        "family/model": "/".join(family.groups()) if family else "?",
        "cores": str(os.cpu_count()),
        "isa": " ".join(isa for isa in ISAS if isa in flags),
        "QFX_ISA": os.environ.get("QFX_ISA", "not set"),
        "python": platform.python_version(),
        **{package: found for package in PACKAGES if (found := _version(package))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def row(*cells: object) -> None:
    """Prints one table row, at once."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def header(*columns: str) -> None:
    """Prints the machine and the table's head, if any."""
    print("  ".join(f"{key}: {value}" for key, value in machine().items()) + "\n", flush=True)
    if columns:
        row(*columns)
        row(*("---" for _ in columns))
