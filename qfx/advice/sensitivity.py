"""``qfx.sensitivity``: what rounding each node alone costs, and what leaving it float gains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from qfx.advice.metric import Metric, name_of
from qfx.advice.records import Sensitivity
from qfx.advice.study import Study, as_qdq
from qfx.arguments import explained
from qfx.batches import without_label
from qfx.calibration import Calibration, calibrate
from qfx.comparison.compare import as_batches
from qfx.errors import InputError
from qfx.observed import Request, to_calibrate_spelled
from qfx.passes.preparation import Recovery
from qfx.progress import Budget


@explained
def sensitivity(
    model: nn.Module,
    qconfig_dict: Mapping[str, Any],
    data: Any,
    *,
    metric: Metric | None = None,
    nodes: Iterable[str] | None = None,
    calibration: Calibration | None = None,
    bias_correction: bool = True,
    adaptive_rounding: bool = True,
    rotation: bool = True,
    smoothing: bool = True,
    smooth_keys: bool = False,
    frontend: str = "auto",
    budget: float | None = None,
    progress: bool = True,
) -> Sensitivity:
    """Rank the nodes of ``model`` by what quantizing each costs.

    The model is prepared and converted once, then run in float arithmetic with the rounding of single nodes switched
    on and off. What comes before a switch is not computed again; its values are held in memory for one batch at a
    time, in float and in int8. From 16 samples on, where each is a row of every tensor, all nodes are first measured on
    one sample in 16, 8 at most, and those that come out worst, four nodes or one in 32, on all of them; records of the
    others say that they are ``rough``. Name ``nodes`` to have them measured on everything.

    Args:
        model: A float model; it is not changed.
        qconfig_dict: As for :func:`qfx.quantize_fx`.
        data: Batches as for calibration, or one batch that is a tensor or a dict: what to measure on. One to four
            batches are enough to rank.
        metric: ``metric(outputs, batch)`` gives a number, lower is better: ``outputs`` is what the model returns,
            ``batch`` an element of ``data`` with its label. Its mean over batches counts. Left out, noise to signal.
        nodes: Names of nodes, or paths of modules with all that is in them, to look at; everything when left out.
        calibration: What to calibrate with; ``data`` when left out.
        bias_correction: As for ``quantize_fx``.
        adaptive_rounding, rotation, smoothing, smooth_keys, frontend: As for ``quantize_fx``.
        budget: Seconds after which it returns what it has; preparing and one node count, but are never cut short.
            ``unreached`` of the result names the nodes that were not measured.
        progress: Whether to show bars where stderr is a terminal.

    Returns:
        One record a quantized input, op, or group of values that share their range between several layers.

    Raises:
        InputError: There is no data, nothing is quantized, ``nodes`` names something else, or the metric fails.
        QfxError: As ``quantize_fx``.
    """
    seconds, batches = Budget(budget), list(as_batches(data))
    if not batches:
        raise InputError("There is no data to measure on.", remedy="Pass a batch, or a list of batches.")
    example = without_label(model, batches[0])
    recovery = Recovery(bias_correction, adaptive_rounding, rotation, smoothing, smooth_keys)
    request = Request(qconfig_dict, example, frontend=frontend, recovery=recovery)
    prepared, spelled = to_calibrate_spelled(model, request)
    calibrate(prepared, batches if calibration is None else calibration, progress=progress)
    study = Study.of(prepared, as_qdq(prepared), spelled)
    units = study.chosen(nodes)
    records = study.measure(batches, units, metric, seconds, progress=progress)
    reached = {record.name for record in records}
    return Sensitivity(
        records,
        qconfig_dict,
        metric=name_of(metric),
        float_loss=study.float_loss.value(),
        int8_loss=study.int8_loss.value(),
        unreached=[unit.node.name for unit in units if unit.node.name not in reached],
    )
