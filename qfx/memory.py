"""Where the elements of a tensor or array lie: the one place that takes addresses.

An address is taken when memory of that extent is known to be there, and when nobody but the caller needs to see the
read. Works without torch; torch's tensors are looked at where torch is there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn

import numpy as np

from qfx.capture_lock import capturing
from qfx.errors import InputError

Layout = tuple[tuple[Any, Any, Any], ...]
"""Dtype, sizes and strides of each of some plain tensors."""

_OWN_MEMORY = (np.ndarray, np.memmap)


def address(x: Any, what: str = "A tensor") -> int:
    """The address of the first element of a CPU tensor of torch, of any strides.

    Raises:
        InputError: With ``what`` as its subject: ``x`` has no memory of its own, or less than its sizes need.
    """
    require_plain(x, what)
    return plain_address(x, what)


def plain_address(x: Any, what: str = "A tensor") -> int:
    """As :func:`address`, of a tensor that is known to be plain.

    Raises:
        InputError: With ``what`` as its subject: ``x`` has less memory than its sizes need.
    """
    return int(address_over(x, reach(x), what))


def address_over(x: Any, elements: int, what: str) -> Any:
    """As :func:`plain_address`, of a tensor whose :func:`reach` is known.

    Raises:
        InputError: With ``what`` as its subject: ``x`` has less memory than its sizes need.
    """
    if (x.storage_offset() + elements) * x.itemsize > x.untyped_storage().nbytes() and elements:
        require_extent(x, what)
    return x.data_ptr()


def require_plain(x: Any, what: str = "A tensor") -> None:
    """Raise unless the torch tensor ``x`` is plain, as :func:`is_plain` says.

    Raises:
        InputError: With ``what`` as its subject.
    """
    torch_ = _torch()
    if not torch_.is_plain(x):
        _refuse(what, torch_.kind_of(x), "Pass a plain, dense CPU tensor: x.detach().clone(), where x has values.")


def require_extent(x: Any, what: str = "A tensor") -> None:
    """Raise unless the storage of a plain tensor is large enough for its sizes and strides.

    Raises:
        InputError: With ``what`` as its subject.
    """
    need = extent(x) * x.itemsize
    have = x.untyped_storage().nbytes()
    if need > have:
        raise InputError(
            f"{what} of shape {tuple(x.shape)} has a storage of {have} bytes, and needs {need}.",
            why="Its storage was resized, freed or replaced after the tensor was made.",
            remedy="Pass a tensor whose memory is there, such as a clone() made before the storage changed.",
        )


def require_values(x: Any, what: str = "A tensor") -> None:
    """Raise for a torch tensor that torch itself can't compute a model with: less memory than its sizes need, or values
    that do not lie on a grid. Wrappers pass, which stand for such a tensor: who gave them handles what is done to them.

    Raises:
        InputError: With ``what`` as its subject.
    """
    torch_ = _torch()
    if torch_.is_plain(x):
        require_memory(x, what)
    elif torch_.is_scattered(x):
        _refuse(what, torch_.kind_of(x), _DENSE)


def require_memory(x: Any, what: str = "A tensor") -> None:
    """As :func:`require_extent`, of sizes that ``torch.jit.trace`` does not see.

    Raises:
        InputError: With ``what`` as its subject.
    """
    if _torch().tracing() is None:
        require_extent(x, what)
        return
    with untraced():
        require_extent(x, what)


def extent(x: Any) -> int:
    """How many elements of its storage a torch tensor reaches over, its offset included; 0 for an empty one."""
    elements = reach(x)
    return int(x.storage_offset() + elements) if elements else 0


def reach(x: Any) -> int:
    """How many elements a torch tensor reaches over from its first on; 0 for an empty one."""
    if x.is_contiguous():
        return int(x.numel())
    elements = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        if size == 0:
            return 0
        elements += (size - 1) * stride
    return int(elements)


def require_regular(x: Any, what: str) -> None:
    """As :func:`require_values`, without a look at the size of the storage.

    Raises:
        InputError: With ``what`` as its subject.
    """
    torch_ = _torch()
    if not torch_.is_plain(x) and torch_.is_scattered(x):
        _refuse(what, torch_.kind_of(x), _DENSE)


def is_plain(x: Any) -> bool:
    """Whether the torch tensor ``x`` is exactly what its CPU memory holds: no wrapper, subclass that dispatches, lazy
    negative or zero, other layout or device."""
    return _torch().is_plain(x)


def are_plain(inputs: Iterable[Any]) -> bool:
    """Whether each is a torch tensor that is plain, as :func:`is_plain` says."""
    return _torch().are_plain(inputs)


def layout_of(inputs: Iterable[Any]) -> Layout | None:
    """Dtype, sizes and strides of each of ``inputs``; None unless all are plain tensors and nobody watches torch."""
    torch_ = _torch()
    return None if torch_.is_watched() else torch_.layout_of(inputs)


def kind_of(x: Any) -> str:
    """What kind of tensor the torch tensor ``x`` is, in words."""
    return _torch().kind_of(x)


@contextmanager
def untraced() -> Iterator[None]:
    """While active, ``torch.jit.trace`` records nothing, and sizes are plain ints."""
    torch_ = _torch()
    state = torch_.tracing()
    if state is None:  # torch lets nobody set even that inside an operator's implementation
        yield
        return
    torch_.set_tracing(None)
    try:
        yield
    finally:
        torch_.set_tracing(state)


@contextmanager
def unwatched() -> Iterator[None]:
    """While active, no tracer, mode or transform sees what torch computes."""
    torch_ = _torch()
    with untraced(), torch_.without_modes(), torch_.without_transforms():
        yield


def is_watched() -> bool:
    """Whether somebody records or transforms what torch computes now: tracers, modes, functional transforms."""
    return _torch().is_watched()


def is_recorded_by_modes() -> bool:
    """Whether torch records by proxies or fake tensors now, which modes of its dispatcher put in place of tensors."""
    return _torch().is_recorded_by_modes()


def array_address(x: np.ndarray, what: str = "An array") -> int:
    """The address of the first element of a numpy array.

    Raises:
        InputError: With ``what`` as its subject: ``x`` is of a subclass, or reaches beyond the memory it is a view of.
    """
    if type(x) not in _OWN_MEMORY:
        _refuse(
            what, f"a {type(x).__module__}.{type(x).__qualname__}", "Pass numpy.asarray(x), or its filled() values."
        )
    start = int(x.__array_interface__["data"][0])
    if x.base is not None and x.size:
        _require_within(x, start, what)
    return start


def _require_within(x: np.ndarray, start: int, what: str) -> None:
    owner: Any = x
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    if type(owner) not in _OWN_MEMORY or not owner.flags.owndata:
        return
    first = int(owner.__array_interface__["data"][0])
    reach = [(size - 1) * stride for size, stride in zip(x.shape, x.strides, strict=True)]
    low, high = sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + x.itemsize
    if start + low < first or start + high > first + owner.nbytes:
        raise InputError(
            f"{what} of shape {x.shape} and strides {x.strides} reaches beyond the {owner.nbytes} bytes that it is a "
            "view of.",
            remedy="Pass a view that stays inside its array.",
        )


def _refuse(what: str, kind: str, remedy: str) -> NoReturn:
    raise InputError(f"{what} is {kind}, whose memory can't be read.", why="Kernels read memory.", remedy=remedy)


class _Torch:
    """What this torch says of a tensor's memory, and of who is watching."""

    def __init__(self, torch: Any) -> None:
        c = torch._C
        self._keys, self._included = c._dispatch_keys, c._dispatch_tls_local_include_set
        self._modes, self._is_included = c._len_torch_dispatch_stack, c._dispatch_tls_is_dispatch_key_included
        self._early = c.DispatchKey.PreDispatch  # whose modes are one stack for all threads, but the key is a thread's
        keys = c._TorchDispatchModeKey
        early: Any = torch._ops._get_dispatch_mode_pre_dispatch
        self._recorders: tuple[Callable[[], Any], ...] = (
            lambda: c._get_dispatch_mode(keys.FAKE),
            lambda: c._get_dispatch_mode(keys.PROXY),
            lambda: self._is_included(self._early) and early(keys.PROXY),
        )
        self._transforms = c._are_functorch_transforms_active
        self._disabled_modes = torch.utils._python_dispatch._disable_current_modes
        self._strided, self._tensor = torch.strided, torch.Tensor
        self.tracing, self.set_tracing = c._get_tracing_state, c._set_tracing_state
        self._exact = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
        self._key_of, self._set_of = c.DispatchKey, c.DispatchKeySet
        own = self._union("CPU", "AutocastCPU")
        self._plain = frozenset({own, own | self._union("ADInplaceOrView", "AutogradCPU")})
        self._unwatched = ~self._union("BackendSelect", "ADInplaceOrView")

    def _union(self, *names: str) -> int:
        raw = 0
        for name in names:
            raw |= self._set_of(getattr(self._key_of, name)).raw_repr()
        return raw

    def is_plain(self, x: Any) -> bool:
        return self._keys(x).raw_repr() in self._plain

    def are_plain(self, values: Iterable[Any]) -> bool:
        return all(isinstance(x, self._tensor) and self._keys(x).raw_repr() in self._plain for x in values)

    def layout_of(self, values: Iterable[Any]) -> Layout | None:
        keys, plain, tensor, found = self._keys, self._plain, self._tensor, []
        for x in values:
            if not isinstance(x, tensor) or keys(x).raw_repr() not in plain:
                return None
            found.append((x.dtype, x.shape, x.stride()))
        return tuple(found)

    def is_watched(self) -> bool:
        return bool(self._included().raw_repr() & self._unwatched)

    def has_modes(self) -> bool:
        """Whether this thread has modes of torch's dispatcher."""
        return bool(self._modes() or self._is_included(self._early))

    def is_recorded_by_modes(self) -> bool:
        return self.has_modes() and any(mode() not in (None, False) for mode in self._recorders)

    @contextmanager
    def without_modes(self) -> Iterator[None]:
        """As torch's own, where there are any: it takes away those of an export in another thread too."""
        if not self.has_modes():
            yield
            return
        with capturing(), self._disabled_modes():
            yield

    def without_transforms(self) -> AbstractContextManager[Any]:
        if not self._transforms():
            return nullcontext()
        module = importlib.import_module("torch._functorch.pyfunctorch")
        cleared: AbstractContextManager[Any] = module.temporarily_clear_interpreter_stack()
        return cleared

    def is_scattered(self, x: Any) -> bool:
        return x.layout is not self._strided or x.is_nested or self._keys(x).has(self._key_of.QuantizedCPU)

    def kind_of(self, x: Any) -> str:
        """What ``x`` is, in words."""
        if type(x) not in self._exact:
            return f"a {type(x).__module__}.{type(x).__qualname__}"
        if x.device.type != "cpu":
            return f"on {x.device}"
        if x.layout is not self._strided:
            return f"of layout {x.layout}"
        keys = self._keys(x)
        found = [words for key, words in _KINDS.items() if keys.has(getattr(self._key_of, key))]
        return found[0] if found else "a plain tensor" if self.is_plain(x) else f"a tensor of {keys}"


_DENSE = "Pass a dense tensor: x.to_dense(), x.dequantize(), or a padded one."

_KINDS = {
    "FuncTorchBatched": "a batch of torch.vmap",
    "FuncTorchGradWrapper": "a tensor of torch.func's derivatives",
    "Functionalize": "a tensor that torch functionalizes",
    "ZeroTensor": "a lazy zero (torch._efficientzerotensor)",
    "Negative": "a lazy negative",
    "Conjugate": "a lazy conjugate",
    "NestedTensorCPU": "a nested tensor",
    "QuantizedCPU": "of torch's quantized dtypes",
    "Python": "a tensor that Python code stands for",
}


_known: list[_Torch] = []
"""What was found of this torch, once; dynamo follows a list, and warns of functools.cache."""


def _torch() -> _Torch:
    if not _known:
        _known.append(_Torch(sys.modules["torch"]))
    return _known[0]
