"""From a float model to a graph with observers: capture, then the stages of :mod:`qfx.pipeline` up to Observed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from torch import fx, nn

from qfx import pipeline
from qfx.batches import Signature, split_batch
from qfx.errors import CaptureError, QConfigError
from qfx.frontends.accepted import require_float_model
from qfx.frontends.assumptions import arguments_of, guards_of
from qfx.frontends.examples import Example
from qfx.frontends.leaves import WHOLE
from qfx.frontends.select import as_module, capture, example_inputs_of
from qfx.guards import GUARDS
from qfx.inputs import as_float32
from qfx.ir.computed import COMPUTED
from qfx.ir.derivation import TRAINABLE
from qfx.ir.module import ARGUMENTS
from qfx.models import PreparedModel
from qfx.passes.preparation import Preparation, Recovery
from qfx.passes.resolve import QConfigRules, Spelled, Spelling, parse_qconfig_dict, spellings_of
from qfx.pipeline import Stage
from qfx.quantization.custom_config import PrepareCustomConfig
from qfx.quantization.custom_entries import with_custom_config
from qfx.training.model import TrainableModel


@dataclass(frozen=True)
class Request:
    """What is asked of a preparation; fields as the arguments of :func:`qfx.prepare_fx`."""

    qconfig_dict: Mapping[str, Any]
    example_inputs: Any = None
    config: PrepareCustomConfig = field(default_factory=PrepareCustomConfig)
    strict: bool = False
    frontend: str = "auto"
    recovery: Recovery = field(default_factory=lambda: Recovery(False, False))


def to_calibrate(model: nn.Module, request: Request) -> PreparedModel:
    """``model`` with observers; errors as of :func:`qfx.prepare_fx`."""
    return PreparedModel(*_prepared(_Normal.of(model, request), pipeline.PREPARE))


def to_calibrate_spelled(model: nn.Module, request: Request) -> tuple[PreparedModel, dict[str, Spelling]]:
    """What :func:`to_calibrate` and :func:`spellings` return, for one capture."""
    normal = _Normal.of(as_module(model), request)
    spelled = spellings_of(normal.gm.graph, normal.spelled)
    return PreparedModel(*_prepared(normal, pipeline.PREPARE)), spelled


def to_train(model: nn.Module, request: Request) -> TrainableModel:
    """``model`` with fake-quantize modules; errors as of :func:`qfx.prepare_qat_fx`."""
    normal = _Normal.of(model, request, trainable=True)
    return TrainableModel(*_prepared(normal, pipeline.PREPARE_QAT), normal.origin, model.state_dict().keys())


def spellings(model: nn.Module, request: Request) -> dict[str, Spelling]:
    """How entries of a qconfig_dict name each op of ``model``, by the op's name before anything is fused."""
    normal = _Normal.of(as_module(model), request)
    return spellings_of(normal.gm.graph, normal.spelled)


def capture_normal(model: nn.Module, example_inputs: Any = None, *, frontend: str = "auto") -> fx.GraphModule:
    """``model`` captured and normalized, nothing fused; arguments and errors as of :func:`qfx.prepare_fx`."""
    return _Normal.of(as_module(model), Request({}, example_inputs, frontend=frontend)).gm


def capture_quantized(model: nn.Module, request: Request, whole: tuple[type[nn.Module], ...] = ()) -> _Captured:
    """A model that another tool quantized at the Captured level, and its example inputs.

    Args:
        model: As there; or from :func:`qfx.frontends.select.as_module`.
        request: Its frontend and its example inputs.
        whole: Classes of modules that are not entered.
    """
    require_float_model(model)
    rules = replace(parse_qconfig_dict({}), non_traceable_module_class=whole)
    return _captured(model, rules, request)


_Captured: TypeAlias = tuple[fx.GraphModule, Example]


def _captured(model: nn.Module, rules: QConfigRules, request: Request) -> _Captured:
    given = example_inputs_of(model) if request.example_inputs is None else request.example_inputs
    example = _example(model, given)
    return _capture(model, rules, example, request), example


@dataclass(frozen=True)
class _Normal:
    """A captured and normalized model.

    Attributes:
        model: The float model.
        request: What is asked of it.
        asked: The qconfig_dict.
        rules: The same with what the custom config says.
        captured: The Captured graph.
        gm: The Normal graph.
    """

    model: nn.Module
    request: Request
    asked: QConfigRules
    rules: QConfigRules
    captured: fx.GraphModule
    gm: fx.GraphModule

    @classmethod
    def of(cls, model: nn.Module, request: Request, *, trainable: bool = False) -> _Normal:
        require_float_model(model)
        asked = parse_qconfig_dict(request.qconfig_dict)
        rules = with_custom_config(asked, request.config, model)
        captured, example = _captured(model, rules, request)
        captured.meta[TRAINABLE] = trainable
        return cls(model, request, asked, rules, captured, pipeline.run(pipeline.NORMALIZE, captured, example))

    @property
    def origin(self) -> nn.Module:
        """The copy of the model whose parameters the graph has."""
        return self.captured.get_submodule(self.captured.meta.get(WHOLE, ""))

    @property
    def spelled(self) -> Spelled:
        """What the model has: its modules, and the functions and methods that it calls before any is renamed."""
        nodes = self.captured.graph.nodes
        operations = (n.meta.get("alias", n.target) for n in nodes if n.op in ("call_function", "call_method"))
        modules = {k: type(m) for k, m in self.model.named_modules(remove_duplicate=False)}
        modules.update({n.meta["module_path"]: n.meta["module_class"] for n in nodes if n.meta.get("module_class")})
        return Spelled(modules, frozenset(operations))

    @property
    def preparation(self) -> Preparation:
        """What the passes that follow are told."""
        custom, computed = self.request.config.float_to_observed_mapping, self.captured.meta.get(COMPUTED, {})
        return Preparation(self.rules, self.spelled, custom, self.request.recovery, self.origin, computed)


def _prepared(normal: _Normal, stage: Stage) -> tuple[fx.GraphModule, dict[str, Any]]:
    """The Observed graph, and the attributes to carry over by name."""
    gm = pipeline.run(stage, normal.gm, normal.preparation)
    preserved = deepcopy(named_attributes(normal.model, normal.rules.preserved_attributes))
    gm.meta["qconfigs"] = normal.asked.described()
    gm.meta["preserved"] = tuple(preserved)
    return gm, preserved


def _capture(model: nn.Module, rules: QConfigRules, example: Example, request: Request) -> fx.GraphModule:
    args, kwargs = example.args, example.kwargs
    names = Signature.of_model(model).names
    if Signature.of_model(model).open_ended:
        raise CaptureError(
            f"forward() of {type(model).__name__} takes any number of inputs.",
            why="A graph has a fixed number of inputs.",
            remedy="Wrap the model in a module whose forward names each input.",
        )
    # Every range and scale is float32; a model of another precision becomes float32 first.
    captured = capture(
        model,
        frontend=request.frontend,
        example=(args, dict(kwargs)) if example else None,
        non_traceable_module_name=rules.non_traceable_module_name,
        non_traceable_module_class=rules.non_traceable_module_class,
        inputs={*names[: len(args)], *kwargs},
        strict=request.strict,
        keep_layers=any(qconfig.is_dynamic for qconfig in rules.qconfigs()),
        keep_whole=bool(rules.qconfigs()) and all(qconfig.is_dynamic for qconfig in rules.qconfigs()),
    ).float()
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    # Every default of the model's may be in "specialized", also what no file holds.
    captured.meta.update({ARGUMENTS: arguments_of(captured, model), GUARDS: guards_of(captured, given)})
    del captured.meta["specialized"]
    return captured


def _example(model: nn.Module, example_inputs: Any) -> Example:
    if example_inputs is None:
        return Example()
    args, kwargs = split_batch(Signature.of_model(model), example_inputs, 0, labeled=False)
    return Example(tuple(map(as_float32, args)), {name: as_float32(value) for name, value in kwargs.items()})


def named_attributes(model: nn.Module, names: Iterable[str]) -> dict[str, Any]:
    """The attributes of ``model`` that preserved_attributes names.

    Raises:
        QConfigError: It does not have one of them.
    """
    names = list(dict.fromkeys(names))
    missing = [name for name in names if not hasattr(model, name)]
    if missing:
        raise QConfigError(
            f"preserved_attributes names {', '.join(map(repr, missing))}, which the model does not have.",
            remedy=f"Its attributes: {', '.join(n for n in vars(model) if not n.startswith('_')) or 'none'}.",
        )
    return {name: getattr(model, name) for name in names}
