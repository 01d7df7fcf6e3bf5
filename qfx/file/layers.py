"""The module classes that a file may name, as data, and what must be true of those whose kernels believe their shapes.

Left out on purpose: modules that run on several devices or processes, and those without shapes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from qfx.file.malformed import MalformedError

_OF_TORCH = {
    "containers": "Module ModuleDict ModuleList ParameterDict ParameterList Sequential",
    "activations": """
        CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish PReLU RReLU
        ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink
        Threshold""",
    "products": """
        Bilinear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Linear Identity
        MultiheadAttention""",
    "sequences": """
        GRU GRUCell LSTM LSTMCell RNN RNNCell Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder
        TransformerEncoderLayer""",
    "tables": "Embedding EmbeddingBag",
    "norms": """
        BatchNorm1d BatchNorm2d BatchNorm3d CrossMapLRN2d GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d
        LayerNorm LocalResponseNorm RMSNorm""",
    "windows": """
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
        AvgPool1d AvgPool2d AvgPool3d Fold LPPool1d LPPool2d LPPool3d MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d
        MaxUnpool2d MaxUnpool3d Unfold""",
    "moves": """
        ChannelShuffle CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Flatten
        PixelShuffle PixelUnshuffle ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d
        ReplicationPad3d Unflatten Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d""",
    "random": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout",
    "distances": "CosineSimilarity PairwiseDistance",
}


def class_named(name: str) -> type[nn.Module] | None:
    """The class of a name in the file; those of qfx are imported for a name of theirs."""
    return (classes() if name.startswith("qfx.") else _classes_of_torch()).get(name)


@functools.cache
def _classes_of_torch() -> dict[str, type[nn.Module]]:
    listed = [name for names in _OF_TORCH.values() for name in names.split()]
    found: dict[str, type[nn.Module]] = {f"torch.nn.{name}": getattr(nn, name) for name in listed}
    found["torch.nn.modules.linear.NonDynamicallyQuantizableLinear"] = NonDynamicallyQuantizableLinear
    return found


@functools.cache
def classes() -> dict[str, type[nn.Module]]:
    """By name in the file: torch's, and the quantized ones of qfx."""
    from qfx.nn import quantized
    from qfx.nn.quantized import dynamic

    found = dict(_classes_of_torch())
    for space in (quantized, dynamic):
        for name, cls in inspect.getmembers(space, inspect.isclass):
            if issubclass(cls, nn.Module) and cls.__module__.startswith("qfx."):
                found[f"{space.__name__}.{name}"] = cls
    return found


def require_layer(module: Any, path: str) -> None:
    """Raise unless the members of ``module`` are such as its class makes.

    Raises:
        MalformedError: One stands in for a method, or the weights of a recurrent layer are not of its sizes.
    """
    cls = type(module)
    for name in vars(module):
        if callable(getattr(cls, name, None)):
            raise MalformedError(f"A {cls.__name__} brings a {name!r} of its own.", path=path)
    wrong = _wrong_shapes(module) if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) else None
    if wrong:
        raise MalformedError(wrong, path=path)


def _wrong_shapes(module: Any) -> str | None:
    """What differs between a recurrent layer's tensors and those that a layer of its settings has."""
    cls = type(module)
    settings = {name: getattr(module, name) for name in _settings(cls)}
    if not all(type(value) in (int, float, bool, str) for value in settings.values()):
        return f"A {cls.__name__} has settings that are none."
    if not 0 < settings.get("num_layers", 1) <= len(module._parameters):
        return f"A {cls.__name__} has no {settings['num_layers']} layers."
    twin: Any = cls(**settings, device="meta")
    own = {*twin._parameters, *twin._buffers}  # beside them is the scale of the result
    if _shapes(module, own) != _shapes(twin, own) or getattr(module, "mode", None) != getattr(twin, "mode", None):
        return f"The tensors of a {cls.__name__} are not those of a layer of its sizes."
    return None


def _settings(cls: type[nn.Module]) -> tuple[str, ...]:
    if issubclass(cls, nn.RNNCellBase):
        return ("input_size", "hidden_size", "bias", *(("nonlinearity",) if cls is nn.RNNCell else ()))
    own = ("nonlinearity",) if cls is nn.RNN else ("proj_size",) if cls is nn.LSTM else ()
    return ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", *own)


def _shapes(module: Any, names: Collection[str]) -> list[Any]:
    """Shapes of the tensors of these names, and of those that the call takes (``_flat_weights``)."""
    members = [item for item in (*module._parameters.items(), *module._buffers.items()) if item[0] in names]
    members += [(str(index), tensor) for index, tensor in enumerate(getattr(module, "_flat_weights", ()))]
    return [(name, tuple(value.shape) if isinstance(value, Tensor) else None) for name, value in members]
