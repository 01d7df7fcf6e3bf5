"""Training with one scale a channel of the weights, as for fbgemm; observers and statistics freeze near the end."""

import sys

import torch
import torch.nn.intrinsic.qat as nniqat
from torch import nn
from torch.ao.quantization import (
    DeQuantStub,
    QuantStub,
    convert,
    disable_observer,
    fuse_modules_qat,
    get_default_qat_qconfig,
    prepare_qat,
)

torch.backends.quantized.engine = "fbgemm"


class ConvBNReLU(nn.Sequential):
    def __init__(self, in_planes, out_planes, stride=1):
        super().__init__(
            nn.Conv2d(in_planes, out_planes, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_planes, momentum=0.1),
            nn.ReLU(inplace=False),
        )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(ConvBNReLU(3, 8), ConvBNReLU(8, 16, 2))
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(16, 4))
        self.quant, self.dequant = QuantStub(), DeQuantStub()

    def forward(self, x):
        x = self.features(self.quant(x))
        return self.dequant(self.classifier(x.mean([2, 3])))

    def fuse_model(self):
        for m in self.modules():
            if type(m) == ConvBNReLU:
                fuse_modules_qat(m, ["0", "1", "2"], inplace=True)


torch.manual_seed(5)
target = torch.arange(64) % 4
colours = torch.tensor([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0], [-2.0, -2.0, 0]])
image = 0.4 * torch.randn(64, 3, 8, 8) + colours[target][:, :, None, None]

net = Net().train()
net.fuse_model()
net.qconfig = get_default_qat_qconfig("fbgemm")
prepare_qat(net, inplace=True)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(14):
    for x, y in zip(image.split(16), target.split(16)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    if epoch > 9:
        net.apply(disable_observer)
    if epoch > 10:
        net.apply(nniqat.freeze_bn_stats)
quantized = convert(net.eval(), inplace=False)
assert quantized.features[0][0].weight().qscheme() == torch.per_channel_affine
with torch.no_grad():
    scores = quantized(image)
torch.save({"trained": scores, "accuracy": (scores.argmax(1) == target).float().mean()}, sys.argv[1])
