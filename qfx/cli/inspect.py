"""``qfx inspect``: what is in a quantized file."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qfx.cli.facts import Facts, size, table
from qfx.cli.options import FILE_HELP, add_json


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--steps", action="store_true", help="also show the runtime's steps: kernels, tiles, bytes")
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    from qfx.cli.model import load_quantized, parameter_bytes

    model = load_quantized(options.file)
    report = model.report
    inputs, outputs = _inputs(model), _outputs(model)
    in_memory, on_disk = parameter_bytes(model), Path(options.file).stat().st_size
    explanation = model.explain()
    parts = [_part(part) for part in explanation.parts]
    lines = [
        f"{options.file}: {size(on_disk)} on disk, {size(in_memory)} of tensors",
        table(
            ("", "name", "shape", "dtype"),
            [["input", *_row(x)] for x in inputs] + [["output", *_row(x)] for x in outputs],
        ),
        "",
        str(report),
        "",
        _summary(parts),
    ]
    if options.steps:
        lines += ["", str(explanation)]
    data = {
        "file": options.file,
        "bytes": on_disk,
        "tensor_bytes": in_memory,
        "inputs": inputs,
        "outputs": outputs,
        **report.to_dict(),
        "parts": parts,
    }
    return Facts("\n".join(lines), data)


def _inputs(model: Any) -> list[dict[str, Any]]:
    return [_value(str(node.target), node) for node in model.graph.find_nodes(op="placeholder")]


def _outputs(model: Any) -> list[dict[str, Any]]:
    node = next(iter(model.graph.find_nodes(op="output")))
    return [_value(source.name, source) for source in node.all_input_nodes]


def _value(name: str, node: Any) -> dict[str, Any]:
    shape, dtype = node.meta.get("shape"), node.meta.get("dtype")
    return {
        "name": name,
        "shape": None if shape is None else [str(d) if not isinstance(d, int) else d for d in shape],
        "dtype": str(dtype).removeprefix("torch.") if dtype is not None else None,
    }


def _row(value: dict[str, Any]) -> list[str]:
    shape = "?" if value["shape"] is None else "x".join(map(str, value["shape"])) or "scalar"
    return [value["name"], shape, value["dtype"] or ""]


def _part(part: Any) -> dict[str, Any]:
    """One program with its steps, or the nodes that torch runs."""
    if isinstance(part, tuple):
        return {"torch": list(part)}
    steps = [
        {k: v for k, v in asdict(s).items() if k in ("name", "op", "kernel", "shape", "bytes")} for s in part.steps
    ]
    return {"isa": part.isa, "steps": steps, "memory": asdict(part.memory)}


def _summary(parts: list[dict[str, Any]]) -> str:
    programs = [part for part in parts if "steps" in part]
    steps = sum(len(part["steps"]) for part in programs)
    kernels = {step["kernel"].split()[0].rstrip(":") for part in programs for step in part["steps"] if step["kernel"]}
    in_torch = sum(len(part["torch"]) for part in parts if "torch" in part)
    isa = f" for {programs[0]['isa']}" if programs else ""
    text = f"{len(programs)} programs of {steps} steps{isa}; kernels: {', '.join(sorted(kernels)) or 'none'}"
    return text + (f"; {in_torch} nodes run in torch" if in_torch else "")
