"""Arithmetic without parameters as modules, so that eager mode can observe its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from qfx.arguments import explained
from qfx.eager import run_op
from qfx.errors import UnsupportedError
from qfx.ir.boundary import Boundary
from qfx.nn.quantized.output import QuantizedModule, observed_qparams, require_codes
from qfx.nn.recast import require_kind
from qfx.ops.compute.reference import Activation
from qfx.tensor import QTensor

_RELU: Activation = ("clamp", 0.0, None)


class FloatFunctional(nn.Module):
    """Float operations whose results are observed: ``self.skip.add(x, y)`` in a model, instead of ``x + y``.

    One instance a place in the model: it has one observer, and becomes one QFunctional with one scale. In graph mode,
    too, the result is quantized where it stands: nothing before or behind it is fused with it.
    """

    boundary = Boundary.RESULT

    def __init__(self) -> None:
        super().__init__()
        self.activation_post_process: Any = nn.Identity()

    def forward(self, x: Any) -> NoReturn:
        """Raises: call one of the operations.

        Raises:
            UnsupportedError: Always.
        """
        raise _not_callable(self)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """``x + y``."""
        return self._observed(torch.add(x, y))

    def add_scalar(self, x: Tensor, y: float) -> Tensor:
        """``x + y`` with a number."""
        return self._observed(torch.add(x, y))

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        """``x * y``."""
        return self._observed(torch.mul(x, y))

    def mul_scalar(self, x: Tensor, y: float) -> Tensor:
        """``x * y`` with a number."""
        return self._observed(torch.mul(x, y))

    def cat(self, x: Sequence[Tensor], dim: int = 0) -> Tensor:
        """``torch.cat(x, dim)``."""
        return self._observed(torch.cat(list(x), dim))

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        """``relu(x + y)``."""
        return self._observed(torch.relu(torch.add(x, y)))

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """``x @ y``."""
        return self._observed(torch.matmul(x, y))

    def _observed(self, result: Tensor) -> Tensor:
        observed: Tensor = self.activation_post_process(result)
        return observed


class QFunctional(QuantizedModule):
    """The operations of FloatFunctional on QTensors, which may differ in scale and broadcast; by the op table's rows.

    Args:
        scale: Of results.
        zero_point: Of results.
    """

    observed = True

    @classmethod
    def from_float(cls, mod: nn.Module) -> QFunctional:
        """The QFunctional of an observed FloatFunctional.

        Raises:
            ConversionError: ``mod`` is of another class, or has no observer.
            CalibrationError: The observer saw no data.
        """
        require_kind(cls, mod, (FloatFunctional,))
        made = cls()
        made.set_qparams(observed_qparams(cls, mod))
        made.activation_post_process = nn.Identity()  # its path stays
        return made.train(mod.training)

    def forward(self, x: Any) -> NoReturn:
        """Raises: call one of the operations.

        Raises:
            UnsupportedError: Always.
        """
        raise _not_callable(self)

    @explained
    def add(self, x: QTensor, y: QTensor) -> QTensor:
        """``x + y``."""
        return self._run("add", x, y)

    @explained
    def add_scalar(self, x: QTensor, y: float) -> QTensor:
        """``x + y`` with a number."""
        return self._run("add_scalar", x, value=float(y))

    @explained
    def mul(self, x: QTensor, y: QTensor) -> QTensor:
        """``x * y``."""
        return self._run("mul", x, y)

    @explained
    def mul_scalar(self, x: QTensor, y: float) -> QTensor:
        """``x * y`` with a number."""
        return self._run("mul_scalar", x, value=float(y))

    @explained
    def cat(self, x: Sequence[QTensor], dim: int = 0) -> QTensor:
        """``torch.cat(x, dim)``; operands with other qparams are requantized first."""
        tensors = [require_codes(self, t) for t in x]
        return self._run("cat", tensors, dim=dim)

    @explained
    def add_relu(self, x: QTensor, y: QTensor) -> QTensor:
        """``relu(x + y)``, rounded once."""
        return self._run("add", x, y, activation=_RELU)

    @explained
    def matmul(self, x: QTensor, y: QTensor) -> QTensor:
        """``x @ y``, computed in float32 from the exact values and rounded once."""
        return self._run("matmul", x, y)

    def _run(self, name: str, *operands: Any, **attributes: Any) -> QTensor:
        given = [t if isinstance(t, list) else require_codes(self, t) for t in operands]
        result: QTensor = run_op(name, *given, out=self.qparams, **attributes)
        return result


def _not_callable(module: nn.Module) -> UnsupportedError:
    name = type(module).__name__
    return UnsupportedError(
        f"{name} is not called itself.", remedy=f"Call one of its operations, such as {name}().add(x, y)."
    )
