"""Quantization-aware training in eager mode, as an image classifier is fine-tuned."""

import sys
from copy import deepcopy

import torch
import torch.ao.quantization as quantization
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.relu2 = nn.ReLU()
        self.add = torch.ao.nn.quantized.FloatFunctional()
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.quant(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.add.add(x, self.relu2(self.bn2(self.conv2(x))))
        x = nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.dequant(self.fc(x))

    def fuse_model(self):
        quantization.fuse_modules_qat(self, [["conv1", "bn1", "relu1"], ["conv2", "bn2", "relu2"]], inplace=True)


torch.manual_seed(2)
target = torch.arange(48) % 3
image = 0.5 * torch.randn(48, 3, 8, 8) + 2.0 * nn.functional.one_hot(target, 3)[:, :, None, None]

qat_model = Classifier().train()
qat_model.fuse_model()
qat_model.qconfig = quantization.get_default_qat_qconfig("x86")
quantization.prepare_qat(qat_model, inplace=True)
print("Inverted Residual Block: After preparation for QAT\n", qat_model.conv1)
optimizer = torch.optim.SGD(qat_model.parameters(), lr=0.1)
for nepoch in range(16):
    qat_model.train()
    for x, y in zip(image.split(8), target.split(8)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(qat_model(x), y).backward()
        optimizer.step()
    if nepoch > 11:
        # Freeze quantizer parameters
        qat_model.apply(torch.ao.quantization.disable_observer)
    if nepoch > 12:
        # Freeze batch norm mean and variance estimates
        qat_model.apply(torch.nn.intrinsic.qat.freeze_bn_stats)
    # Check the accuracy after each epoch
    quantized_model = torch.ao.quantization.convert(deepcopy(qat_model).eval(), inplace=False)
    quantized_model.eval()
    with torch.no_grad():
        scores = quantized_model(image)
    print("Epoch %d: %2.2f" % (nepoch, (scores.argmax(1) == target).float().mean()))
torch.save({"trained": scores, "accuracy": (scores.argmax(1) == target).float().mean()}, sys.argv[1])
