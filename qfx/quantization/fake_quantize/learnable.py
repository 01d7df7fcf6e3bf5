"""Fake quantization whose qparams are trained with the weights: LSQ, LSQ+ and PACT."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qfx.arguments import checked
from qfx.errors import QConfigError
from qfx.ir.stored import Role, counts_of, require_entries
from qfx.quantization.fake_quantize import formula, learning
from qfx.quantization.fake_quantize.base import FakeQuantizeBase
from qfx.quantization.fake_quantize.formula import OPEN, Gate
from qfx.quantization.fake_quantize.learning import Learning
from qfx.quantization.fake_quantize.module import Observed
from qfx.quantization.observer import MinMaxObserver, ObserverBase
from qfx.quantization.observer.base import FLOAT32_EPS, require_memory

Init = Literal["statistics", "mean"]


class LearnableFakeQuantize(Observed):
    """Fake quantization whose scale, and zero point if asked for, are parameters: LSQ and LSQ+.

    The first batch met while the observer is on initializes them; from then on they change by their gradients alone.
    The gradient of ``x`` is that of :class:`FakeQuantize`; of the scale, summed over its values ``x``::

        rint(x / scale) - x / scale     within the range
        quant_min - zero_point          below it, and quant_max - zero_point above

    and of the zero point ``-scale`` where clamped, else 0; each times ``1 / sqrt(count * quant_max)`` for ``count``
    values a scale. Used are ``max(scale, eps)`` and the zero point rounded and brought into the range, so what is
    trained is what conversion takes.

    Sources: Esser et al., "Learned Step Size Quantization", 2020; Bhalgat et al., "LSQ+", 2020.

    Run a batch before ``torch.compile`` and before DistributedDataParallel, so that parameters are initialized, and
    equal on every rank.

    State: parameters ``scale`` float32 and, if learned, ``zero_point`` float32 (else an int32 buffer), ``[1]`` or
    ``[channels]``; ``initialized``, uint8 ``[1]``; the switches and the observer.

    Args:
        observer: Class or factory of the observer, which gives dtype, scheme, range and, unless ``init`` is "mean",
            the first qparams.
        quant_min: Lowest integer, with ``quant_max``; the dtype's when left out.
        quant_max: Highest integer, positive.
        init: Where the first scale comes from: "statistics" of the observer, or "mean": ``2 * mean(|x|) /
            sqrt(quant_max)``.
        learn_zero_point: Whether the zero point is trained; needs an affine scheme.
        scale_gradients: Whether gradients are scaled by ``1 / sqrt(count * quant_max)``.
        **observer_kwargs: Further arguments of the observer.

    Raises:
        QConfigError: The observer is none of uniform quantization, or the arguments do not fit together.
    """

    scale: nn.Parameter
    zero_point: Any
    initialized: Tensor

    @checked
    def __init__(
        self,
        observer: Callable[..., Any] = MinMaxObserver,
        quant_min: int | None = None,
        quant_max: int | None = None,
        *,
        init: Init = "statistics",
        learn_zero_point: bool = False,
        scale_gradients: bool = True,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__(observer, quant_min, quant_max, **observer_kwargs)
        self._require(init, learn_zero_point)
        self.init, self.scale_gradients = init, scale_gradients
        self.scale = nn.Parameter(torch.ones(1))
        if learn_zero_point:
            self.zero_point = nn.Parameter(torch.zeros(1))
        else:
            self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))
        self._register_switch("initialized", False)

    def _require(self, init: str, learn_zero_point: bool) -> None:
        built = self.activation_post_process
        problem = None
        if not isinstance(built, ObserverBase):
            problem = f"an observer of uniform quantization, not {type(built).__name__}"
        elif init not in ("statistics", "mean"):
            problem = f"init='statistics' or init='mean', not {init!r}"
        elif learn_zero_point and built.qscheme.symmetric:
            problem = f"an affine scheme to learn zero points, not {built.qscheme!r}"
        elif built.quant_max < 1:
            problem = f"a positive quant_max, not {built.quant_max}"
        if problem is not None:
            raise QConfigError(
                f"{type(self).__name__} needs {problem}.",
                remedy="Use default_lsq_fake_quant, default_lsq_plus_fake_quant or default_lsq_weight_fake_quant.",
            )

    @property
    def eps(self) -> float:
        """The smallest scale."""
        return float(getattr(self.activation_post_process, "eps", FLOAT32_EPS))

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)`` that values are rounded with: positive float32, and int64 within the range.

        Raises:
            CalibrationError: No batch has initialized them.
        """
        if not self._is_on("initialized"):
            raise self.activation_post_process.never_ran()
        scale, zero_point = learning.effective(self.scale, self.zero_point, self._learning(OPEN, 1, None))
        return scale.float(), zero_point.to(torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` fake-quantized, same shape and dtype; an empty ``x`` passes unchanged."""
        require_memory(x)
        if x.numel() == 0:
            return x
        if not self._is_on("initialized") and self._is_on("observer_enabled"):
            self._initialize(x.detach())
        return self.rounded(x) if self._is_on("fake_quant_enabled") else x

    def rounded(self, x: Tensor) -> Tensor:
        """``x`` fake-quantized with the qparams as they are, whatever the switches say; nothing is observed."""
        axis = self.ch_axis % max(x.dim(), 1) if self.qscheme.per_channel else None
        count = x.numel() // self.scale.numel()
        return learning.learned(x, self.scale, self.zero_point, self._learning(OPEN, count, axis))

    _quantized = rounded

    def _learning(self, gate: Gate, count: int, axis: int | None) -> Learning:
        factor = 1 / math.sqrt(count * self.quant_max) if self.scale_gradients else 1.0
        return Learning(formula.Rounding(self.quant_min, self.quant_max, axis, gate), self.eps, factor)

    def _initialize(self, x: Tensor) -> None:
        observer = self.activation_post_process
        observer.forward(x)
        scale, zero_point = observer.calculate_qparams()
        if self.init == "mean":
            scale = self._mean_scale(x).clamp(min=self.eps)
            if not self.qscheme.symmetric:
                low = getattr(observer, "min_val", torch.zeros(())).reshape(-1).clamp(max=0.0)
                zero_point = (self.quant_min - torch.round(low / scale)).clamp(self.quant_min, self.quant_max)
        for name, value in (("scale", scale), ("zero_point", zero_point)):
            held = getattr(self, name)
            # The same object, as an optimizer may hold it already.
            held.data = value.to(held.device, held.dtype).expand(scale.shape).clone()
        self._switch("initialized", True)

    def _mean_scale(self, x: Tensor) -> Tensor:
        magnitude = x.abs().float()
        if self.qscheme.per_channel:
            mean = magnitude.movedim(self.ch_axis, 0).flatten(1).mean(1) if x.dim() > 1 else magnitude
        else:
            mean = magnitude.mean().reshape(1)
        return 2 * mean / math.sqrt(self.quant_max)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        counts = counts_of(self.qscheme.per_channel)
        learned = Role("statistics", dtype=torch.float32, counts=counts)
        low, high = self.quant_min, self.quant_max
        whole = learned if self.zero_point.is_floating_point() else Role("zero point", low, high, counts=counts)
        require_entries(state_dict, prefix, {"scale": learned, "zero_point": whole})
        for name in ("scale", "zero_point"):
            value = state_dict.get(prefix + name)
            held = getattr(self, name)
            if isinstance(value, Tensor) and value.shape != held.shape:
                held.data = held.data.new_empty(value.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        learned = "scale and zero_point" if isinstance(self.zero_point, nn.Parameter) else "scale"
        return f"{super().extra_repr()}, learns {learned}"


class PACTFakeQuantize(FakeQuantizeBase):
    """A clipping activation with a learned end, rounded: ``clamp(x, 0, alpha)`` in steps of ``alpha / quant_max``.

    It takes the place of relu and of the fake quantization behind it. The gradient of ``x`` is 1 strictly between 0
    and alpha; that of alpha is summed over ``x >= alpha``.

    The paper adds ``lambda * alpha ** 2`` to the loss, with the weight decay as lambda. ``alpha`` is a parameter, so an
    optimizer's ``weight_decay`` does the same; otherwise add :meth:`penalty`.

    Source: Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks", 2018.

    State: parameter ``alpha``, float32 ``[1]``, and the switches; nothing is observed.

    Args:
        alpha: The clipping end before training, positive.
        quant_max: Highest integer, 255 or less; the lowest is 0.
        decay: What :meth:`penalty` multiplies ``alpha ** 2`` by.
        eps: Smallest alpha that is used, per step.

    Raises:
        QConfigError: A number out of its range.
    """

    alpha: nn.Parameter
    quant_min = 0
    label: str | None = None
    source: str | None = None

    @checked
    def __init__(
        self, alpha: float = 6.0, quant_max: int = 255, *, decay: float = 1e-4, eps: float = FLOAT32_EPS
    ) -> None:
        super().__init__()
        if not (0 < alpha < math.inf and 1 <= quant_max <= 255 and decay >= 0 and eps > 0):
            raise QConfigError(
                f"PACTFakeQuantize can't use alpha={alpha}, quant_max={quant_max}, decay={decay}, eps={eps}.",
                remedy="Give a positive alpha and eps, a quant_max of 1 to 255, and a decay of 0 or more.",
            )
        self.alpha = nn.Parameter(torch.tensor([float(alpha)]))
        self.quant_max, self.decay, self.eps = quant_max, float(decay), float(eps)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """``(scale, zero_point)``: ``alpha / quant_max``, float32, and 0, int64."""
        scale = self._end() / self.quant_max
        return scale, torch.zeros_like(scale, dtype=torch.int64)

    def penalty(self) -> Tensor:
        """``decay * alpha ** 2``, to be added to the loss where the optimizer has no weight decay."""
        return self.decay * self.alpha.square().sum()

    def forward(self, x: Tensor) -> Tensor:
        """``clamp(x, 0, alpha)``, rounded unless fake quantization is off; same shape and dtype."""
        require_memory(x)
        return learning.clipped(x, self.alpha, self._end(), self.quant_max, self._is_on("fake_quant_enabled"))

    def rounded(self, x: Tensor) -> Tensor:
        """``x`` clipped and fake-quantized, whatever the switches say."""
        return learning.clipped(x, self.alpha, self._end(), self.quant_max, True)

    _quantized = rounded

    def _end(self) -> Tensor:
        return self.alpha.detach().float().clamp(min=self.eps * self.quant_max)

    def extra_repr(self) -> str:
        return f"0..{self.quant_max}, decay={self.decay}"
