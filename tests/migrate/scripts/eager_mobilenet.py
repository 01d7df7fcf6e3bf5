"""A MobileNetV2 of a few layers by eager mode: fused, calibrated, converted, saved and loaded into a fresh one."""

import copy
import os
import sys
import tempfile

import torch
import torch.nn as nn
from torch.ao.quantization import DeQuantStub, QuantStub


def _make_divisible(v, divisor, min_value=None):
    if min_value is None:
        min_value = divisor
    new_v = max(min_value, int(v + divisor / 2) // divisor * divisor)
    if new_v < 0.9 * v:
        new_v += divisor
    return new_v


class ConvBNReLU(nn.Sequential):
    def __init__(self, in_planes, out_planes, kernel_size=3, stride=1, groups=1):
        padding = (kernel_size - 1) // 2
        super(ConvBNReLU, self).__init__(
            nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(out_planes, momentum=0.1),
            # Replace with ReLU
            nn.ReLU(inplace=False),
        )


class InvertedResidual(nn.Module):
    def __init__(self, inp, oup, stride, expand_ratio):
        super(InvertedResidual, self).__init__()
        self.stride = stride
        assert stride in [1, 2]
        hidden_dim = int(round(inp * expand_ratio))
        self.use_res_connect = self.stride == 1 and inp == oup
        layers = []
        if expand_ratio != 1:
            layers.append(ConvBNReLU(inp, hidden_dim, kernel_size=1))
        layers.extend(
            [
                ConvBNReLU(hidden_dim, hidden_dim, stride=stride, groups=hidden_dim),
                nn.Conv2d(hidden_dim, oup, 1, 1, 0, bias=False),
                nn.BatchNorm2d(oup, momentum=0.1),
            ]
        )
        self.conv = nn.Sequential(*layers)
        # Replace torch.add with floatfunctional
        self.skip_add = nn.quantized.FloatFunctional()

    def forward(self, x):
        if self.use_res_connect:
            return self.skip_add.add(x, self.conv(x))
        else:
            return self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, num_classes=10, width_mult=1.0):
        super(MobileNetV2, self).__init__()
        input_channel = _make_divisible(8 * width_mult, 8)
        settings = [[1, 8, 1, 1], [3, 16, 2, 2], [3, 16, 2, 1]]
        features = [ConvBNReLU(3, input_channel, stride=2)]
        for t, c, n, s in settings:
            for i in range(n):
                features.append(InvertedResidual(input_channel, c, s if i == 0 else 1, expand_ratio=t))
                input_channel = c
        features.append(ConvBNReLU(input_channel, 32, kernel_size=1))
        self.features = nn.Sequential(*features)
        self.quant = QuantStub()
        self.dequant = DeQuantStub()
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, num_classes))

    def forward(self, x):
        x = self.quant(x)
        x = self.features(x)
        x = x.mean([2, 3])
        x = self.classifier(x)
        x = self.dequant(x)
        return x

    # Fuse Conv+BN and Conv+BN+Relu modules prior to quantization
    # This operation does not change the numerics
    def fuse_model(self, is_qat=False):
        fuse_modules = torch.ao.quantization.fuse_modules_qat if is_qat else torch.ao.quantization.fuse_modules
        for m in self.modules():
            if type(m) == ConvBNReLU:
                fuse_modules(m, ["0", "1", "2"], inplace=True)
            if type(m) == InvertedResidual:
                for idx in range(len(m.conv)):
                    if type(m.conv[idx]) == nn.Conv2d:
                        fuse_modules(m.conv, [str(idx), str(idx + 1)], inplace=True)


def evaluate(model, batches):
    model.eval()
    outputs = []
    with torch.no_grad():
        for image in batches:
            outputs.append(model(image))
    return torch.cat(outputs)


def print_size_of_model(model):
    torch.save(model.state_dict(), "temp.p")
    print("Size (MB):", os.path.getsize("temp.p") / 1e6)
    os.remove("temp.p")


def main(result):
    torch.manual_seed(191009)
    images = [torch.randn(8, 3, 32, 32) for _ in range(4)]
    float_model = MobileNetV2()
    with torch.no_grad():  # statistics for the batch norms
        float_model.train()
        for image in images:
            float_model(image)
    float_model.eval()
    reference = evaluate(float_model, images)

    per_tensor = copy.deepcopy(float_model)
    per_tensor.fuse_model()
    print_size_of_model(per_tensor)
    per_tensor.qconfig = torch.ao.quantization.default_qconfig
    torch.ao.quantization.prepare(per_tensor, inplace=True)
    evaluate(per_tensor, images)
    torch.ao.quantization.convert(per_tensor, inplace=True)

    model = copy.deepcopy(float_model)
    model.fuse_model()
    model.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    print(model.qconfig)
    torch.ao.quantization.prepare(model, inplace=True)
    evaluate(model, images)
    torch.ao.quantization.convert(model, inplace=True)
    print_size_of_model(model)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "mobilenet_quantized.pth")
        torch.save(model.state_dict(), path)
        loaded = MobileNetV2().eval()
        loaded.fuse_model()
        loaded.qconfig = torch.ao.quantization.get_default_qconfig("x86")
        torch.ao.quantization.prepare(loaded, inplace=True)
        torch.ao.quantization.convert(loaded, inplace=True)
        loaded.load_state_dict(torch.load(path))
    assert torch.equal(evaluate(loaded, images), evaluate(model, images))
    torch.save(
        {"float": reference, "per channel": evaluate(loaded, images), "per tensor": evaluate(per_tensor, images)},
        result,
    )


if __name__ == "__main__":
    main(sys.argv[1])
