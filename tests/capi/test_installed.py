"""What is installed: what it depends on and shows, and programs in C and C++ that are built on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.capi.installed import ROOT, library, run_tool
from tests.capi.native import Saved

EXAMPLES = ROOT / "examples" / "embedding"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")


@pytest.fixture(scope="session")
def flags(prefix: Path) -> list[str]:
    """What pkg-config says to build a program with."""
    told = run_tool("pkg-config", "--cflags", "--libs", "qfx", PKG_CONFIG_PATH=str(library().parent / "pkgconfig"))
    return [*told.split(), f"-Wl,-rpath,{library().parent}"]


def test_it_depends_on_what_every_system_has(prefix: Path) -> None:
    told = run_tool("readelf", "-d", library())
    needed = set(re.findall(r"NEEDED.*\[(.+)\]", told))
    allowed = ("libc.so", "libm.so", "libstdc++.so", "libgcc_s.so", "libpthread.so", "libdl.so", "ld-linux")
    assert needed
    assert all(name.startswith(allowed) for name in needed), needed
    assert re.findall(r"SONAME.*\[(.+)\]", told) == ["libqfx.so.0"]


def test_it_shows_the_functions_of_its_header_and_no_more(prefix: Path) -> None:
    header = (prefix / "include" / "qfx.h").read_text(encoding="utf-8")
    declared = set(re.findall(r"^QFX_API [\w* ]*?\b(qfx_\w+)\(", header, re.MULTILINE))
    lines = run_tool("nm", "-D", "--defined-only", library()).splitlines()
    assert {line.split()[-1].partition("@")[0] for line in lines} - {"QFX_0"} == declared


def test_it_is_small(prefix: Path) -> None:
    """And training's kernels are no part of it."""
    assert library().resolve().stat().st_size < 2.6 * 2**20
    assert b"fake_quant" not in library().read_bytes()


@pytest.mark.parametrize("compiler", [("cc", "-std=c99", "c", "qfx.h"), ("c++", "-std=c++20", "c++", "qfx.hpp")])
def test_the_headers_stand_alone(compiler: tuple[str, ...], prefix: Path, tmp_path: Path) -> None:
    tool, standard, language, header = compiler
    alone = tmp_path / "alone"
    alone.write_text(f'#include "{header}"\n#include "{header}"\nint main(void) {{ return QFX_VERSION == 0; }}\n')
    run_tool(tool, standard, *STRICT, "-x", language, "-fsyntax-only", f"-I{prefix / 'include'}", alone)


def infers_as_python(program: Path, saved: Saved, folder: Path) -> bool:
    (x,), (want,) = saved.inputs, saved.expected()
    (folder / "x").write_bytes(x.tobytes())
    told = run_tool(program, saved.path, str(x.shape[0]), folder / "x", folder / "y")
    assert told.split() == ["float32", *map(str, want.shape)]
    return (folder / "y").read_bytes() == want.tobytes()


@pytest.fixture(scope="session")
def fixed_model(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """One whose batch alone is free, as the examples take it."""
    import torch
    from torch import nn

    import qfx

    x = torch.randn(3, 12, generator=torch.Generator().manual_seed(7))
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5)).eval()
    path = tmp_path_factory.mktemp("fixed") / "fixed.qfx"
    qfx.save(qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [x]), path, serving=True)
    return Saved(path, (x.numpy(),))


def test_examples_build_with_pkg_config(flags: list[str], fixed_model: Saved, tmp_path: Path) -> None:
    in_c, in_cpp = tmp_path / "infer_c", tmp_path / "infer_cpp"
    run_tool("cc", "-std=c99", *STRICT, EXAMPLES / "infer.c", "-o", in_c, *flags)
    run_tool("c++", "-std=c++20", *STRICT, EXAMPLES / "infer.cpp", "-o", in_cpp, *flags)
    for program in (in_c, in_cpp):
        assert infers_as_python(program, fixed_model, tmp_path)


def test_examples_build_with_cmake(prefix: Path, fixed_model: Saved, tmp_path: Path) -> None:
    run_tool("cmake", "-S", EXAMPLES, "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    run_tool("cmake", "--build", tmp_path)
    for program in ("infer_c", "infer_cpp"):
        assert infers_as_python(tmp_path / program, fixed_model, tmp_path)


def test_a_moved_installation_works(flags: list[str], prefix: Path, image_model: Saved, tmp_path: Path) -> None:
    """The command finds its library, and package files name no place."""
    moved = tmp_path / "elsewhere"
    run_tool("cp", "-a", prefix, moved)
    run_tool(moved / "bin" / "qfx-run", image_model.path, "--info")
    for path in [*moved.rglob("*.pc"), *moved.rglob("*.cmake")]:
        assert str(ROOT) not in path.read_text(encoding="utf-8")


def test_hooks_are_used(flags: list[str], image_model: Saved, tmp_path: Path) -> None:
    """Pools of 1, 2 and 3 threads give the same bits; all memory comes from the allocator, and goes back to it."""
    program = tmp_path / "hooks"
    run_tool("cc", "-std=gnu99", *STRICT, ROOT / "tests" / "capi" / "hooks.c", "-o", program, *flags, "-pthread")
    told = run_tool(program, image_model.path, "8", "20")
    regions = re.findall(r"pool of (\d): (\d+) regions, at most (\d) threads", told)
    assert regions == [(str(most), "20", str(most)) for most in (1, 2, 3)]
    pieces, left, bytes_left = re.search(r"heap: (\d+) pieces, (\d+) left, (\d+) bytes left", told).groups()
    assert int(pieces) > 60  # the results of 60 calls, and what they worked in
    assert (left, bytes_left) == ("0", "0")
    assert "without memory: 6, There is not enough memory" in told
