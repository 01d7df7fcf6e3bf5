"""The check at conversion: the int8 model computes what the fake-quantized one does."""

from __future__ import annotations

from typing import Any

from qfx.comparison.compare import compare
from qfx.errors import ConversionError
from qfx.models import PreparedModel, QuantizedModel


def require_agreement(prepared: PreparedModel, quantized: QuantizedModel, batch: Any) -> None:
    """Raise if an integer value of ``quantized`` is more than one quantum from what ``prepared`` makes of the same.

    Args:
        prepared: The model that ``quantized`` was converted from.
        quantized: The int8 model.
        batch: Inputs, as one batch of calibration data.

    Raises:
        ConversionError: Naming the first node that differs.
    """
    beyond = compare(prepared, quantized, [batch]).first_beyond(1)
    if beyond is not None:
        raise ConversionError(
            f"{beyond.name} differs by {beyond.local_quanta} quanta between the fake-quantized and the int8 model.",
            where=beyond.module_path or beyond.name,
            source=beyond.source,
            why="The two compute the same integers from the same operands, up to a rounding of one quantum.",
            remedy="Print qfx.compare(prepared, quantized, batch) and report it with the model.",
        )
