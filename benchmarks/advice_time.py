"""How long advice takes: ``python -m benchmarks.advice_time [--images 64] [--sentences 16] [--tokens 128]``.

``qfx.sensitivity`` of MobileNetV3-Small (timm's definition, random weights) and of an encoder as large as MiniLM's (six
layers of 384), against one float forward of the same data. CPU seconds of one thread, imports left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import qfx
from benchmarks import zoo
from benchmarks.report import header, row


class Attention(nn.Module):
    """Self-attention of 12 heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = [layer(x).view(batch, length, 12, -1).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        weights = (heads[0] @ heads[1].transpose(-1, -2) * 0.177).softmax(-1)
        return self.out((weights @ heads[2]).transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    """A layer of an encoder, norms after the residuals."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention, self.norm1 = Attention(width), nn.LayerNorm(width)
        self.up, self.down, self.norm2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class Encoder(nn.Module):
    """Token ids to sentence embeddings."""

    def __init__(self, width: int = 384, layers: int = 6) -> None:
        super().__init__()
        self.words, self.layers = nn.Embedding(1000, width), nn.Sequential(*(Layer(width) for _ in range(layers)))

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.normalize(self.layers(self.words(ids)).mean(1))


def seconds(action: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    mobilenet = zoo._timm().create_model("mobilenetv3_small_100").eval()
    given: list[tuple[str, nn.Module, Tensor]] = [
        ("MobileNetV3-Small", mobilenet, torch.randn(options.images, 3, 224, 224)),
        ("MiniLM's size", Encoder().eval(), torch.randint(1000, (options.sentences, options.tokens))),
    ]
    qfx.sensitivity(Layer(12).eval(), {"": qfx.get_default_qconfig()}, torch.randn(2, 3, 12))  # imports
    header("model", "", "CPU seconds", "forwards")
    for name, model, data in given:
        with torch.no_grad():
            model(data)
            forward = min(seconds(lambda: model(data)) for _ in range(5))  # noqa: B023
        found: list[qfx.Sensitivity] = []
        taken = seconds(lambda: found.append(qfx.sensitivity(model, {"": qfx.get_default_qconfig()}, data)))  # noqa: B023
        row(name, f"{len(found[0])} nodes", f"{taken:.1f}", f"{taken / forward:.0f}")


if __name__ == "__main__":
    main()
