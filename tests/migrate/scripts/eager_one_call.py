"""Static quantization in one call, of a network in a wrapper and of one with stubs of its own."""

import sys

import torch
from torch import nn
from torch.quantization import DeQuantStub, QuantStub, QuantWrapper, default_qconfig, quantize


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = QuantStub()
        self.first, self.relu, self.second = nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 6)
        self.dequant = DeQuantStub()

    def forward(self, x):
        return self.dequant(self.second(self.relu(self.first(self.quant(x)))))


def default_eval_fn(model, calib_data):
    for data in calib_data:
        model(data)


torch.manual_seed(4)
data = [torch.randn(16, 12) for _ in range(4)]
net = Net().eval()
net.qconfig = default_qconfig
quantized = quantize(net, default_eval_fn, [data])

layers = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 6)).eval()
layers[0].load_state_dict(net.first.state_dict())
layers[2].load_state_dict(net.second.state_dict())
wrapped = QuantWrapper(layers)
wrapped.qconfig = default_qconfig
wrapped = quantize(wrapped, default_eval_fn, [data], inplace=False)

test = torch.cat(data)
with torch.no_grad():
    torch.save({"float": net(test), "stubs": quantized(test), "wrapped": wrapped(test)}, sys.argv[1])
