"""What dynamic modules have in common: weights as plain tensors, and programs made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from qfx.errors import ConversionError, QuantizationError, UnsupportedError
from qfx.ir.snapshot import Snapshot
from qfx.ir.stored import Role, require_entries
from qfx.ir.types import QDType
from qfx.lowering.torch_operator import run_program
from qfx.memory import is_watched
from qfx.nn.quantized.dynamic.formats import qconfig_of, weight_dtype, weight_observer
from qfx.nn.quantized.dynamic.seen import Kernel, Sizes, state_of
from qfx.ops.qdq.decode import StoredWeight
from qfx.passes.dynamic import rounded_to_half
from qfx.passes.weight_only import HALVES, store_weight
from qfx.passes.weights import quantize_weight
from qfx.quantization.keeps_precision import KeepsPrecision
from qfx.runtime import Executable, ProgramBuilder
from qfx.runtime.limits import MOST_FEATURES

SCALE, ZERO_POINT = "_scale", "_zero_point"
PER_ROW = "input_per_row"
_NARROW = (torch.int8, torch.uint8, torch.float16, torch.bfloat16)
_OF_SCALES = (torch.float32, torch.float16)
"""What the scales of groups are stored in."""


class Weights(NamedTuple):
    """Constants of a program: float16 values, or int8 ones with a scale a row, and zero points unless all are 0."""

    values: int
    scale: int | None = None
    zero_point: int | None = None


class DynamicModule(KeepsPrecision, nn.Module):
    """A module whose weights are in fewer bits, plain tensors, and whose programs are made on first use.

    A weight ``w`` is int8 with ``w_scale`` float32 and ``w_zero_point`` int64 (0-d, or one a row), or float16 alone.
    What int8 weights multiply is quantized at each call: ``input_per_row`` (bool, 0-d) says whether each row of it has
    a scale of its own, or one holds for all of it, as it does where an older state has no such entry.

    Where ``bits`` is given, inputs stay float, and a weight is int8 or, of 4 bits, uint8 ``[numbers / 2]``, with a
    scale for each group of a row, float32 or float16 ``[rows, groups]``, and zero points, as the weight is stored,
    where it is not symmetric.

    Args:
        dtype: ``qfx.qint8`` or ``torch.float16``; where weights alone may be narrow, ``torch.bfloat16`` too.
        bits: Of weights by groups, 8 or 4.
        group_size: Neighbours in a row that share a scale; None: all of it.

    Raises:
        UnsupportedError: Another dtype, or other bits.
    """

    multiplies: ClassVar[bool] = True
    """Whether weights are multiplied with what is given, and not just looked up."""
    weights_alone: ClassVar[bool] = False
    """Whether weights may be bfloat16 or by groups."""
    bits: int | None = None
    group_size: int | None = None

    def __init__(self, dtype: Any, bits: int | None = None, group_size: int | None = None) -> None:
        super().__init__()
        self.dtype = weight_dtype(dtype, brain=self.weights_alone)
        wrong = bits not in (None, 8, 4) or (group_size is not None and group_size < 1)
        if wrong or (bits is not None and self.dtype is not QDType.qint8):
            raise UnsupportedError(
                f"Weights of {self.dtype!r} can't have {bits} bits by groups of {group_size}.",
                remedy="Use bits=8 or bits=4, and leave dtype out.",
            )
        self.bits, self.group_size = bits, group_size
        self._forget_programs()

    @property
    def quantizes(self) -> bool:
        """Whether weights are integers with a scale a row at most, so that what they multiply is quantized."""
        return self.dtype is QDType.qint8 and self.bits is None

    def form(self) -> str:
        """How weights are stored, as arguments."""
        if self.bits is None:
            return f"dtype={self.dtype!r}"
        affine = "" if "weight" + ZERO_POINT not in self._buffers else ", symmetric=False"
        return f"bits={self.bits}, group_size={self.group_size}{affine}"

    def _forget_programs(self) -> None:
        self._programs: dict[Any, tuple[Snapshot, Executable]] = {}
        self._kernels: dict[Any, Kernel] = {}
        self._recorded_state = state_of(self)

    # ------------------------------------------------------------ weights

    def declare(
        self, shapes: Mapping[str, tuple[int, ...]], most: int | None = MOST_FEATURES, *, symmetric: bool = True
    ) -> None:
        """Zeros for each name: weights where there are two dims, biases where there is one.

        Raises:
            UnsupportedError: A weight with more columns than the kernels take, or that are no whole groups.
        """
        widest = max((shape[1] for shape in shapes.values() if len(shape) == 2), default=0)
        if most is not None and widest > most:
            raise UnsupportedError(
                f"A dynamic {type(self).__name__} takes at most {most} features, not {widest}.",
                why=f"That is what its kernels are made for with {self.form()}.",
                remedy="Keep this layer float: leave it out of what quantize_dynamic converts.",
            )
        weights = self.dtype if isinstance(self.dtype, torch.dtype) else torch.int8
        with torch.inference_mode(False):
            for name, shape in shapes.items():
                if self.bits is not None and len(shape) == 2:
                    self._keep_stored(name, self._zeros(shape[0], shape[1], symmetric=symmetric))
                    continue
                dtype = torch.float32 if len(shape) == 1 else weights
                self.keep(name, torch.zeros(shape, dtype=dtype, device="cpu"))
                if dtype is torch.int8:
                    self.keep(name + SCALE, torch.ones((), dtype=torch.float32, device="cpu"))
                    self.keep(name + ZERO_POINT, torch.zeros((), dtype=torch.int64, device="cpu"))
        self._keep_per_row(True)

    def _zeros(self, rows: int, features: int, *, symmetric: bool) -> StoredWeight:
        """A weight by groups, of zeros."""
        size = features if self.group_size is None else self.group_size
        if size == 0 or features % size:
            raise UnsupportedError(
                f"The {features} features of a dynamic {type(self).__name__} are no whole groups of {size}.",
                why="The weights of a group share a scale.",
                remedy="Use a group_size that divides them, or None; or keep the layer float.",
            )
        groups = (rows, features // size)
        codes, zeros = ([n, m] if self.bits == 8 else [(n * m + 1) // 2] for n, m in ((rows, features), groups))
        made = partial(torch.zeros, dtype=torch.int8 if self.bits == 8 else torch.uint8, device="cpu")
        return StoredWeight(made(codes), torch.ones(groups, device="cpu"), None if symmetric else made(zeros))

    @property
    def per_row(self) -> bool:
        """Whether each row of what int8 weights multiply is quantized with a scale of its own."""
        stored = self._buffers.get(PER_ROW)
        return stored is not None and bool(stored)

    def _keep_per_row(self, per_row: bool) -> None:
        if self.multiplies and self.quantizes:
            with torch.inference_mode(False):
                self.keep(PER_ROW, torch.tensor(per_row, device="cpu"))

    def keep(self, name: str, tensor: Tensor) -> None:
        """Make ``tensor`` the module's own under ``name``.

        Scales are parameters that do not train: models ask the first of their parameters for its dtype and device.
        Whatever else is a buffer.
        """
        if name.endswith(SCALE):
            self._parameters[name] = nn.Parameter(tensor, requires_grad=False)
        else:
            self._buffers[name] = tensor

    def kept(self) -> dict[str, Tensor]:
        """The module's tensors by name."""
        own = {**self._parameters, **self._buffers}
        return {name: tensor for name, tensor in own.items() if tensor is not None}

    def take(self, mod: nn.Module, names: Mapping[str, str]) -> None:
        """Quantize the float tensors ``names`` (own name: name in ``mod``), and inputs, as the qconfig of ``mod`` says.

        Raises:
            ConversionError: The qconfig's weight observer is for another dtype than this module's.
            CalibrationError: A weight is not finite.
        """
        affine = "weight" + ZERO_POINT in self._buffers
        self._keep_per_row(qconfig_of(mod).per_row)
        with torch.no_grad(), torch.inference_mode(False):
            for own, theirs in names.items():
                value = getattr(mod, theirs).detach().to("cpu", torch.float32, copy=True)
                if value.dim() == 1:
                    self.keep(own, value)
                elif isinstance(self.dtype, torch.dtype):
                    self.keep(own, rounded_to_half(value, own, self.dtype))
                elif self.bits is not None:
                    self._keep_stored(own, store_weight(value, weight_observer(mod), affine=affine))
                else:
                    self._take_weight(own, value, weight_observer(mod))

    def _keep_stored(self, name: str, stored: StoredWeight) -> None:
        for end, tensor in (("", stored.codes), (SCALE, stored.scale), (ZERO_POINT, stored.zero_point)):
            if tensor is not None:
                self.keep(name + end, tensor)

    def stored(self, name: str, shape: tuple[int, int]) -> StoredWeight:
        """The weight ``name``, of ``shape``, that is multiplied with floats or looked up."""
        codes = self._tensor(name)
        if self.bits is None:
            return StoredWeight(codes)
        zeros = self._tensor(name + ZERO_POINT) if name + ZERO_POINT in self._buffers else None
        return StoredWeight(codes, self._tensor(name + SCALE), zeros, shape if self.bits == 4 else None)

    def _take_weight(self, name: str, weight: Tensor, observer: Any) -> None:
        rounded = quantize_weight(weight, observer)
        if rounded.axis not in (None, 0):
            raise ConversionError(
                f"The weights of a {type(self).__name__} can't have one scale along axis {rounded.axis}.",
                where=name,
                remedy="Use a weight observer with ch_axis=0, or a per-tensor one.",
            )
        self.keep(name, rounded.values)
        self.keep(name + SCALE, rounded.scale)
        self.keep(name + ZERO_POINT, rounded.zero_point)

    def weights(self, builder: ProgramBuilder, names: list[str]) -> Weights:
        """The weights ``names``, one below the other, as constants of a program."""
        tensors = [self._tensor(n) for n in names]
        values = builder.constant(torch.cat(tensors).contiguous().numpy())
        if tensors[0].dtype is torch.float16:
            return Weights(values)
        scale, zero_point = (torch.cat([self._of_rows(n, end) for n in names]) for end in (SCALE, ZERO_POINT))
        zeros = builder.constant(zero_point.to(torch.int32).numpy()) if bool(zero_point.any()) else None
        return Weights(values, builder.constant(scale.to(torch.float32).numpy()), zeros)

    def biases(self, builder: ProgramBuilder, names: list[str]) -> int:
        """The biases ``names``, one below the other, as a constant of a program."""
        return builder.constant(torch.cat([self._tensor(n) for n in names]).contiguous().numpy())

    def _tensor(self, name: str) -> Tensor:
        tensor = self._buffers.get(name)
        tensor = self._parameters.get(name) if tensor is None else tensor
        assert tensor is not None, name
        return tensor.detach()

    def _of_rows(self, name: str, what: str) -> Tensor:
        return self._tensor(name + what).expand(self._tensor(name).shape[:1])

    def program(self, key: Any, build: Callable[[], Executable]) -> Executable:
        """The executable of ``key``, made again where a buffer has changed."""
        now = Snapshot.of(self.kept().values())
        known = self._programs.get(key)
        if known is None or not known[0].matches(now):
            with torch.inference_mode(False):
                known = self._programs[key] = now, build()
        return known[1]

    def seen(
        self,
        key: Any,
        compute: Callable[..., Sequence[Tensor]],
        shapes: Callable[..., Sequence[Sizes]],
        *inputs: Tensor,
    ) -> Sequence[Tensor]:
        """``compute(*inputs)``, seen by whoever watches torch.

        Args:
            key: Names ``compute`` and ``shapes`` within the module.
            compute, shapes: As :class:`Kernel` takes them.
            inputs: float32 or index tensors.
        """
        kernel = self._kernels.get(key)
        if kernel is None:
            kernel = self._kernels[key] = Kernel(compute, shapes)
        return run_program(kernel, inputs if is_watched() else [x.detach() for x in inputs])

    def _call_as_it_is(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.forward(*args, **kwargs)

    # ------------------------------------------------------------ what torch does with modules

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_programs", "_kernels", "_recorded_state")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if PER_ROW not in self._buffers:
            self._keep_per_row(False)
        self._forget_programs()

    def _roles(self) -> dict[str, Role]:
        """What the tensors are."""
        found, codes = {}, QDType.qint8
        for name, tensor in self.kept().items():
            weight = self._buffers.get(name.removesuffix(SCALE).removesuffix(ZERO_POINT))
            counts = (1, weight.shape[0]) if weight is not None and weight.dim() else (1,)
            if self.bits is not None and tensor.dim() and not tensor.dtype.is_floating_point:
                found[name] = Role("integers", *bounds_of(tensor.dtype), counts=(tensor.numel(),))
            elif name.endswith(SCALE) and self.bits is not None:
                found[name] = Role("scale", counts=(tensor.numel(),))
            elif name.endswith(SCALE):
                found[name] = Role("scale", counts=counts)
            elif name.endswith(ZERO_POINT):
                found[name] = Role("zero point", codes.qmin, codes.qmax, counts=counts)
            elif tensor.dtype is torch.int8:
                found[name] = Role("integers", codes.qmin, codes.qmax)
            elif name == PER_ROW:
                found[name] = Role("integers", 0, 1, counts=(1,))
            else:
                found[name] = Role("statistics", dtype=tensor.dtype)
        return found

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if PER_ROW in self._buffers and any(prefix + name in state_dict for name in self.kept()):
            state_dict.setdefault(prefix + PER_ROW, torch.tensor(False, device="cpu"))
        for name, own in self.kept().items():
            given = state_dict.get(prefix + name)
            if not isinstance(given, Tensor):
                continue
            if self.bits is not None and name.endswith(SCALE) and given.dtype in _OF_SCALES:
                continue
            if given.dtype != own.dtype and (own.dtype in _NARROW or given.dtype in HALVES):
                raise QuantizationError(
                    f"{prefix + name} is {given.dtype} in the state_dict, but {own.dtype} here.",
                    why=f"This {type(self).__name__} has {self.form()}.",
                    remedy="Make the module with the form of weights that the state was saved with.",
                )
        require_entries(state_dict, prefix, self._roles())
        for name, own in self.kept().items():
            given = state_dict.get(prefix + name)
            if isinstance(given, Tensor) and name.endswith((SCALE, ZERO_POINT)):
                self._make_room(name, own, given)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _make_room(self, name: str, own: Tensor, given: Tensor) -> None:
        """Keep an empty tensor for a scale or zero point of another shape, or a scale of another type."""
        retyped = self.bits is not None and name.endswith(SCALE) and given.dtype in _OF_SCALES
        dtype = given.dtype if retyped else own.dtype
        shape = own.shape if self.bits is not None else given.shape
        if shape != own.shape or dtype != own.dtype:
            with torch.inference_mode(False):
                self.keep(name, own.detach().new_empty(shape, dtype=dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self.require_convertible(fn)

        def kept(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            return made if made.dtype == tensor.dtype else tensor

        return super()._apply(kept, recurse)  # type: ignore[no-untyped-call]


def bounds_of(dtype: torch.dtype) -> tuple[int, int]:
    """The least and the greatest of an integer type."""
    found = torch.iinfo(dtype)
    return int(found.min), int(found.max)


def require_class(cls: type, mod: object, accepted: tuple[type[nn.Module], ...]) -> None:
    """Raise unless ``mod`` is of a class that ``cls.from_float`` takes.

    Raises:
        ConversionError: It is not.
    """
    trained = isinstance(mod, accepted) and hasattr(mod, "weight_fake_quant")
    if type(mod) not in accepted and not trained:
        names = " or ".join(f"torch.nn.{kind.__name__}" for kind in accepted)
        raise ConversionError(
            f"{cls.__name__}.from_float does not take a {type(mod).__name__}.", remedy=f"Pass {names}."
        )
