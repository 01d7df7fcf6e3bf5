"""EfficientNet-Lite0 from float to int8, on photographs: ``make demo``.

Trained ImageNet weights, 32 crops to calibrate, and then what a user wants to know first: are the answers the same,
how much faster, how much smaller, and where the time goes.
"""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

import qfx
from benchmarks import photos, zoo
from benchmarks.metrics import agreement, outputs, sqnr
from benchmarks.timing import summary, take_turn

THREADS = 2
PICTURE = Path("build/efficientnet_lite0.svg")


def class_names() -> list[str]:
    """The first name of each ImageNet class, in the order of the logits; timm ships the lists."""
    spec = find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the class names come with timm: run through `make demo`, which installs it")
    folder = Path(spec.submodule_search_locations[0], "data", "_info")
    with (folder / "imagenet_synset_to_lemma.txt").open() as file:
        lemmas = dict(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [lemmas[synset].split(",")[0] for synset in (folder / "imagenet_synsets.txt").read_text().split()]


def bytes_on_disk(model: nn.Module) -> int:
    """What ``torch.save`` writes for a model's state_dict."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


def show_predictions(model: nn.Module, qmodel: nn.Module) -> None:
    names = class_names()

    def best(net: nn.Module, image: torch.Tensor) -> str:
        with torch.inference_mode():
            probability, index = net(image).softmax(1).max(1)
        return f"{names[int(index)][:26]:26s} {float(probability):5.1%}"

    print(f"{'photograph':22s} {'float':34s} int8")
    for name, photograph in photos.photographs().items():
        image = photos.square(photograph)
        print(f"{name:22s} {best(model, image):34s} {best(qmodel, image)}")


def show_accuracy(model: nn.Module, qmodel: nn.Module) -> None:
    batches = [(batch,) for batch in photos.evaluation()]
    reference, other = outputs(model, batches), outputs(qmodel, batches)
    same = agreement(reference, other)
    print(f"{len(reference)} other crops: the same class for {same:.1%}; SQNR {sqnr(reference, other):.1f} dB")


def show_latency(model: nn.Module, qmodel: nn.Module) -> None:
    image = photos.crops(1, photos.TIMING_SEED)
    for threads in range(1, THREADS + 1):
        torch.set_num_threads(threads)
        qfx.set_num_threads(threads)
        with torch.inference_mode():
            turns = [[take_turn(lambda net=net: net(image), 0.25) for net in (model, qmodel)] for _ in range(4)]
        slow, fast = (summary(own).median for own in zip(*turns, strict=True))
        print(f"one image, threads {threads}: float {slow:.1f} ms, int8 {fast:.2f} ms, {slow / fast:.1f} times as fast")


def show_where_the_time_goes(qmodel: nn.Module) -> None:
    """The steps of one forward on one thread, summed by kind, and the five longest."""
    qfx.set_num_threads(1)
    profile = qmodel.profile(photos.crops(1, photos.TIMING_SEED))
    steps = [step for part in profile.parts if not isinstance(part, tuple) for step in part.steps]
    total = sum(step.microseconds for step in steps)
    kinds: Counter[str] = Counter()
    for step in steps:
        kinds[step.op] += step.microseconds
    print(f"one thread, {len(steps)} kernel calls, {total / 1e3:.2f} ms:", end=" ")
    print(", ".join(f"{kind} {spent / total:.0%}" for kind, spent in kinds.most_common()))
    for step in sorted(steps, key=lambda step: -step.microseconds)[:5]:
        shape = "x".join(map(str, step.shape))
        print(f"  {step.microseconds:7.1f} us  {step.name:34s} {shape:16s} {step.kernel}")


def draw(qmodel: nn.Module) -> Path:
    """A picture of the graph in build/, or its source where Graphviz is missing."""
    PICTURE.parent.mkdir(exist_ok=True)
    try:
        return qfx.draw(qmodel, PICTURE)
    except qfx.QfxError:
        return qfx.draw(qmodel, PICTURE.with_suffix(".dot"))


def main() -> None:
    start = time.perf_counter()
    model = zoo.load(zoo.PRETRAINED)
    qmodel = qfx.quantize_fx(model, {"": qfx.get_default_qconfig()}, calibration=photos.calibration())
    print(f"EfficientNet-Lite0 to int8, 32 crops of photographs to calibrate: {time.perf_counter() - start:.1f} s\n")
    show_predictions(model, qmodel)
    print()
    show_accuracy(model, qmodel)
    show_latency(model, qmodel)
    before, after = bytes_on_disk(model), bytes_on_disk(qmodel)
    print(f"on disk: float {before / 1e6:.1f} MB, int8 {after / 1e6:.1f} MB, {before / after:.1f} times smaller")
    print()
    show_where_the_time_goes(qmodel)
    print(f"\nthe graph, int8 in blue: {draw(qmodel)}")


if __name__ == "__main__":
    main()
