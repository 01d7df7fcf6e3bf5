"""Layers that quantize their float input at each call, linear, recurrent and attention, and embeddings.

Weights are int8 or float16.

Each takes and returns float32 tensors as the layer of the same name in ``torch.nn`` does. One forward is one call of
the runtime, the whole sequence and all layers together.
"""

from qfx.nn.quantized.dynamic.attention import MultiheadAttention
from qfx.nn.quantized.dynamic.cells import GRUCell, LSTMCell, RNNCell
from qfx.nn.quantized.dynamic.embedding import Embedding, EmbeddingBag
from qfx.nn.quantized.dynamic.linear import Linear
from qfx.nn.quantized.dynamic.recurrent import GRU, LSTM, RNN

__all__ = [
    "GRU", "LSTM", "RNN", "Embedding", "EmbeddingBag", "GRUCell", "LSTMCell", "Linear", "MultiheadAttention", "RNNCell",
]  # fmt: skip
