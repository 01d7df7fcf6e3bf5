"""``qfx.to_onnx``: the QDQ graph of a converted model as an ONNX file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from qfx.arguments import explained
from qfx.errors import ConversionError, InputError, QfxError
from qfx.file.atomic import require_writable
from qfx.models import QuantizedModel
from qfx.onnx.opset import OLDEST


@explained
def to_onnx(
    qmodel: QuantizedModel, path: Any, *, opset: int = OLDEST, sizes: Literal["free", "batch"] = "free"
) -> None:
    """Write a converted model as an ONNX file, for ONNX Runtime, OpenVINO and others.

    The file says what the QDQ graph says: weights are int8 initializers behind DequantizeLinear, along their channels,
    biases int32 ones; activations go through QuantizeLinear and DequantizeLinear where the model rounds them; the rest
    is float. Inputs and outputs have the user's names: ``output``; ``output_0``, ``output_1`` where there are several;
    or the keys of a dict. Inputs and outputs that are quantized are integers in the file.

    Rows that a dynamic layer rounds at each call are rounded in the file, too: by DynamicQuantizeLinear where all of
    them share a scale, else spelled out. Attention and recurrent layers are their float definitions: the int8 runtime
    rounds inside them, and files do not.

    Args:
        qmodel: The converted model. Shapes of its inputs must be known: from example_inputs, or from a call.
        path: The file, replaced in one step or left as it was.
        opset: The version of ONNX's operators, 21 or newer.
        sizes: ``"free"``: every length that the model leaves free is symbolic. ``"batch"``: only the first dim of each
            input is, and others are those of the example inputs; ops that need to know lengths do then.

    Raises:
        ConversionError: A part of the model has no form in ONNX; it is named. Or the shapes are not known, or the file
            would be larger than 2 GB, the most that one holds.
        InputError: The opset is too old, or newer than the installed onnx, or the path can't be written.
        QfxError: The package onnx is not installed.
    """
    _require_installed()
    from qfx.onnx.write import write_model

    _require_ready(qmodel)
    target = Path(path)
    require_writable(target)
    write_model(qmodel.shared_graph_module(), target, opset=opset, sizes=sizes)


def _require_ready(qmodel: Any) -> None:
    if not isinstance(qmodel, QuantizedModel):
        raise InputError(
            f"qmodel is of type {type(qmodel).__name__}.",
            remedy="Give a converted model: what quantize_fx, convert_fx or qfx.load of a model returns.",
        )
    if qmodel.info.get("example_inputs") is None:
        raise ConversionError(
            "The shapes of this model's inputs are not known yet.",
            remedy="Call it once, or pass example_inputs to prepare_fx.",
        )


def _require_installed() -> None:
    if find_spec("onnx") is None:
        raise QfxError(
            "to_onnx needs the package onnx, which is not installed.", remedy="pip install 'qfx[onnx]', or onnx alone."
        )
