"""The engine: a name for the numerics that default qconfigs follow.

``engine`` reads as the machine's own (``"fbgemm"`` on x86, ``"qnnpack"`` on ARM) until it is assigned. Assigning it
makes ``qfx.quantization.get_default_qconfig()`` and ``get_default_qat_qconfig()`` without a name, and every workflow
that starts from them, mean that engine's numerics; until then they mean qfx's own.

It chooses nothing else. Every kernel of qfx computes the same integers, and takes per-tensor and per-channel weights
and activations of the full 0..255 range alike: so a model runs, with the same integers, under any engine, whichever its
qconfig was made for, and ``reduce_range`` is never needed to avoid an overflow. The instruction set is chosen by the
CPU (``QFX_ISA`` forces a lower one).
"""

from __future__ import annotations

import difflib
import platform
import sys
from types import ModuleType
from typing import Any

from qfx.errors import UnsupportedError

supported_engines = ["fbgemm", "onednn", "qnnpack", "x86"]
"""The names that :attr:`engine` takes, on every machine."""

_chosen: list[str] = []


def default_engine() -> str:
    """The engine that this machine's torch would use: ``"qnnpack"`` on ARM, else ``"fbgemm"``."""
    return "qnnpack" if platform.machine().lower() in ("aarch64", "arm64", "armv7l") else "fbgemm"


def chosen_engine() -> str | None:
    """The engine that was assigned, or None."""
    return _chosen[-1] if _chosen else None


class _Quantized(ModuleType):
    """This module, with ``engine`` as a checked property."""

    @property
    def engine(self) -> str:
        """The engine's name.

        Assigning None goes back to the machine's own, and to qfx's own default qconfigs.

        Raises:
            UnsupportedError: On assignment of a name that is not in ``supported_engines``; ``"none"`` is no engine.
        """
        return chosen_engine() or default_engine()

    @engine.setter
    def engine(self, name: Any) -> None:
        if name is None:
            _chosen.clear()
            return
        if name not in supported_engines:
            near = difflib.get_close_matches(str(name), supported_engines, n=1)
            raise UnsupportedError(
                f"There is no engine {name!r}.",
                why=f"Did you mean {near[0]!r}?" if near else None,
                remedy=f"Use one of {', '.join(map(repr, supported_engines))}.",
            )
        _chosen[:] = [name]


engine: str
sys.modules[__name__].__class__ = _Quantized
