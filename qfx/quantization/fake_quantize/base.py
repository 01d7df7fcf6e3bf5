"""What all fake-quantize modules have in common: the switches, and the qparams that convert asks for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from qfx.ir.types import QDType, QParams
from qfx.quantization.factory import WithArgs
from qfx.quantization.fake_quantize.formula import Gate
from qfx.quantization.keeps_precision import no_script


class FakeQuantizeBase(WithArgs, nn.Module, ABC):
    """Abstract base: two switches kept as buffers, so that they travel with state_dict and to replicas.

    State: ``fake_quant_enabled`` and ``observer_enabled``, uint8 ``[1]``. Change them by the methods; a compiled
    module sees nothing else.
    """

    fake_quant_enabled: Tensor
    observer_enabled: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[Tensor, int]] = {}
        self._on: dict[str, bool] = {}
        self._register_switch("fake_quant_enabled", True)
        self._register_switch("observer_enabled", True)

    def __prepare_scriptable__(self) -> NoReturn:
        raise no_script(self)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Observe ``x`` and return it fake-quantized, as the switches say."""

    def rounded(self, x: Tensor) -> Tensor:
        """``x`` fake-quantized with the qparams as they are, whatever the switches say; nothing is observed."""
        before = {name: self._is_on(name) for name in ("observer_enabled", "fake_quant_enabled")}
        self.disable_observer()
        self.enable_fake_quant()
        try:
            return self.forward(x)
        finally:
            for name, on in before.items():
                self._switch(name, on)

    def activated(self, x: Tensor, lo: float = -math.inf, hi: float = math.inf, in_place: bool = False) -> Tensor:
        """``forward(clamp(x, lo, hi))``, with the gradient of relu or hardtanh: 0 at the bounds.

        Args:
            x: Any shape.
            lo: Lowest value, as 0.0 for relu and relu6.
            hi: Highest value, as 6.0 for relu6.
            in_place: Whether ``x`` may be overwritten.
        """
        return self.forward(Gate(lo, hi).apply(x))

    @property
    def rounds(self) -> bool:
        """Whether values are quantized, or pass unchanged."""
        return self._is_on("fake_quant_enabled")

    @abstractmethod
    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``, as an observer's."""

    def qparams(self) -> QParams:
        """The result of ``calculate_qparams``, with dtype, axis and integer range as far as attributes give them."""
        scale, zero_point = self.calculate_qparams()
        dtype = QDType.parse(getattr(self, "dtype", QDType.quint8))
        bounds = getattr(self, "quant_min", None), getattr(self, "quant_max", None)
        if scale.numel() == 1:
            return QParams(float(scale), int(zero_point), dtype, None, *bounds)
        axis = int(getattr(self, "ch_axis", 0))
        return QParams(tuple(scale.tolist()), tuple(zero_point.tolist()), dtype, axis, *bounds)

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Switch quantization of the values on or off."""
        self._switch("fake_quant_enabled", enabled)

    def disable_fake_quant(self) -> None:
        """Let values pass unchanged."""
        self.enable_fake_quant(False)

    def enable_observer(self, enabled: bool = True) -> None:
        """Switch the collection of statistics on or off."""
        self._switch("observer_enabled", enabled)

    def disable_observer(self) -> None:
        """Keep scale and zero point as they are."""
        self.enable_observer(False)

    def _register_switch(self, name: str, on: bool) -> None:
        self.register_buffer(name, torch.full((1,), int(on), dtype=torch.uint8))
        self._on[name] = on

    def _switch(self, name: str, on: bool) -> None:
        getattr(self, name).fill_(int(on))
        self._on[name] = on
        self._seen.pop(name, None)

    def _is_on(self, name: str) -> bool:
        """Whether the switch is on. The buffer is read only if it has changed: reading one waits for its device."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return self._on[name]
        buffer = self._buffers[name]
        assert buffer is not None
        if buffer.is_meta:
            return self._on[name]
        seen = self._seen.get(name)
        if seen is None or seen[0] is not buffer or buffer.is_inference() or seen[1] != buffer._version:
            self._on[name] = bool(buffer.item())
            self._seen[name] = (buffer, 0 if buffer.is_inference() else buffer._version)
        return self._on[name]

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._seen.clear()
        for name in self._on:
            self._is_on(name)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": {}}
