"""What qfx.runtime.cpu_info() says about the levels of this machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest

from docs.instruction_sets import levels
from qfx.runtime import cpu_info, isa_names

ARCHITECTURE = "x86" if platform.machine() in ("x86_64", "AMD64") else "arm"
HERE = [level for level in levels() if level.architecture in ("any", ARCHITECTURE)]
LEVELS = [level.name for level in HERE]
FEATURES = {level.name: sorted(level.features) for level in HERE}


def info_with(isa: str) -> subprocess.CompletedProcess[str]:
    script = "from qfx.runtime import cpu_info; print(cpu_info()['isa'])"
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "QFX_ISA": isa},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_level_of_the_architecture_is_told_of() -> None:
    assert list(cpu_info()["levels"]) == LEVELS


def test_supported_levels_are_those_that_can_be_asked_for() -> None:
    info = cpu_info()
    supported = tuple(name for name, found in info["levels"].items() if found == "supported")
    assert supported == isa_names() == tuple(info["isas"].split(", "))
    assert info["isa"] in supported


@pytest.mark.parametrize("level", LEVELS[1:])
def test_a_level_that_is_not_supported_names_what_is_missing(level: str) -> None:
    info = cpu_info()
    found = set(info["cpu"].rpartition(":")[2].split())
    missing = [feature for feature in FEATURES[level] if feature not in found]
    said = info["levels"][level]
    if missing:
        assert said != "supported"
        assert set(missing) <= set(re.findall(r"\w+", said))
    else:  # the operating system may still refuse the registers
        assert said == "supported" or "operating system" in said


@pytest.mark.parametrize("level", isa_names())
def test_the_environment_decides_what_will_run(level: str) -> None:
    assert info_with(level).stdout.strip() == level


@pytest.mark.parametrize("level", sorted({level.name for level in levels()} - {*isa_names()}))
def test_a_level_that_is_not_supported_cannot_be_asked_for(level: str) -> None:
    result = info_with(level)
    assert result.returncode != 0
    assert f"QFX_ISA={level}" in result.stderr
    assert cpu_info()["levels"].get(level, "another architecture") in result.stderr
