# Static quantization in FX graph mode; the mapping is built by statements, in a function.
import argparse

import torch
import torch.ao.quantization.quantize_fx as quantize_fx
import torch.nn as nn
import torch.nn.functional as F
from torch.ao.quantization.qconfig_mapping import get_default_qconfig_mapping


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.fc1 = nn.Linear(16 * 6 * 6, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.hardtanh(self.fc1(x))
        return F.log_softmax(self.fc2(x), dim=1)


def mapping(backend):
    m = get_default_qconfig_mapping(backend)
    if backend == "onednn":
        m.set_global(torch.ao.quantization.get_default_qconfig("onednn"))
    for layer in (nn.Conv2d, nn.ReLU):
        m.set_object_type(layer, torch.ao.quantization.default_per_channel_qconfig)
    m.set_module_name(
        "fc2",
        torch.ao.quantization.QConfig(
            activation=torch.ao.quantization.MinMaxObserver.with_args(dtype=torch.quint8),
            weight=torch.ao.quantization.default_weight_observer,
        ),
    )
    m.set_module_name_object_type_order("", F.hardtanh, 0, None)
    return m


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("result")
    parser.add_argument("--backend", default="fbgemm")
    args = parser.parse_args()
    torch.manual_seed(3)
    model = Net().eval()
    batches = [torch.rand(16, 1, 16, 16) for _ in range(3)]
    model_prepared = quantize_fx.prepare_fx(model, mapping(args.backend), example_inputs=(batches[0],))
    with torch.inference_mode():
        for batch in batches:
            model_prepared(batch)
    model_quantized = quantize_fx.convert_fx(graph_module=model_prepared)
    x = torch.cat(batches)
    torch.save({"float": model(x).detach(), "static": model_quantized(x)}, args.result)


if __name__ == "__main__":
    main()
