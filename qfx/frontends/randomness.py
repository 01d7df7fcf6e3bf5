"""Random numbers: what draws them is a call of the graph, which draws anew at each call of the model.

That is what the float model does. ``F.dropout(x)``, whose ``training`` is True unless it is passed, drops in evaluation
too; ``nn.Dropout`` does not.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from qfx.frontends.tracer import Tracer

RANDOM = "it draws random numbers, anew at each call"
"""Why a call stays one of torch's."""


class Drawn(TorchDispatchMode):
    """While active, notes whether an operator draws random numbers.

    Attributes:
        found: Whether one did.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found |= draws(func)
        return func(*args, **(kwargs or {}))


def other_generators() -> Any:
    """The states of Python's and numpy's generators: equal where nobody has drawn from them in between."""
    state: Any = np.random.get_state()
    return random.getstate(), state[1].tobytes(), state[2:]


OTHERS = "random numbers of Python's or numpy's generator, which a graph would hold for all calls"
"""What a capture can't hold."""


def draws(overload: Any) -> bool:
    """Whether an operator of torch draws random numbers, if its arguments let it."""
    return torch.Tag.nondeterministic_seeded in getattr(overload, "tags", ())


class RandomCalls(TorchFunctionMode):
    """While active in a symbolic trace, calls that draw random numbers from constants are traced, not computed.

    Args:
        tracer: The tracer.

    Raises:
        TypeError: They are written into a tensor of the model's, or drawn by a generator of the code's own.
    """

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(kind, fx.Proxy) for kind in types):
            return func(*args, **kwargs)
        if any(isinstance(leaf, torch.Generator) for leaf in pytree.tree_leaves((args, kwargs))):
            raise TypeError("random numbers of a generator that the code holds, which a graph can't")
        with Drawn() as drawn:
            result = func(*args, **kwargs)
        if not drawn.found:
            return result
        filled = args[0] if args and result is args[0] else kwargs.get("out")
        name = func.__name__
        if filled is not None and (not self.tracer.makes(filled) or not hasattr(Tensor, name)):
            raise TypeError("a tensor is filled with random numbers in place")
        is_method = getattr(Tensor, name, None) is func or getattr(func, "__objclass__", None) is not None
        made = self.tracer.create_proxy("call_method" if is_method else "call_function",
                                        name if is_method else func, args, kwargs)  # fmt: skip
        if filled is not None:
            self.tracer.lifting.lift(filled, made)
        return made
