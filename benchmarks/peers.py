"""What qfx is measured against: today's other int8 paths on a CPU, each from the same float model and calibration.

Each one's ``load`` quantizes the network first, unless an earlier run has left the result in ``.cache``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.artefacts import artefact
from benchmarks.workloads import Tensors, Workload

Call = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Peer:
    """Another way to run a network.

    Attributes:
        load: From a workload, a batch size and a number of threads, what maps a network's inputs to its output.
        packages: What has to be installed.
        quantized: Whether it computes in int8.
        dynamic: Whether it quantizes activations at run time: for transformers.
    """

    load: Callable[[Workload, int, int], Call]
    packages: tuple[str, ...] = ()
    quantized: bool = True
    dynamic: bool = False


# ------------------------------------------------------------------ torch


def _float_eager(workload: Workload, _batch: int, threads: int) -> Call:
    torch.set_num_threads(threads)
    model = workload.load()
    if workload.inputs(1)[0].dim() != 4:
        return model
    model = model.to(memory_format=torch.channels_last)
    return lambda x: model(x.contiguous(memory_format=torch.channels_last))


def _torch_ao(engine: str) -> Callable[[Workload, int, int], Call]:
    def load(workload: Workload, _batch: int, threads: int) -> Call:
        torch.set_num_threads(threads)
        torch.backends.quantized.engine = engine
        folder = artefact(workload, f"torch-ao-{engine}", ["torch"], lambda to: quantize_torch_ao(workload, engine, to))
        return torch.jit.load(folder / "frozen.pt")

    return load


def quantize_torch_ao(workload: Workload, engine: str, folder: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = quantized_by_torch_ao(workload, engine)
        traced = torch.jit.trace(model, workload.inputs(2), check_trace=False)
        torch.jit.save(torch.jit.freeze(traced.eval()), folder / "frozen.pt")


def quantized_by_torch_ao(workload: Workload, engine: str) -> nn.Module:
    """The network quantized by FX mode."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        example = workload.inputs(2)
        observed = prepare_fx(workload.load(), get_default_qconfig_mapping(engine), example)
        for batch in workload.calibration():
            observed(*batch)
        return convert_fx(observed)


# ------------------------------------------------------------------ onnxruntime


def onnx_file(workload: Workload) -> Path:
    """The float network as an ONNX file with a free batch size, attention spelled out."""
    return artefact(workload, "float", ["torch", "onnx"], lambda to: _export_onnx(workload, to)) / "model.onnx"


def _export_onnx(workload: Workload, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            (workload.load_spelled_out or workload.load)(),
            workload.inputs(2),
            str(folder / "model.onnx"),
            input_names=list(workload.takes),
            output_names=["y"],
            dynamic_axes={name: {0: "n"} for name in (*workload.takes, "y")},
            opset_version=17,
            dynamo=False,
        )


def _named(workload: Workload, given: Tensors) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in zip(workload.takes, given, strict=True)}


def quantize_onnx(workload: Workload, folder: Path) -> None:
    """onnxruntime's static quantization to QDQ form: uint8 activations by min/max, int8 weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(workload.calibration(batch=1))

        def get_next(self) -> dict[str, object] | None:
            sample = next(self.left, None)
            return None if sample is None else _named(workload, sample)

    shaped = folder / "shaped.onnx"
    quant_pre_process(onnx_file(workload), shaped, skip_symbolic_shape=True)
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    method = CalibrationMethod.MinMax
    quantize_static(shaped, folder / "model.onnx", Samples(), per_channel=True, calibrate_method=method, **types)
    shaped.unlink()


def _onnxruntime_int8(workload: Workload, _batch: int, threads: int) -> Call:
    packages = ["torch", "onnx", "onnxruntime"]
    return _session(workload, artefact(workload, "int8", packages, lambda to: quantize_onnx(workload, to)), threads)


def quantize_onnx_dynamic(workload: Workload, folder: Path) -> None:
    """onnxruntime's dynamic quantization, int8 weights per channel, after its own fusions for transformers."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = onnx_file(workload)
    fused = folder / "fused.onnx"
    if workload.attention is not None:
        from onnxruntime.transformers.optimizer import optimize_model

        kind, sizes = workload.attention.fusions, (workload.attention.heads, workload.attention.width)
        optimize_model(str(path), kind, *sizes, opt_level=1).save_model_to_file(str(fused))
        path = fused
    # Fused nodes have no inferred type: 1 is ONNX's number for float32.
    extra = {"DefaultTensorType": 1}
    quantize_dynamic(path, folder / "model.onnx", per_channel=True, weight_type=QuantType.QInt8, extra_options=extra)
    fused.unlink(missing_ok=True)


def _onnxruntime_dynamic(workload: Workload, _batch: int, threads: int) -> Call:
    packages = ["torch", "onnx", "onnxruntime"]
    made = artefact(workload, "dynamic", packages, lambda to: quantize_onnx_dynamic(workload, to))
    return _session(workload, made, threads)


def _session(workload: Workload, folder: Path, threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    # Fusions and export may drop an input that a network has no use for.
    used = {given.name for given in session.get_inputs()}

    def call(*given: torch.Tensor) -> torch.Tensor:
        feed = {name: array for name, array in _named(workload, given).items() if name in used}
        return torch.from_numpy(session.run(None, feed)[0])

    return call


# ------------------------------------------------------------------ openvino


def _openvino(workload: Workload, batch: int, threads: int) -> Call:
    import openvino

    folder = artefact(workload, "int8", ["torch", "onnx", "openvino", "nncf"], lambda to: quantize_nncf(workload, to))
    core = openvino.Core()
    model = core.read_model(folder / "model.xml")
    model.reshape({name: [batch, *array.shape[1:]] for name, array in _named(workload, workload.inputs(1)).items()})
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", hints).create_infer_request()

    def call(*given: torch.Tensor) -> torch.Tensor:
        results = request.infer(_named(workload, given), share_inputs=True, share_outputs=True)
        return torch.from_numpy(results[0])

    return call


def quantize_nncf(workload: Workload, folder: Path) -> None:
    import nncf
    import openvino

    samples = workload.calibration(batch=1)
    data = nncf.Dataset(samples, lambda sample: _named(workload, sample))
    model = openvino.convert_model(onnx_file(workload))
    preset, kind = nncf.QuantizationPreset.MIXED, nncf.ModelType.TRANSFORMER if workload.attention else None
    quantized = nncf.quantize(model, data, subset_size=len(samples), preset=preset, model_type=kind)
    openvino.save_model(quantized, folder / "model.xml", compress_to_fp16=False)


# ------------------------------------------------------------------ torchao PT2E


def quantize_pt2e(workload: Workload, quantizer: object, example: Tensors, *, strict: bool) -> nn.Module:
    """The network exported for ``example`` and quantized with calibration batches of the same size."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    with torch.no_grad():
        exported = torch.export.export(workload.load(), example, strict=strict).module()
        observed = prepare_pt2e(exported, quantizer)
        for batch in workload.calibration(len(example[0])):
            observed(*batch)
        return convert_pt2e(observed)


def _executorch(workload: Workload, batch: int, threads: int) -> Call:
    from executorch.extension.pybindings import portable_lib

    packages = ["torch", "torchao", "executorch"]
    folder = artefact(workload, "xnnpack", packages, lambda to: _lower_xnnpack(workload, batch, to), f"batch-{batch}")
    portable_lib._unsafe_reset_threadpool(threads)
    module = portable_lib._load_for_executorch(str(folder / "model.pte"))
    return lambda *given: module.forward(given)[0]


def _lower_xnnpack(workload: Workload, batch: int, folder: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower

    example = workload.inputs(batch)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    quantized = quantize_pt2e(workload, quantizer, example, strict=False)
    exported = torch.export.export(quantized, example, strict=False)
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    (folder / "model.pte").write_bytes(lowered.buffer)


def _inductor(workload: Workload, batch: int, threads: int) -> Call:
    """Compiled ahead of time: the kernels that torch.compile makes, without its guards at every call."""
    torch.set_num_threads(threads)
    packages, variant = ["torch", "torchao"], f"batch-{batch}_threads-{threads}"
    folder = artefact(workload, "inductor", packages, lambda to: _compile_inductor(workload, batch, to), variant)
    return torch._inductor.aoti_load_package(str(folder / "model.pt2"))


def _compile_inductor(workload: Workload, batch: int, folder: Path) -> None:
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    example = workload.inputs(batch)
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    quantized = quantize_pt2e(workload, quantizer, example, strict=True)  # the quantizer matches what strict leaves
    with torch.no_grad():
        exported = torch.export.export(quantized, example)
        settings = {"freezing": True}
        torch._inductor.aoti_compile_and_package(
            exported, package_path=str(folder.absolute() / "model.pt2"), inductor_configs=settings
        )


TABLE = {
    "torch.ao x86": Peer(_torch_ao("x86")),
    "torch.ao onednn": Peer(_torch_ao("onednn")),
    "onnxruntime int8": Peer(_onnxruntime_int8, ("onnx", "onnxruntime")),
    "openvino int8": Peer(_openvino, ("onnx", "openvino", "nncf")),
    "onnxruntime dynamic": Peer(_onnxruntime_dynamic, ("onnx", "onnxruntime"), dynamic=True),
    "executorch xnnpack": Peer(_executorch, ("executorch", "torchao")),
    "torchao inductor": Peer(_inductor, ("torchao",)),
    "torch fp32": Peer(_float_eager, quantized=False),
    "onnxruntime fp32": Peer(
        lambda workload, _batch, threads: _session(workload, onnx_file(workload).parent, threads),
        ("onnx", "onnxruntime"),
        quantized=False,
    ),
}


def missing(name: str) -> list[str]:
    """The packages that a peer needs and that are not installed."""
    return [package for package in TABLE[name].packages if find_spec(package) is None]
