"""What type checkers see of qfx: every public name, with its signature, and no other name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qfx

ROOT = Path(__file__).parents[1]
OWN = {"Any", "TYPE_CHECKING", "annotations", "importlib", "logging"}
"""Imports of the module itself."""
MODULES = {path.stem for path in Path(qfx.__file__).parent.iterdir()} - {"rules"}
"""Modules and packages that dir() lists once something has imported them."""
PUBLIC = sorted(
    {name for name in set(dir(qfx)) - OWN - MODULES if not name.startswith("_")} | {"nn", "quantization", "runtime"}
)

USE = """
import torch
from torch import nn

import qfx

net = nn.Linear(4, 4)
entry = {"": qfx.get_default_qconfig()}
prepared: qfx.PreparedModel = qfx.prepare_fx(net, entry, (torch.ones(1, 4),))
model: qfx.QuantizedModel = qfx.quantize_fx(net, entry, [torch.ones(1, 4)])
reveal_type(model.report)
qfx.write_report("page.html", model)
qfx.save(model, "model.qfx")
comparison: qfx.Comparison = qfx.compare(net, model, torch.ones(1, 4))
tensor: qfx.QTensor = qfx.quantize_per_tensor(torch.ones(2), 0.1, 0, qfx.quint8)
try:
    qfx.nn.quantized.Quantize(0.1, 0)
except qfx.QfxError as error:
    print(error.remedy)
"""


STEPS = """
from qfx.runtime import steps

steps.softmax(0, axis=1)
steps.softmax(0, axes=1)
steps.softmax(0)
steps.softmax(0, axis=[1])
steps.softmaks(0, axis=1)
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of each script, by script."""
    folder = tmp_path_factory.mktemp("typing")
    scripts = {
        "names": "import qfx\n" + "".join(f"reveal_type(qfx.{name})\n" for name in PUBLIC),
        "use": USE,
        "unknown": "import qfx\nqfx.quantise_fx\nqfx.quantize_fx(1, 2, nothing=3)\n",
        "steps": STEPS,
    }
    for name, text in scripts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--no-error-summary", "--show-error-codes"]
    command += [f"--cache-dir={folder / 'cache'}", "--config-file=", *(str(folder / f"{name}.py") for name in scripts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=_environment())
    assert done.returncode in (0, 1), done.stderr
    return {n: [line for line in done.stdout.splitlines() if f"{n}.py" in line.split(":")[0]] for n in scripts}


def _environment() -> dict[str, str]:
    return {**os.environ, "MYPYPATH": str(ROOT)}


@pytest.mark.slow
def test_every_public_name_is_known(checked: dict[str, list[str]]) -> None:
    said = checked["names"]
    assert not [line for line in said if ": error:" in line]
    shown = [line for line in said if "Revealed type" in line]
    assert len(shown) == len(PUBLIC)
    vague = [name for name, line in zip(PUBLIC, shown, strict=True) if line.endswith('is "Any"')]
    assert not vague


@pytest.mark.slow
def test_a_users_script_is_checked(checked: dict[str, list[str]]) -> None:
    assert not [line for line in checked["use"] if ": error:" in line]
    assert any("qfx.passes.report.Report" in line for line in checked["use"])


@pytest.mark.slow
def test_what_is_not_there_is_told(checked: dict[str, list[str]]) -> None:
    said = "\n".join(checked["unknown"])
    assert 'has no attribute "quantise_fx"' in said
    assert 'argument "nothing"' in said


@pytest.mark.slow
def test_a_misspelt_step_or_attribute_is_told(checked: dict[str, list[str]]) -> None:
    said = [line for line in checked["steps"] if ": error:" in line]
    told = ['argument "axes"', 'Missing named argument "axis"', 'incompatible type "list[int]"', 'attribute "softmaks"']
    assert all(any(what in line for line in said) for what in told)
    assert {int(line.split(":")[1]) for line in said} == {5, 6, 7, 8}


def test_checkers_see_what_python_has() -> None:
    """The names of the TYPE_CHECKING block are those of the lazy table."""
    text = (ROOT / "qfx" / "__init__.py").read_text(encoding="utf-8")
    block = text[text.index("if TYPE_CHECKING:") : text.index("__all__")]
    named = set(re.findall(r" import (\w+) as \1$", block, re.MULTILINE)) | set(
        re.findall(r"^    (\w+) = ", block, re.M)
    )
    assert named >= {*qfx._MODULE_OF, *qfx._ENUM_OF}
    assert not [name for name in named if not hasattr(qfx, name)]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "qfx" / "py.typed").exists()
