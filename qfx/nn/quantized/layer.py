"""ONE quantized layer: the float layer's settings, the op that its alias gives, and run_op."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from qfx.arguments import explaining
from qfx.eager import run_op
from qfx.errors import CalibrationError, ConversionError, QuantizationError
from qfx.ir.snapshot import Snapshot
from qfx.ir.stored import Role
from qfx.ir.types import QDType, QParams
from qfx.memory import untraced
from qfx.nn.intrinsic import Fused
from qfx.nn.qat import RoundedWeight
from qfx.nn.quantized.output import QuantizedModule, observed_qparams, require_codes
from qfx.nn.recast import require_kind, settings
from qfx.ops import arithmetic
from qfx.ops.compute.reference import Activation
from qfx.ops.spellings import alias_of
from qfx.ops.terms import Attr, Folded, NotNormal, Term
from qfx.quantization.fold import BATCH_NORMS, fold_batch_norm
from qfx.quantization.observer import PerChannelMinMaxObserver
from qfx.quantization.propagate import require_qconfig
from qfx.quantization.qconfig import SMALLEST_SCALE
from qfx.tensor import QTensor

Made = TypeVar("Made", bound="QuantizedLayer")

_INPUT = Attr("input")


class QuantizedLayer(QuantizedModule):
    """A quantized layer: takes a QTensor, returns one with ``scale`` and ``zero_point``.

    Args:
        *args: Arguments of the float layer, ``layer_class``; in another order where ``order`` says so.
        scale: Of the result.
        zero_point: Of the result.
        **kwargs: Further arguments of the float layer.

    Raises:
        QuantizationError: Scale or zero point is not valid.
        InputError: Settings that the float layer does not take.
        ConversionError: Settings that the op table can't express, or a weight where settings belong.
    """

    layer_class: ClassVar[type[nn.Module]]
    sources: ClassVar[tuple[type[nn.Module], ...]] = ()
    """The classes that ``from_float`` takes."""
    activation: ClassVar[Activation] = None
    """The clamp fused behind the op."""
    order: ClassVar[tuple[str, ...]] = ()
    """The arguments by position, less those given by name, where they are not the float layer's."""
    renamed: ClassVar[dict[str, str]] = {}
    """Other names of arguments."""
    observed: ClassVar[bool] = True
    """Whether ``scale`` and ``zero_point`` are the module's own; else results keep those of the input."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        args, given = self._arguments(args, kwargs)
        super().__init__(given.pop("scale", 1.0), given.pop("zero_point", 0))
        with torch.random.fork_rng(devices=[]), explaining(self.layer_class, args, given):
            layer = self.layer_class(*args, **given)
        self._take(layer.eval())

    @classmethod
    def from_float(cls: type[Made], mod: nn.Module) -> Made:
        """The quantized version of a float or trained module: weights as its qconfig says, result as observed.

        Raises:
            ConversionError: ``mod`` is of another class, not observed, or can't be quantized as its qconfig asks.
            CalibrationError: Its observer saw no data.
        """
        require_kind(cls, mod, cls.sources)
        qparams = observed_qparams(cls, mod) if cls.observed else None
        made = cls.__new__(cls)
        QuantizedModule.__init__(made)
        if qparams is not None:
            made.set_qparams(qparams)
        made._take(plain_layer(mod))
        made._take_weight(mod)
        return made.train(mod.training)

    def forward(self, input: QTensor) -> QTensor:
        """The layer on integers, exactly as graph mode computes it.

        Raises:
            InputError: ``input`` is no QTensor, or its shape does not fit.
        """
        x = require_codes(self, input)
        if self.layer_class in _WITHOUT_BATCH and x.dim() == _WITHOUT_BATCH[self.layer_class]:
            batch: Any = x.unsqueeze(0)
            single: Any = self.forward(batch).squeeze(0)
            return single
        result: QTensor = self._value(self._term, x, self.qparams if self.observed else x.qparams)
        if getattr(self, "inplace", False) and not self.observed:
            x.codes.copy_(result.codes)
            return x
        return result

    def extra_repr(self) -> str:
        own = [super().extra_repr()] if self.observed else []
        return ", ".join([*filter(None, [self._described]), *own])

    # ------------------------------------------------------------ the op

    @classmethod
    def _arguments(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of the float layer, with ``scale`` and ``zero_point`` by name."""
        names = inspect.signature(cls.layer_class).parameters
        by_name = {**dict(zip(names, args, strict=False)), **kwargs}
        if any(isinstance(v, Tensor) and v.dim() for v in by_name.values()) or by_name.get("eps", 0.0) is None:
            raise ConversionError(
                f"{cls.__name__} takes the settings of the float layer, but got a tensor or None among them.",
                why="Weight and bias are state, not arguments; scale and zero_point are given by name.",
                remedy=f"Construct {cls.__name__}(..., scale=..., zero_point=...), then set its weight and bias.",
            )
        given = {cls.renamed.get(name, name): value for name, value in kwargs.items()}
        free = [name for name in cls.order if name not in given]
        return args[len(free) :], {**given, **dict(zip(free, args, strict=False))}

    def _take(self, layer: nn.Module) -> None:
        """Take over the settings and tensors of a float layer, and find its op."""
        self.__dict__.update(settings(layer))
        self._described = layer.extra_repr()
        self._term = self._op_of(layer)
        self._keep_tensors(layer)

    def _keep_tensors(self, layer: nn.Module) -> None:
        for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            if tensor.is_floating_point():
                with torch.inference_mode(False):
                    self.register_buffer(name, tensor.detach().to("cpu", torch.float32, copy=True))

    def _take_weight(self, mod: nn.Module) -> None:
        """Quantize the weight of ``mod``; most layers have none."""

    def _op_of(self, layer: nn.Module) -> Term:
        alias = alias_of(self.layer_class)
        assert alias is not None, self.layer_class
        try:
            term: Term = alias.apply(layer, (_INPUT,), {})
        except NotNormal as reason:
            raise ConversionError(
                f"This {self.layer_class.__name__} can't be quantized: {reason}.",
                remedy="Keep it float: give it the qconfig None.",
            ) from None
        if self.activation is not None:
            term = replace(term, kwargs={**term.kwargs, "activation": self.activation})
        return term

    def _value(self, operand: Any, x: QTensor, out: QParams | None = None) -> Any:
        if isinstance(operand, Term):
            assert isinstance(operand.op, str)
            values = [self._value(arg, x) for arg in operand.args]
            return run_op(operand.op, *values, out=out, **operand.kwargs)
        if operand == _INPUT:
            return x
        if isinstance(operand, Attr):
            return self._constant(operand.name)
        return self._folded(operand) if isinstance(operand, Folded) else operand

    def _constant(self, name: str) -> Tensor | None:
        value: Tensor | None = getattr(self, name)
        return value

    def _folded(self, folded: Folded) -> Tensor:
        """A constant made from the layer's tensors, the same object until one of them changes."""
        operands = [self._constant(o.name) if isinstance(o, Attr) else o for o in folded.operands]
        now = Snapshot.of(o for o in operands if isinstance(o, Tensor))
        made: dict[Any, tuple[Snapshot, Tensor]] = self.__dict__.setdefault("_made", {})
        key = (folded.name, folded.compute, *(repr(o) for o in operands if not isinstance(o, Tensor)))
        if key not in made or not made[key][0].matches(now):
            with torch.inference_mode(False), torch.no_grad(), untraced():
                value = folded.compute(*operands)
                made[key] = now, quantized_factor(value) if folded.name == "weight" else value
        return made[key][1]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_made"}


class WeightedLayer(QuantizedLayer):
    """A quantized layer with an int8 weight and a float bias, which is rounded to the scale of each input's products.

    State: ``weight`` int8, ``weight_scale`` float32 and ``weight_zero_point`` int64 (0-d or ``[O]``), ``bias`` float32
    ``[O]`` if there is one, ``scale`` and ``zero_point``.
    """

    _weight: QTensor
    _bias: Tensor | None

    def weight(self) -> QTensor:
        """The weight, a qint8 QTensor per tensor or per channel along axis 0."""
        return self._weight

    def bias(self) -> Tensor | None:
        """The bias, float32 ``[O]``, or None."""
        return self._bias

    def _weight_bias(self) -> tuple[QTensor, Tensor | None]:
        return self._weight, self._bias

    def set_weight_bias(self, w: QTensor, b: Tensor | None) -> None:
        """Take copies of another weight and bias.

        Raises:
            QuantizationError: The weight is not qint8, per tensor or along axis 0, or a shape does not fit.
        """
        if not isinstance(w, QTensor) or w.dtype is not QDType.qint8 or w.qparams.axis not in (None, 0):
            kind = repr(w.dtype) if isinstance(w, Tensor) else type(w).__name__
            raise QuantizationError(
                f"{type(self).__name__} takes a qint8 weight, per tensor or per channel along axis 0, not {kind}"
                f"{f' along axis {w.qparams.axis}' if isinstance(w, QTensor) and w.qparams.axis else ''}.",
                remedy="Quantize it: qfx.quantize_per_channel(w, scales, zero_points, 0, qfx.qint8).",
            )
        if w.shape != self._weight.shape or (b is not None and b.shape != w.shape[:1]):
            raise QuantizationError(
                f"{type(self).__name__} takes a weight of shape {tuple(self._weight.shape)} and one bias an output, "
                f"not {tuple(w.shape)} and {None if b is None else tuple(b.shape)}.",
                remedy="Pass tensors of the float layer's shapes.",
            )
        with torch.inference_mode(False):
            self._weight = QTensor(w.int_repr(), w.qparams)
            self._bias = None if b is None else b.detach().to(torch.float32, copy=True)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, qscheme={self._weight.qscheme()!r}"

    @classmethod
    def _arguments(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, given = super()._arguments(args, kwargs)
        dtype = given.get("dtype")
        if dtype is not None and not getattr(dtype, "is_floating_point", False):
            if QDType.parse(dtype) is not QDType.qint8:
                raise QuantizationError(f"{cls.__name__} has qint8 weights, not {dtype}.", remedy="Leave out dtype.")
            del given["dtype"]
        return args, given

    def own_state(self) -> Iterator[tuple[str, Tensor]]:
        """Entries of the state_dict."""
        array = self._weight.array
        yield from (("weight", array.values), ("weight_scale", array.scale), ("weight_zero_point", array.zero_point))
        if self._bias is not None:
            yield "bias", self._bias
        yield from super().own_state()

    def own_roles(self) -> dict[str, Role]:
        """What the entries of :meth:`own_state` are."""
        codes, channels = QDType.qint8, self._weight.shape[0]
        return {
            **super().own_roles(),
            "weight": Role("integers", codes.qmin, codes.qmax),
            "weight_scale": Role("scale", counts=(1, channels)),
            "weight_zero_point": Role("zero point", codes.qmin, codes.qmax, counts=(1, channels)),
            "bias": Role("statistics", counts=(channels,)),
        }

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`own_state` gave."""
        super().load_own_state(state)
        if state["weight_scale"].shape != state["weight_zero_point"].shape:
            raise QuantizationError(
                "weight_scale and weight_zero_point have different shapes.", remedy="Save the state again."
            )
        scale: Any = state["weight_scale"].tolist()
        zero_point: Any = state["weight_zero_point"].tolist()
        per_channel = isinstance(scale, list)
        qparams = QParams(scale, zero_point, QDType.qint8)
        if per_channel:
            qparams = QParams(tuple(scale), tuple(zero_point), QDType.qint8, 0)
        self.set_weight_bias(QTensor(state["weight"], qparams), state.get("bias", self._bias))

    _separate_state = frozenset({"bias"})

    def _keep_tensors(self, layer: Any) -> None:
        shape = layer.weight.shape
        with torch.inference_mode(False):
            codes = torch.zeros(shape, dtype=torch.int8, device="cpu")
            self._weight = QTensor(codes, QParams(1.0, 0, QDType.qint8))
            zeros = torch.zeros(shape[0], dtype=torch.float32, device="cpu")
            self._bias = None if layer.bias is None else zeros

    def _op_of(self, layer: nn.Module) -> Term:
        term = super()._op_of(layer)
        return replace(term, args=(*term.args[:2], Attr("bias")))

    def _constant(self, name: str) -> Tensor | None:
        return self._weight if name == "weight" else self._bias

    def _take_weight(self, mod: nn.Module) -> None:
        layer: Any = plain_layer(mod)
        weight = layer.weight.detach()
        bias = None if layer.bias is None else layer.bias.detach()
        if bias is not None and not bool(bias.isfinite().all()):
            raise ConversionError(
                f"The bias of a {type(mod).__name__} is not finite.",
                remedy="Repair the float model, or keep this layer float: give it the qconfig None.",
            )
        qparams = _weight_qparams(mod, weight)
        if isinstance(mod, RoundedWeight):  # to the integers that training rounded to
            weight = mod.rounded_weight()
        self.set_weight_bias(_rounded(weight, qparams), bias)


_WITHOUT_BATCH: dict[type[nn.Module], int] = {nn.InstanceNorm1d: 2, nn.InstanceNorm2d: 3, nn.InstanceNorm3d: 4}
"""Layers that the op table knows with a batch only, and the rank of one image without."""


def plain_layer(mod: Any) -> nn.Module:
    """The float layer that a module computes: trained and fused ones without rounding, with batch norms folded in."""
    if isinstance(mod, RoundedWeight):
        return mod.plain()
    if isinstance(mod, Fused):
        return fold_batch_norm(mod[0], mod[1]) if isinstance(mod[1], BATCH_NORMS) else mod[0]
    layer: nn.Module = mod
    return layer


def _weight_qparams(mod: Any, weight: Tensor) -> QParams:
    """What training rounded the weight with last; for a float module, what its qconfig's weight observer finds."""
    trained = isinstance(mod, RoundedWeight)
    observer: Any = mod.weight_fake_quant if trained else require_qconfig(mod).weight()
    dtype = getattr(observer, "dtype", QDType.qint8)
    if dtype is not QDType.qint8:
        raise ConversionError(
            f"Weights must be qint8, but the weight observer's dtype is {dtype!r}.",
            remedy="Use a weight observer with dtype=qfx.qint8, or set the qconfig to None to keep the layer float.",
        )
    if not (trained and _has_qparams(observer)):
        observer.label = f"{type(mod).__name__}.weight"
        observer(weight)
    found: QParams = observer.qparams()
    return found


def _has_qparams(observer: Any) -> bool:
    try:
        observer.qparams()
    except CalibrationError:
        return False
    return True


def _rounded(weight: Tensor, qparams: QParams) -> QTensor:
    scale = torch.tensor(qparams.scale, dtype=torch.float32, device="cpu")
    zero_point = torch.tensor(qparams.zero_point, dtype=torch.int64, device="cpu")
    codes = arithmetic.quantize(weight, scale, zero_point, qparams.qmin, qparams.qmax, qparams.axis)
    return QTensor(codes.to(torch.int8), replace(qparams, dtype=QDType.qint8, quant_min=None, quant_max=None))


def quantized_factor(factor: Tensor) -> QTensor:
    """``[C]`` factors as qint8, each with a scale of its own, which represents it exactly but for rounding."""
    observer = PerChannelMinMaxObserver(dtype="qint8", qscheme="per_channel_symmetric", ch_axis=0, eps=SMALLEST_SCALE)
    observer(factor)
    return _rounded(factor, observer.qparams())
