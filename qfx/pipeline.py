"""THE list of passes, one line each, grouped by what runs as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from qfx import patterns as rewrite
from qfx.frontends.examples import Example, learn_example, learn_example_again, record_example
from qfx.frontends.fresh import renew_islands
from qfx.frontends.normalize import normalize
from qfx.imports.decomposed import read_decomposed
from qfx.imports.placement import place_integers
from qfx.imports.torch_ao import read_torch_ao
from qfx.ir.passes import Pass, run_passes
from qfx.lowering.int8 import lower_to_int8
from qfx.lowering.tables import fuse_tables
from qfx.ops.table import op_of
from qfx.passes.annotate import annotate_values
from qfx.passes.assign import assign_qconfigs
from qfx.passes.convert import convert_to_qdq
from qfx.passes.custom_modules import Quantized, convert_custom_modules, observe_custom_modules
from qfx.passes.float_copies import copy_joins_for_floats
from qfx.passes.forget import forget_derivations, forget_foreign
from qfx.passes.insert import insert_fake_quantize, insert_observers
from qfx.passes.keys import smooth_keys
from qfx.passes.patches import multiply_patches
from qfx.passes.preparation import Preparation
from qfx.passes.rotation import rotate_inputs
from qfx.passes.row_scales import scale_rows
from qfx.passes.smoothing import smooth_inputs
from qfx.passes.trained import find_trainable_batch_norms, restore_computed
from qfx.passes.uncalibrated import give_default_qparams


@dataclass(frozen=True)
class Stage:
    """Passes that run as one.

    Attributes:
        name: What they do together.
        passes: In order; each begins at the level at which the one before it ends.
    """

    name: str
    passes: tuple[Pass, ...]

    @property
    def before(self) -> str:
        """The level that it begins at."""
        return self.passes[0].before

    @property
    def after(self) -> str:
        """The level that it ends at."""
        return self.passes[-1].after

    @property
    def told(self) -> type | None:
        """The class of what its passes must know beside the graph."""
        return next((each.told for each in self.passes if each.told is not None), None)


NORMALIZE = Stage(
    "normalize",
    (
        Pass(record_example, "captured", "captured", Example),
        Pass(normalize, "captured", "normal"),
        Pass(learn_example, "normal", "normal", Example),
    ),
)

FUSE = Stage(
    "fuse",
    (
        Pass(rewrite.fold_batch_norm, "normal", "normal"),
        Pass(rewrite.eliminate_identities, "normal", "normal"),
        Pass(rewrite.apply_registered_rules, "normal", "normal"),
        Pass(rewrite.fold_scales, "normal", "normal"),
        Pass(rewrite.find_attention, "normal", "normal"),
        Pass(rewrite.fold_padding, "normal", "normal"),
        Pass(rewrite.unify_pooling, "normal", "normal"),
        Pass(rewrite.fuse_activations, "normal", "normal"),
        Pass(rewrite.fuse_residuals, "normal", "normal"),
        Pass(rewrite.merge_repeated, "normal", "normal"),
        Pass(rewrite.eliminate_dead_code, "normal", "normal"),
    ),
)

PREPARE = Stage(
    "prepare",
    (
        Pass(assign_qconfigs, "normal", "normal", Preparation),
        *FUSE.passes,
        Pass(multiply_patches, "normal", "normal"),
        Pass(rotate_inputs, "normal", "normal", Preparation),
        Pass(smooth_keys, "normal", "normal", Preparation),
        Pass(rewrite.fuse_gates, "normal", "normal"),
        Pass(annotate_values, "normal", "normal", Preparation),
        Pass(copy_joins_for_floats, "normal", "normal", Preparation),
        Pass(observe_custom_modules, "normal", "normal", Preparation),
        Pass(insert_observers, "normal", "observed", Preparation),
        Pass(forget_foreign, "observed", "observed"),
        Pass(forget_derivations, "observed", "observed"),
    ),
)

PREPARE_QAT = Stage(
    "prepare_qat",
    (
        Pass(restore_computed, "normal", "normal", Preparation),
        Pass(assign_qconfigs, "normal", "normal", Preparation),
        *FUSE.passes,
        Pass(find_trainable_batch_norms, "normal", "normal", Preparation),
        Pass(annotate_values, "normal", "normal", Preparation),
        Pass(observe_custom_modules, "normal", "normal", Preparation),
        Pass(insert_fake_quantize, "normal", "observed", Preparation),
        Pass(forget_foreign, "observed", "observed"),
    ),
)

# For a model that saw no data, before it is converted.
GIVE_DEFAULTS = Stage("give_defaults", (Pass(give_default_qparams, "observed", "observed"),))

# Alone for a graph that is looked at, or run by torch.
TO_QDQ = Stage(
    "to_qdq",
    (
        Pass(scale_rows, "observed", "observed"),
        Pass(smooth_inputs, "observed", "observed"),
        Pass(convert_to_qdq, "observed", "qdq"),
    ),
)

CONVERT = Stage(
    "convert",
    (
        Pass(convert_custom_modules, "observed", "observed", Quantized),
        *TO_QDQ.passes,
        Pass(renew_islands, "qdq", "qdq"),
        Pass(learn_example_again, "qdq", "qdq"),
    ),
)

_TAKE_OVER = (
    Pass(record_example, "captured", "captured", Example),
    Pass(normalize, "captured", "qdq"),
    Pass(learn_example, "qdq", "qdq", Example),
    Pass(rewrite.eliminate_identities, "qdq", "qdq"),
    Pass(rewrite.fold_padding, "qdq", "qdq"),
    Pass(rewrite.unify_pooling, "qdq", "qdq"),
    Pass(rewrite.fuse_activations, "qdq", "qdq"),
    Pass(rewrite.fuse_residuals, "qdq", "qdq"),
    Pass(rewrite.merge_repeated, "qdq", "qdq"),
    Pass(rewrite.eliminate_dead_code, "qdq", "qdq"),
    Pass(place_integers, "qdq", "qdq"),
    Pass(forget_foreign, "qdq", "qdq"),
    Pass(forget_derivations, "qdq", "qdq"),
    Pass(learn_example_again, "qdq", "qdq"),
)

# For models that another tool quantized.
TAKE_OVER_DECOMPOSED = Stage("take_over_decomposed", (Pass(read_decomposed, "captured", "captured"), *_TAKE_OVER))
TAKE_OVER_TORCH_AO = Stage("take_over_torch_ao", (Pass(read_torch_ao, "captured", "captured", Example), *_TAKE_OVER))

LOWER = Stage(
    "lower",
    (
        Pass(lower_to_int8, "qdq", "int8"),
        Pass(fuse_tables, "int8", "int8"),
    ),
)

STAGES = (
    NORMALIZE, FUSE, PREPARE, PREPARE_QAT, GIVE_DEFAULTS, TO_QDQ, CONVERT,
    TAKE_OVER_DECOMPOSED, TAKE_OVER_TORCH_AO, LOWER,
)  # fmt: skip


def run(stage: Stage, gm: fx.GraphModule, told: Any = None) -> fx.GraphModule:
    """Run a stage; ``told`` is of the class that it names, None where it names none."""
    return run_passes(stage.passes, gm, _op_name, told)


def to_qdq(gm: fx.GraphModule) -> fx.GraphModule:
    """The QDQ graph of an Observed one; errors as of :func:`qfx.passes.convert.convert_to_qdq`."""
    return run(TO_QDQ, gm)


def _op_name(target: object) -> str | None:
    op = op_of(target)
    return op.name if op is not None else None
