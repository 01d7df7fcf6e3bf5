"""What nodes and graphs carry in their ``meta``: THE list of keys, with their types and who writes them.

``tests/ir/test_facts.py`` fails where code uses a key that has no row, and where another part of the package writes it
than the row says.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True)
class Fact:
    """A key of ``meta``.

    Attributes:
        key: The key.
        type: What the value is.
        says: What it says.
        writers: The parts of the package that write it.
    """

    key: str
    type: str
    says: str
    writers: tuple[str, ...]


def _facts(*rows: tuple[str, str, str, str]) -> tuple[Fact, ...]:
    return tuple(Fact(key, type_, says, tuple(writers.split())) for key, type_, writers, says in rows)


NODE = _facts(
    # where a value comes from; place() of qfx.ir.nodes and the rewriter carry it on
    ("module_path", "str", "frontends imports patterns", "path of the user's module; of what runs, for a function"),
    ("source", "str | None", "frontends imports patterns", "the user's line"),
    ("alias", "type | Callable | str", "frontends", "what the user wrote: a module class, a function, a method name"),
    ("module_class", "type | None", "frontends imports", "class of the user's module"),
    ("call", "str", "frontends", "the same for all nodes that stand for one call of the user's"),
    ("rules", "tuple[tuple[str, tuple[str, ...]], ...]", "patterns", "the rules that made it, and what they rewrote"),
    ("fused", "tuple[tuple[str, str], ...]", "lowering patterns", "path and name of each node merged into this one"),
    ("apart", "str", "patterns", "why a rewrite that fits the node was not made"),
    # what a value is
    ("shape", "tuple[int, ...]", "eager frontends models patterns", "of the example inputs' run"),
    ("dtype", "torch.dtype", "eager frontends models patterns", "of the example inputs' run"),
    ("batch_dim", "int | None", "frontends models patterns", "the dim that follows the inputs' first"),
    ("number", "bool", "frontends", "the value is a number of Python's"),
    ("rank", "int", "frontends ops", "the number of dims, where code of the model or its layers tell it"),
    ("extents", "tuple[Any, ...] | None", "patterns", "each dim's extent, as a number or a name"),
    ("default", "Any", "frontends", "a placeholder's default value that generated code can't say"),
    # while a graph is captured
    ("unpacked", "int", "frontends", "how many items code unpacks the value into"),
    ("example", "Any", "frontends", "the value on the example inputs, while a trace runs"),
    ("carried", "bool", "frontends", "a constant that a call left and the next one reads"),
    ("made_in_call", "bool", "frontends", "a tensor that the call makes, so that writes to it are seen by none"),
    ("not_functional", "str", "frontends", "why a graph with writes can't be written without"),
    ("torchscript_origin", "tuple[Any, ...]", "frontends", "how TorchScript spells the call"),
    # islands and boundaries
    ("island_reason", "str", "frontends", "why the user's module stays as it is"),
    ("island_remedy", "str", "frontends", "what would make it a graph"),
    ("opaque_reason", "str", "frontends", "why a call is no row of the op table"),
    ("inside", "tuple[tuple[str, str, Decision], ...]", "passes", "the layers in the module that the node calls"),
    ("inside_qconfigs", "dict[str, QConfig]", "passes", "the qconfigs of those that are swapped"),
    ("custom_module", "str", "passes", "name of the QuantType by which a custom module is quantized"),
    ("stubbed", "bool", "frontends", "the value lies between a QuantStub and a DeQuantStub"),
    ("observed_by", "str", "frontends", "path of the FloatFunctional whose operation the node is"),
    ("zeros", "bool", "frontends", "a constant that the model's code makes, of nothing but zeros"),
    # training
    ("derivation", "Source | Derived | Computed", "frontends patterns", "how the model's tensors give a constant"),
    ("dropout", "str", "frontends", "path of the dropout that the node stands for"),
    ("weight_fake_quant", "str", "passes", "path of the module that fake-quantizes the weight"),
    # what is decided
    ("qconfig", "QConfig | None", "advice comparison passes", "how the op is quantized, None for float"),
    ("qconfig_rule", "str", "comparison passes", "the entry of the qconfig_dict that says so"),
    ("decision", "Decision", "ir", "what happens to the node, and why"),
    ("wanted", "bool", "passes", "an int8 op reads the value as integers"),
    ("may_read_wide", "bool", "passes", "a layer's input may turn out to need more than 8 bits"),
    ("part_of", "str", "passes", "name of the layer that the node is a part of"),
    ("computes", "str", "passes", "name of the layer whose result the node is"),
    ("recovery", "tuple[str, ...]", "passes", "what was done about an error of rounding"),
    # observers and quantized values
    ("observer", "str", "passes training", "an observer call: its path"),
    ("group", "str", "passes training", "path of the observer whose qparams the value carries"),
    ("own_range", "str", "passes", "path of the observer of a part of the group"),
    ("input_statistics", "str", "passes", "path of the module that collects what a layer reads"),
    ("channel_sample", "str", "passes", "path of the module that samples what a rotation reads"),
    ("qparams", "QParams", "passes", "of the value"),
    ("arrives_as", "QParams", "eager passes", "an input that arrives as integers: theirs"),
    # Int8
    ("value_type", "ValueType", "file lowering", "what the program's value holds"),
    ("weights", "dict[str, Weight]", "lowering", "a layer's constants, by role"),
    ("in_torch", "bool", "lowering", "torch runs the node"),
    ("per_row", "bool", "lowering", "each row of what a dynamic layer reads has a scale of its own"),
    ("input_group", "int", "lowering", "how many neighbours of a row of what a dynamic layer reads share a scale"),
    ("codes_of", "str", "lowering", "name of the QDQ node whose integers the value is"),
    ("table", "Tensor", "lowering", "uint8 [256]: the table that the op's result goes through"),
    ("table_of", "tuple[str, ...]", "lowering", "names of the nodes that the table computes"),
    ("before_table", "QParams", "lowering", "of the value that the table is read at"),
)  # fmt: skip
"""The keys of a node, in the order in which a graph gets them."""

GRAPH = _facts(
    ("frontend", "str", "frontends", "which frontend captured the model"),
    ("frontend_reason", "str", "frontends", "why that one"),
    ("whole", "str", "frontends", "path of the model inside what was captured"),
    ("training", "bool", "frontends", "the model was in training mode"),
    ("specialized", "dict[str, Any]", "frontends", "arguments that the capture fixed"),
    ("sizes_fixed", "bool", "frontends", "the graph holds for the examples' sizes only"),
    ("fixed_batch", "str", "frontends", "why the batch can't change"),
    ("exported_program", "ExportedProgram", "frontends", "what a module was made of"),
    ("module_classes", "dict[str, type]", "frontends", "class of each module of a script"),
    ("computed", "dict[str, ComputedWeight]", "frontends", "the weights that modules compute"),
    ("island_state", "dict[str, dict[str, Any]]", "frontends", "what islands kept when the model was captured"),
    ("arguments", "tuple[tuple[str, str, Any], ...]", "observed", "each argument of forward(), what it was fixed at"),
    ("guards", "tuple[Guard, ...]", "frontends observed", "what the capture took for granted about the inputs"),
    ("trainable", "bool", "observed", "the graph will be trained"),
    ("example_inputs", "tuple[Described, ...]", "frontends models", "a description of each example input"),
    ("annotation", "Annotation", "passes", "what is decided, until observers are inserted"),
    ("recovery", "Recovery", "passes", "what conversion may do about errors of rounding"),
    ("batch_norms", "tuple[str, ...]", "passes", "paths of the batch norms that train"),
    ("input_quantized_idxs", "tuple[int, ...]", "passes", "inputs that arrive as integers"),
    ("output_quantized_idxs", "tuple[int, ...]", "passes", "outputs that leave as integers"),
    ("unseen", "tuple[str, ...]", "passes", "what no data was seen of, until conversion warns"),
    ("qconfigs", "Any", "observed", "the qconfig_dict as plain data"),
    ("weights_read", "dict[str, QArray]", "imports", "of a model that came quantized: integers of its float tensors"),
    ("preserved", "tuple[str, ...]", "api imported observed", "attributes of the float model that are carried over"),
)  # fmt: skip
"""The keys of a graph; a model from :class:`qfx.ir.module.GraphCarrier` has them as its ``info``."""

OF_TORCH = frozenset(
    {"val", "tensor_meta", "nn_module_stack", "torch_fn", "stack_trace", "is_wrapped", "example_value"}
)
"""Keys that torch writes."""


def where(node: fx.Node) -> str:
    """What errors and reports call a node: the path of its module, else its name."""
    return str(node.meta.get("module_path") or node.name)


def source(node: fx.Node) -> str | None:
    """The user's line that the node comes from, where it is known."""
    found: str | None = node.meta.get("source")
    return found
