"""What MODEL may be: Python code that makes a module, an exported program, TorchScript, a quantized file."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qfx.batches import Signature
from qfx.cli.blame import retold
from qfx.cli.content import Content, content_of
from qfx.errors import InputError
from qfx.models import QuantizedModel

FILE_SUFFIXES = (".pt2", ".pt", ".pth", ".ts", ".qfx", ".onnx", ".safetensors", ".bin", ".npz", ".npy", ".py", ".pkl")


@dataclass(frozen=True)
class FloatModel:
    """A float model, however it came.

    Attributes:
        capture: What ``qfx.quantize_fx`` takes: a module, a ScriptModule or an ExportedProgram.
        module: The same to be called.
        signature: Its inputs.
        bytes: Of its parameters and buffers.
    """

    capture: Any
    module: nn.Module
    signature: Signature
    bytes: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of its inputs."""
        return self.signature.names

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result for inputs by position or by name; an exported program gets each as it was exported with it.

        Raises:
            InputError: The model does not run on them.
        """
        try:
            if isinstance(self.capture, torch.export.ExportedProgram):
                args, kwargs = _as_exported(self.capture, dict(zip(self.inputs, args, strict=False)) | kwargs)
            return self.module(*args, **kwargs)
        except Exception as error:
            shapes = ", ".join(f"{tuple(v.shape)}" for v in (*args, *kwargs.values()) if isinstance(v, torch.Tensor))
            raise retold(
                f"The float model does not run on inputs of shapes {shapes}.",
                error,
                "Give inputs of the shapes that the model was made for, as many at a time (--batch-size, or --batch).",
            ) from error


def load_float(spec: str) -> FloatModel:
    """The float model that ``spec`` names.

    Raises:
        InputError: It is no float model, or can't be loaded.
    """
    return float_model(load_model(spec), spec)


def float_model(capture: Any, spec: str) -> FloatModel:
    """What :func:`load_model` gave, as a float model.

    Raises:
        InputError: It is quantized.
    """
    if isinstance(capture, QuantizedModel):
        raise InputError(f"MODEL {spec!r} is quantized already.", remedy="Give the float model it was made from.")
    module = capture if isinstance(capture, nn.Module) else capture.module()
    if isinstance(capture, nn.Module):
        module.eval()
    return FloatModel(capture, module, signature_of(module), parameter_bytes(module))


def _as_exported(
    program: torch.export.ExportedProgram, values: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``values`` by name as the positional and keyword arguments that ``program`` takes."""
    entry = program.module_call_graph[0].signature
    assert entry is not None, "an exported program without a root signature"
    by_position, by_name = entry.in_spec.children()
    names = list(values if entry.forward_arg_names is None else entry.forward_arg_names)
    return tuple(values[n] for n in names[: by_position.num_children]), {n: values[n] for n in by_name.context}


def load_quantized(spec: str) -> QuantizedModel:
    """The quantized model in the file ``spec``.

    Raises:
        InputError: It is something else, or can't be loaded.
    """
    model = load_model(spec)
    if not isinstance(model, QuantizedModel):
        raise InputError(f"FILE {spec!r} is a float model.", remedy=f"Make a file of it: qfx quantize {spec} -o x.qfx.")
    return model


def load_model(spec: str) -> Any:
    """The model that ``spec`` names: ``module:factory``, ``module:model``, or a file, told by its content.

    Returns:
        An nn.Module (a ScriptModule of a TorchScript file, a QuantizedModel of a file of qfx), or an ExportedProgram.

    Raises:
        InputError: There is no such thing, it can't be loaded safely, or it is no model.
    """
    path = Path(spec)
    if spec and _exists(path):
        return _load_file(path)
    if ":" not in spec or spec.endswith(FILE_SUFFIXES):
        raise _not_there(spec)
    made = named_object(spec, "MODEL")
    model = made if isinstance(made, nn.Module) else called(made, spec, "MODEL") if callable(made) else made
    if isinstance(made, type) and issubclass(made, nn.Module) and not isinstance(model, nn.Module):
        raise InputError(f"MODEL {spec!r} makes no model.", remedy="Name a function that returns one.")
    if not isinstance(model, (nn.Module, torch.export.ExportedProgram)):
        raise InputError(
            f"MODEL {spec!r} gives {type(model).__name__}, not an nn.Module.",
            remedy="Name a function without arguments that returns the model.",
        )
    return model


def signature_of(module: Any) -> Signature:
    """The inputs of a module, which may be a ScriptModule."""
    if not isinstance(module, torch.jit.ScriptModule):
        return Signature.of_model(module)
    schema: Any = module.forward.schema  # type: ignore[attr-defined]
    arguments = schema.arguments[1:]
    return Signature(tuple(a.name for a in arguments), sum(not a.has_default_value() for a in arguments))


def input_names(model: QuantizedModel) -> tuple[str, ...]:
    """Names of a quantized model's inputs."""
    return Signature.of_graph(model.graph).names


def parameter_bytes(module: nn.Module) -> int:
    """Bytes of parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in chain(module.parameters(), module.buffers()))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _not_there(spec: str) -> InputError:
    if spec.endswith(FILE_SUFFIXES) or os.sep in spec:
        return InputError(f"There is no file {spec!r}.", remedy=_similar_file(Path(spec)))
    return InputError(
        f"MODEL is {spec!r}, which is neither a file nor module:name.",
        remedy=f"Write module:name, such as {spec or 'my_models'}:make, or the path of a file.",
    )


def _similar_file(path: Path) -> str:
    names = [p.name for p in path.parent.glob("*")] if _exists(path.parent) else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {str(path.parent / near[0])!r}?" if near else "Check the path."


# ---------------------------------------------------------------- files


def _load_file(path: Path) -> Any:
    if path.is_dir():
        raise InputError(f"MODEL {str(path)!r} is a folder.", remedy="Give a file, or module:factory.")
    if not path.is_file():
        raise InputError(f"MODEL {str(path)!r} is a device or a pipe.", remedy="Give a file, or module:factory.")
    content = content_of(path)
    if content in _LOADERS:
        return _LOADERS[content](path)
    raise InputError(f"{str(path)!r} holds {content.value}, not a model.", **_refusal(content, path))


def _load_qfx(path: Path) -> Any:
    from qfx.file.model import load

    return load(path)


def _load_exported(path: Path) -> Any:
    from qfx.cli.exported import load_exported

    return load_exported(path)


def _load_torchscript(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise InputError(
            f"{str(path)!r} can't be loaded as TorchScript.",
            why=f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}.",
            remedy="Save it anew with torch.jit.save, or export it with torch.export.save.",
        ) from error


_LOADERS: dict[Content, Callable[[Path], Any]] = {
    Content.qfx: _load_qfx,
    Content.exported: _load_exported,
    Content.torchscript: _load_torchscript,
}


def _refusal(content: Content, path: Path) -> dict[str, str]:
    """Why a file is not loaded, and what to do."""
    safe = "save it with torch.export.save(torch.export.export(model, inputs), 'model.pt2')"
    loading = f"write def make() in a module of yours that loads {path.name} into the model, and give module:make"
    texts = {
        Content.pickled: ("Loading it would run any code in it.", f"If you trust it, {loading}; or {safe}."),
        Content.weights: ("Weights do not say what to compute.", f"{loading[0].upper()}{loading[1:]}."),
        Content.safetensors: ("Weights do not say what to compute.", f"{loading[0].upper()}{loading[1:]}."),
        Content.onnx: ("qfx reads PyTorch models.", f"In PyTorch, {safe}."),
        Content.python: ("A module is named, not a file.", f"Write {path.stem}:make, with the function's name."),
        Content.empty: ("The file is empty.", "Write it anew."),
        Content.broken: ("It does not end as it should.", "Copy or write it anew."),
    }
    why, remedy = texts.get(content, ("", "Give module:factory, a .pt2, TorchScript or a file of qfx quantize."))
    return {"why": why, "remedy": remedy}


# ---------------------------------------------------------------- module:name


def named_object(spec: str, what: str) -> Any:
    """The object that ``module:name`` names; modules of the current folder count.

    Raises:
        InputError: It can't be imported, or is not there.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute or module_name.startswith(".") or os.sep in module_name:
        raise InputError(f"{what} is {spec!r}.", remedy="Write module:name, such as my_package.models:make.")
    if module_name.endswith(".py"):
        raise InputError(
            f"{what} is {spec!r}.", why="A module has no suffix.", remedy=f"Write {module_name[:-3]}:{attribute}."
        )
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    found = _imported(module_name, spec, what)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"{what} {spec!r}: {module_name} has no {attribute!r}.", remedy=_similar_name(found, part))
        found = getattr(found, part)
    return found


def _imported(module_name: str, spec: str, what: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InputError(
                f"{what} {spec!r}: {module_name} can't be imported.",
                why=f"There is no module {error.name!r}.",
                remedy="Run from the folder that holds it, or install its package.",
            ) from error
        raise retold(
            f"{what} {spec!r}: {module_name} can't be imported.", error, f"Install {error.name}, which it imports."
        ) from error
    except (Exception, SystemExit) as error:
        raise retold(
            f"{what} {spec!r}: {module_name} can't be imported.", error, "Correct the module; it must import alone."
        ) from error


def _similar_name(owner: Any, name: str) -> str:
    names = [n for n in dir(owner) if not n.startswith("_")]
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    functions = [n for n, v in vars(owner).items() if callable(v) and not n.startswith("_")] if vars(owner) else []
    return f"Instead of {name}, it has {', '.join(functions[:8]) or 'no functions'}."


def called(made: Callable[[], Any], spec: str, what: str) -> Any:
    """What the function that ``spec`` names returns.

    Raises:
        InputError: It raises, or calls exit().
    """
    try:
        return made()
    except (Exception, SystemExit) as error:
        raise retold(
            f"{what} {spec!r} raises {type(error).__name__}.", error, "Correct it; it is called without arguments."
        ) from error
