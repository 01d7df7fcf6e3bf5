"""Models that other tools quantized, taken over: ``python -m benchmarks.moving [network ...] [--threads 1 2]``.

Each network is quantized twice, by torchao's PT2E flow for Inductor and by PyTorch's FX mode. What those tools run is
``torch.compile`` of the one with frozen weights, and the other traced and frozen; qfx runs what ``from_pt2e`` and
``from_torch_ao`` make of the same models. The contenders take turns in one process. How close results are is counted
in steps of 8 bits over the range of the other tool's results.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import statistics
import warnings
from collections.abc import Callable

import torch
import torch._inductor.config
from torch import Tensor, nn

import qfx
from benchmarks import peers
from benchmarks.report import header, row
from benchmarks.timing import Turn, summary, take_turn
from benchmarks.workloads import Tensors, Workload, workload

BERT = "bert_like"
NETWORKS = ("resnet18", "mobilenet_v2", BERT)
AT_MOST = 0.75
Call = Callable[..., Tensor]


class Layer(nn.Module):
    """A layer of BERT's, its attention spelled out so that every tool quantizes the products."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) * self.size**-0.5, -1)
        y = torch.matmul(weights, v).transpose(1, 2).flatten(2)
        x = self.first(x + self.out(y))
        return self.second(x + self.down(nn.functional.gelu(self.up(x))))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.size)).transpose(1, 2)


def encoder() -> nn.Module:
    """Token numbers to two scores: 6 layers of width 384, as MiniLM has, with random weights."""
    torch.manual_seed(0)
    layers = nn.Embedding(1000, 384), *(Layer(384, 12) for _ in range(6)), nn.Linear(384, 2)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def network(name: str) -> Workload:
    """A network by name: one of this benchmark's own, or of the workloads."""
    if name != BERT:
        return workload(name)

    def tokens(count: int, seed: int) -> Tensors:
        return (torch.randint(0, 1000, (count, 64), generator=torch.Generator().manual_seed(seed)),)

    return Workload(name, encoder, tokens, ("ids",))


def pt2e(given: Workload, batch: int) -> tuple[nn.Module, Call]:
    """The model that torchao's quantizer for Inductor makes, and its kernels."""
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    model = peers.quantize_pt2e(given, quantizer, given.inputs(batch), strict=True)
    return model, torch.compile(model)


def torch_ao(given: Workload, batch: int) -> tuple[nn.Module, Call]:
    """The model that FX mode makes, and the same traced and frozen."""
    torch.backends.quantized.engine = "x86"
    model = peers.quantized_by_torch_ao(given, "x86")
    traced = torch.jit.trace(model, given.inputs(batch), check_trace=False)
    return model, torch.jit.freeze(traced.eval())


TOOLS = {"inductor": (pt2e, qfx.from_pt2e), "torch.ao": (torch_ao, qfx.from_torch_ao)}


def turns_of(calls: dict[str, Call], inputs: Tensors, seconds: float, rounds: int) -> dict[str, list[Turn]]:
    """Each contender's turns, one of each after the other."""
    turns: dict[str, list[Turn]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            turns[name].append(take_turn(lambda call=call: call(*inputs), seconds))  # type: ignore[misc]
    return turns


def steps_apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """How many steps of 8 bits over the range of ``theirs`` each result is away."""
    return (ours - theirs).abs() / ((theirs.max() - theirs.min()) / 255)


def measure(name: str, tool: str, batch: int, threads: int, options: argparse.Namespace) -> None:
    """Print a row: how close, both times, and their ratio."""
    given = network(name)
    quantize, take_over = TOOLS[tool]
    torch.set_num_threads(threads)
    qfx.set_num_threads(threads)
    model, theirs = quantize(given, batch)
    inputs = given.inputs(batch)
    ours = take_over(model, inputs)
    apart = steps_apart(ours(*inputs), model(*inputs))
    turns = turns_of({"theirs": theirs, "ours": ours}, inputs, options.seconds, options.rounds)
    medians = {name: summary(taken).median for name, taken in turns.items()}
    pairs = zip(turns["ours"], turns["theirs"], strict=True)
    ratio = statistics.median(statistics.median(o.ms) / statistics.median(t.ms) for o, t in pairs)
    layers = ours.report.layers()
    integer = sum(record.decision == "int8" for record in layers)
    close = f"{100.0 * float((apart <= 1).float().mean()):.2f} %", f"{float(apart.max()):.2f}"
    times = f"{medians['theirs']:.2f}", f"{medians['ours']:.2f}", f"{ratio:.2f}"
    row(name, tool, batch, threads, f"{integer} of {len(layers)}", *close, *times)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.3, help="of one turn")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    close = "within a step", "furthest, steps"
    header(
        "network", "tool", "batch", "threads", "layers int8", *close, "its ms", "qfx ms", f"ratio, at most {AT_MOST}"
    )
    cells = itertools.product(options.networks, options.tools, options.batches, options.threads)
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch._inductor.config.patch(freezing=True):
            for cell in cells:
                torch.compiler.reset()
                measure(*cell, options)


if __name__ == "__main__":
    main()
