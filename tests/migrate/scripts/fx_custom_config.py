"""FX graph mode with a custom configuration: a module that is kept, an attribute, and a module quantized by hand."""

import sys

import torch
import torch.ao.nn.quantized as nnq
from torch import nn
from torch.ao.quantization import QConfigMapping, default_qconfig
from torch.ao.quantization.fx.custom_config import ConvertCustomConfig, PrepareCustomConfig
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx


class NonTraceable(nn.Module):
    def forward(self, x):
        if x.abs().max() > 100:  # depends on the data
            return x / 100
        return x * 1.5


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 12)

    def forward(self, x):
        return self.linear(x)


class ObservedCustom(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x)

    @classmethod
    def from_float(cls, float_module):
        assert hasattr(float_module, "qconfig")
        observed = cls(float_module.linear)
        observed.qconfig = float_module.qconfig
        return observed


class QuantizedCustom(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x)

    @classmethod
    def from_observed(cls, observed_module):
        assert hasattr(observed_module, "qconfig")
        assert hasattr(observed_module, "activation_post_process")
        observed_module.linear.qconfig = observed_module.qconfig
        observed_module.linear.activation_post_process = observed_module.activation_post_process
        return cls(nnq.Linear.from_float(observed_module.linear))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 12)
        self.custom = Custom()
        self.odd = NonTraceable()
        self.fc2 = nn.Linear(12, 4)
        self.labels = ["a", "b", "c", "d"]

    def forward(self, x):
        return self.fc2(self.odd(self.custom(self.fc1(x))))


torch.manual_seed(11)
model, x = Net().eval(), torch.randn(64, 6)
qconfig_mapping = QConfigMapping().set_global(default_qconfig)
prepare_custom_config = (
    PrepareCustomConfig()
    .set_float_to_observed_mapping(Custom, ObservedCustom)
    .set_non_traceable_module_names(["odd"])
    .set_preserved_attributes(["labels"])
)
convert_custom_config = (
    ConvertCustomConfig()
    .set_observed_to_quantized_mapping(ObservedCustom, QuantizedCustom)
    .set_preserved_attributes(["labels"])
)
prepared = prepare_fx(
    model, qconfig_mapping, example_inputs=(x,), prepare_custom_config=prepare_custom_config, backend_config=None
)
prepared(x)
quantized = convert_fx(prepared, convert_custom_config=convert_custom_config)
assert quantized.labels == ["a", "b", "c", "d"]

as_dicts = prepare_fx(
    model,
    {"": default_qconfig},
    example_inputs=(x,),
    prepare_custom_config={
        "float_to_observed_custom_module_class": {"static": {Custom: ObservedCustom}},
        "non_traceable_module_class": [NonTraceable],
        "preserved_attributes": ["labels"],
    },
)
as_dicts(x)
again = convert_fx(
    as_dicts, {"observed_to_quantized_custom_module_class": {"static": {ObservedCustom: QuantizedCustom}}}
)
with torch.no_grad():
    torch.save({"float": model(x), "custom": quantized(x), "dicts": again(x)}, sys.argv[1])
