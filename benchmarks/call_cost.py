"""Processor time of one call that has almost nothing to compute, in microseconds.

    python benchmarks/call_cost.py [--only NAME] [--calls 1000] [--rounds 15]

The best round counts: what other processes disturb is no cost of a call. One thread, so that processor time is time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

import qfx
import qfx.nn.quantized as nnq
import qfx.nn.quantized.functional as qF
from qfx.quantization import FakeQuantize, quantize_dynamic

Call = Callable[[], object]
X = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))


def calls() -> dict[str, Call]:
    """What is measured, by name."""
    torch.manual_seed(0)
    net, sequence = nn.Sequential(nn.Linear(64, 64)).eval(), torch.randn(2, 1, 32)
    model = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [X])
    weight_only = qfx.quantize_fx(net, {"": qfx.default_dynamic_qconfig}, [X])
    layer, value = nnq.Linear(64, 64, scale=0.05, zero_point=100), qfx.quantize_per_tensor(X, 0.05, 128, qfx.quint8)
    weight, bias = qfx.quantize_per_tensor(torch.randn(64, 64), 0.02, 0, qfx.qint8), torch.randn(64)
    linear, lstm = quantize_dynamic(net), quantize_dynamic(nn.Sequential(nn.LSTM(32, 32)).eval())
    rounding = FakeQuantize()
    return {
        "float Linear, for comparison": lambda: net(X),
        "quantized model": lambda: model(X),
        "dynamically quantized model": lambda: weight_only(X),
        "nn.quantized.Linear": lambda: layer(value),
        "nn.quantized.functional.linear": lambda: qF.linear(value, weight, bias, 0.05, 100),
        "nn.quantized.functional.add": lambda: qF.add(value, value, 0.05, 100),
        "torch.relu of a QTensor": lambda: torch.relu(value),
        "quantize_per_tensor": lambda: qfx.quantize_per_tensor(X, 0.05, 128, qfx.quint8),
        "dequantize": value.dequantize,
        "nn.quantized.dynamic.Linear": lambda: linear(X),
        "nn.quantized.dynamic.LSTM": lambda: lstm(sequence),
        "FakeQuantize": lambda: rounding(X),
    }


def microseconds(call: Call, count: int, rounds: int) -> float:
    """Of the best of ``rounds`` rounds of ``count`` calls."""
    best = float("inf")
    for _ in range(rounds + 1):
        start = time.process_time()
        for _ in range(count):
            call()
        best = min(best, time.process_time() - start)
    return best / count * 1e6


def main() -> None:
    """Print a line for each call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="measure what has this in its name")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        for name, call in calls().items():
            if given.only in name:
                print(f"{name:32} {microseconds(call, given.calls, given.rounds):6.1f} us")


if __name__ == "__main__":
    main()
