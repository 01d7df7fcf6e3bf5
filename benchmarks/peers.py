"""What qfx is measured against: today's other int8 paths on a CPU, each from the same float model and calibration.

A peer's ``build`` quantizes (cached on disk where it can be) and returns a function from a thread count to a
``Contender``. ``TABLE`` is ordered as the tables print.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import photos
from benchmarks.timing import Contender

CACHE = Path(".cache/benchmarks")
Start = Callable[[int], Contender]


def _float_eager(model: nn.Module, _name: str) -> Start:
    channels_last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    contender = Contender(lambda x: channels_last(x.contiguous(memory_format=torch.channels_last)))
    return lambda _threads: contender


def _torch_ao(engine: str) -> Callable[[nn.Module, str], Start]:
    def build(model: nn.Module, _name: str) -> Start:
        from torch.ao.quantization import get_default_qconfig_mapping
        from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

        def prepare(threads: int) -> None:
            torch.set_num_threads(threads)
            torch.backends.quantized.engine = engine

        prepare(torch.get_num_threads())
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            example = torch.zeros(2, 3, 224, 224)
            observed = prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping(engine), (example,))
            for batch in photos.calibration():
                observed(batch)
            traced = torch.jit.trace(convert_fx(observed), example, check_trace=False)
            frozen = torch.jit.freeze(traced.eval())
        return lambda _threads: Contender(frozen, prepare)

    return build


def onnx_file(model: nn.Module, name: str) -> Path:
    """The float network as an ONNX file with a free batch size; exported once."""
    path = CACHE / f"{name}-{version('torch')}-{_fingerprint(model)}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        free = {"x": {0: "n"}, "y": {0: "n"}}
        partial = path.with_suffix(".partial")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = torch.zeros(2, 3, 224, 224)
            torch.onnx.export(
                model,
                (example,),
                str(partial),
                input_names=["x"],
                output_names=["y"],
                dynamic_axes=free,
                opset_version=17,
                dynamo=False,
            )
        partial.rename(path)
    return path


def _fingerprint(model: nn.Module) -> str:
    total = sum(float(tensor.double().abs().sum()) for tensor in model.state_dict().values())
    return f"{total:.6e}".replace("+", "")


class _Calibration:
    """The calibration crops one by one, in the form that onnxruntime reads."""

    def __init__(self) -> None:
        self.images: Iterator[torch.Tensor] = iter(photos.calibration(batch=1))

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"x": image.numpy()}


def quantize_onnx(source: Path, target: Path) -> None:
    """onnxruntime's static quantization to QDQ form: uint8 activations by min/max, int8 weights per channel."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    CalibrationDataReader.register(_Calibration)
    shaped, partial = target.with_suffix(".shaped"), target.with_suffix(".partial")
    quant_pre_process(source, shaped, skip_symbolic_shape=True)
    quantize_static(
        shaped,
        partial,
        _Calibration(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=False,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    shaped.unlink()
    partial.rename(target)


def _onnxruntime(quantized: bool) -> Callable[[nn.Module, str], Start]:
    def build(model: nn.Module, name: str) -> Start:
        path = onnx_file(model, name)
        if quantized:
            source, path = path, path.with_name(f"{path.stem}-int8-{version('onnxruntime')}.onnx")
            if not path.exists():
                quantize_onnx(source, path)
        return lambda threads: _session(path, threads)

    return build


def _session(path: Path, threads: int) -> Contender:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Contender(lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]))


def _openvino(model: nn.Module, name: str) -> Start:
    import nncf
    import openvino

    path = onnx_file(model, name)
    target = path.with_name(f"{path.stem}-openvino-{version('openvino')}.xml")
    if not target.exists():
        data = nncf.Dataset(photos.calibration(batch=1), lambda image: {"x": image.numpy()})
        preset = nncf.QuantizationPreset.MIXED
        quantized = nncf.quantize(openvino.convert_model(path), data, subset_size=32, preset=preset)
        openvino.save_model(quantized, target, compress_to_fp16=False)

    def start(threads: int) -> Contender:
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = openvino.Core().compile_model(target, "CPU", settings | {"ENABLE_CPU_PINNING": False})
        request = compiled.create_infer_request()

        def call(x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(request.infer([x.numpy()], share_inputs=True, share_outputs=True)[0])

        return Contender(call)

    return start


TABLE: dict[str, Callable[[nn.Module, str], Start]] = {
    "torch fp32": _float_eager,
    "onnxruntime fp32": _onnxruntime(quantized=False),
    "torch.ao x86": _torch_ao("x86"),
    "torch.ao onednn": _torch_ao("onednn"),
    "onnxruntime int8": _onnxruntime(quantized=True),
    "openvino int8": _openvino,
}
NEEDS = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("openvino", "nncf"), "torch": ()}


def available(name: str) -> bool:
    """Whether the packages that a peer needs are installed."""
    family = name.split(" ", maxsplit=1)[0].split(".", maxsplit=1)[0]
    return all(find_spec(package) is not None for package in NEEDS[family])
