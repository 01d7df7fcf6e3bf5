"""What is known about the modules of a ScriptModule: their paths, their classes, their tensors."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qfx.frontends.constants import join
from qfx.frontends.leaves import builtin_base
from qfx.ir.user_names import member

_MANGLED = re.compile(r"___torch_mangle_\d+\.")


@dataclass(frozen=True)
class ModuleValue:
    """A module as a value of the interpreted code.

    Attributes:
        path: Its path in the model, "" for the model itself; of several paths the first.
        module: The module.
    """

    path: str
    module: torch.jit.ScriptModule


def qualified_class(name: str) -> type[nn.Module] | None:
    """The module class that TorchScript calls ``__torch__.package.module.Class``, when it is imported here."""
    if not name.startswith("__torch__."):
        return None
    home, _, last = _MANGLED.sub("", name.removeprefix("__torch__.")).rpartition(".")
    scope = sys.modules.get(home or "__main__")
    found = getattr(scope, last, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def class_of(module: nn.Module) -> type[nn.Module] | None:
    """The Python class that ``module`` was made from; None when it is unknown here."""
    if not isinstance(module, torch.jit.ScriptModule):
        return type(module)
    return qualified_class(type_name(module))


def type_name(module: torch.jit.ScriptModule) -> str:
    """TorchScript's name of the class, ``__torch__.net.Block``."""
    return str(module._c._type().qualified_name())


def layer_class(module: torch.jit.ScriptModule) -> type[nn.Module] | None:
    """The class of a module that computes what a layer of ``torch.nn`` does, else None."""
    cls = class_of(module)
    return cls if cls is not None and builtin_base(cls) is not None else None


def module_classes(model: nn.Module) -> dict[str, type]:
    """The Python class of every module by path, where it is known."""
    modules = model.named_modules(remove_duplicate=False)
    return {path: cls for path, module in modules if (cls := class_of(module)) is not None}


class ModuleTree:
    """Submodules and attributes by path; a module or tensor found under two paths has the first.

    Args:
        root: The model.
    """

    def __init__(self, root: torch.jit.ScriptModule) -> None:
        self.root = ModuleValue("", root)
        self._modules: dict[object, str] = {}
        for path, module in root.named_modules(remove_duplicate=False):
            self._modules.setdefault(_identity(path, module), path)

    def attribute(self, owner: ModuleValue, name: str) -> Any:
        """The value of ``owner.name``: a module, a tensor, or a Python value; ``training`` is False.

        Raises:
            AttributeError: There is none.
        """
        if name == "training":
            return False
        value: Any = member(owner.module, name)
        if isinstance(value, torch._C.ScriptModule) and not isinstance(value, torch.jit.ScriptModule):
            wrap: Any = torch.jit._recursive.wrap_cpp_module  # parts of a frozen module are bare
            value = wrap(value)
        if isinstance(value, torch.jit.ScriptModule):
            path = join(owner.path, name)
            return ModuleValue(self._modules.get(_identity(path, value), path), value)
        return value


def _identity(path: str, module: torch.jit.ScriptModule) -> object:
    """Equal for one module under two paths. A module without tensors can't be told from another."""
    tensors: list[Tensor] = [*module.parameters(), *module.buffers()]
    return (type_name(module), *map(id, tensors)) if tensors else path
