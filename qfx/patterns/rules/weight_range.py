"""Whether weights keep their accuracy when a factor is folded into them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from qfx.patterns.replacement import tensor_of


def keeps_range(layer: fx.Node, weight: fx.Node, scale: Tensor | fx.Node) -> bool:
    """Whether the weight observer of ``layer`` can still represent ``weight * scale``, channel by channel along dim 0.

    An observer has a smallest scale, ``eps``. Where the widest channel of the folded weights is under it, every weight
    is a few integers or none, and the factor is better left an op of its own. While the widest channel is above it,
    what a narrow one loses is less than the rounding of the widest. Weights that all become zero lose nothing.

    Args:
        layer: The convolution or linear; its qconfig is in ``meta["qconfig"]``.
        weight: The ``get_attr`` node of its weight.
        scale: One factor a channel.
    """
    floor = _smallest_range(layer.meta.get("qconfig"))
    if floor == 0.0:
        return True
    root = weight.graph.owning_module
    values = tensor_of(root, weight).detach().flatten(1)
    factors = (tensor_of(root, scale) if isinstance(scale, fx.Node) else scale).detach().double().abs()
    if values.numel() == 0:
        return True
    widths = values.abs().amax(1).double()
    folded = float((widths * factors).max())
    return folded == 0.0 or folded >= min(floor, float(widths.max()))


def _smallest_range(qconfig: Any) -> float:
    """The largest absolute weight below which the observer's scale is not the weights' own; 0 where there is none."""
    if qconfig is None:
        return 0.0
    observer = qconfig.weight()
    observer = getattr(observer, "activation_post_process", observer)
    low, high = (getattr(observer, name, 0) for name in ("quant_min", "quant_max"))
    return float(getattr(observer, "eps", 0.0) * (high - low) / 2)
