"""A recurrent network, dynamically quantized: ``python -m benchmarks.recurrent [--seconds 0.5] [--rounds 6]``.

Resemblyzer's voice encoder with its own weights: three layers of LSTM, 40 to 256 features, and a linear layer, on 160
frames. The contenders take turns in one process, so that whatever slows the machine slows all of them.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import itertools
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import qfx
from benchmarks.report import header, row
from benchmarks.timing import Turn, summary, take_turn
from qfx.quantization import per_channel_dynamic_qconfig

FRAMES, FEATURES, HIDDEN, LAYERS = 160, 40, 256, 3
Call = Callable[[Tensor], Tensor]


class VoiceEncoder(nn.Module):
    """Spectrograms [batch, frames, 40] to unit vectors [batch, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, LAYERS, batch_first=True)
        self.linear = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / torch.norm(raw, dim=1, keepdim=True)


def voice_encoder() -> nn.Module:
    """The network with the weights that Resemblyzer brings."""
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("Resemblyzer is not installed: pip install --no-deps resemblyzer")
    file = Path(spec.submodule_search_locations[0]) / "pretrained.pt"
    state = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    model = VoiceEncoder()
    model.load_state_dict({k: v for k, v in state.items() if k in model.state_dict()})
    return model.eval().requires_grad_(False)


def frames(batch: int, seed: int = 5) -> Tensor:
    """Random numbers spread as the network's mel spectrograms are: most small, few large."""
    return torch.rand(batch, FRAMES, FEATURES, generator=torch.Generator().manual_seed(seed)).pow(4)


def float_torch(threads: int) -> Call:
    """The float network."""
    model = voice_encoder()

    def call(x: Tensor) -> Tensor:
        torch.set_num_threads(threads)
        return model(x)

    return call


def ours(threads: int) -> Call:
    """``qfx.quantize_fx``, by a dynamic qconfig: int8 weights per channel."""
    model = qfx.quantize_fx(voice_encoder(), {"": per_channel_dynamic_qconfig}, example_inputs=frames(2))

    def call(x: Tensor) -> Tensor:
        torch.set_num_threads(threads)
        qfx.set_num_threads(threads)
        return model(x)

    return call


def torch_ao(threads: int) -> Call:
    """``torch.ao.quantization.quantize_dynamic``, traced and frozen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(copy.deepcopy(voice_encoder()), {nn.Linear, nn.LSTM})
        traced = torch.jit.freeze(torch.jit.trace(model, frames(2), check_trace=False).eval())

    def call(x: Tensor) -> Tensor:
        torch.set_num_threads(threads)
        return traced(x)

    return call


def onnxruntime_dynamic(threads: int) -> Call:
    """onnxruntime's dynamic quantization, int8 weights per channel."""
    import onnxruntime
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize_onnx

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given, made = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        axes = {"x": {0: "n"}, "y": {0: "n"}}
        names = {"input_names": ["x"], "output_names": ["y"]}
        example = (frames(2),)
        torch.onnx.export(
            voice_encoder(), example, str(given), opset_version=17, dynamo=False, dynamic_axes=axes, **names
        )
        quantize_onnx(given, made, per_channel=True, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        session = onnxruntime.InferenceSession(made.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


PEER = "onnxruntime dynamic int8"
CONTENDERS = {"qfx": ours, PEER: onnxruntime_dynamic, "torch.ao dynamic": torch_ao, "torch float32": float_torch}


def compare(batch: int, threads: int, seconds: float, rounds: int) -> dict[str, list[Turn]]:
    """Each contender's turns, one of each after the other."""
    calls, x = {name: load(threads) for name, load in CONTENDERS.items()}, frames(batch)
    turns: dict[str, list[Turn]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            turns[name].append(take_turn(lambda call=call: call(x), seconds))  # type: ignore[misc]
    return turns


def cosines() -> dict[str, float]:
    """Each contender's least cosine to the float network's vectors, of 64 spectrograms."""
    x = frames(64, seed=6)
    reference = voice_encoder()(x)
    return {
        name: float(nn.functional.cosine_similarity(reference.double(), load(1)(x).double()).min())
        for name, load in CONTENDERS.items()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one turn")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args(arguments)
    header("contender", "least cosine", "batch", "threads", "median ms", "onnxruntime / it", "turns' medians")
    with torch.inference_mode():
        close = cosines()
        for batch, threads in itertools.product(options.batches, options.threads):
            turns = compare(batch, threads, options.seconds, options.rounds)
            peer = summary(turns[PEER]).median
            for name, taken in turns.items():
                sample = summary(taken)
                spread = f"{min(sample.turns):.2f} to {max(sample.turns):.2f}"
                cells = f"{sample.median:.2f}", f"{peer / sample.median:.2f}", spread
                row(name, f"{close[name]:.5f}", batch, threads, *cells)
            ratios = [p / o for p, o in zip(_medians(turns[PEER]), _medians(turns["qfx"]), strict=True)]
            row("", "", batch, threads, "", f"{statistics.median(ratios):.2f}", "median of the rounds' ratios")


def _medians(turns: list[Turn]) -> list[float]:
    return [statistics.median(turn.ms) for turn in turns]


if __name__ == "__main__":
    main()
