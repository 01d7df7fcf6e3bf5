"""What the figures should be, and whether they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.timing import Sample
from benchmarks.workloads import ENCODERS, MLP

RESNETS = ("resnet18", "resnet50")
OVERALL = 0.65
ENCODER, ENCODERS_OVERALL, ENCODER_DYNAMIC = 0.75, 0.70, 0.85
SHARE_OF_PEAK = {
    "resnet50": 0.85, "mobilenet_v2": 0.60, "efficientnet_lite0": 0.55, "minilm": 0.70, "vit_b16": 0.75,
}  # fmt: skip
SHARE_OF_BANDWIDTH = 0.80
TWO_THREADS = {"resnet50": 1.85, "mobilenet_v2": 1.70}
AVX2 = {"resnet50": 0.55, "mobilenet_v2": 0.55}
OPENVINO_AT_AVX2 = {"resnet50": 1.00, "mobilenet_v2": 0.85}
NEIGHBOURS = 1.10
SELECTION = 1.05


@dataclass(frozen=True)
class Verdict:
    """A figure beside its target.

    Attributes:
        what: What was measured.
        value: The figure; None where it could not be measured.
        bound: The target; None where there is none.
        at_most: Whether the figure should not exceed the target, or not fall below it.
        detail: What the figure is made of, or why there is none.
    """

    what: str
    value: float | None
    bound: float | None = None
    at_most: bool = True
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is no figure or no target."""
        if self.value is None or self.bound is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def cells(self) -> tuple[str, ...]:
        """The cells of a table row: what, figure, target, met, detail."""
        value = "n/a" if self.value is None else f"{self.value:.2f}"
        bound = "" if self.bound is None else f"{'<=' if self.at_most else '>='} {self.bound:.2f}"
        return self.what, value, bound, {None: "", True: "yes", False: "NO"}[self.met], self.detail


def row_target(network: str, batch: int) -> float:
    """What our time over the best peer's should be at most."""
    if network in RESNETS:
        return 0.85 if batch == 1 else 0.95
    if network in ENCODERS:
        return ENCODER
    return 0.75 if network == MLP else 0.60


def best_peer(samples: Mapping[str, Sample], ours: str) -> str | None:
    """The fastest of the others, by median."""
    rivals = [label for label in samples if label != ours]
    return min(rivals, key=lambda label: samples[label].median, default=None)


def against_best(what: str, samples: Mapping[str, Sample], ours: str, bound: float | None) -> Verdict:
    """Our time over the best peer's, in one cell."""
    best = best_peer(samples, ours)
    if best is None or ours not in samples:
        return Verdict(what, None, bound, detail="no peer ran" if best is None else "qfx did not run")
    mine, its = samples[ours].median, samples[best].median
    return Verdict(what, mine / its, bound, detail=f"{mine:.3f} ms, {best} {its:.3f} ms")


def overall(rows: Iterable[Verdict], bound: float | None = OVERALL, kind: str = "") -> Verdict:
    """The geometric mean of the rows' ratios; ``kind`` says which rows they are."""
    ratios = [row.value for row in rows if row.value is not None]
    what = f"geometric mean of {len(ratios)} rows{kind and f' of {kind}'}"
    return Verdict(what, math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None, bound)
