"""Dynamic quantization of a word language model."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F


class LSTMModel(nn.Module):
    """Container module with an encoder, a recurrent module, and a decoder."""

    def __init__(self, ntoken, ninp, nhid, nlayers, dropout=0.5):
        super(LSTMModel, self).__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=dropout)
        self.decoder = nn.Linear(nhid, ntoken)
        self.init_weights()
        self.nhid = nhid
        self.nlayers = nlayers

    def init_weights(self):
        initrange = 0.1
        self.encoder.weight.data.uniform_(-initrange, initrange)
        self.decoder.bias.data.zero_()
        self.decoder.weight.data.uniform_(-initrange, initrange)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        output = self.drop(output)
        decoded = self.decoder(output)
        return decoded, hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return (weight.new_zeros(self.nlayers, bsz, self.nhid), weight.new_zeros(self.nlayers, bsz, self.nhid))


def repackage_hidden(h):
    if isinstance(h, torch.Tensor):
        return h.detach()
    else:
        return tuple(repackage_hidden(v) for v in h)


def evaluate(model_, data_source, ntokens, bptt=7):
    model_.eval()
    hidden = model_.init_hidden(data_source.size(1))
    outputs = []
    with torch.no_grad():
        for i in range(0, data_source.size(0) - 1, bptt):
            output, hidden = model_(data_source[i : i + bptt], hidden)
            hidden = repackage_hidden(hidden)
            outputs.append(F.log_softmax(output.view(-1, ntokens), dim=1))
    return torch.cat(outputs)


torch.manual_seed(7)
ntokens = 50
model = LSTMModel(ntokens, 32, 24, 2)
test_data = torch.randint(ntokens, (21, 3))
quantized_model = torch.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
print(quantized_model)
torch.set_num_threads(1)
torch.save(
    {"float": evaluate(model, test_data, ntokens), "dynamic": evaluate(quantized_model, test_data, ntokens)},
    sys.argv[1],
)
