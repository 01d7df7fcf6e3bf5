"""The tracer of symbolic capture: its proxies, what it enters and keeps whole, and why a trace stops."""

from __future__ import annotations

import builtins
import contextlib
import dis
import inspect
import operator
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from qfx.frontends.boundaries import mark_boundaries
from qfx.frontends.defaults import by_name, fixed_in, settle_defaults
from qfx.frontends.dependence import Example, later_calls_differ
from qfx.frontends.functional import functionalized
from qfx.frontends.leaves import (
    SCALARS,
    builtin_class,
    replaced_forward,
)
from qfx.frontends.lifting import Lifting
from qfx.frontends.mutation import MADE_IN_CALL, is_number, mutation_hazards
from qfx.frontends.obstacles import explain, obstacle_of, rewriting
from qfx.frontends.places import Place, told
from qfx.frontends.randomness import OTHERS, RandomCalls, other_generators
from qfx.frontends.retrace import CARRIED, CONSTANT, state_of
from qfx.frontends.source import changing_line, error_source, user_source
from qfx.frontends.state import Snapshot
from qfx.guards import is_plain

_FACTORIES = (torch.ones, torch.zeros, torch.full, torch.empty, torch.eye, torch.arange, torch.linspace)
_FACTORIES += (torch.rand, torch.randn, torch.randint, torch.randperm)  # type: ignore[assignment]
"""Functions that make a tensor from sizes alone, which torch does not dispatch on traced values."""


@dataclass(frozen=True)
class Call:
    """A call of the model, as the trace makes it.

    Attributes:
        model: What is called.
        inputs: Names of the arguments that are inputs of the graph, besides those without a default.
        by_keyword: Names of the arguments that a call gives by keyword.
        fixed: Inputs that are fixed, by name: code gets their values, and nothing reads their placeholders.
        example: What is known of the others, by name.
    """

    model: nn.Module
    inputs: Collection[str]
    by_keyword: Collection[str]
    fixed: Mapping[str, Any]
    example: Mapping[str, Any]

    @classmethod
    def of(cls, model: nn.Module, inputs: Collection[str], example: Example | None) -> Call:
        """The call of ``model`` with ``example``, or with what it needs."""
        known = by_name(inspect.signature(model.forward).parameters, example)
        return cls(model, inputs, tuple(example[1]) if example is not None else (), fixed_in(known), known)


@dataclass(frozen=True)
class Failure:
    """Why a trace stopped: the innermost module at fault ("" for the model itself), and where in its code."""

    path: str
    why: str
    construct: str
    remedy: str
    source: str | None
    exports: bool = False
    state: tuple[Place, ...] = ()

    @classmethod
    def of(cls, path: str, error: BaseException, fallback: str | None = None) -> Failure:
        source = error_source(error) or fallback
        construct, rewrite, row = explain(error, source)
        return cls(path, f"{construct} at {source}" if source else construct, construct, rewrite, source, row.exports)

    @classmethod
    def of_mutation(cls, node: fx.Node, why: str) -> Failure:
        source = node.meta["source"]
        row = obstacle_of(why, source)
        return cls(node.meta["module_path"], why, why, rewriting(row), source, row.exports)

    @classmethod
    def of_state(cls, root: nn.Module, places: Sequence[Place]) -> Failure:
        """Of what a call of ``root`` leaves for the next one, the first place of which counts."""
        first = places[0]
        why = f"{told(places)} not the same after a call, which the next call reads"
        source = changing_line(root.get_submodule(first.owner), first.attribute)
        return cls(first.owner, f"{why}, at {source}" if source else why, why, STATE, source, state=tuple(places))


STATE = (
    "Make it an input and an output: let forward take the value of before, return the new one, and pass that to the"
    " next call. A graph keeps nothing between calls."
)
"""What to do about what a call leaves for the next one."""


EXAMPLE = "example"
"""Metadata of a traced value, while it is traced: what it is in the example inputs."""


_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


class TracedProxy(fx.Proxy):
    """A proxy that records augmented assignment, so that a tensor changed in place is known to be, and unpacking.

    Of a container among the inputs it knows the items: what a capture fixes is the item itself.
    """

    @classmethod
    def __torch_function__(cls, orig_method: Any, types: Any, args: Any = None, kwargs: Any = None) -> Any:
        """As torch.fx has it, which does not see a traced length in the slices of ``table[:, :length]``."""
        if orig_method in _INDEXING and not any(isinstance(leaf, fx.Proxy) for leaf in pytree.tree_leaves(args)):
            slices = (leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, slice))
            bounds = (bound for part in slices for bound in (part.start, part.stop, part.step))
            tracer = next(bound.tracer for bound in bounds if isinstance(bound, fx.Proxy))
            return tracer.create_proxy("call_method", orig_method.__name__, args, {})
        return super().__torch_function__(orig_method, types, args, kwargs)

    def __getitem__(self, key: Any) -> Any:
        made = self.tracer.create_proxy("call_function", operator.getitem, (self, key), {})
        held = self.node.meta.get(EXAMPLE)
        if isinstance(held, Mapping) and isinstance(key, str) and key in held:
            return _item(made, held[key])
        if isinstance(held, (list, tuple)) and type(key) is int and -len(held) <= key < len(held):
            return _item(made, held[key])
        return made

    def __contains__(self, key: Any) -> bool:
        held = self.node.meta.get(EXAMPLE)
        if isinstance(held, Mapping):
            return key in held
        raise TypeError("argument of type 'Proxy' is not iterable: control flow that depends on a traced value")

    def __getattr__(self, name: str) -> _TracedAttribute:
        return _TracedAttribute(self, name)

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})

    def __ifloordiv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.ifloordiv, (self, other), {})

    def __imod__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imod, (self, other), {})

    def __ipow__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.ipow, (self, other), {})

    def __iand__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iand, (self, other), {})

    def __ior__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.ior, (self, other), {})

    def __ixor__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.ixor, (self, other), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __len__(self) -> int:
        length = _length_of_slice(self.node)
        return super().__len__() if length is None else length

    def __iter__(self) -> Iterator[Any]:
        """The items of ``a, b = x``, whose number the caller's bytecode tells and ``meta["unpacked"]`` keeps."""
        caller = sys._getframe(1)
        now = next((i for i in dis.get_instructions(caller.f_code) if i.offset == caller.f_lasti), None)
        held = self.node.meta.get(EXAMPLE)
        if isinstance(held, Mapping):
            return iter(held)
        if isinstance(held, (list, tuple)):
            items: Any = self
            return iter([items[index] for index in range(len(held))])
        length = _length_of_slice(self.node)
        if length is not None and (now is None or now.opname != "UNPACK_SEQUENCE"):
            return iter([operator.getitem(self, index) for index in range(length)])
        if now is None or now.opname != "UNPACK_SEQUENCE":
            return self.tracer.iter(self)
        self.node.meta["unpacked"] = now.argval
        return iter([operator.getitem(self, index) for index in range(now.argval)])


def _length_of_slice(node: fx.Node) -> int | None:
    """How many lengths ``x.shape[a:b]`` has, if its bounds say so."""
    part: Any = node.args[1] if node.target is operator.getitem else None
    if not isinstance(part, slice) or not _is_shape(node) or part.step not in (None, 1):
        return None
    start, stop = part.start or 0, part.stop
    if not isinstance(start, int) or not isinstance(stop, (int, type(None))):
        return None
    if start >= 0:
        return max(stop - start, 0) if stop is not None and stop >= 0 else None
    return max((0 if stop is None else stop) - start, 0) if stop is None or stop < 0 else None


def _item(made: fx.Proxy, value: Any) -> Any:
    """An item of a container among the inputs, which is ``value`` in the example."""
    if is_plain(value):
        return value
    made.node.meta[EXAMPLE] = value
    return made


class _TracedAttribute(TracedProxy, fx.proxy.Attribute):
    """``x.shape``, or a method to call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        owner: Any = self.root
        held = owner.node.meta.get(EXAMPLE)
        if isinstance(held, Mapping) and not kwargs:
            if self.attr == "get" and args and isinstance(args[0], str):
                return owner[args[0]] if args[0] in held else args[1] if len(args) > 1 else None
            found = {"keys": list(held), "values": map(owner.__getitem__, held),
                     "items": ((key, owner[key]) for key in held)}.get(self.attr)  # fmt: skip
            if found is not None and not args:
                return list(found)
        return super().__call__(*args, **kwargs)


class Tracer(fx.Tracer):
    """Records module paths and source lines; torch's own layers, islands and named modules are leaves."""

    def __init__(
        self,
        model: nn.Module,
        islands: dict[str, str],
        names: Collection[str],
        classes: tuple[type[nn.Module], ...],
        call: Call,
    ) -> None:
        super().__init__(autowrap_functions=_FACTORIES, param_shapes_constant=True)
        self._autowrap_search.append(torch)
        self.model, self.islands, self.names, self.classes, self.call = model, islands, names, classes, call
        self.thread = threading.get_ident()
        self.path: list[str] = [""]
        self.specialized: dict[str, Any] = {}
        self.carried: Sequence[tuple[fx.Proxy, Place]] = ()
        self.kept: Snapshot | None = None
        self._made: dict[tuple[int, int], tuple[torch.Tensor, fx.Node]] = {}
        self._failed: tuple[str, BaseException | None] = ("", None)

    def attempt(self, before: Snapshot, again: Callable[[], Tracer], example: Example | None) -> Failure | None:
        """Traces the model into ``self.graph``; the failure, if there is one.

        Args:
            before: Made of the model, which is put back but for the constants of the code.
            again: Makes another tracer like this one.
            example: Inputs of the model, if there are any.
        """
        self.kept = before
        try:
            with torch.no_grad(), tensor_isinstance(self.model):
                self.trace(self.model)
                state = state_of(self, before, again)
        except Exception as error:
            path = self._failed[0] if self._failed[1] is error else ""
            return Failure.of(path, error)
        finally:
            constants = {name: value for name, value in vars(self.model).items() if name.startswith(CONSTANT)}
            before.restore()
            vars(self.model).update(constants)
        if state and (state[0].registered or example is None or self._matters(before, example)):
            return Failure.of_state(self.model, state)
        for node in self.graph.nodes:
            node.meta.pop(EXAMPLE, None)
            node.meta.pop("is_wrapped", None)  # else generated code registers torch's function for every later trace
        settle_defaults(self.graph)
        self.graph = functionalized(self.graph, dict(self.model.named_modules()))
        mark_boundaries(self.graph, dict(self.model.named_modules(remove_duplicate=False)))
        for node, why in mutation_hazards(self.graph, dict(self.model.named_modules())):
            return Failure.of_mutation(node, why)
        return None

    def _matters(self, before: Snapshot, example: Example) -> bool:
        modules = self.model.named_modules(remove_duplicate=False)
        whole = {path for path, module in modules if self._island_reason(module, path) is not None}
        return later_calls_differ(self.model, before, example, lambda place: place.is_in(whole))

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        self.lifting = Lifting(TracedProxy)
        with self.lifting, RandomCalls(self):
            return super().trace(root, concrete_args)

    def create_arg(self, a: Any) -> Any:
        if type(a) is torch.Tensor and self.lifting.lifted:
            a = self.lifting.present(a)
        if type(a) is torch.Tensor and self.makes(a):
            return self._made_in_call(a)
        return super().create_arg(a)

    def makes(self, tensor: torch.Tensor) -> bool:
        """Whether the code makes ``tensor`` in the call."""
        return self.kept is not None and not self.kept.holds(tensor)

    def _made_in_call(self, tensor: torch.Tensor) -> fx.Node:
        """The node of a tensor that the code makes, as it is now: the code may change it later."""
        key = id(tensor), 0 if tensor.is_inference() else tensor._version
        if key not in self._made:
            name = self.get_fresh_qualname(CONSTANT)
            setattr(self.root, name, tensor.detach().clone())
            node = self.create_node("get_attr", name, (), {})
            node.meta[MADE_IN_CALL] = True
            self._made[key] = tensor, node  # which keeps its id its own
        return self._made[key][1]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return TracedProxy(node, self)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """Placeholders for the arguments of a call, and the call: with hooks and all that ``__call__`` does."""
        for index, (proxy, place) in enumerate(self.carried):
            node = self.create_node("placeholder", f"{CARRIED}_{index}", (), {})
            node.meta[CARRIED] = place
            vars(proxy).update(tracer=self, **{"_node" if isinstance(proxy, fx.proxy.Attribute) else "node": node})
        parameters = inspect.signature(self.call.model.forward).parameters.values()
        if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        complete = True
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                continue
            default = () if parameter.default is parameter.empty else (parameter.default,)
            value = self._argument(parameter.name, default)
            if value is parameter.empty:
                complete = False
            elif (
                complete and parameter.kind is not parameter.KEYWORD_ONLY and parameter.name not in self.call.by_keyword
            ):
                args.append(value)
            else:
                kwargs[parameter.name], complete = value, False

        def call() -> Any:
            return self.call.model(*args, **kwargs)

        return call, []

    def _argument(self, name: str, default: tuple[Any, ...]) -> Any:
        """The value with which the call is traced, ``inspect.Parameter.empty`` for one that the call leaves out."""
        if default and name not in self.call.inputs:
            (self.specialized[name],) = default
            return inspect.Parameter.empty
        node = self.create_node("placeholder", name, default, {})
        if name in self.call.fixed:
            return self.call.fixed[name]
        if name in self.call.example:
            node.meta[EXAMPLE] = self.call.example[name]
        return self.proxy(node)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        if kind == "placeholder" and args and target not in self.call.inputs and isinstance(args[0], SCALARS):
            self.specialized[target] = args[0]
            return args[0]
        return super().create_proxy(kind, target, args, kwargs, *rest, **options)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **options)
        node.meta["module_path"] = self.path[-1]
        node.meta["source"] = user_source() if kind.startswith("call") else None
        return node

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self.thread:  # a model that another thread runs meanwhile
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, module: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        if module is self.root:
            return self._enter("", forward, args, kwargs)
        path = self.path_of_module(module)
        reason = self._island_reason(module, path)
        self.path.append(path)
        try:
            if reason is not None:  # its hooks run where it does
                return self._leaf(module, path, reason, args, kwargs)
            if builtin_class(module) is None:
                return self._enter(path, forward, args, kwargs)
            with replaced_forward(module, lambda *a, **k: self._leaf(module, path, None, a, k)):
                return forward(*args, **kwargs)
        finally:
            self.path.pop()

    def _enter(self, path: str, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        drawn = other_generators()
        try:
            result = forward(*args, **kwargs)
            if other_generators() != drawn:
                raise TypeError(OTHERS)
            return result
        except Exception as error:
            if self._failed[1] is not error:
                self._failed = (path, error)
            raise

    def _leaf(self, module: nn.Module, path: str, reason: str | None, args: Any, kwargs: Any) -> Any:
        proxy = self.create_proxy("call_module", path, args, kwargs)
        proxy.node.meta["module_class"] = type(module)
        if reason is not None:
            proxy.node.meta["island_reason"] = reason
        return proxy

    def _island_reason(self, module: nn.Module, path: str) -> str | None:
        if path in self.islands:
            return self.islands[path]
        if path in self.names:
            return "named in non_traceable_module_name"
        return of_class(module, self.classes)


def of_class(module: nn.Module, classes: tuple[type[nn.Module], ...]) -> str | None:
    """Why a module of one of ``classes`` stays float."""
    return f"{type(module).__name__} is in non_traceable_module_class" if isinstance(module, classes) else None


@contextlib.contextmanager
def tensor_isinstance(model: nn.Module) -> Iterator[None]:
    """While active, ``isinstance(traced value, torch.Tensor)`` is true in the Python modules that define ``model``.

    There ``max``, ``min`` and ``round`` take sizes that are traced values too.
    """
    classes = {cls for module in model.modules() for cls in type(module).__mro__}
    names = {cls.__module__ for cls in classes if not cls.__module__.startswith(("torch.", "builtins", "qfx."))}
    scopes = [vars(sys.modules[name]) for name in names if name in sys.modules]
    given = {"isinstance": _isinstance, **{function.__name__: _of_sizes(function) for function in (max, min, round)}}
    patched = [(scope, name) for scope in scopes for name in given if name not in scope]
    for scope, name in patched:
        scope[name] = given[name]
    try:
        yield
    finally:
        for scope, name in patched:
            scope.pop(name, None)


def _of_sizes(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, one of Python's own, that also takes sizes that are traced values."""

    def call(*args: Any, **kwargs: Any) -> Any:
        sizes = [arg for arg in args if isinstance(arg, TracedProxy) and is_number(arg.node)]
        if not sizes or kwargs:
            return function(*args, **kwargs)
        return sizes[0].tracer.create_proxy("call_function", function, args, {})

    return call


def _isinstance(value: Any, classes: Any) -> bool:
    if type(value) is TracedProxy and not _is_shape(value.node):
        value = _A_TENSOR
    return builtins.isinstance(value, classes)


_A_TENSOR = torch.empty(0)


def _is_shape(node: fx.Node) -> bool:
    """Whether ``node`` is a shape, or computed from shapes by indexing and arithmetic."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "ndimension", "numel")
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim", "dtype", "device")
    owner = getattr(node.target, "__module__", "")
    return owner in ("_operator", "math") and all(_is_shape(operand) for operand in node.all_input_nodes)
