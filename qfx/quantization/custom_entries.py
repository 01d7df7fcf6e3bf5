"""A PrepareCustomConfig as rules of a qconfig_dict."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from torch import nn

from qfx.errors import QConfigError
from qfx.quantization.custom_config import STANDALONE, PrepareCustomConfig, as_config
from qfx.quantization.foreign import require_no_backend_config
from qfx.quantization.qconfig_dict import QConfigRules, parse_qconfig_dict


def with_custom_config(rules: QConfigRules, config: PrepareCustomConfig, model: nn.Module) -> QConfigRules:
    """``rules`` of a qconfig_dict together with what ``config`` says about ``model``.

    Raises:
        QConfigError: A standalone module whose qconfigs can't hold for a part of a graph, or a value of another type.
    """
    sections = {k: v for k, v in config.to_dict().items() if "custom" not in k and k not in STANDALONE}
    custom = [kind for classes in config.float_to_observed_mapping.values() for kind in classes]
    sections["non_traceable_module_class"] = [*config.non_traceable_module_classes, *custom]
    added = parse_qconfig_dict(sections)
    joined: dict[str, Any] = {
        name: tuple(dict.fromkeys((*getattr(rules, name), *getattr(added, name)))) for name in sections
    }
    for path, (mapping, _, inner, backend) in _standalone(config, model):
        require_no_backend_config(backend)
        if inner is not None and as_config(PrepareCustomConfig, inner).to_dict():
            raise QConfigError(
                f"The standalone module {path!r} has a PrepareCustomConfig of its own.",
                remedy="Give what it says to the PrepareCustomConfig of the whole model, with paths from its root.",
            )
        rules = _with_part(rules, path, parse_qconfig_dict({} if mapping is None else mapping))
    return replace(rules, **joined)


def _standalone(config: PrepareCustomConfig, model: nn.Module) -> list[tuple[str, tuple[Any, ...]]]:
    paths = {
        path: given
        for kind, given in config.standalone_module_classes.items()
        for path, module in (model.named_modules() if isinstance(model, nn.Module) else ())
        if type(module) is kind
    }
    return list((paths | config.standalone_module_names).items())


def _with_part(rules: QConfigRules, path: str, own: QConfigRules) -> QConfigRules:
    """``rules`` in which ``own`` hold for the module at ``path``."""
    if own.object_type:
        raise QConfigError(
            f"The qconfigs of the standalone module {path!r} go by type of operation.",
            why="It is a part of one graph, in which such entries hold everywhere.",
            remedy="Name its modules by set_module_name, or the calls in it by set_module_name_object_type_order.",
        )
    whole = [] if own.default is None else [(path, own.default)]
    inside = f"{re.escape(path)}\\."
    return replace(
        rules,
        module_name=(*rules.module_name, *whole, *((f"{path}.{name}", q) for name, q in own.module_name)),
        module_name_regex=(
            *((f"{inside}(?:{pattern})", q) for pattern, q in own.module_name_regex),
            *rules.module_name_regex,
        ),
        module_name_object_type_order=(
            *rules.module_name_object_type_order,
            *(
                ((f"{path}.{owner}" if owner else path, kind, i), q)
                for (owner, kind, i), q in own.module_name_object_type_order
            ),
        ),
    )
