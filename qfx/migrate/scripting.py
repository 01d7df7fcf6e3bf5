"""Quantized models that a file hands to torch.jit.script, which takes none."""

from __future__ import annotations

import libcst as cst

from qfx.migrate.scopes import Use, dotted
from qfx.migrate.uses import Uses

_CONVERTING = frozenset(
    {
        "qfx.convert_fx", "qfx.quantization.convert", "qfx.quantization.quantize", "qfx.quantization.quantize_dynamic",
        "qfx.quantization.quantize_qat", "qfx.quantization.quantize_jit", "qfx.quantization.quantize_dynamic_jit",
    }
)  # fmt: skip
"""What the calls that make quantized models are rewritten to."""

_SCRIPT = ("torch", "jit", "script")
_REMEDY = (
    "a quantized model is no TorchScript: record it with torch.jit.trace(model, example_inputs) or torch.export, or "
    "store it with qfx.save"
)


def tell_scripted(uses: Uses) -> None:
    """Tell of every ``torch.jit.script(model)`` whose model a line above it quantizes, or the call itself."""
    found = [use for variable in uses.analysis.variables for use in variable.uses if use.call is not None]
    found.sort(key=lambda use: uses.analysis.position(use.node))
    quantized: set[tuple[str, ...]] = set()
    for use in found:
        if _converts(uses, use):
            quantized.update(_models(uses, use))
        elif _SCRIPT in use.meanings() and (_argument(use) in quantized or _is_conversion(uses, use)):
            uses.tell(use.node, ".".join(dotted(use.node)), _REMEDY)


def _converts(uses: Uses, use: Use) -> bool:
    return use in uses.moves and uses.moves[use].row.new[0] in _CONVERTING


def _models(uses: Uses, use: Use) -> list[tuple[str, ...]]:
    """The names of what a converting call makes: of its result, and of its argument, which it may change in place."""
    assert use.call is not None
    statement = uses.analysis.parents.get(use.call)
    targets = [dotted(t.target) for t in statement.targets] if isinstance(statement, cst.Assign) else []
    in_place = any(arg.keyword is not None and arg.keyword.value == "inplace" for arg in use.call.args)
    return [name for name in (*targets, _argument(use) if in_place else ()) if name]


def _argument(use: Use) -> tuple[str, ...]:
    return dotted(use.call.args[0].value) if use.call is not None and use.call.args else ()


def _is_conversion(uses: Uses, use: Use) -> bool:
    """Whether the model is made right there: ``torch.jit.script(convert(model))``."""
    value = use.call.args[0].value if use.call is not None and use.call.args else None
    made = uses.analysis.by_value.get(value.func) if isinstance(value, cst.Call) else None
    return made is not None and _converts(uses, made)
