"""A word language model whose weights are stored as float16, by dtype and by qconfig."""

import sys

import torch
from torch import nn
from torch.ao.quantization import float16_dynamic_qconfig, quantize_dynamic


class WordModel(nn.Module):
    def __init__(self, ntoken=60, ninp=24, nhid=32, nlayers=2):
        super().__init__()
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers)
        self.decoder = nn.Linear(nhid, ntoken)

    def forward(self, input, hidden):
        output, hidden = self.rnn(self.encoder(input), hidden)
        return self.decoder(output), hidden


torch.manual_seed(8)
model = WordModel().eval()
tokens = torch.randint(60, (12, 3))
hidden = (torch.zeros(2, 3, 32), torch.zeros(2, 3, 32))
half = quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.float16)
by_qconfig = quantize_dynamic(model, {nn.Linear: float16_dynamic_qconfig, "rnn": float16_dynamic_qconfig})
with torch.no_grad():
    torch.save(
        {name: net(tokens, hidden)[0] for name, net in (("float", model), ("half", half), ("qconfig", by_qconfig))},
        sys.argv[1],
    )
