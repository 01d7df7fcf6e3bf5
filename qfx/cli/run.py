"""``qfx run``: a quantized file on data."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qfx.cli.facts import Facts, table
from qfx.cli.options import DATA_HELP, FILE_HELP, add_batches, add_json, add_output, add_threads
from qfx.errors import InputError

if TYPE_CHECKING:
    from numpy import ndarray


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--input", metavar="DATA", required=True, help=DATA_HELP)
    add_output(parser, "the .npz file to write: one array an output, all samples along the first axis", required=False)
    add_batches(parser)
    add_threads(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> Facts:
    """Run the command."""
    from qfx.cli.conversion import preprocessing
    from qfx.cli.data import load_batches
    from qfx.cli.model import input_names, load_quantized
    from qfx.cli.threads import use_threads
    from qfx.file.atomic import replacing, require_writable

    if options.output is not None:
        require_writable(options.output, ".npz")
    use_threads(options.threads)
    model = load_quantized(options.file)
    images = preprocessing(options.image_size, options.mean, options.std)
    batches = load_batches(options.input, input_names(model), options.batch_size, images)
    arrays, seconds, count = _arrays(model, batches)
    if options.output is not None:
        with replacing(options.output) as part:
            _save(part, arrays)
    return _facts(arrays, seconds, count, options.output)


def _arrays(model: Any, batches: Any) -> tuple[dict[str, ndarray], float, int]:
    """Every output of all batches, the seconds that the model took, and the number of batches."""
    import numpy as np
    from tqdm import tqdm

    from qfx.cli.outputs import named_outputs, run_quantized

    found: dict[str, list[ndarray]] = defaultdict(list)
    seconds, count = 0.0, 0
    for index, batch in enumerate(tqdm(batches, desc="running", unit="batch", disable=None, leave=False)):
        start = time.perf_counter()
        result = run_quantized(model, batch, index)
        seconds += time.perf_counter() - start
        count += 1
        for name, tensor in named_outputs(result).items():
            found[name].append(np.atleast_1d(tensor.numpy(force=True)))
    if not found:
        raise InputError("There is no data to run on.", remedy="Give at least one batch.")
    try:
        return {name: np.concatenate(parts) for name, parts in found.items()}, seconds, count
    except ValueError as error:
        raise InputError(
            "The batches' outputs do not fit into one array.",
            why=f"{error}.",
            remedy="Give batches whose samples have one shape.",
        ) from error


def _save(path: Path, arrays: dict[str, ndarray]) -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _facts(arrays: dict[str, ndarray], seconds: float, count: int, output: Path | None) -> Facts:
    outputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "min": float(array.min()) if array.size else None,
            "max": float(array.max()) if array.size else None,
            "mean": float(array.mean()) if array.size else None,
        }
        for name, array in arrays.items()
    ]
    columns = ("name", "shape", "dtype", "min", "max", "mean")
    rows = [[_cell(row[column]) for column in columns] for row in outputs]
    written = f"\n{output}: {len(arrays)} arrays" if output else ""
    text = f"{table(columns, rows)}\n{count} batches in {seconds:.3g} s{written}"
    data = {"outputs": outputs, "batches": count, "seconds": seconds, "output": str(output) if output else None}
    return Facts(text, data)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
