# Everything imported at once, parts left float, hooks of one's own.
import sys

import torch
from torch import nn
from torch.ao.quantization.fuse_modules import *
from torch.ao.quantization.observer import *
from torch.ao.quantization.qconfig import *
from torch.ao.quantization.quantize import *
from torch.ao.quantization.stubs import *


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = QuantStub()
        self.body = nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.BatchNorm1d(8))
        self.dequant = DeQuantStub()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.dequant(self.body(self.quant(x))).mean(-1))


def run(model, batches):
    for batch in batches:
        model(batch)


torch.manual_seed(5)
model = Net().eval()
data = [torch.randn(4, 4, 20) for _ in range(4)]
fused = fuse_modules(model, [["body.0", "body.1"], ["body.2", "body.3"]])
fused.qconfig = QConfig(
    activation=HistogramObserver.with_args(reduce_range=True),
    weight=PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_symmetric),
)
fused.head.qconfig = None
quantized = quantize(fused, run, [data])
assert isinstance(quantized.head, nn.Linear)
x = torch.cat(data)
with torch.no_grad():
    torch.save({"float": model(x), "static": quantized(x)}, sys.argv[1])
