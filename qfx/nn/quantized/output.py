"""The scale and zero point that a quantized module gives its result: attributes, state and text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qfx.errors import ConversionError, InputError
from qfx.ir.stored import Role, require_entries
from qfx.ir.types import QDType, QParams
from qfx.nn.quantized.given_state import unpack_state
from qfx.quantization.fake_quantize import FakeQuantizeBase
from qfx.quantization.hooks import OBSERVER
from qfx.quantization.keeps_precision import KeepsPrecision
from qfx.quantization.observer import Observer
from qfx.tensor import QTensor
from qfx.tensor.build import number, whole
from qfx.tensor.qtensor import check_qparams
from qfx.tensor.uncompiled import uncompiled_members

Made = TypeVar("Made", bound="QuantizedModule")


class QuantizedModule(KeepsPrecision, nn.Module):
    """Base of modules that compute on QTensors: no gradients, CPU only, ``scale`` and ``zero_point`` of the result.

    State: ``scale`` float32 and ``zero_point`` int64, 0-d; ``quant_range`` int64 ``[2]`` where the integers are not
    0..255. All entries of its state_dict are plain tensors.

    Args:
        scale: Positive and finite.
        zero_point: The integer that stands for 0.0.

    Raises:
        QuantizationError: Scale or zero point is not valid.
    """

    scale: float
    zero_point: int
    quant_range: tuple[int, int]

    def __init__(self, scale: Any = 1.0, zero_point: Any = 0) -> None:
        super().__init__()
        self.set_qparams(QParams(number(scale, "scale"), whole(zero_point), QDType.quint8))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        uncompiled_members(cls)

    @property
    def qparams(self) -> QParams:
        """The result's parameters."""
        dtype = QDType.qint8 if self.quant_range[0] < 0 else QDType.quint8
        bounds = (None, None) if self.quant_range == (dtype.qmin, dtype.qmax) else self.quant_range
        return QParams(float(self.scale), int(self.zero_point), dtype, None, *bounds)

    def set_qparams(self, qparams: QParams) -> None:
        """Give results other parameters.

        Raises:
            QuantizationError: They are per channel, or not valid.
        """
        scale, zero_point = qparams.per_tensor()
        check_qparams(qparams, ())
        # Scales are float32 wherever they enter arithmetic; the attribute is what they are.
        self.scale = float(torch.tensor(scale, dtype=torch.float32, device="cpu"))
        self.zero_point, self.quant_range = int(zero_point), (qparams.qmin, qparams.qmax)

    # ------------------------------------------------------------ state

    def own_state(self) -> Iterator[tuple[str, Tensor]]:
        """Entries of the state_dict beside buffers."""
        yield "scale", torch.tensor(self.scale, dtype=torch.float32, device="cpu")
        yield "zero_point", torch.tensor(self.zero_point, dtype=torch.int64, device="cpu")
        if self.quant_range != (QDType.quint8.qmin, QDType.quint8.qmax):
            yield "quant_range", torch.tensor(self.quant_range, dtype=torch.int64, device="cpu")

    def own_roles(self) -> dict[str, Role]:
        """What the entries of :meth:`own_state` are."""
        return {
            "scale": Role("scale", counts=(1,)),
            "zero_point": Role("zero point", QDType.qint8.qmin, QDType.quint8.qmax, counts=(1,)),
            "quant_range": Role("integers", QDType.qint8.qmin, QDType.quint8.qmax, counts=(2,)),
        }

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`own_state` gave."""
        low, high = map(int, state.get("quant_range", (0, 255)))
        dtype = QDType.qint8 if low < 0 else QDType.quint8
        self.set_qparams(QParams(float(state["scale"]), int(state["zero_point"]), dtype, None, low, high))

    _optional_state: frozenset[str] = frozenset({"quant_range"})
    _separate_state: frozenset[str] = frozenset()
    """Entries without which the others are loaded all the same, and reported as missing."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, tensor in self.own_state():
            destination[prefix + name] = tensor

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        unpack_state(state_dict, prefix)
        require_entries(state_dict, prefix, self.own_roles())
        wanted = {name for name, _ in self.own_state()}
        own = {n: state_dict[prefix + n] for n in wanted | self._optional_state if prefix + n in state_dict}
        rest = {k: v for k, v in state_dict.items() if k.removeprefix(prefix) not in own or not k.startswith(prefix)}
        absent = wanted - set(own) - self._optional_state
        missing_keys += [prefix + name for name in sorted(absent)]
        if absent <= self._separate_state:
            try:
                self.load_own_state(own)
            except (ValueError, RuntimeError) as error:
                error_msgs.append(f"{prefix.rstrip('.') or type(self).__name__}: {error}")
        super()._load_from_state_dict(rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self.require_convertible(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        return f"scale={self.scale}, zero_point={self.zero_point}"


def require_codes(module: nn.Module, x: Any) -> QTensor:
    """``x`` itself, which ``module`` needs to be a QTensor.

    Raises:
        InputError: It is not.
    """
    if isinstance(x, QTensor):
        return x
    kind = f"a float tensor ({x.dtype})" if isinstance(x, Tensor) else type(x).__name__
    raise InputError(
        f"The quantized {type(module).__name__} got {kind}, where a QTensor belongs.",
        why="Its input never went through Quantize, or was dequantized before.",
        remedy="Put a QuantStub where values enter the quantized part, before prepare; by hand, call "
        "qfx.quantize_per_tensor.",
    )


def observed_qparams(cls: type, mod: nn.Module) -> QParams:
    """The qparams that the observer of ``mod`` found for its result.

    Raises:
        ConversionError: ``mod`` has no observer.
        CalibrationError: The observer saw no data.
    """
    observer: Any = getattr(mod, OBSERVER, None)
    if not isinstance(observer, (Observer, FakeQuantizeBase)):
        raise ConversionError(
            f"{cls.__name__}.from_float needs an observed module, but this {type(mod).__name__} has no observer.",
            remedy="Call qfx.quantization.prepare on the model and run calibration data through it first.",
        )
    qparams: QParams = observer.qparams()
    qparams.per_tensor()
    return qparams
