"""run_op: one row of the op table on QTensors."""

from __future__ import annotations

import atexit
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from qfx.arguments import explained
from qfx.eager.call import Activation, Bound, bind, in_layout
from qfx.eager.program import compile_call, misfit
from qfx.eager.program_cache import KeptPrograms
from qfx.errors import InputError
from qfx.ir.snapshot import mark_of
from qfx.ir.types import QDType, QParams
from qfx.lowering.compiled import Compiled
from qfx.memory import untraced
from qfx.ops.table import TABLE
from qfx.tensor import QTensor
from qfx.tensor.gradient import refuse_gradient, severs
from qfx.tensor.qtensor import wrap
from qfx.tensor.uncompiled import uncompiled


@uncompiled
@explained
def run_op(name: str, *operands: Any, out: QParams | None = None, **attributes: Any) -> Any:
    """Run the row ``name`` of :data:`qfx.ops.TABLE`; integers are those that graph mode computes.

    Programs are kept: by call for ops without constants, with the weight for those that have one (dropped with it, or
    when it changes), so a layer packs its weight once.

    Args:
        name: A row: ``"conv"``, ``"linear"``, ``"add"``, ``"max_pool"``, ...
        operands: In the order of the row's function: activations as QTensors (quint8 or qint8, per tensor), a
            ``weight`` as a qint8 QTensor (per tensor, or per channel along axis 0), a ``bias`` or a norm's factors as
            float32 tensors or None.
        out: Scale, zero point and dtype of the result. None: float32 for rows that have parameters of their own, the
            first operand's for rows that share them, the row's fixed ones where it has such.
        attributes: The row's keyword arguments, as its function takes them.

    Returns:
        A QTensor with ``out``; a float32 tensor where the result has no parameters.

    Raises:
        InputError: An operand is of the wrong kind, or shapes do not fit.
        QuantizationError: Parameters that the row can't take.
        UnsupportedError: No row has this name.
        ConversionError: A bias that is not finite, or sums that do not fit 32 bits.
    """
    row = TABLE.get(name)
    if row is not None and row.reduces and operands and isinstance(operands[0], QTensor) and operands[0].dim() == 0:
        operands, attributes = (operands[0].reshape(1),), {"dims": None, "keepdim": False}
    bound = bind(name, operands, out, attributes)
    call = bound.call
    compiled = _compiled(bound)
    try:
        result = compiled.run(tuple(map(_codes, bound.activations, bound.layouts)))
    except InputError as error:
        raise misfit(bound, error) from error
    if bound.result_channels_last:
        result = result.movedim(-1, 1)
    severed = severs(*bound.activations)
    if call.out is None:
        return refuse_gradient(result) if severed else result
    return wrap(result, call.out, severed)


def _codes(x: QTensor, what: Activation) -> Tensor:
    """The bytes that programs take: quint8 as it is, qint8 raised by 128."""
    codes = in_layout(x.codes, what)
    return codes if x.qparams.dtype is QDType.quint8 else codes.view(torch.uint8).bitwise_xor(128)


# ---------------------------------------------------------------- programs

_without_constants = KeptPrograms(32 << 20)
"""The programs of calls without constants."""

KEPT_BESIDE_NEWEST = 4 << 20
"""Bytes of programs that a constant keeps for other calls than the last: for other scales of the input."""

_with_constants: Any = WeakTensorKeyDictionary()
"""The programs of calls with constants, by the first of them."""

# Programs must be gone before the runtime is unloaded.
atexit.register(_with_constants.clear)
atexit.register(_without_constants.clear)


def _compiled(bound: Bound) -> Compiled:
    if not bound.constants:
        return _without_constants.get(bound.call, lambda: _made(bound))
    anchor, *others = bound.constants.values()
    if any(_codes_of(v).is_inference() for v in (anchor, *others)):  # which do not count their changes
        return _made(bound)
    programs: KeptPrograms | None = _with_constants.get(anchor)
    if programs is None:
        programs = _with_constants[anchor] = KeptPrograms(KEPT_BESIDE_NEWEST)
    key = (bound.call, _version(anchor), *((id(v), _version(v)) for v in others))
    # The other constants are kept alive with the program, so that their ids stay theirs.
    return programs.get(key, lambda: _made(bound), others)


def _made(bound: Bound) -> Compiled:
    with untraced():  # a trace is of what calls compute
        return compile_call(bound)


def _version(value: Tensor) -> Any:
    """What changes when the values do."""
    return (value.qparams, mark_of(value.codes)) if isinstance(value, QTensor) else mark_of(value)


def _codes_of(value: Tensor) -> Tensor:
    return value.codes if isinstance(value, QTensor) else value
