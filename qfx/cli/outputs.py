"""What models return, flat and by name; and how far two models' outputs lie apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from qfx.batches import Signature, split_batch
from qfx.cli.model import FloatModel
from qfx.comparison.measure import Deviating
from qfx.inputs import as_float32
from qfx.models import QuantizedModel
from qfx.tensor import QTensor


def named_outputs(result: Any, name: str = "output") -> dict[str, Tensor]:
    """The tensors in what a model returned: ``output``; ``output_0``, ...; keys of a dict; nested ones joined by ``_``.

    Quantized tensors come as their integers, beside ``*_scale`` and ``*_zero_point``.
    """
    if isinstance(result, QTensor):
        return {
            name: result.int_repr(),
            f"{name}_scale": torch.as_tensor(result.q_scale()),
            f"{name}_zero_point": torch.as_tensor(result.q_zero_point()),
        }
    if isinstance(result, (Tensor, int, float)):
        return {name: torch.as_tensor(result).detach()}
    if isinstance(result, Mapping):
        parts = [(str(key) if name == "output" else f"{name}_{key}", value) for key, value in result.items()]
    elif isinstance(result, (tuple, list)):
        parts = [(f"{name}_{index}", value) for index, value in enumerate(result)]
    else:
        parts = []
    return {key: tensor for part, value in parts for key, tensor in named_outputs(value, part).items()}


def run_quantized(model: QuantizedModel, batch: Any, index: int) -> Any:
    """The result of one batch; what it holds beyond the inputs is left out."""
    args, kwargs = split_batch(Signature.of_graph(model.graph, model.info.get("example_inputs")), batch, index)
    with torch.inference_mode():
        return model(*args, **kwargs)


def run_float(model: FloatModel, batch: Any, index: int) -> Any:
    """As :func:`run_quantized`, of the float model."""
    args, kwargs = split_batch(model.signature, batch, index)
    with torch.no_grad():
        return model(*map(as_float32, args), **{k: as_float32(v) for k, v in kwargs.items()})


def output_deviations(source: FloatModel, quantized: QuantizedModel, batches: Iterable[Any]) -> dict[str, float | None]:
    """Signal to noise of each floating-point output in dB, over all batches."""
    sums: dict[str, Deviating] = defaultdict(Deviating)
    for index, batch in enumerate(batches):
        ours = named_outputs(_real(run_quantized(quantized, batch, index)))
        for name, reference in named_outputs(run_float(source, batch, index)).items():
            if reference.is_floating_point() and name in ours and ours[name].shape == reference.shape:
                sums[name].add(reference, ours[name])
    found = {name: total.deviation() for name, total in sums.items()}
    return {name: None if deviation is None else deviation.sqnr for name, deviation in found.items()}


def _real(result: Any) -> Any:
    return torch.utils._pytree.tree_map(lambda v: v.dequantize() if isinstance(v, QTensor) else v, result)
