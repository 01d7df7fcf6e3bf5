"""The quantized layers: one line each, all of the one implementation in :mod:`qfx.nn.quantized.layer`."""

from __future__ import annotations

from typing import Any

from torch import nn

from qfx.arguments import explained
from qfx.nn import intrinsic, qat
from qfx.nn.intrinsic import qat as intrinsic_qat
from qfx.nn.quantized.layer import QuantizedLayer, WeightedLayer
from qfx.ops.compute.reference import Activation


@explained
def quantized_layer(
    name: str, of: type[nn.Module], doc: str, *, base: type[Any] = QuantizedLayer, module: str = __name__, **row: Any
) -> type[Any]:
    """A class of quantized layers: the float layer ``of`` whose arguments it takes, and what differs from the default.

    Args:
        name: The class's name, under which ``module`` keeps it.
        of: The float layer.
        doc: What it computes.
        base: QuantizedLayer, or WeightedLayer for a layer with an int8 weight.
        module: Where the class is to be found, for pickle.
        **row: Class attributes: ``sources``, ``activation``, ``observed``, ``order``, ``renamed``.
    """
    text = f"{doc}\n\nTakes the arguments of ``{of.__name__}``, and ``scale`` and ``zero_point`` by name."
    if "order" in row:
        text += f" By position: {', '.join(f'``{name}``' for name in row['order'])}."
    return type(name, (base,), {"layer_class": of, "sources": (of,), "__doc__": text, "__module__": module, **row})


def weighted(name: str, of: type[nn.Module], sources: tuple[type[nn.Module], ...], **row: Any) -> type[Any]:
    """A class of layers with an int8 weight."""
    relu = " with ReLU" if row.get("activation") else ""
    doc = f"Quantized ``{of.__name__}``{relu}: int8 weight, exact 32-bit sums, rounded once."
    return quantized_layer(name, of, doc, base=WeightedLayer, sources=sources, **row)


RELU: Activation = ("clamp", 0.0, None)
LINEAR = ("in_features", "out_features", "bias", "dtype")


def _conv(dims: int) -> type[Any]:
    sources = (getattr(qat, f"Conv{dims}d"), *(getattr(p, f"ConvBn{dims}d") for p in (intrinsic, intrinsic_qat)))
    of: type[nn.Module] = getattr(nn, f"Conv{dims}d")
    return weighted(f"Conv{dims}d", of, (of, *sources))


Conv1d, Conv2d, Conv3d = map(_conv, (1, 2, 3))
_UNCALLED = nn.modules.linear.NonDynamicallyQuantizableLinear
Linear = weighted("Linear", nn.Linear, (nn.Linear, _UNCALLED, qat.Linear), order=LINEAR, renamed={"bias_": "bias"})

_BATCH, _NORM = "Batch norm by its running statistics.", "in float32 from the exact values, rounded once."
BatchNorm1d = quantized_layer("BatchNorm1d", nn.BatchNorm1d, f"{_BATCH} Input ``[N, C]`` or ``[N, C, L]``.")
BatchNorm2d = quantized_layer("BatchNorm2d", nn.BatchNorm2d, f"{_BATCH} Input ``[N, C, H, W]``.")
BatchNorm3d = quantized_layer("BatchNorm3d", nn.BatchNorm3d, f"{_BATCH} Input ``[N, C, D, H, W]``.")
LayerNorm = quantized_layer("LayerNorm", nn.LayerNorm, f"Layer norm: {_NORM}")
GroupNorm = quantized_layer("GroupNorm", nn.GroupNorm, f"Group norm: {_NORM}")
InstanceNorm1d = quantized_layer("InstanceNorm1d", nn.InstanceNorm1d, f"Instance norm: {_NORM} ``[N, C, L]``.")
InstanceNorm2d = quantized_layer("InstanceNorm2d", nn.InstanceNorm2d, f"Instance norm: {_NORM} ``[N, C, H, W]``.")
InstanceNorm3d = quantized_layer("InstanceNorm3d", nn.InstanceNorm3d, f"Instance norm: {_NORM} ``[N, C, D, H, W]``.")

_RESULT = ("scale", "zero_point")
ReLU = quantized_layer("ReLU", nn.ReLU, "``max(q, zero_point)``; the result keeps the input's qparams.", observed=False)
ReLU6 = quantized_layer("ReLU6", nn.ReLU6, "Clamp to 0..6; the result keeps the input's qparams.", observed=False)
CELU = quantized_layer("CELU", nn.CELU, "CELU by an exact table of 256 entries.")
ELU = quantized_layer("ELU", nn.ELU, "ELU by an exact table of 256 entries.", order=(*_RESULT, "alpha", "inplace"))
GELU = quantized_layer("GELU", nn.GELU, "GELU by an exact table of 256 entries.")
Hardswish = quantized_layer(
    "Hardswish", nn.Hardswish, "Hard swish by an exact table of 256 entries.", order=(*_RESULT, "inplace")
)
LeakyReLU = quantized_layer(
    "LeakyReLU",
    nn.LeakyReLU,
    "Leaky ReLU by an exact table of 256 entries.",
    order=(*_RESULT, "negative_slope", "inplace"),
)
Mish = quantized_layer("Mish", nn.Mish, "Mish by an exact table of 256 entries.")
SELU = quantized_layer("SELU", nn.SELU, "SELU by an exact table of 256 entries.")
SiLU = quantized_layer("SiLU", nn.SiLU, "SiLU by an exact table of 256 entries.")
Softplus = quantized_layer("Softplus", nn.Softplus, "Softplus by an exact table of 256 entries.")
