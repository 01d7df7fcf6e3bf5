"""Any program means the same afterwards: run before and after with modules that know only their names."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qfx.migrate.names import below, names
from qfx.migrate.rewrite import migrate

IMPORTS = {
    "import torch": ("torch", "torch"),
    "import torch as T": ("T", "torch"),
    "import torch.quantization": ("torch", "torch"),
    "import torch.ao.quantization, os": ("torch", "torch"),
    "import torch.backends.quantized": ("torch", "torch"),
    "import torch.quantization as tq": ("tq", "torch.quantization"),
    "import torch.ao.quantization as aq": ("aq", "torch.ao.quantization"),
    "from torch import quantization": ("quantization", "torch.quantization"),
    "from torch.ao import quantization as q2": ("q2", "torch.ao.quantization"),
    "import torch.nn as nn": ("nn", "torch.nn"),
    "from torch import nn, quint8": ("nn", "torch.nn"),
    "import torch.nn.quantized as nnq": ("nnq", "torch.nn.quantized"),
    "from torch.ao.nn import quantized as anq": ("anq", "torch.ao.nn.quantized"),
    "import torch.ao.quantization.quantize_fx as fx": ("fx", "torch.ao.quantization.quantize_fx"),
    "from torch.ao.quantization import quantize_fx": ("quantize_fx", "torch.ao.quantization.quantize_fx"),
    "import torch.quantization.observer as obs": ("obs", "torch.quantization.observer"),
    "from torch.quantization import prepare as p, QConfigMapping": ("p", "torch.quantization.prepare"),
    "from torch.ao.quantization import (\n{0}    QConfigMapping,\n{0}    convert,  # all\n{0})": (
        "QConfigMapping",
        "torch.ao.quantization.QConfigMapping",
    ),
}
NAMES = [
    "torch.relu",
    "torch.quantize_per_tensor",
    "torch.quint8",
    "torch.nn.Linear",
    "torch.nn.quantized.Conv2d",
    "torch.nn.quantized.Embedding",
    "torch.nn.quantized.functional.conv2d",
    "torch.ao.nn.quantized.dynamic.modules.rnn.LSTM",
    "torch.ao.nn.quantized.Linear.from_float",
    "torch.backends.quantized.engine",
    "torch.ops.quantized.add",
    *(
        f"torch{ao}.quantization.{name}"
        for ao in ("", ".ao")
        for name in (
            "prepare",
            "prepare.signature",
            "QConfigMapping",
            "default_qconfig.weight",
            "observer.MinMaxObserver.with_args",
            "fuse_modules.fuse_modules",
            "quantize_fx.prepare_fx",
            "quantize_fx.prepare_qat_fx",
            "qconfig.QConfig",
        )
    ),
]


class Named:
    """A module or anything in it: its dotted name, and what has been imported."""

    def __init__(self, path: str, imported: set[str]) -> None:
        self._path, self._imported = path, imported

    def __getattr__(self, name: str) -> Named:
        path = f"{self._path}.{name}"
        if path in {"qfx.nn", "qfx.backends", "qfx.quantization"} or names().module_of(path) == path:
            assert any(below(module, path) for module in self._imported), f"{path} is used before it is imported"
        return Named(path, self._imported)


def meaning(path: str) -> str:
    """One name for what ``path`` stands for, old or new."""
    hit = names().longest(tuple(path.split(".")))
    if hit is None:
        return path
    count, row = hit
    rest = path.split(".")[count:]
    if row.kind == "name":
        return ".".join([row.new[0], *rest])
    return ".".join([row.old, *rest])


def run(program: str) -> list[str]:
    """What ``program`` keeps, by meaning."""
    imported: set[str] = set()
    kept: list[str] = []

    def load(name: str, _globals: Any, _locals: Any, only: tuple[str, ...] | None = None, _level: int = 0) -> Named:
        imported.add(name)
        imported.update(f"{name}.{member}" for member in only or ())
        return Named(name if only else name.split(".", maxsplit=1)[0], imported)

    def keep(value: Named) -> None:
        kept.append(meaning(value._path))

    exec(
        program,
        {"__builtins__": {"__import__": load, "keep": keep, "__build_class__": __build_class__}, "__name__": "a"},
    )
    return kept


@st.composite
def programs(draw: st.DrawFn) -> str:
    lines: list[str] = []
    bound: dict[str, str] = {}
    for _ in range(draw(st.integers(1, 6))):
        indent = ""
        head, tail = draw(st.sampled_from([("", ""), ("", ""), ("def f():", "f()"), ("try:", "finally:\n    0")]))
        visible = dict(bound)
        if head:
            lines.append(head)
            indent = "    "
        for statement in draw(st.lists(st.sampled_from(sorted(IMPORTS)), min_size=1, max_size=3)):
            lines += (indent + statement.format(indent)).split("\n")
            name, path = IMPORTS[statement]
            visible[name] = path
        lines += [indent + line for line in draw(uses(visible))]
        if draw(st.booleans()):
            lines.append(f"{indent}def g(torch, tq): return torch.quint8, tq.prepare")
        if tail:
            lines.append(tail)
        if not head.startswith("def"):
            bound = visible
    return "\n".join(lines) + "\n"


@st.composite
def uses(draw: st.DrawFn, visible: dict[str, str]) -> list[str]:
    lines = []
    for name, path in sorted(visible.items()):
        inside = [full for full in NAMES if below(full, path)]
        for full in draw(st.lists(st.sampled_from(inside), max_size=2)) if inside else ():
            lines.append(f"keep({name}{full[len(path) :]})")
    return lines


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_a_program_means_the_same_afterwards_and_what_is_left_is_named(program: str) -> None:
    migrated = migrate(program.encode())
    after = migrated.text.decode()
    kept = run(after)
    assert kept == run(program), after
    again = migrate(migrated.text)
    assert again.text == migrated.text
    assert [at.remedy for at in again.findings] == [at.remedy for at in migrated.findings]
    if not migrated.findings:
        assert not any(names().concerns(path) for path in kept)
