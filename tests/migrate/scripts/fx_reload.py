# FX graph mode, as the accuracy tutorial has it: quantize, save the state, load it into a model that saw no data.
import copy
import io
import sys

import torch
import torch.nn as nn
from torch.ao.quantization import QConfigMapping, get_default_qconfig, get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, fuse_fx, prepare_fx


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer2 = BasicBlock(3, 16), BasicBlock(16, 32, 2)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(32, 10)

    def forward(self, x):
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


def calibrate(model, batches):
    model.eval()
    with torch.no_grad():
        for image in batches:
            model(image)


torch.manual_seed(0)
float_model = ResNet()
data = [torch.randn(16, 3, 24, 24) for _ in range(3)]
with torch.no_grad():
    float_model.train()(data[0])
float_model.eval()
example_inputs = (data[0][:1],)
with torch.no_grad():
    results = {"float": float_model(data[0]), "fused": fuse_fx(copy.deepcopy(float_model))(data[0])}

for engine in ("x86", "fbgemm", "qnnpack", "onednn"):
    qconfig_mapping = get_default_qconfig_mapping(engine)
    prepared_model = prepare_fx(
        copy.deepcopy(float_model), qconfig_mapping=qconfig_mapping, example_inputs=example_inputs
    )
    calibrate(prepared_model, data)
    quantized_model = convert_fx(prepared_model)
    file = io.BytesIO()
    torch.save(quantized_model.state_dict(), file)
    file.seek(0)
    blank = convert_fx(prepare_fx(copy.deepcopy(float_model), qconfig_mapping, example_inputs))
    blank.load_state_dict(torch.load(file))
    results[engine] = blank(data[0]).detach()
    results["exact"] = torch.equal(results[engine], quantized_model(data[0]))

qconfig_mapping = QConfigMapping().set_global(get_default_qconfig("x86")).set_module_name("layer1.conv1", None)
prepared_model = prepare_fx(float_model, qconfig_mapping, example_inputs)
calibrate(prepared_model, data)
results["first layer float"] = convert_fx(prepared_model)(data[0]).detach()
results["exact"] = torch.tensor(results["exact"])
torch.save(results, sys.argv[1])
