"""The spellings of the years before torch.ao: dicts, torch.quantization, modules under aliases, an engine."""

import sys

import torch
import torch.nn as nn
import torch.quantization as tq
import torch.quantization.quantize_fx as qfx_

torch.backends.quantized.engine = "fbgemm" if "fbgemm" in torch.backends.quantized.supported_engines else "qnnpack"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.head = nn.Linear(8, 6)

    def forward(self, x):
        y = self.features(x)
        return torch.sigmoid(self.head(y.mean([2, 3]))) + 0.5


torch.manual_seed(9)
net = Net().eval()
batches = [torch.randn(4, 3, 12, 12) for _ in range(3)]
qconfig = tq.get_default_qconfig("qnnpack")
qconfig_dict = {
    "": qconfig,
    "object_type": [(nn.Linear, qconfig), (torch.sigmoid, None)],
    "module_name": [("features.0", qconfig)],
}
prepared = qfx_.prepare_fx(net, qconfig_dict, (batches[0],))
for batch in batches:
    prepared(batch)
model = qfx_.convert_fx(prepared)
halves = tq.quantize_dynamic(nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5)), dtype=torch.float16)
q = torch.quantize_per_tensor(torch.linspace(-1, 1, 12), scale=0.01, zero_point=10, dtype=torch.quint8)
with torch.no_grad():
    x = torch.cat(batches)
    assert halves(torch.ones(2, 20)).shape == (2, 5)
    torch.save({"float": net(x), "static": model(x), "exact": q.int_repr()}, sys.argv[1])
