"""Dynamic quantization of an encoder's linear layers, as for BERT."""

import os
import sys
import time

import torch
from torch import nn


class SelfAttention(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, size)
        self.output = nn.Linear(size, size)

    def split(self, x):
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def forward(self, x, mask):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = q @ k.transpose(-1, -2) / q.size(-1) ** 0.5 + mask
        context = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.output(context)


class Layer(nn.Module):
    def __init__(self, size, heads):
        super().__init__()
        self.attention, self.norm1 = SelfAttention(size, heads), nn.LayerNorm(size)
        self.intermediate, self.output, self.norm2 = (
            nn.Linear(size, 4 * size),
            nn.Linear(4 * size, size),
            nn.LayerNorm(size),
        )

    def forward(self, x, mask):
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.output(nn.functional.gelu(self.intermediate(x))))


class Bert(nn.Module):
    def __init__(self, vocabulary=100, size=32, heads=4, layers=2):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, size), nn.Embedding(64, size)
        self.layers = nn.ModuleList(Layer(size, heads) for _ in range(layers))
        self.pooler, self.classifier = nn.Linear(size, size), nn.Linear(size, 2)

    def forward(self, input_ids, attention_mask):
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        x = self.words(input_ids) + self.positions(torch.arange(input_ids.size(1)))
        for layer in self.layers:
            x = layer(x, mask)
        return (self.classifier(torch.tanh(self.pooler(x[:, 0]))),)


def print_size_of_model(model):
    torch.save(model.state_dict(), "temp.p")
    size = os.path.getsize("temp.p")
    print("Size (MB):", size / (1024 * 1024))
    os.remove("temp.p")
    return size


def time_model_evaluation(model, inputs):
    start = time.time()
    with torch.no_grad():
        outputs = model(**inputs)
    print("Evaluate total time (seconds): {0:.1f}".format(time.time() - start))
    return outputs[0]


torch.manual_seed(42)
model = Bert().eval()
quantized_model = torch.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
print(quantized_model)
assert print_size_of_model(quantized_model) < 0.6 * print_size_of_model(model)
inputs = {"input_ids": torch.randint(100, (4, 12)), "attention_mask": torch.ones(4, 12).tril(8)}
torch.save(
    {"float": time_model_evaluation(model, inputs), "dynamic": time_model_evaluation(quantized_model, inputs)},
    sys.argv[1],
)
