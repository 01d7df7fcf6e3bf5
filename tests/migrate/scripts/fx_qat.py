"""Quantization-aware training in FX graph mode: train, freeze, convert."""

import sys

import torch
import torch.nn as nn
import torch.optim as optim
from torch.ao.quantization import disable_observer, get_default_qat_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_qat_fx


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.0)
        self.fc = nn.Linear(8 * 4 * 4, 3)

    def forward(self, x):
        x = self.relu(self.bn(self.conv(x)))
        x = nn.functional.adaptive_avg_pool2d(x, (4, 4))
        return self.fc(self.drop(x.flatten(1)))


def train_one_epoch(model, criterion, optimizer, batches):
    model.train()
    for image, target in batches:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main():
    torch.manual_seed(1)
    target = torch.arange(48) % 3
    image = 0.5 * torch.randn(48, 3, 8, 8) + 2.0 * nn.functional.one_hot(target, 3)[:, :, None, None]
    batches = list(zip(image.split(8), target.split(8)))

    float_model = Net()
    example_inputs = (image[:1],)
    model = prepare_qat_fx(float_model.train(), get_default_qat_qconfig_mapping("fbgemm"), example_inputs)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(16):
        loss = train_one_epoch(model, criterion, optimizer, batches)
        if epoch > 11:
            # Freeze quantizer parameters
            model.apply(disable_observer)
        if epoch > 12:
            # Freeze batch norm mean and variance estimates
            model.apply(torch.nn.intrinsic.qat.freeze_bn_stats)
        print("epoch", epoch, loss)
    quantized = convert_fx(model.eval())
    scores = quantized(image)
    torch.save({"trained": scores, "accuracy": (scores.argmax(1) == target).float().mean()}, sys.argv[1])


main()
