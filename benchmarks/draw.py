"""How long pictures take: ``python -m benchmarks.draw``.

A graph of about 1,000 nodes is to be drawn in under 3 seconds, with pip's renderer and with a system's dot.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn

from qfx.errors import QfxError
from qfx.viz.dot import Style, write_dot
from qfx.viz.read import read
from qfx.viz.render import render, renderer

ASKED_SECONDS = 3.0
RENDERERS = ("graphviz-pure", "dot")


class Block(nn.Module):
    """Seven nodes: two convolutions with batch norms and activations, and an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.conv2, self.bn2, self.act2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act2(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))) + x)


def network(nodes: int) -> nn.Module:
    """Stages of ten residual blocks, of ``nodes`` nodes or a few more."""
    stages = -(-nodes // 70)
    return nn.Sequential(*(nn.Sequential(*(Block() for _ in range(10))) for _ in range(stages))).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    scene = read(network(parser.parse_args().nodes), "float", torch.randn(1, 8, 16, 16))
    print(f"{len(scene.boxes)} nodes, {len(scene.arrows)} arrows")
    for program in RENDERERS:
        try:
            renderer(program)
        except QfxError:
            print(f"{program:14s} not installed")
            continue
        for clusters in (True, False):
            started = time.perf_counter()
            size = len(render(write_dot(scene, Style(clusters=clusters)), "svg", program))
            spent = time.perf_counter() - started
            verdict = "met" if spent <= ASKED_SECONDS else "MISSED"
            frames = "with frames" if clusters else "no frames"
            print(f"{program:14s} {frames:11s} {spent:5.2f} s, {size / 1e6:.1f} MB; asked {ASKED_SECONDS} s: {verdict}")


if __name__ == "__main__":
    main()
