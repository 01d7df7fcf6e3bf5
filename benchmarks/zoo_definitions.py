"""Importing this imports what every model of the zoo needs: for a process that others are forked from."""

import contextlib
import importlib

from benchmarks import zoo

zoo._timm()
for _module in ("benchmarks.zoo_measure", "transformers.modeling_utils", "torch._dynamo", "torch._export"):
    with contextlib.suppress(ImportError):
        importlib.import_module(_module)
