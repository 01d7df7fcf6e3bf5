"""Every public call with good arguments: the tables that the fuzzer of inputs goes through.

A name that is called in no row of a table is in :data:`UNCALLED`, with the reason; ``test_inputs.py`` holds the tables
against the public names.
"""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import qfx
from qfx import quantization as Q
from qfx.nn import quantized as nnq
from qfx.nn.quantized import dynamic as nnqd
from qfx.nn.quantized import functional as F
from qfx.runtime import Executable, Session, peaks
from tests.fuzz.subjects import (
    SHAPE,
    Kept,
    calibrated,
    codes,
    comparison,
    costs,
    dynamic_qconfigs,
    executable,
    float_net,
    images,
    layers,
    observed,
    one_layer,
    prepared,
    quantized,
    session,
    static_qconfigs,
    summing,
    trained,
    weights,
    with_torch,
    written,
)
from tests.test_rules import CUBE


@dataclass(frozen=True)
class Call:
    """A public call: its name, and good arguments by name, made anew for each case.

    The name begins with the public name it is a call of: ``"QTensor.to"`` is one of QTensor.
    """

    name: str
    fn: Callable[..., Any]
    arguments: Callable[[], dict[str, Any]]


_OUT = {"scale": 0.1, "zero_point": 3}


def _called(make: Callable[[], Any]) -> Callable[..., Any]:
    """What an object of ``make`` does with ``x``."""
    return lambda x: make()(x)  # noqa: PLW0108 (made anew for each case)


def _of(make: Callable[[], Any], method: str) -> Callable[..., Any]:
    """A method of an object made anew."""
    return getattr(make(), method)


def _used(kind: Callable[..., Any]) -> Callable[..., Any]:
    """``kind`` made with the arguments given, and what it made used on data."""

    def use(**arguments: Any) -> Any:
        made = kind(**arguments)
        return _observe(made, images())

    return use


def _matrix() -> Any:
    return images().flatten(1)


def _on_matrix(kind: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`_used`, of what takes matrices alone."""
    return lambda **arguments: _observe(kind(**arguments), _matrix())


def _applied(kind: Callable[..., Any], x: Callable[[], Any]) -> Callable[..., Any]:
    """A layer made with the arguments given, applied to good input."""
    return lambda **arguments: kind(**arguments)(x())


# ---------------------------------------------------------------- graph mode


def _graph_mode() -> Iterable[Call]:
    yield Call("quantized model", _called(quantized), lambda: {"x": images()})
    yield Call("quantized model with torch parts", _called(with_torch), lambda: {"x": images()})
    yield Call("prepared model", _called(prepared), lambda: {"x": images()})
    yield Call("trainable model", _called(trained), lambda: {"x": images()})
    yield Call(
        "quantize_fx",
        qfx.quantize_fx,
        lambda: {
            "model": float_net(),
            "qconfig_dict": static_qconfigs(),
            "calibration": [images()],
            "train": None,
            "example_inputs": None,
            "bias_correction": True,
            "adaptive_rounding": True,
            "strict": False,
            "frontend": "auto",
            "isa": None,
            "prepare_custom_config": None,
            "convert_custom_config": None,
            "qconfig_mapping": None,
        },
    )
    for fn, qconfigs in ((qfx.prepare_fx, static_qconfigs), (qfx.prepare_qat_fx, _training_qconfigs)):
        yield Call(fn.__name__, fn, functools.partial(_preparing, fn, qconfigs))
    yield Call(
        "convert_fx",
        qfx.convert_fx,
        lambda: {
            "prepared": calibrated(),
            "convert_custom_config": None,
            "qconfig_mapping": None,
            "backend_config": None,
            "keep_original_weights": False,
            "is_reference": False,
            "isa": None,
            "check": None,
        },
    )
    yield Call(
        "fuse_fx",
        qfx.fuse_fx,
        lambda: {
            "model": float_net(),
            "example_inputs": (images(),),
            "fuse_custom_config": None,
            "backend_config": None,
            "frontend": "auto",
        },
    )
    state = lambda: {"state_dict": quantized().state_dict(), "strict": True, "assign": False}  # noqa: E731
    yield Call("QuantizedModel.load_state_dict", _of(quantized, "load_state_dict"), state)
    yield Call(
        "TrainableModel.load_float_state_dict",
        _of(trained, "load_float_state_dict"),
        lambda: {"state": trained().float_state_dict()},
    )
    yield Call("TrainableModel.train", _of(trained, "train"), lambda: {"mode": False})


def _training_qconfigs() -> dict[str, Any]:
    return {"": qfx.get_default_qat_qconfig()}


def _preparing(fn: Callable[..., Any], qconfigs: Callable[[], Any]) -> dict[str, Any]:
    given = {"model": float_net(), "qconfig_dict": qconfigs(), "example_inputs": (images(),)}
    skipped = {"args", "kwargs"}
    rest = {n: p.default for n, p in inspect.signature(fn).parameters.items() if n not in {*given, *skipped}}
    return {**given, **rest}


# ---------------------------------------------------------------- files, pictures, pages, comparisons, advice


def _around() -> Iterable[Call]:
    yield Call("to_onnx", qfx.to_onnx, lambda: {"qmodel": quantized(), "path": "net.onnx", "opset": 21})
    yield Call("save", qfx.save, lambda: {"obj": quantized(), "file": io.BytesIO()})
    yield Call(
        "load",
        qfx.load,
        lambda: {"file": io.BytesIO(written()), "isa": None, "weights_only": True, "mmap": False},
    )
    yield Call(
        "compare",
        qfx.compare,
        lambda: {
            "reference": float_net(),
            "model": quantized(),
            "data": [images()],
            "watch": None,
            "budget": None,
            "progress": False,
        },
    )
    drawing = {"level": None, "beside": None, "heat": None, "clusters": True, "legend": True, "example_inputs": None}
    yield Call("draw", qfx.draw, lambda: {"model": quantized(), "path": None, **drawing})
    yield Call("to_dot", qfx.to_dot, lambda: {"model": quantized(), **drawing})
    yield Call(
        "to_networkx",
        qfx.to_networkx,
        lambda: {"model": quantized(), "level": None, "sqnr": None, "time": None, "example_inputs": None},
    )
    yield Call("Picture.render", _of(lambda: qfx.to_dot(quantized()), "render"), lambda: {"form": "svg"})
    yield Call("Picture.save", _of(lambda: qfx.to_dot(quantized()), "save"), lambda: {"path": "picture.svg"})
    yield Call(
        "write_report",
        qfx.write_report,
        lambda: {
            "path": "page.html",
            "qmodel": quantized(),
            "float_model": float_net(),
            "data": images(),
            "suggestions": (),
            "title": None,
        },
    )
    yield Call(
        "sensitivity",
        qfx.sensitivity,
        lambda: {
            "model": float_net(),
            "qconfig_dict": static_qconfigs(),
            "data": [images()],
            "metric": None,
            "nodes": None,
            "calibration": None,
            "bias_correction": True,
            "adaptive_rounding": False,
            "frontend": "auto",
            "budget": None,
            "progress": False,
        },
    )
    yield Call(
        "suggest",
        qfx.suggest,
        lambda: {
            "model": float_net(),
            "quantized": quantized(),
            "data": [images()],
            "qconfig_dict": None,
            "calibration": None,
            "trials": 1,
            "least_gain": 0.5,
            "budget": None,
            "progress": False,
        },
    )
    yield Call("merge_qconfig_dict", qfx.merge_qconfig_dict, lambda: {"qconfig_dict": static_qconfigs(), "entry": {}})
    yield Call("Report.text", _of(lambda: quantized().report, "text"), lambda: {"width": None})
    yield Call("Report.decided", _of(lambda: quantized().report, "decided"), lambda: {"decision": "int8"})
    yield Call("Comparison.first_beyond", _of(comparison, "first_beyond"), lambda: {"quanta": 1, "local": True})
    yield Call("Sensitivity.worst", _of(costs, "worst"), lambda: {"n": 2, "by": "alone_loss"})
    yield Call("Sensitivity.as_qconfig_dict", _of(costs, "as_qconfig_dict"), lambda: {"n": 1, "by": "gain_if_float"})
    yield Call("QuantizedModel.profile", lambda x, repeats: quantized().profile(x, repeats=repeats), _profiled)


def _profiled() -> dict[str, Any]:
    return {"x": images(), "repeats": 1}


# ---------------------------------------------------------------- the runtime


def _runtime() -> Iterable[Call]:
    yield Call("Executable", _called(executable), lambda: {"x": images()})
    yield Call("Executable on arrays", _called(executable), lambda: {"x": images().numpy()})
    yield Call("Executable.explain", lambda shape: executable().explain(shape), lambda: {"shape": SHAPE})
    yield Call("Executable.output_shapes", lambda shape: executable().output_shapes(shape), lambda: {"shape": SHAPE})
    yield Call("Executable.profile", _profile_executable, _profiled)
    yield Call("Executable()", Executable, lambda: {"program": executable().program, "isa": None})
    yield Call("Session", Session, lambda: {"program": summing()})
    yield Call("Session.set", lambda v: session().set(state=v), lambda: {"v": np.zeros((1, 2), np.float32)})
    yield Call("Session()", _run_session, lambda: {"x": np.ones((1, 2), np.float32)})
    yield Call("set_num_threads", qfx.set_num_threads, lambda: {"threads": 1})
    yield Call("peaks", peaks, lambda: {"isa": None, "threads": 1, "read_bytes": 1024})


def _run_session(x: Any) -> Any:
    made = session()
    made.set(state=np.zeros((1, 2), np.float32))
    return made(x)


def _profile_executable(x: Any, repeats: Any) -> Any:
    return executable().profile(x, repeats=repeats)


# ---------------------------------------------------------------- quantized tensors


def _tensors() -> Iterable[Call]:
    yield Call(
        "quantize_per_tensor",
        qfx.quantize_per_tensor,
        lambda: {"input": images(), "scale": 0.1, "zero_point": 3, "dtype": qfx.quint8},
    )
    yield Call(
        "quantize_per_channel",
        qfx.quantize_per_channel,
        lambda: {"input": images(), "scales": [0.1] * 3, "zero_points": [0] * 3, "axis": 1, "dtype": qfx.qint8},
    )
    yield Call(
        "from_torch", qfx.from_torch, lambda: {"tensor": torch.quantize_per_tensor(images(), 0.1, 3, torch.quint8)}
    )
    yield Call(
        "QTensor",
        qfx.QTensor,
        lambda: {"codes": torch.zeros(SHAPE, dtype=torch.uint8), "qparams": qfx.QParams(0.1, 3, qfx.quint8)},
    )
    yield Call(
        "QParams",
        lambda **fields: qfx.QTensor(torch.zeros(SHAPE, dtype=torch.uint8), qfx.QParams(**fields)),
        lambda: {
            "scale": 0.1,
            "zero_point": 3,
            "dtype": qfx.quint8,
            "axis": None,
            "quant_min": None,
            "quant_max": None,
        },
    )
    yield Call("QTensor.to", lambda to: codes().to(to), lambda: {"to": "cpu"})
    yield Call("QTensor.reshape", lambda shape: codes().reshape(shape), lambda: {"shape": (4, -1)})
    yield Call("QTensor.permute", lambda dims: codes().permute(dims), lambda: {"dims": (0, 2, 3, 1)})
    yield Call("QTensor.__getitem__", lambda index: codes()[index], lambda: {"index": 0})
    yield Call("QTensor.requires_grad_", lambda on: codes().requires_grad_(on), lambda: {"on": False})
    yield Call(
        "run_op",
        lambda name, x, out, negative_slope: qfx.run_op(name, x, out=out, negative_slope=negative_slope),
        lambda: {"name": "leaky_relu", "x": codes(), "out": qfx.QParams(0.1, 3, qfx.quint8), "negative_slope": 0.1},
    )
    yield Call("register_op", _registered, lambda: {"pointwise": abs, "modules": None, "fn": _own})
    yield Call("register_rule", qfx.register_rule, lambda: {"rule": CUBE})


def _own(x: Any) -> Any:
    return x.abs()


def _registered(pointwise: Any, modules: Any, fn: Any) -> Any:
    return qfx.register_op(pointwise, modules=modules)(fn)


# ---------------------------------------------------------------- qconfigs, observers, fake quantization

_GIVEN: dict[str, dict[str, Any]] = {
    "HistogramObserver": {"bins": 64},
    "FixedQParamsObserver": {"scale": 0.1, "zero_point": 3},
    "default_debug_observer": {"dtype": qfx.quint8},
}
_PASSIVE = (Q.NoopObserver, Q.PlaceholderObserver, Q.RecordingObserver, Q.ChannelMean)
"""What computes no quantization parameters."""
_CONSTRUCTED = (
    "FixedQParamsObserver", "HistogramObserver", "MinMaxObserver", "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver", "NoopObserver", "PerChannelMinMaxObserver", "PlaceholderObserver",
    "QuantileHistogramObserver", "RecordingObserver", "ChannelMean", "FakeQuantize", "LearnableFakeQuantize",
    "PACTFakeQuantize",
)  # fmt: skip
"""What observes or rounds: made with hostile arguments and given good data, and the other way round."""


def _observers() -> Iterable[Call]:
    for name in _CONSTRUCTED:
        kind = getattr(Q, name)
        given = functools.partial(_defaults, kind, _GIVEN.get(name, {}))
        yield Call(f"{name}()", _used(kind), given)
        made = functools.partial(kind, **_GIVEN.get(name, {}))
        yield Call(f"{name}", lambda x, made=made: _observe(made(), x), lambda: {"x": images()})
    yield Call(
        "FixedQParamsFakeQuantize()",
        _used(Q.FixedQParamsFakeQuantize),
        lambda: {"observer": Q.default_fixed_qparams_range_0to1_observer},
    )
    by_groups = functools.partial(_defaults, Q.PerGroupMinMaxObserver, {"group_size": None})
    yield Call("PerGroupMinMaxObserver()", _on_matrix(Q.PerGroupMinMaxObserver), by_groups)
    yield Call(
        "PerGroupMinMaxObserver", lambda x: _observe(Q.PerGroupMinMaxObserver(None), x), lambda: {"x": _matrix()}
    )
    made = lambda **given: Q.default_observer.with_args(**given)()  # noqa: E731
    yield Call("default_observer.with_args", made, lambda: {"dtype": qfx.quint8, "eps": 1e-6})
    for name in Q.__all__:
        if isinstance(getattr(Q, name), Q.Factory) or name in (
            "default_debug_observer",
            "default_placeholder_observer",
        ):
            yield Call(name, functools.partial(_made_and_used, getattr(Q, name)), lambda: {"x": images()})


def _defaults(kind: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD and p.default is not p.empty} | given


def _observe(observer: Any, x: Any) -> Any:
    observer(x)
    return observer if isinstance(observer, _PASSIVE) else observer.calculate_qparams()


def _made_and_used(factory: Any, x: Any) -> Any:
    return _observe(factory(), x)


def _configs() -> Iterable[Call]:
    good = qfx.get_default_qconfig()
    yield Call("QConfig", Q.QConfig, lambda: {"activation": good.activation, "weight": good.weight})
    for make in (Q.weight_only_qconfig, Q.groups_dynamic_qconfig):
        yield Call(make.__name__, make, lambda: {"bits": 4, "group_size": 32, "symmetric": True})
    yield Call("QConfigDynamic", Q.QConfigDynamic, lambda: {"activation": Q.NoopObserver, "weight": good.weight})
    yield Call("Factory", lambda target, kwargs: Q.Factory(target, kwargs)(), _factory)
    for name in (
        "get_default_qconfig", "get_default_qconfig_dict", "get_default_qconfig_mapping", "get_default_qat_qconfig",
        "get_default_qat_qconfig_dict", "get_default_qat_qconfig_mapping",
    ):  # fmt: skip
        yield Call(name, getattr(Q, name), lambda: {"backend": None, "version": 0})
    for kind, setters in _SETTERS.items():
        for setter, given in setters.items():
            yield Call(f"{kind.__name__}.{setter}", functools.partial(_set, kind, setter), given)
    yield Call("QATSchedule", qfx.QATSchedule, _schedule)
    yield Call("QATSchedule.at", lambda time: qfx.QATSchedule(2, 3).at(time), lambda: {"time": 1})
    yield Call("QATSchedule.attach", lambda model: qfx.QATSchedule(2, 3).attach(model), lambda: {"model": trained()})
    yield Call("qscheme", qfx.qscheme.parse, lambda: {"scheme": qfx.per_tensor_affine})
    yield Call("dtype", qfx.dtype.parse, lambda: {"dtype": qfx.quint8})


def _factory() -> dict[str, Any]:
    return {"target": Q.MinMaxObserver, "kwargs": {"dtype": qfx.qint8}}


def _schedule() -> dict[str, Any]:
    return {"observe_until": 2, "freeze_bn_at": 3, "fake_quant_from": 0, "unit": "epoch"}


def _set(kind: type[Any], setter: str, **arguments: Any) -> Any:
    """What a config is after the setter, as prepare_fx reads it."""
    config = getattr(kind(), setter)(**arguments)
    given = {"": qfx.get_default_qconfig()}
    if kind is Q.QConfigMapping:
        return qfx.prepare_fx(float_net(), config, (images(),))
    if kind is Q.PrepareCustomConfig:
        return qfx.prepare_fx(float_net(), given, (images(),), config)
    if kind is Q.FuseCustomConfig:
        return qfx.fuse_fx(float_net(), (images(),), config)
    return qfx.convert_fx(calibrated(), config)


_QCONFIG = lambda: {"qconfig": None}  # noqa: E731
_SETTERS: dict[type[Any], dict[str, Callable[[], dict[str, Any]]]] = {
    Q.QConfigMapping: {
        "set_global": lambda: {"global_qconfig": qfx.get_default_qconfig()},
        "set_object_type": lambda: {"object_type": nn.Linear, **_QCONFIG()},
        "set_module_name_regex": lambda: {"module_name_regex": "f.*", **_QCONFIG()},
        "set_module_name": lambda: {"module_name": "fc", **_QCONFIG()},
        "set_module_name_object_type_order": lambda: {
            "module_name": "",
            "object_type": nn.Linear,
            "index": 0,
            **_QCONFIG(),
        },
        "from_dict": lambda: {"qconfig_dict": static_qconfigs()},
    },
    Q.PrepareCustomConfig: {
        "set_standalone_module_name": lambda: {
            "module_name": "fc",
            "qconfig_mapping": None,
            "example_inputs": None,
            "prepare_custom_config": None,
            "backend_config": None,
        },
        "set_standalone_module_class": lambda: {
            "module_class": nn.Linear,
            "qconfig_mapping": None,
            "example_inputs": None,
            "prepare_custom_config": None,
            "backend_config": None,
        },
        "set_float_to_observed_mapping": lambda: {
            "float_class": nn.Linear,
            "observed_class": Kept,
            "quant_type": Q.QuantType.STATIC,
        },
        "set_non_traceable_module_names": lambda: {"module_names": ["fc"]},
        "set_non_traceable_module_classes": lambda: {"module_classes": [nn.Linear]},
        "set_input_quantized_indexes": lambda: {"indexes": [0]},
        "set_output_quantized_indexes": lambda: {"indexes": [0]},
        "set_preserved_attributes": lambda: {"attributes": ["conv"]},
        "from_dict": lambda: {"config": {}},
    },
    Q.ConvertCustomConfig: {
        "set_observed_to_quantized_mapping": lambda: {
            "observed_class": Kept,
            "quantized_class": Kept,
            "quant_type": Q.QuantType.STATIC,
        },
        "set_preserved_attributes": lambda: {"attributes": []},
        "from_dict": lambda: {"config": {}},
    },
    Q.FuseCustomConfig: {
        "set_preserved_attributes": lambda: {"attributes": ["conv"]},
        "from_dict": lambda: {"config": {}},
    },
}

# ---------------------------------------------------------------- eager mode


def _eager() -> Iterable[Call]:
    plain = {"mapping": None, "inplace": False}
    yield Call("prepare", Q.prepare, functools.partial(_eager_preparing, Q.prepare, layers))
    yield Call("prepare_qat", Q.prepare_qat, lambda: {"model": layers(training=True), **plain})
    yield Call(
        "convert",
        Q.convert,
        lambda: {
            "module": observed(),
            **plain,
            "remove_qconfig": True,
            "is_reference": False,
            "convert_custom_config_dict": None,
        },
    )
    for name in ("fuse_modules", "fuse_modules_qat"):
        training = name.endswith("qat")
        yield Call(name, getattr(Q, name), functools.partial(_fusing, training))
    yield Call(
        "fuse_known_modules",
        Q.fuse_known_modules,
        lambda: {"modules": [nn.Conv2d(3, 4, 3).eval(), nn.ReLU().eval()], "is_qat": False, "additional": None},
    )
    running = {"run_fn": _run, "run_args": ([images()],)}
    yield Call("quantize", Q.quantize, lambda: {"model": layers(), **running, **plain})
    yield Call("quantize_qat", Q.quantize_qat, lambda: {"model": layers(training=True), **running, "inplace": False})
    yield Call(
        "quantize_dynamic",
        Q.quantize_dynamic,
        lambda: {"model": float_net(), "qconfig_spec": None, "dtype": qfx.qint8, **plain},
    )
    yield Call(
        "quantize_dynamic_jit",
        Q.quantize_dynamic_jit,
        lambda: {"model": _script(), "qconfig_dict": dynamic_qconfigs(), "inplace": False, "debug": False},
    )
    yield Call(
        "quantize_jit",
        Q.quantize_jit,
        lambda: {"model": _script(), "qconfig_dict": static_qconfigs(), **running, "inplace": False, "debug": False},
    )
    yield Call("default_eval_fn", Q.default_eval_fn, lambda: {"model": observed(), "calib_data": [(images(), 0)]})
    yield Call("add_observer_", Q.add_observer_, lambda: {"module": layers(), "mapping": None})
    yield Call("swap_module", Q.swap_module, lambda: {"mod": observed(), "mapping": None})
    yield Call("propagate_qconfig_", Q.propagate_qconfig_, lambda: {"module": layers(), "qconfig_dict": None})
    yield Call("get_observer_dict", Q.get_observer_dict, lambda: {"mod": observed(), "target_dict": {}, "prefix": ""})
    for name in (
        "add_quant_dequant", "disable_fake_quant", "disable_observer", "enable_fake_quant", "enable_observer",
        "freeze_bn_stats", "update_bn_stats",
    ):  # fmt: skip
        yield Call(name, getattr(Q, name), lambda: {"module": layers()})
    yield Call("QuantWrapper", Q.QuantWrapper, lambda: {"module": float_net()})
    for name in ("QuantStub", "DeQuantStub"):
        yield Call(f"{name}()", _applied(getattr(Q, name), images), lambda: {"qconfig": None})
        yield Call(name, _called(getattr(Q, name)), lambda: {"x": images()})


def _script() -> Any:
    return torch.jit.script(float_net())


def _run(model: nn.Module, data: Any) -> None:
    for x in data:
        model(x)


def _eager_preparing(fn: Callable[..., Any], model: Callable[[], Any]) -> dict[str, Any]:
    rest = {n: p.default for n, p in inspect.signature(fn).parameters.items() if n != "model"}
    return {"model": model(), **rest}


def _fusing(training: bool) -> dict[str, Any]:
    given = {"inplace": False, "fuser_func": None, "fuse_custom_config_dict": None}
    return {"model": layers(training=training), "modules_to_fuse": [["1", "2"]], **given}


# ---------------------------------------------------------------- quantized layers and functions

_WINDOW = {"kernel_size": 2, "stride": 1, "padding": 0}
_POOLED = {**_WINDOW, "ceil_mode": False}
_WEIGHTED = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", **_OUT}
_SCALED = {"size": None, "scale_factor": 2.0}
_BOTH = {"mode": "nearest", "align_corners": None}
_FUNCTIONS: dict[str, dict[str, Any]] = {
    **{key: {"inplace": False} for key in ("relu", "hardsigmoid")},
    **{key: {"output_size": 2} for key in ("adaptive_avg_pool2d",)},
    **{key: {**_OUT, "alpha": 1.0} for key in ("celu", "elu")},
    **{key: {**_SCALED, **_BOTH} for key in ("interpolate", "upsample")},
    **dict.fromkeys(("upsample_bilinear", "upsample_nearest"), _SCALED),
    "avg_pool2d": {**_POOLED, "count_include_pad": True, "divisor_override": None},
    "max_pool2d": {**_POOLED, "dilation": 1, "return_indices": False},
    "clamp": {"min_": -1.0, "max_": 1.0},
    "group_norm": {"num_groups": 3, "weight": None, "bias": None, "eps": 1e-5, **_OUT},
    "instance_norm": {"weight": None, "bias": None, "eps": 1e-5, **_OUT},
    "layer_norm": {"normalized_shape": [6, 6], "weight": None, "bias": None, "eps": 1e-5, **_OUT},
    "hardswish": _OUT,
    "hardtanh": {"min_val": -1.0, "max_val": 1.0, "inplace": False},
    "leaky_relu": {"negative_slope": 0.1, "inplace": False, **_OUT},
    "threshold": {"threshold": 0.5, "value": 0.0},
}
"""Functions of one image, and their other arguments."""


def _functions() -> Iterable[Call]:
    for name, rest in _FUNCTIONS.items():
        yield Call(f"functional.{name}", getattr(F, name), lambda rest=rest: {"input": codes(), **rest})
    for name in ("add", "add_relu", "sub", "mul", "mul_relu"):
        yield Call(f"functional.{name}", getattr(F, name), lambda: {"x": codes(), "y": codes(), **_OUT, "dtype": None})
    yield Call("functional.matmul", F.matmul, lambda: {"x": codes(), "y": codes(), **_OUT, "dtype": None})
    for name in ("add_scalar", "mul_scalar"):
        yield Call(f"functional.{name}", getattr(F, name), lambda: {"x": codes(), "value": 0.5})
    yield Call("functional.cat", F.cat, lambda: {"tensors": [codes(), codes()], "dim": 1, **_OUT})
    for name, _make in (("conv1d", codes), ("conv2d", codes), ("conv3d", codes)):
        rank = int(name[4])
        shape = (4, 3, *[3] * rank)
        yield Call(f"functional.{name}", getattr(F, name), functools.partial(_convolving, rank, shape))
    yield Call(
        "functional.linear",
        F.linear,
        lambda: {"input": codes(), "weight": weights(5, 6), "bias": torch.zeros(5), **_OUT},
    )
    yield Call(
        "functional.batch_norm",
        F.batch_norm,
        lambda: {"input": codes(), "factor": weights(3), "shift": torch.zeros(3), **_OUT, "dtype": None},
    )
    for name, other in (("adaptive_avg_pool3d", {"output_size": 2}), ("avg_pool3d", {**_FUNCTIONS["avg_pool2d"]})):
        yield Call(f"functional.{name}", getattr(F, name), lambda other=other: {"input": _of_rank(3), **other})
    yield Call("functional.max_pool1d", F.max_pool1d, lambda: {"input": _of_rank(1), **_FUNCTIONS["max_pool2d"]})


def _convolving(rank: int, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"input": _of_rank(rank), "weight": weights(*shape), **_WEIGHTED, "dtype": qfx.quint8}


def _of_rank(rank: int) -> Any:
    return qfx.quantize_per_tensor(torch.ones(4, 3, *[6] * rank), 0.1, 3, qfx.quint8)


def _channels(kind: str) -> Callable[[], Any]:
    return functools.partial(_of_rank, int(kind[-2]) if kind[-1] == "d" else 2)


_CONV = {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_NORM = {"num_features": 3, "eps": 1e-5}
_LAYERS: dict[str, dict[str, Any]] = {
    **{key: {"alpha": 1.0} for key in ("CELU", "ELU")},
    **{key: {"inplace": False} for key in ("SELU", "Hardswish", "Mish", "SiLU", "ReLU", "ReLU6")},
    **{key: {**_NORM, "momentum": 0.1} for key in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")},
    **{key: {**_NORM, "affine": True} for key in ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")},
    **{key: {**_CONV, "bias": True, "padding_mode": "zeros"} for key in ("Conv1d", "Conv2d", "Conv3d")},
    "GELU": {"approximate": "none"},
    "GroupNorm": {"num_groups": 3, "num_channels": 3, "eps": 1e-5},
    "LayerNorm": {"normalized_shape": [6, 6], "eps": 1e-5},
    "LeakyReLU": {"negative_slope": 0.01, "inplace": False},
    "Linear": {"in_features": 6, "out_features": 4, "bias": True},
    "Softplus": {"beta": 1.0, "threshold": 20.0},
    "MaxPool2d": {"kernel_size": 2, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False},
}
"""Quantized layers, and the arguments of the float layers that they have too."""
_WITHOUT_SCALE = {"ReLU", "ReLU6", "MaxPool2d"}


def _layers() -> Iterable[Call]:
    for name, given in _LAYERS.items():
        kind, x = getattr(nnq, name), _channels(name)
        own = {} if name in _WITHOUT_SCALE else {"scale": 0.1, "zero_point": 3}
        yield Call(f"{name}()", _applied(kind, x), lambda given=given, own=own: {**given, **own})
        yield Call(f"{name}", lambda x, kind=kind, given=given: kind(**given)(x), lambda x=x: {"x": x()})
        if hasattr(kind, "from_float"):
            yield Call(f"{name}.from_float", kind.from_float, functools.partial(_float_layer, name, given))
    yield Call("Quantize()", _applied(nnq.Quantize, images), lambda: {**_OUT, "dtype": qfx.quint8})
    yield Call("Quantize", _called(nnq.Quantize), lambda: {"x": images()})
    yield Call("DeQuantize", _called(nnq.DeQuantize), lambda: {"x": codes()})
    yield Call("FloatLayer()", _applied(nnq.FloatLayer, codes), lambda: {"layer": nn.Tanh(), **_OUT})
    for method in ("add", "mul", "add_relu"):
        yield Call(f"QFunctional.{method}", _of(nnq.QFunctional, method), lambda: {"x": codes(), "y": codes()})
    yield Call("QFunctional.cat", _of(nnq.QFunctional, "cat"), lambda: {"x": [codes(), codes()], "dim": 1})
    yield Call("QFunctional.add_scalar", _of(nnq.QFunctional, "add_scalar"), lambda: {"x": codes(), "y": 0.5})
    yield Call("QFunctional()", nnq.QFunctional, lambda: {**_OUT})
    yield Call(
        "quantized_layer",
        nnq.quantized_layer,
        lambda: {"name": "Own", "of": nn.Tanh, "doc": "Own.", "base": nnq.QuantizedLayer, "module": __name__},
    )


def _float_layer(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"mod": one_layer(getattr(nn, name)(**given))}


_SEQUENCE = {"input_size": 6, "hidden_size": 4}
_CELL = {**_SEQUENCE, "bias": True, "dtype": qfx.qint8}
_RECURRENT = {
    **_SEQUENCE,
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
    "dtype": qfx.qint8,
}
_DYNAMIC: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "Linear": ({"in_features": 6, "out_features": 4, "bias_": True, "dtype": qfx.qint8}, images),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), (_RECURRENT, lambda: torch.ones(5, 2, 6))),
    **dict.fromkeys(("GRUCell", "LSTMCell", "RNNCell"), (_CELL, lambda: torch.ones(2, 6))),
    "Embedding": (
        {"num_embeddings": 9, "embedding_dim": 4, "padding_idx": None, "dtype": qfx.qint8},
        lambda: torch.tensor([[1, 2], [3, 8]]),
    ),
    "EmbeddingBag": (
        {"num_embeddings": 9, "embedding_dim": 4, "mode": "mean", "padding_idx": None, "dtype": qfx.qint8},
        lambda: torch.tensor([[1, 2], [3, 8]]),
    ),
    "MultiheadAttention": (
        {"embed_dim": 6, "num_heads": 2, "dropout": 0.0, "bias": True, "batch_first": False},
        lambda: torch.ones(5, 2, 6),
    ),
}
"""Dynamic layers: arguments, and good input."""


def _dynamic() -> Iterable[Call]:
    for name, (given, x) in _DYNAMIC.items():
        kind, times = getattr(nnqd, name), 3 if name == "MultiheadAttention" else 1
        yield Call(f"dynamic.{name}()", lambda k=kind, x=x, t=times, **a: k(**a)(*[x()] * t), lambda g=given: dict(g))
        yield Call(f"dynamic.{name}", lambda x, k=kind, g=given, t=times: k(**g)(*[x] * t), lambda x=x: {"x": x()})
        yield Call(f"dynamic.{name}.from_float", kind.from_float, functools.partial(_float_dynamic, name, given))


def _float_dynamic(name: str, given: dict[str, Any]) -> dict[str, Any]:
    own = {key.rstrip("_"): value for key, value in given.items() if key != "dtype"}
    layer = getattr(nn, name)(**own).eval()
    layer.qconfig = qfx.default_dynamic_qconfig
    return {"mod": layer}


# ---------------------------------------------------------------- the command line


def _command_line() -> Iterable[Call]:
    from qfx.cli import main

    for option in _COMMANDS:
        yield Call(f"cli {' '.join(option)}", lambda given, option=option: _cli(main, [*option, given]), _given_text)


def _given_text() -> dict[str, Any]:
    return {"given": "none"}


def _cli(main: Callable[..., int], arguments: list[Any]) -> None:
    if not all(isinstance(a, str) for a in arguments):
        arguments = [str(a)[:40] for a in arguments]
    import contextlib

    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        status = main(arguments)
    assert status in (0, 1, 2), status
    assert "Traceback" not in said.getvalue(), said.getvalue()


_COMMANDS: tuple[tuple[str, ...], ...] = (
    (),
    *((command,) for command in ("quantize", "run", "bench", "inspect", "draw", "report", "compare", "sensitivity")),
    ("calibrate",),
    ("quantize", "tests.fuzz.subjects:Net", "--calibration"),
    ("quantize", "tests.fuzz.subjects:Net", "--calibration", "random", "-o"),
)

CALLS: list[Call] = [
    call
    for table in (
        _graph_mode, _around, _runtime, _tensors, _observers, _configs, _eager, _functions, _layers, _dynamic,
        _command_line,
    )
    for call in table()
]  # fmt: skip

# ---------------------------------------------------------------- what is not called

_ERROR = "an error or a warning: its arguments are texts"
_RECORD = "what a call returns, for reading"
_VALUE = "a value: nothing to call"
_BASE = "a base, whose subclasses are called"
_NOTHING = "takes no arguments"
UNCALLED: dict[str, str] = {
    **dict.fromkeys(
        (
            "CalibrationError", "CaptureError", "ConversionError", "InputError", "QConfigError", "QfxError",
            "QuantizationError", "RuntimeLoadError", "StaysFloatWarning", "UncalibratedWarning", "UnsupportedError",
            "UnusedEntryWarning",
        ),
        _ERROR,
    ),
    **dict.fromkeys(
        (
            "Comparison", "Deviation", "NodeComparison", "NodeSensitivity", "PreparedModel", "QuantizedModel", "Record",
            "Report", "Sensitivity", "Suggestion", "TrainableModel", "Explanation", "MemoryRecord", "Model",
            "Certificate", "ModelValue", "Peaks", "StepRecord", "Picture", "Program",
        ),
        _RECORD,
    ),
    **dict.fromkeys(
        (
            "QDType", "QScheme", "QuantType", "per_channel_affine", "per_channel_symmetric", "per_tensor_affine",
            "per_tensor_symmetric", "qint32", "qint8", "quint8", "nn", "quantization", "rules", "runtime",
        ),
        _VALUE,
    ),
    **dict.fromkeys(("FakeQuantizeBase", "Observer", "ObserverBase", "QuantizedLayer", "WeightedLayer"), _BASE),
    **dict.fromkeys(
        (
            "cpu_info", "default_dynamic_mapping", "default_qat_mapping", "default_static_mapping",
            "get_default_qconfig_propagation_list", "get_num_threads", "isa_names",
        ),
        _NOTHING,
    ),
    "FloatFunctional": "float arithmetic of torch's until it is converted: its errors are torch's",
    "ProgramBuilder": "tests/fuzz/programs.py gives it random programs",
    **dict.fromkeys(("from_pt2e", "from_torch_ao"), "takes models of other tools: tests/imports has what it refuses"),
}  # fmt: skip
"""Public names that no row calls, and why."""
