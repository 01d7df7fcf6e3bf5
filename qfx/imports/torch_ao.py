"""Models quantized by PyTorch's own eager and FX modes: their modules, functions and tensors, told by their names.

Their values are tensors of quantized dtypes. Here each becomes its float value behind a quantize and a dequantize with
the numbers that it has in a call on the example inputs; modules and functions become the float ones that they stand
for, with the weights that their integers mean.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn import Parameter

from qfx.errors import ConversionError
from qfx.frontends.examples import Example
from qfx.imports.decomposed import name_of
from qfx.imports.writer import Writer, eight_bits
from qfx.ir import facts
from qfx.ir.module import bind_placeholders
from qfx.ir.nodes import path
from qfx.ir.types import QParams
from qfx.ops.qdq.dynamic import requantize_dynamic
from qfx.tensor import from_torch

_HOME = "torch.ao.nn."
"""Where the classes of :data:`MODULES` are; their names there have no parts that only say which file."""


@dataclass(frozen=True)
class _Layer:
    """A module with weights.

    Attributes:
        cls: The float class.
        then: What it does with the result.
        dynamic: Whether it rounds its input at each call.
    """

    cls: type[nn.Module]
    then: Callable[..., Any] | None = None
    dynamic: bool = False


_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHTED = (nn.Linear, *_CONVS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)
_AS_THEY_ARE = (
    nn.BatchNorm2d, nn.BatchNorm3d, nn.Dropout, nn.ELU, nn.GroupNorm, nn.Hardswish, nn.InstanceNorm1d,
    nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm, nn.LeakyReLU, nn.ReLU6, nn.Sigmoid, nn.Softmax,
)  # fmt: skip

MODULES: dict[str, _Layer] = {
    **{f"quantized.{cls.__name__}": _Layer(cls) for cls in (*_WEIGHTED, *_AS_THEY_ARE, *_TABLES, nn.PReLU)},
    **{f"quantized.reference.{cls.__name__}": _Layer(cls) for cls in (*_WEIGHTED, *_TABLES)},
    **{f"intrinsic.quantized.ConvReLU{n}d": _Layer(cls, F.relu) for n, cls in enumerate(_CONVS, 1)},
    "intrinsic.quantized.LinearReLU": _Layer(nn.Linear, F.relu),
    "intrinsic.quantized.LinearLeakyReLU": _Layer(nn.Linear, F.leaky_relu),
    "intrinsic.quantized.LinearTanh": _Layer(nn.Linear, torch.tanh),
    "intrinsic.quantized.ConvAdd2d": _Layer(nn.Conv2d, torch.add),
    "intrinsic.quantized.ConvAddReLU2d": _Layer(nn.Conv2d, torch.add),
    "intrinsic.quantized.BNReLU2d": _Layer(nn.BatchNorm2d, F.relu),
    "intrinsic.quantized.BNReLU3d": _Layer(nn.BatchNorm3d, F.relu),
    "quantized.dynamic.Linear": _Layer(nn.Linear, dynamic=True),
    "intrinsic.quantized.dynamic.LinearReLU": _Layer(nn.Linear, F.relu, dynamic=True),
    "quantized.dynamic.LSTM": _Layer(nn.LSTM, dynamic=True),
    "quantized.dynamic.GRU": _Layer(nn.GRU, dynamic=True),
    "quantized.Quantize": _Layer(nn.Identity),
    "quantized.DeQuantize": _Layer(nn.Identity),
}  # fmt: skip
"""The classes below :data:`_HOME`. Those that are not here are entered as a user's are."""


@dataclass(frozen=True)
class _Function:
    """A function of quantized values.

    Attributes:
        fn: The float function.
        operands: Its operands by the names that the function's schema has.
        settings: What else it takes, by the schema's names; here they have the same.
        then: What it does with the result.
    """

    fn: Callable[..., Any]
    operands: str = "qa qb"
    settings: str = ""
    then: Callable[..., Any] | None = None


_NORM = "weight bias eps"

FUNCTIONS = {
    "quantized.add": _Function(torch.add),
    "quantized.add_relu": _Function(torch.add, then=F.relu),
    "quantized.mul": _Function(torch.mul),
    "quantized.mul_relu": _Function(torch.mul, then=F.relu),
    "quantized.add_scalar": _Function(torch.add, "qa b"),
    "quantized.add_scalar_relu": _Function(torch.add, "qa b", then=F.relu),
    "quantized.mul_scalar": _Function(torch.mul, "qa b"),
    "quantized.mul_scalar_relu": _Function(torch.mul, "qa b", then=F.relu),
    "quantized.cat": _Function(torch.cat, "qx", "dim"),
    "quantized.cat_relu": _Function(torch.cat, "qx", "dim", F.relu),
    "quantized.matmul": _Function(torch.matmul),
    "quantized.hardswish": _Function(F.hardswish, "input"),
    "quantized.leaky_relu": _Function(F.leaky_relu, "qx", "negative_slope"),
    "quantized.relu6": _Function(F.relu6, "qx"),
    "quantized.elu": _Function(F.elu, "self", "alpha"),
    "quantized.celu": _Function(F.celu, "self", "alpha"),
    "quantized.sigmoid": _Function(torch.sigmoid, "qx"),
    "quantized.softmax": _Function(F.softmax, "qx", "dim"),
    "quantized.clamp": _Function(torch.clamp, "qx", "min max"),
    "quantized.threshold": _Function(F.threshold, "qx", "threshold value"),
    "quantized.dropout": _Function(nn.Identity.forward, "self"),
    "quantized.layer_norm": _Function(F.layer_norm, "input", f"normalized_shape {_NORM}"),
    "quantized.group_norm": _Function(F.group_norm, "input", f"num_groups {_NORM}"),
    "quantized.instance_norm": _Function(F.instance_norm, "input", _NORM),
    "quantized.batch_norm2d": _Function(F.batch_norm, "qx mean var", _NORM),
    "quantized.batch_norm2d_relu": _Function(F.batch_norm, "qx mean var", _NORM, F.relu),
}
"""Functions without packed weights, by the name that they have in ``torch.ops``."""

PACKED = {
    "quantized.linear": _Layer(nn.Linear),
    "quantized.linear_relu": _Layer(nn.Linear, F.relu),
    "quantized.linear_dynamic": _Layer(nn.Linear, dynamic=True),
    "quantized.linear_relu_dynamic": _Layer(nn.Linear, F.relu, dynamic=True),
    **{f"quantized.conv{n}d": _Layer(cls) for n, cls in enumerate(_CONVS, 1)},
    **{f"quantized.conv{n}d_relu": _Layer(cls, F.relu) for n, cls in enumerate(_CONVS, 1)},
}
"""Functions of packed weights."""

_AS_FLOATS = ("quantize_per_tensor", "dequantize")
"""Functions and methods that change how a value is held, and nothing else."""
_QUANTIZES = ("quantize_per_tensor", "quantize_per_channel")
_AT_EACH_CALL = "quantize_per_tensor_dynamic"


def kind_of(module: nn.Module) -> str:
    """The name of a module's class as :data:`MODULES` has it, "" where it is none of these."""
    home = type(module).__module__
    if not home.startswith(_HOME):
        return ""
    kept = [part for part in home.removeprefix(_HOME).split(".") if part in _PACKAGES]
    return ".".join([*kept, type(module).__name__])


_PACKAGES = ("quantized", "intrinsic", "dynamic", "reference")


def leaves(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """The classes of modules of ``model`` that are read whole."""
    return tuple(dict.fromkeys(type(m) for m in model.modules() if kind_of(m) in MODULES))


def read_torch_ao(gm: fx.GraphModule, example: Example) -> fx.GraphModule:
    """The Captured graph in float calls, with the QDQ level's own calls where its values are integers.

    Raises:
        ConversionError: A module or function that works on quantized values and is no row of the tables here, or a
            value of a dtype that activations do not have.
    """
    reader = _Reader(gm, _seen(gm, example))
    for node in list(gm.graph.nodes):
        reader.read(node)
    gm.graph.eliminate_dead_code()
    reader.give_names()
    gm.graph.lint()
    gm.recompile()
    return gm


def _seen(gm: fx.GraphModule, example: Example) -> dict[fx.Node, Any]:
    """The value of each node in a call on the example inputs, where it is a tensor of a quantized dtype."""
    found: dict[fx.Node, Any] = {}

    class Watching(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor) and value.is_quantized:
                found[n] = value
            return value

    with torch.no_grad(), _silently():
        Watching(gm).run(*bind_placeholders(gm.graph, *example.of(gm)))
    return found


@contextmanager
def _silently() -> Iterator[None]:
    """Without torch's warnings that its quantized tensors are going away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Reader:
    def __init__(self, gm: fx.GraphModule, seen: dict[fx.Node, Any]) -> None:
        self.gm, self.writer, self.seen = gm, Writer(gm), seen
        self.graph = gm.graph
        self.layers: dict[str, nn.Module] = {}
        self.named: dict[fx.Node, str] = {}

    def read(self, node: fx.Node) -> None:
        """Write one node in float, and its value in integers behind it."""
        if node.op in ("output", "get_attr"):
            return
        name = name_of(node.target) if node.op == "call_function" else str(node.target)
        made = node
        with self.graph.inserting_after(node):
            if node.op == "call_module":
                made = self._module(node)
            elif node.op.startswith("call_"):
                made = self._call(node, name)
        if node in self.seen and name != _AT_EACH_CALL:
            self._round(node, made)
        elif made is not node:
            node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)
        if made is not node and not node.users:
            self.graph.erase_node(node)

    def give_names(self) -> None:
        """Call what was written as what it was written for."""
        taken = {node.name for node in self.graph.nodes}
        for made, name in self.named.items():
            if name not in taken:
                made.name = name
                taken.add(name)

    def _round(self, node: fx.Node, made: fx.Node) -> None:
        value = self.seen[node]
        dtype = eight_bits(value.dtype)
        if dtype is None or value.qscheme() != torch.per_tensor_affine:
            self._refuse(node, f"its values are {value.dtype}, and activations have 8 bits and one scale")
        readers = list(node.users)
        qparams = QParams(value.q_scale(), value.q_zero_point(), dtype, None, dtype.qmin, dtype.qmax)
        rounded = self.writer.quantized(made, qparams, node)
        for reader in readers:
            if reader is not made:
                reader.replace_input_with(node, rounded)

    def _call(self, node: fx.Node, name: str) -> fx.Node:
        first = node.args[0] if node.args else None
        if name in _QUANTIZES and isinstance(first, fx.Node) and first.op == "get_attr":
            return self.writer.weight(f"{path(first)}_values", from_torch(self.seen.pop(node)).array, node)
        if name in _AS_FLOATS and isinstance(first, fx.Node):
            return first
        if name == _AT_EACH_CALL:
            return self._at_each_call(node)
        if name in FUNCTIONS:
            return self._function(node, FUNCTIONS[name])
        if name in PACKED:
            return self._packed(node, PACKED[name])
        if name.startswith("quantized."):
            self._refuse(node, f"there is no reading of {name}")
        return node

    def _function(self, node: fx.Node, row: _Function) -> fx.Node:
        given = _by_schema(node)
        operands = [given[name] for name in row.operands.split() if name in given]
        if len(operands) < len(row.operands.split()):
            operands = [value for name, value in given.items() if name in ("qa", "qb", "b")]
        if row.fn is nn.Identity.forward:
            return operands[0]
        settings = {name: given[name] for name in row.settings.split() if name in given}
        return self._then(node, self.writer.call(node, row.fn, *operands, **settings), row.then)

    def _then(self, node: fx.Node, made: fx.Node, then: Callable[..., Any] | None, *more: Any) -> fx.Node:
        self.named.setdefault(made, node.name)
        if then is None:
            return made
        with self.graph.inserting_after(made):
            return self.writer.call(node, then, made, *more)

    def _at_each_call(self, node: fx.Node) -> fx.Node:
        """A value that is rounded by its own range, which only a linear layer does here."""
        given = dict(zip(("input", "dtype", "reduce_range"), node.args, strict=False)) | dict(node.kwargs)
        back = [reader for user in node.users for reader in (user.users if user.target == "dequantize" else (user,))]
        if not all(self._is_linear(reader) for reader in back):
            self._refuse(node, "only linear layers read values that are rounded at each call")
        half = bool(given.get("reduce_range"))
        return self.writer.call(node, requantize_dynamic, given["input"], reduce_range=half, per_row=False)

    def _is_linear(self, reader: fx.Node) -> bool:
        if reader.op == "call_module":
            return isinstance(self.gm.get_submodule(path(reader)), nn.Linear)
        return reader.target is F.linear

    # ------------------------------------------------------------ modules

    def _module(self, node: fx.Node) -> fx.Node:
        where = path(node)
        module = self.layers.get(where, self.gm.get_submodule(where))
        row = MODULES.get(kind_of(module))
        if row is None:
            if kind_of(module):
                self._refuse(node, f"there is no reading of {kind_of(module)}")
            return node
        if row.cls is nn.Identity:
            return node.args[0]  # type: ignore[return-value]
        if where not in self.layers:
            self.layers[where] = module
            self.gm.set_submodule(where, self._float_module(where, module, row))
        x, *more = (*node.args, *node.kwargs.values())
        if row.dynamic and row.cls is nn.Linear:
            x = self._rounded_rows(node, x)
        with self.graph.inserting_before(node):
            made = self.graph.call_module(where, (x, *([] if row.then is torch.add else more)))
        made.meta.update({k: v for k, v in node.meta.items() if k not in ("island_reason", "module_class")})
        made.meta["module_class"] = row.cls
        if row.then is torch.add:
            total = self._then(node, made, torch.add, *more)
            return self._then(node, total, F.relu if "ReLU" in type(module).__name__ else None)
        slope = (module.negative_slope,) if row.then is F.leaky_relu else ()
        return self._then(node, made, row.then, *slope)

    def _rounded_rows(self, node: fx.Node, x: Any) -> fx.Node:
        with self.graph.inserting_before(node):
            return self.writer.call(node, requantize_dynamic, x, reduce_range=False, per_row=False)

    def _float_module(self, where: str, module: Any, row: _Layer) -> nn.Module:
        if row.cls in (nn.LSTM, nn.GRU):
            return self._recurrent(where, module, row.cls)
        if row.cls in _AS_THEY_ARE:
            return _plain(module, row.cls)
        reference = hasattr(module, "get_quantized_weight")
        weight = module.get_quantized_weight() if reference else _called(module.weight)
        bias = _called(getattr(module, "bias", None))
        made = _with_settings(row.cls, module, bias)
        made.weight = self._parameter(f"{where}.weight", weight)
        if row.cls is nn.EmbeddingBag and not reference:
            made.mode = "sum"  # that is what its op computes, whatever mode it has
        return made

    def _parameter(self, where: str, weight: Tensor) -> Parameter:
        """The float values of a weight, whose integers are noted under its path."""
        with _silently():
            if not weight.is_quantized:
                return Parameter(weight.detach().float(), False)
            if weight.qscheme() in (torch.per_tensor_affine, torch.per_channel_affine):
                self.writer.read[where] = from_torch(weight).array
                return Parameter(self.writer.values(self.writer.read[where]), False)
            return Parameter(weight.dequantize().float(), False)

    def _recurrent(self, where: str, module: Any, cls: type[nn.RNNBase]) -> nn.Module:
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")
        made: Any = cls(**{name: getattr(module, name) for name in names})
        weights = module.get_weight()
        for name, given in {**weights, **module.get_bias()}.items():
            parameter = self._parameter(f"{where}.{name}", given) if name in weights else Parameter(given, False)
            setattr(made, name, parameter)
        return made.eval()

    def _packed(self, node: fx.Node, row: _Layer) -> fx.Node:
        """A function of packed weights as a module under a path of its own."""
        given = _by_schema(node)
        x, packed, *_ = given.values()
        owner: Any = self.gm
        for name in str(packed.target).split("."):
            owner = getattr(owner, name)
        where = f"{str(packed.target).lstrip('_').replace('.', '_')}_layer"
        if where not in self.layers:
            weight, bias = owner.unpack()
            made = _with_settings(row.cls, _Unpacked(owner, weight, row.cls), bias)
            made.weight = self._parameter(f"{where}.weight", weight)
            self.layers[where] = made
            self.gm.add_submodule(where, made)
        if row.dynamic:
            x = self._rounded_rows(node, x)
        with self.graph.inserting_before(node):
            made_call = self.graph.call_module(where, (x,))
        made_call.meta.update({**node.meta, "module_class": row.cls})
        return self._then(node, made_call, row.then)

    def _refuse(self, node: fx.Node, why: str) -> NoReturn:
        raise ConversionError(
            f"{node.name} can't be taken over.",
            where=facts.where(node),
            source=facts.source(node),
            why=f"{why[0].upper()}{why[1:]}.",
            remedy="Keep it float in the other tool, or quantize the float model with qfx.quantize_fx.",
        )


class _Unpacked:
    """The settings of a layer, read of its packed weight."""

    def __init__(self, packed: Any, weight: Tensor, cls: type[nn.Module]) -> None:
        self.out_features, self.in_features = weight.shape[0], weight.shape[1]
        if cls is not nn.Linear:
            dims = weight.dim() - 2
            self.groups = packed.groups()
            self.stride, self.padding = tuple(packed.stride())[-dims:], tuple(packed.padding())[-dims:]
            self.dilation, self.kernel_size = tuple(packed.dilation())[-dims:], tuple(weight.shape[2:])
            self.out_channels, self.in_channels = weight.shape[0], weight.shape[1] * self.groups


def _called(value: Any) -> Any:
    """What a method gives, or the value that stands where others have a method."""
    return value() if inspect.ismethod(value) else value


def _with_settings(cls: type[nn.Module], module: Any, bias: Tensor | None) -> Any:
    """A float layer with the settings of ``module`` and its bias, its weight still to come."""
    names = [name for name in inspect.signature(cls).parameters if name not in ("bias", "device", "dtype", "_weight")]
    given = {name: getattr(module, name) for name in names if hasattr(module, name)}
    if "bias" in inspect.signature(cls).parameters:
        given["bias"] = bias is not None
    made: Any = cls(**given, device="meta").eval()
    if bias is not None:
        made.bias = Parameter(bias.detach().float(), False)
    return made


def _plain(module: nn.Module, cls: type[nn.Module]) -> nn.Module:
    """``module`` as one of the float class that it computes as, over the same tensors."""
    made = copy.copy(module)
    made.__class__ = cls
    for name in ("scale", "zero_point"):
        made.__dict__.pop(name, None)
        made._buffers.pop(name, None)
    if isinstance(made, nn.ReLU6):
        made.min_val, made.max_val, made.inplace = 0.0, 6.0, False
    return made.eval()


def _by_schema(node: fx.Node) -> dict[str, Any]:
    """The arguments of a call of an operator, by the names of its schema, as far as given."""
    packet: Any = getattr(node.target, "overloadpacket", node.target)
    overload = node.target if hasattr(node.target, "_schema") else getattr(packet, _overload(packet, node))
    names = [argument.name for argument in overload._schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _overload(packet: Any, node: fx.Node) -> str:
    """The name of the first overload that has the arguments of a call."""
    for name in packet.overloads():
        arguments = [argument.name for argument in getattr(packet, name)._schema.arguments]
        if len(node.args) + len(node.kwargs) <= len(arguments) and all(key in arguments for key in node.kwargs):
            return str(name)
    return str(packet.overloads()[0])
