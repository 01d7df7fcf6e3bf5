"""``python forks.py WARNINGS SCRIPT ARGUMENT ...``: runs scripts one after the other, each as a process of its own.

They are forks of a process that has done nothing but import torch, which takes seconds.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
import warnings
from pathlib import Path

import torch._dynamo  # noqa: F401


def run(shown: str, script: str, argument: str) -> int:
    """The exit status of ``python -W shown script argument``."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        warnings.simplefilter(shown)  # type: ignore[arg-type]
        sys.argv, sys.path[0] = [script, argument], str(Path(script).parent)
        runpy.run_path(script, run_name="__main__")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _, *given = sys.argv
    sys.exit(max(abs(run(*given[i : i + 3])) for i in range(0, len(given), 3)))
