"""How ``torch.compile`` and a strict ``torch.export`` take the call of a quantized model: as it is, not line by line.

Imported when one of them meets such a call: it loads the compiler.
"""

from __future__ import annotations

from typing import Any

from torch._dynamo import nonstrict_trace

from qfx.lowering.recorded_state import RecordedState


@nonstrict_trace
def call_opaque(state: RecordedState, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call of the model that ``state`` belongs to, whose torch operators and programs the compiler records."""
    return state.call(args, kwargs)
