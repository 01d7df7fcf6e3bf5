"""How a QTensor prints."""

from __future__ import annotations

from typing import Any


def describe(x: Any) -> str:
    """Values, size, dtype, scheme, scale and zero point, in the layout of torch's own ``repr``."""
    given = x.qparams
    values = repr(x.dequantize().detach()).removesuffix(")")
    parts = [values.replace("\n       ", "\n        ").replace("tensor(", "QTensor("), f"size={tuple(x.shape)}"]
    parts += [f"dtype={given.dtype!r}", f"quantization_scheme={x.qscheme()!r}"]
    parts += [f"scale={_shown(given.scale)}", f"zero_point={_shown(given.zero_point)}"]
    parts += [] if given.axis is None else [f"axis={given.axis}"]
    return f"{parts[0]}, {', '.join(parts[1:])})"


def _shown(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    items = [str(v) for v in value]
    return f"[{', '.join(items if len(items) <= 6 else [*items[:3], '...', *items[-3:]])}]"
