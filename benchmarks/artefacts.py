"""What is expensive to make and kept on disk: quantized networks, by everything that decides them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.workloads import Workload

CACHE = Path(".cache/benchmarks")


def artefact(
    workload: Workload, what: str, packages: Sequence[str], make: Callable[[Path], None], variant: str = ""
) -> Path:
    """A folder that ``make`` has filled, now or in an earlier run.

    Args:
        workload: What it was made from.
        what: What it is.
        packages: Those whose versions decide the result.
        make: Given an empty folder, fills it; called when the folder is not there yet.
        variant: What else decides the result, such as a batch size.
    """
    versions = [f"{package}-{version(package)}" for package in packages]
    name = "_".join([workload.name, workload.key, what, *filter(None, [variant]), *versions])
    path = CACHE / re.sub(r"[^\w.+-]", "-", name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=path.parent))
        make(partial)
        partial.rename(path)
    return path
