"""How long a report of a deep network takes: ``python -m benchmarks.report_time [--blocks 933]``.

Convolution, batch norm and ReLU around a residual, ``--blocks`` times in stages of 31: three boxes a block in the page
that ``qfx.write_report`` makes. Seconds of the clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import qfx


class Block(nn.Module):
    """``x + relu(norm(conv(x)))``."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        nn.init.constant_(self.norm.weight, 0.01)  # or the sum of all leaves float32

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=933)
    options = parser.parse_args()
    torch.manual_seed(0)
    blocks = [Block() for _ in range(options.blocks)]
    net = nn.Sequential(*(nn.Sequential(*blocks[i : i + 31]) for i in range(0, len(blocks), 31))).eval()
    start = time.perf_counter()
    model = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [torch.randn(1, 8, 8, 8)], adaptive_rounding=False)
    made = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        page = qfx.write_report(Path(folder) / "report.html", model)
        done = time.perf_counter()
        print(f"{options.blocks} blocks, {len(model.report)} ops: quantize_fx {made - start:.1f} s, ", end="")
        print(f"write_report {done - made:.1f} s, a page of {Path(page).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
