"""``QConfigMapping().set_global(q).set_object_type(t, r)`` as the dict that it stands for."""

from __future__ import annotations

from collections.abc import Mapping

import libcst as cst

EMPTY = "torch.quantization.QConfigMapping"
DEFAULTS = ("torch.quantization.get_default_qconfig_mapping", "torch.quantization.get_default_qat_qconfig_mapping")

SETTERS = {
    "set_global": ("", 1),
    "set_object_type": ("object_type", 2),
    "set_module_name_regex": ("module_name_regex", 2),
    "set_module_name": ("module_name", 2),
    "set_module_name_object_type_order": ("module_name_object_type_order", 4),
}
"""For each method the section of a qconfig_dict, and how many arguments it takes."""


def setter_calls(first: cst.Call, parents: Mapping[cst.CSTNode, cst.CSTNode]) -> list[cst.Call]:
    """The calls of setters chained to ``first``, in order; none where something else is chained or commented."""
    calls: list[cst.Call] = []
    node = first
    while isinstance(attribute := parents[node], cst.Attribute) and attribute.value is node:
        outer = parents[attribute]
        if not isinstance(outer, cst.Call) or outer.func is not attribute or not _plain(attribute.attr.value, outer):
            return []
        calls.append(outer)
        node = outer
    return calls if "#" not in cst.Module([]).code_for_node(node) else []


def _plain(name: str, call: cst.Call) -> bool:
    if name not in SETTERS:
        return False
    return len(call.args) == SETTERS[name][1] and not any(arg.keyword or arg.star for arg in call.args)


def as_dict(last: cst.Call, count: int, empty: bool) -> cst.Dict:
    """The dict of ``count`` chained setters, of which ``last`` is the outermost.

    Args:
        last: The call.
        count: How many setters there are.
        empty: The chain starts from an empty mapping; else from a call that gives a dict.
    """
    sections: dict[str, list[cst.BaseExpression]] = {}
    node: cst.BaseExpression = last
    for _ in range(count):
        assert isinstance(node, cst.Call)
        assert isinstance(node.func, cst.Attribute)
        values = [arg.value for arg in node.args]
        section = SETTERS[node.func.attr.value][0]
        entry = values[0] if section == "" else cst.Tuple([cst.Element(value) for value in values])
        sections.setdefault(section, []).insert(0, entry)
        node = node.func.value
    elements: list[cst.BaseDictElement] = [] if empty else [cst.StarredDictElement(node)]
    for section in sorted(sections, key=[name for name, _ in SETTERS.values()].index):
        entries = sections[section]
        value = entries[-1] if section == "" else cst.List([cst.Element(entry) for entry in entries])
        elements.append(cst.DictElement(cst.SimpleString(f'"{section}"'), value))
    return cst.Dict(elements, lpar=last.lpar, rpar=last.rpar)
