"""A part of a ScriptModule that stays whole, as a plain module that can be copied, pickled and added to."""

from __future__ import annotations

import io
import re
from typing import Any

import torch
from torch import nn

_CHANGES = re.compile(r"prim::SetAttr|aten::(\w+_|append|extend|insert|pop|clear|update|_set_item|Delete|reverse)\(")


class ScriptedPart(nn.Module):
    """Computes what ``scripted`` does, under the names of its tensors.

    A ScriptModule itself takes no new buffers, and pickle takes no ScriptModule.

    Args:
        scripted: A submodule of a ScriptModule.
    """

    adds_no_name = True
    """To the user its parts are at its own path."""

    def __init__(self, scripted: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.scripted = scripted

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.scripted(*args, **kwargs)

    def keeps_state(self) -> bool:
        """Whether its code assigns attributes, or changes tensors, lists or dicts in place, which may be some."""
        return _CHANGES.search(str(getattr(self.scripted, "inlined_graph", ""))) is not None

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """That of a module whose tensors and submodules are the part's own."""
        prefix = kwargs.get("prefix", "")
        found = super().state_dict(*args, **kwargs)
        for name in [name for name in found if name.startswith(f"{prefix}scripted.")]:
            found[prefix + name.removeprefix(f"{prefix}scripted.")] = found.pop(name)
        return found

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        own = {f"{prefix}{name}" for name in self._buffers}
        for name in [name for name in state_dict if name.startswith(prefix) and name not in own]:
            state_dict[f"{prefix}scripted.{name.removeprefix(prefix)}"] = state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __getstate__(self) -> dict[str, Any]:
        file = io.BytesIO()
        torch.jit.save(self.scripted, file)
        state = {name: value for name, value in vars(self).items() if name != "_modules"}
        return {**state, "scripted": file.getvalue()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        load: Any = torch.jit.load
        scripted = load(io.BytesIO(state.pop("scripted")))
        super().__setstate__({**state, "_modules": {"scripted": scripted}})  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedPart:
        with torch.no_grad():  # else the copies are results of the originals
            made = ScriptedPart(self.scripted.__deepcopy__(memo))
        for copied, parameter in zip(made.parameters(), self.parameters(), strict=True):
            copied.requires_grad_(parameter.requires_grad)
        made._buffers.update({name: None if b is None else b.clone() for name, b in self._buffers.items()})
        return made.train(self.training)
