"""Post-training static quantization in FX graph mode; the mapping is one chain of calls."""

import copy
import sys

import torch
from torch import nn
from torch.ao.quantization import QConfigMapping, get_default_qconfig
from torch.ao.quantization.quantize_fx import convert_fx, fuse_fx, prepare_fx


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(16), Block(16))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.layer1(self.maxpool(self.stem(x)))
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x)


def calibrate(model, data_loader):
    model.eval()
    with torch.no_grad():
        for image, _ in data_loader:
            model(image)


torch.manual_seed(0)
data = torch.utils.data.TensorDataset(torch.randn(32, 3, 32, 32), torch.randint(10, (32,)))
data_loader_test = torch.utils.data.DataLoader(data, batch_size=8)
example_inputs = next(iter(data_loader_test))[0]

float_model = ResNet().eval()
model_to_quantize = copy.deepcopy(float_model)
qconfig_mapping = (
    QConfigMapping()
    .set_global(get_default_qconfig("x86"))  # everything
    .set_object_type(nn.MaxPool2d, get_default_qconfig("x86"))
    .set_module_name_regex("layer1.*conv[0-9]", get_default_qconfig("fbgemm"))
    .set_module_name("fc", None)
)
print(qconfig_mapping)
prepared_model = prepare_fx(model_to_quantize, qconfig_mapping, example_inputs)
print(prepared_model.graph)
calibrate(prepared_model, data_loader_test)
quantized_model = convert_fx(prepared_model)
print(quantized_model)
fused_model = fuse_fx(copy.deepcopy(float_model))
with torch.no_grad():
    images = torch.cat([image for image, _ in data_loader_test])
    torch.testing.assert_close(fused_model(images), float_model(images), rtol=1e-4, atol=1e-4)
    torch.save({"float": float_model(images), "static": quantized_model(images)}, sys.argv[1])
