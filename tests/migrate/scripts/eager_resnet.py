"""A residual network by eager mode under the old names: modules fused by name, an observer of its own, per channel."""

import sys

import torch
import torch.nn as nn
from torch.quantization import DeQuantStub, QuantStub, fuse_modules


class Bottleneck(nn.Module):
    def __init__(self, inplanes, planes):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, inplanes, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inplanes)
        self.relu2 = nn.ReLU(inplace=True)
        self.skip_add_relu = torch.nn.quantized.FloatFunctional()

    def forward(self, x):
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.skip_add_relu.add_relu(out, x)

    def fuse_model(self):
        fuse_modules(self, [["conv1", "bn1", "relu1"], ["conv2", "bn2"]], inplace=True)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.layers = nn.Sequential(Bottleneck(16, 24), Bottleneck(16, 24))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(16, 10)
        self.quant, self.dequant = QuantStub(), DeQuantStub()

    def forward(self, x):
        x = self.quant(x)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layers(x))
        x = self.fc(torch.flatten(x, 1))
        return self.dequant(x)

    def fuse_model(self):
        fuse_modules(self, ["conv1", "bn1", "relu"], inplace=True)
        for m in self.modules():
            if type(m) == Bottleneck:
                m.fuse_model()


torch.manual_seed(1)
model = ResNet()
batches = [torch.randn(16, 3, 18, 18) for _ in range(3)]
with torch.no_grad():
    model.train()(batches[0])
model.eval()
with torch.no_grad():
    expected = model(batches[0])
model.fuse_model()
model.qconfig = torch.quantization.QConfig(
    activation=torch.quantization.HistogramObserver.with_args(reduce_range=True),
    weight=torch.quantization.PerChannelMinMaxObserver.with_args(
        dtype=torch.qint8, qscheme=torch.per_channel_symmetric
    ),
)
torch.quantization.prepare(model, inplace=True)
with torch.no_grad():
    for batch in batches:
        model(batch)
torch.quantization.convert(model, inplace=True)
traced = torch.jit.trace(model, batches[0])
torch.save({"float": expected, "static": model(batches[0]).detach(), "traced": traced(batches[0]).detach()}, sys.argv[1])
