"""What stops a capture, in the user's terms: the construct, what to write instead, and what else there is to do."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Obstacle:
    """One row. ``before`` and ``after`` are bodies of a ``forward(self, x)``, and tests run both.

    Attributes:
        name: What docs/troubleshooting.md calls it.
        message: Regular expression for the tracer's or exporter's ``Type: message``.
        construct: What the code does.
        before: The construct.
        after: The same without it, which every frontend captures.
        line: Regular expression for the user's line, where the message alone does not tell.
        exports: Whether ``frontend="export"`` captures ``before``.
        init: What ``before`` and ``after`` need in ``__init__``.
        note: What the code can't say.
    """

    name: str
    message: str
    construct: str
    before: str
    after: str
    line: str = ""
    exports: bool = False
    init: tuple[str, str] = ("", "")
    note: str = ""


class Explanation(NamedTuple):
    """What an error is about: the construct with torch's own message, and how to write it otherwise."""

    construct: str
    rewrite: str
    obstacle: Obstacle


_BRANCH = r"control flow|data-dependent|Data-dependent|data dependent"
_NUMBER = (
    r"can't be used with Python's|__index__|interpreted as an integer|argument must be .*, not .*Proxy"
    r"|__int__|__float__|data-dependent|must be real number"
)
_ARRAY = r"__cuda_array_interface__|__array_struct__|__array_interface__"

OBSTACLES = (
    Obstacle(
        "tensor-of-values", rf"'len' is not supported|{_ARRAY}|data is not allocated|fake tensor|data-dependent",
        "torch.tensor() of a traced value",
        "scale = torch.tensor([x.mean(), 2.0])\nreturn self.conv(x) * scale.sum()",
        "scale = torch.stack([x.mean(), x.new_tensor(2.0)])\nreturn self.conv(x) * scale.sum()",
        line=r"\b(tensor|as_tensor|Tensor|FloatTensor)\(",
        note="torch.tensor copies numbers out of Python; torch.stack keeps traced values.",
    ),
    Obstacle(
        "numpy", rf"{_ARRAY}|\.numpy\(\) is not supported|numpy|data-dependent",
        "a call of numpy with a traced value",
        "scale = np.sqrt(x.abs().mean().numpy())\nreturn self.conv(x) * scale",
        "scale = torch.sqrt(x.abs().mean())\nreturn self.conv(x) * scale",
        line=r"\b(np|numpy)\.|\.numpy\(",
        note="numpy computes at once, and its results are constants in a graph.",
    ),
    Obstacle(
        "einops", r"unknown to einops",
        "a string operation of einops",
        'return rearrange(self.conv(x), "b c h w -> b (h w) c")',
        "return self.conv(x).flatten(2).transpose(1, 2)",
        exports=True,
        note="einops asks for the type of its operand; its layers, einops.layers.torch.Rearrange, have the same limit.",
    ),
    Obstacle(
        "length", r"'len' is not supported",
        "len() of a traced value",
        "return self.conv(x).reshape(len(x), -1)",
        "return self.conv(x).reshape(x.shape[0], -1)",
        exports=True,
    ),
    Obstacle(
        "unpacking", r"argument after \*\*? must be|cannot be iterated",
        "a call that unpacks a traced value",
        "return self.conv(**x)",
        'return self.conv(x["input"])',
        line=r"[(,]\s*\*\*?[a-z]",
        exports=True,
        note="Pass the items one by one.",
    ),
    Obstacle(
        "iteration", r"cannot be iterated|argument after \*\*? must be",
        "iteration over a traced value",
        "channels = [2 * channel for channel in x.unbind(1)]\nreturn self.conv(torch.stack(channels, 1))",
        "channels = [2 * x[:, i] for i in range(3)]\nreturn self.conv(torch.stack(channels, 1))",
        exports=True,
        note="How often a loop runs must not depend on the input.",
    ),
    Obstacle(
        "item-assignment", r"item assignment|in place",
        "assignment into a tensor, x[i] = y",
        "y = self.conv(x)\ny.flatten(1)[:, 0] = 0\nreturn y",
        "y = self.conv(x)\ny[:, 0, 0, 0] = 0\nreturn y",
        line=r"\]\s*[-+*/]?=(?!=)",
        note="flatten and reshape are views of some tensors, copies of others; x.view() and x[...] are always views.",
    ),
    Obstacle(
        "in-place", r"in place|exported program constant",
        "a tensor is changed in place",
        "x.flatten(1).mul_(2)\nreturn self.conv(x)",
        "x = x * 2\nreturn self.conv(x)",
        note="The out-of-place form has no trailing underscore: x.mul(2) for x.mul_(2).",
    ),
    Obstacle(
        "range", rf"interpreted as an integer|{_BRANCH}",
        "a Python number made from a traced value, in range()",
        "for i in range(x.shape[1]):\n    x = x + i\nreturn self.conv(x)",
        "for i in range(self.steps):\n    x = x + i\nreturn self.conv(x)",
        line=r"\brange\(",
        exports=True,
        init=("", "self.steps = 3"),
        note="How often a loop runs must not depend on the input.",
    ),
    Obstacle(
        "rounding", r"__round__|__trunc__|__floor__|__ceil__",
        "a traced size rounded by Python",
        "return self.conv(x)[:, :, : round(x.shape[2] / 2)]",
        "return self.conv(x)[:, :, : x.shape[2] // 2]",
        exports=True,
    ),
    Obstacle(
        "number-of-a-size", _NUMBER,
        "a Python number made from a traced size",
        "return self.conv(x)[:, :, : int(x.shape[2] * 0.5)]",
        "return self.conv(x)[:, :, : x.shape[2] // 2]",
        line=r"\b(int|float)\(.*(shape|size\(|len\()",
        exports=True,
    ),
    Obstacle(
        "number", _NUMBER,
        "a Python number made from a traced value",
        "peak = float(x.abs().max())\nreturn self.conv(x / peak)",
        "peak = x.abs().max()\nreturn self.conv(x / peak)",
        line=r"\b(int|float|complex|math\.\w+)\(|\.item\(|\.tolist\(",
        note="A tensor of one element does in torch what the number would.",
    ),
    Obstacle(
        "assertion-on-a-shape", _BRANCH,
        "an assertion about a traced shape",
        "assert x.shape[1] == 3\nreturn self.conv(x)",
        'torch._assert(x.shape[1] == 3, "three channels")\nreturn self.conv(x)',
        line=r"^assert\b.*(shape|size\(|\.ndim|dim\()",
        exports=True,
        note="Assertions are left out of the quantized model.",
    ),
    Obstacle(
        "assertion", _BRANCH,
        "an assertion about a tensor's values",
        "assert x.min() > -1000\nreturn self.conv(x)",
        "if not torch.compiler.is_exporting() and not isinstance(x, torch.fx.Proxy):\n"
        "    assert x.min() > -1000\n"
        "return self.conv(x)",
        line=r"^assert\b",
        note="Better still, check the data before it gets to the model.",
    ),
    Obstacle(
        "comparison", _BRANCH,
        "control flow that depends on a tensor's values, in a function of Python",
        "return self.conv(x) * max(x.mean(), x.amax())",
        "return self.conv(x) * torch.maximum(x.mean(), x.amax())",
        line=r"(?<![.\w])(max|min|sorted)\(",
        exports=True,
        note="torch.maximum, torch.minimum and torch.sort take tensors.",
    ),
    Obstacle(
        "truth", _BRANCH,
        "control flow that depends on a tensor's values: bool(), and, or, not",
        "return self.conv(x) * bool((x > 0).any())",
        "return self.conv(x) * (x > 0).any()",
        line=r"\bbool\(",
        note="torch.logical_and and its kind work on tensors.",
    ),
    Obstacle(
        "loop", _BRANCH,
        "a loop that depends on a tensor's values (control flow)",
        "while x.abs().max() > 1:\n    x = x / 2\nreturn self.conv(x)",
        "for _ in range(8):\n    x = torch.where(x.abs().max() > 1, x / 2, x)\nreturn self.conv(x)",
        line=r"^while\b",
        note="Take as many steps as the worst input needs; the blend leaves what is done unchanged.",
    ),
    Obstacle(
        "branch-on-a-shape", _BRANCH,
        "control flow that depends on a tensor's shape",
        "if x.shape[2] > 4:\n    x = x * 2\nreturn self.conv(x)",
        "if self.large:\n    x = x * 2\nreturn self.conv(x)",
        line=r"shape|size\(|\.ndim|\bdim\(|len\(|numel\(",
        exports=True,
        init=("", "self.large = True"),
        note="frontend=\"export\" takes the branch of the example inputs, for all inputs.",
    ),
    Obstacle(
        "branch", _BRANCH,
        "control flow that depends on a tensor's values or shape",
        "if x.sum() > 0:\n    x = x * 2\nreturn self.conv(x)",
        "x = torch.where(x.sum() > 0, x * 2, x)\nreturn self.conv(x)",
        note="Both sides are computed. A decision that is the same for every input belongs into __init__.",
    ),
    Obstacle(
        "format", r"__format__",
        "a traced value in a format string with a width or a type",
        'name = f"{x.shape[2]:d}"\nreturn self.conv(x)',
        'name = f"{x.shape[2]}"\nreturn self.conv(x)',
    ),
    Obstacle(
        "plain-list", r"not installed as a submodule",
        "modules in a plain list or dict",
        "for layer in self.layers:\n    x = layer(x)\nreturn x",
        "for layer in self.layers:\n    x = layer(x)\nreturn x",
        init=("self.layers = [nn.Conv2d(3, 3, 1)]", "self.layers = nn.ModuleList([nn.Conv2d(3, 3, 1)])"),
        note="Only modules of a ModuleList, ModuleDict or attribute have a name, are saved, and are quantized.",
    ),
    Obstacle(
        "output", r"argument of type: <class|not a known type|not a supported type|unsupported output|pytree",
        "an output that is no tensor, tuple, list or dict of them",
        "return types.SimpleNamespace(y=self.conv(x))",
        'return {"y": self.conv(x)}',
        note="Wrap the model in a module that takes the result apart: return self.model(x).logits.",
    ),
    Obstacle(
        "custom-op", r"no fake impl|fake kernel|Cannot access data pointer|meta kernel|UnsupportedOperator",
        "a custom operator that can't run on tensors without data",
        "return torch.ops.mine.unknown(self.conv(x))",
        "return torch.ops.mine.known(self.conv(x))",
        note="Register what shape it returns: @torch.library.register_fake(\"mine::known\").",
    ),
)  # fmt: skip
OTHER = Obstacle(
    "other", "", "code that can't run on traced values",
    "", "", note="Rewrite this line with torch functions on tensors.",
)  # fmt: skip


def explain(error: BaseException, source: str | None = None) -> Explanation:
    """What ``error`` of a trace or an export is about.

    Args:
        error: What torch raised.
        source: The user's line, as ``"net.py:12, in forward: y = f(x)"``.
    """
    lines = str(error).strip().splitlines()
    row = obstacle_of(f"{type(error).__name__}: {error}", source)
    first = lines[0] if lines else ""
    return Explanation(f"{row.construct} ({type(error).__name__}: {first})", rewriting(row), row)


def obstacle_of(message: str, source: str | None = None) -> Obstacle:
    """The first row that fits a message and the user's line."""
    code = source.partition(": ")[2] if source else ""
    return next((o for o in OBSTACLES if re.search(o.message, message) and re.search(o.line, code)), OTHER)


def row_named(name: str) -> Obstacle:
    """The row of a name."""
    return next(row for row in OBSTACLES if row.name == name)


def rewriting(row: Obstacle) -> str:
    """The code of a row, before and after, as text of several lines."""
    if not row.before:
        return row.note
    (old, new) = ("\n".join(filter(None, parts)) for parts in zip(row.init, (row.before, row.after), strict=True))
    if row.init[0] and row.before == row.after:
        old, new = row.init
    shown = f"Write it as\n{textwrap.indent(new, '    ')}\ninstead of\n{textwrap.indent(old, '    ')}"
    return f"{shown}\n{row.note}" if row.note else shown


def remedies(rewrite: str, path: str, *, exports: bool, others: Collection[str] = ()) -> str:
    """What to do, numbered: rewrite the code, export the model, keep a part of it float.

    Args:
        rewrite: The first remedy.
        path: The module at fault; empty for the model itself.
        exports: Whether ``frontend="export"`` is one.
        others: More of them.
    """
    found = [rewrite.removesuffix(", or").removesuffix(" or").rstrip(",")]
    if exports:
        found.append(
            'Capture it with torch.export:\n    quantize_fx(model, qconfig_dict, calibration, frontend="export")'
        )
    found.extend(others)
    if path:
        found.append(f'Keep {path} in float:\n    qconfig_dict["non_traceable_module_name"] = [{path!r}]')
    else:
        found.append("Move this code to a submodule, which then stays float; the rest is quantized.")
    numbered = [f"{i}. {textwrap.indent(text, '       ').lstrip()}" for i, text in enumerate(found, 1)]
    return "one of these\n    " + "\n    ".join(numbered)
