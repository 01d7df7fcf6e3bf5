"""The list of passes is whole: every pass of the tree is in it, and nothing else rewrites a model's graph."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import qfx
from qfx import pipeline
from qfx.ir.levels import LEVELS
from qfx.pipeline import CONVERT, FUSE, LOWER, NORMALIZE, PREPARE, PREPARE_QAT, STAGES, Stage
from qfx.tensor import quantize_per_tensor

ROOT = Path(qfx.__file__).parent
FOLDERS = ("frontends", "imports", "patterns", "passes", "lowering")
NO_PASSES = {"fx_module", "infer_extents", "learn_shapes", "propagate_shapes", "record_shapes", "rewrite"}
"""Functions from graph to graph that passes, or the frontends, are made of."""


def titles(*stages: Stage) -> list[str]:
    return [each.title for stage in stages for each in stage.passes]


def passes_of(path: Path) -> list[str]:
    """The public functions of a file that take a GraphModule first and return one."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.args.args:
            first, result = node.args.args[0].annotation, node.returns
            if first and result and ast.unparse(first) == ast.unparse(result) == "fx.GraphModule":
                found.append(node.name)
    return found


def test_every_pass_of_the_tree_is_in_the_list():
    written = {name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") for name in passes_of(path)}
    assert written - NO_PASSES == set(titles(*STAGES))
    assert written >= NO_PASSES


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_each_pass_begins_where_the_one_before_it_ends(stage):
    order = list(LEVELS)
    for before, after in zip(stage.passes, stage.passes[1:], strict=False):
        assert before.after == after.before
    assert all(order.index(each.before) <= order.index(each.after) for each in stage.passes)
    assert len(titles(stage)) == len(set(titles(stage)))
    assert len({each.told for each in stage.passes} - {None}) <= 1


def test_stages_follow_each_other_through_every_level():
    for ways in ([NORMALIZE, PREPARE, CONVERT, LOWER], [NORMALIZE, PREPARE_QAT, CONVERT, LOWER]):
        assert [stage.before for stage in ways] + [ways[-1].after] == list(LEVELS)
    assert (FUSE.before, FUSE.after) == ("normal", "normal")


def test_entries_are_matched_before_anything_is_fused_and_values_annotated_when_all_is():
    for stage in (PREPARE, PREPARE_QAT):
        order = titles(stage)
        fused = [order.index(name) for name in titles(FUSE)]
        assert order.index("assign_qconfigs") < fused[0]
        assert fused == list(range(fused[0], fused[0] + len(fused)))
        assert fused[-1] < order.index("annotate_values") < order.index("observe_custom_modules")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x)).relu()


def ran(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The titles of the passes that the pass manager told of since it was asked last."""
    told = [r.getMessage() for r in caplog.records if r.name == "qfx.ir.passes"]
    caplog.clear()
    return [re.split(":", line)[0] for line in told]


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_the_public_calls_run_the_stages_and_nothing_else(caplog):
    caplog.set_level(logging.DEBUG, "qfx.ir.passes")
    prepared = qfx.prepare_fx(Net().eval(), {"": qfx.get_default_qconfig()}, X)
    assert ran(caplog) == titles(NORMALIZE, PREPARE)
    prepared(X)
    qfx.convert_fx(prepared)
    assert ran(caplog) == titles(pipeline.GIVE_DEFAULTS, CONVERT, LOWER)
    qfx.fuse_fx(Net().eval(), X)
    assert ran(caplog) == titles(NORMALIZE, FUSE)
    qfx.quantize_fx(Net().eval(), {"": qfx.get_default_qconfig()}, [X])
    assert ran(caplog) == titles(NORMALIZE, PREPARE, CONVERT, LOWER)


def test_training_runs_its_own(caplog):
    caplog.set_level(logging.DEBUG, "qfx.ir.passes")
    trainable = qfx.prepare_qat_fx(Net(), {"": qfx.get_default_qat_qconfig()}, X)
    assert ran(caplog) == titles(NORMALIZE, PREPARE_QAT)
    trainable(X)
    qfx.convert_fx(trainable.eval())
    assert ran(caplog) == titles(pipeline.GIVE_DEFAULTS, CONVERT, LOWER)


def test_eager_mode_lowers_by_the_same_list(caplog):
    caplog.set_level(logging.DEBUG, "qfx.ir.passes")
    x = quantize_per_tensor(X[0, 0], 0.0371, 7, qfx.quint8)  # of a shape and scale that no other test has
    qfx.run_op("hardswish", x, out=qfx.QParams(0.0213, 5, qfx.QDType.quint8))
    assert ran(caplog) == titles(LOWER)


def test_a_pass_is_told_what_it_asks_for():
    with pytest.raises(AssertionError, match="record_example is told NoneType, not Example"):
        NORMALIZE.passes[0](torch.fx.symbolic_trace(nn.Identity()), None)
