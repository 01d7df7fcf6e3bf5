"""How much arithmetic a network does: multiply-accumulates of all its products, attention's too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counter(TorchDispatchMode):
    """Counts the multiply-accumulates of torch's operators while active."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: dict[str, Any] = kwargs or {}
        packet = getattr(func, "_overloadpacket", None)
        if packet not in flop_registry and hasattr(func, "decompose"):
            with self:  # in inference mode layers arrive whole
                made = func.decompose(*args, **given)
            if made is not NotImplemented:
                return made
        result = func(*args, **given)
        if packet is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:  # torch's registry has the GPU's only
            self.total += _attention(*args[:3])
        elif packet in flop_registry:
            self.total += flop_registry[packet](*args, **given, out_val=result) // 2
        return result


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Multiply-accumulates of both products: ``[..., l, e] @ [..., e, s]`` and ``[..., l, s] @ [..., s, v]``."""
    return query.numel() * key.shape[-2] + query.numel() // query.shape[-1] * key.shape[-2] * value.shape[-1]


def multiply_accumulates(net: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Those that ``net`` does for these inputs."""
    with torch.no_grad(), Counter() as counter:
        net(*inputs)
    return int(counter.total)
