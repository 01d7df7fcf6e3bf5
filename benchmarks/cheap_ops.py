"""What 8 bits cost around the layers: ``python -m benchmarks.cheap_ops`` prints a line a network.

A quiet vocoder that ends in tanh, heads of different ranges in one tensor, and Silero's voice detector with its own
weights (``pip install --no-deps silero-vad``) on made syllables, or on the recordings that ``--speech DIR`` holds at
any depth: 16-bit mono wave files of 16 kHz, of which every second one calibrates and the others are measured. SQNR
against the float model, of each part apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qfx

DEFAULT = {"": qfx.get_default_qconfig()}


def sqnr(want: Tensor, got: Tensor) -> float:
    """Signal to quantization noise, dB."""
    error = (want.double() - got.double()).square().sum()
    return float(10 * torch.log10(want.double().square().sum() / error))


class Vocoder(nn.Module):
    """Upsampling blocks and a last convolution whose tanh hardly leaves zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(20, 32, 7, padding=3)
        self.ups = nn.ModuleList(nn.ConvTranspose1d(32, 32, 8, 4, 2) for _ in range(2))
        self.last = nn.Conv1d(32, 1, 7, padding=3)
        self.last.weight.data *= 0.1
        self.last.bias.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for up in self.ups:
            x = up(F.leaky_relu(x, 0.1))
        return torch.tanh(self.last(F.leaky_relu(x, 0.1)))


class Heads(nn.Module):
    """Boxes and class scores of one feature map in one tensor, as ``join`` puts them together."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU())
        self.box, self.score, self.join = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 20, 1), join

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.join(self.box(x), self.score(x))


class Vad(nn.Module):
    """Silero's voice detector at 16 kHz, with the weights of its package: window and state to probability and state."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("basis", weights["stft.forward_basis_buffer"].clone())
        layers: list[nn.Module] = []
        for i, stride in enumerate((1, 2, 2, 1)):
            weight, bias = (weights[f"encoder.{i}.reparam_conv.{part}"] for part in ("weight", "bias"))
            layers += [nn.Conv1d(weight.shape[1], weight.shape[0], 3, stride, 1), nn.ReLU()]
            layers[-2].load_state_dict({"weight": weight, "bias": bias})
        self.encoder, self.rnn, self.out = nn.Sequential(*layers), nn.LSTMCell(128, 128), nn.Conv1d(128, 1, 1)
        for module, prefix in ((self.rnn, "decoder.rnn."), (self.out, "decoder.decoder.2.")):
            module.load_state_dict({k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)})

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y = F.conv1d(F.pad(x, (0, 64), mode="reflect").unsqueeze(1), self.basis, None, 128)
        magnitude = torch.sqrt(y[:, :129] ** 2 + y[:, 129:] ** 2)
        h, c = self.rnn(self.encoder(magnitude).squeeze(-1), (state[0], state[1]))
        return torch.sigmoid(self.out(torch.relu(h.unsqueeze(-1)))).mean(2), torch.stack([h, c])


def syllables(count: int, seed: int) -> Tensor:
    """``[count, 576]`` windows of pulses through gliding resonances, with pauses and a noise floor, 16 kHz."""
    generator, rate, samples = torch.Generator().manual_seed(seed), 16000, 512 * count + 64

    def between(low: float, high: float) -> float:
        return low + (high - low) * torch.rand(1, generator=generator).item()

    sound, at, k = 1e-3 * torch.randn(samples, generator=generator), 0, torch.arange(480) / rate
    while at < samples:
        length = int(between(0.12, 0.35) * rate)
        pitch = between(95, 210) * (1 + 0.15 * torch.linspace(1, -1, length) * between(-1, 1))
        phase = torch.cumsum(pitch / rate, 0) % 1
        pulses = (torch.diff(phase, prepend=torch.zeros(1)) < -0.5).float()
        pulses += 0.02 * torch.randn(length, generator=generator)
        voice = torch.zeros(length)
        for low, high, width, level in ((280, 800, 70, 1.0), (900, 2200, 100, 0.6), (2300, 2900, 160, 0.3)):
            ring = level * torch.exp(-math.pi * width * k) * torch.sin(2 * math.pi * between(low, high) * k)
            voice += F.conv1d(pulses[None, None], ring.flip(0)[None, None], padding=479)[0, 0, :length]
        voice *= torch.sin(math.pi * torch.linspace(0, 1, length)).clamp(min=0).sqrt()
        end = min(samples, at + length)
        sound[at:end] += (between(0.1, 0.6) * voice / voice.abs().max())[: end - at]
        at += length + int((between(0, 0.06) if between(0, 1) < 0.8 else between(0.3, 0.8)) * rate)
    return sound.unfold(0, 576, 512)


def follow(model: Any, windows: Tensor, states: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
    """Probabilities of the windows one after another, and the state before each; or from given states."""
    state, seen, found = torch.zeros(2, 1, 128), [], []
    with torch.no_grad():
        for i, window in enumerate(windows):
            seen.append(state if states is None else states[i])
            probability, state = model(window[None], seen[-1])
            found.append(probability.flatten())
    return torch.cat(found), seen


def quantized(net: nn.Module, *shape: int) -> tuple[qfx.QuantizedModel, Tensor, Tensor, Tensor]:
    """The int8 model; inputs, and what the float and the int8 model make of them."""
    batches = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    model = qfx.quantize_fx(net.eval(), DEFAULT, batches[:4])
    with torch.no_grad():
        return model, batches[4], net(batches[4]), model(batches[4])


def vocoder() -> str:
    """Levels and SQNR of a quiet waveform."""
    _, _, want, got = quantized(Vocoder(), 4, 20, 50)
    return f"quiet vocoder: {len(got.unique())} levels in {got.numel()} samples, {sqnr(want, got):.1f} dB"


def heads(name: str, join: Callable[[Tensor, Tensor], Tensor]) -> str:
    """SQNR of boxes and scores, and how often the best class is the same."""
    _, _, want, got = quantized(Heads(join), 4, 3, 32, 32)
    want, got = want.reshape(4, 24, -1), got.reshape(4, 24, -1)
    same = (want[:, 4:].argmax(1) == got[:, 4:].argmax(1)).float().mean()
    boxes, scores = sqnr(want[:, :4], got[:, :4]), sqnr(want[:, 4:], got[:, 4:])
    return f"{name}: boxes {boxes:.1f} dB, scores {scores:.1f} dB, same class {100 * same:.0f} %"


def recording(path: Path) -> Tensor | None:
    """``[count, 576]`` windows of a wave file; None for a file that is another kind of one, or under a second long."""
    try:
        with wave.open(str(path)) as file:
            kind = file.getframerate(), file.getnchannels(), file.getsampwidth()
            held = bytearray(file.readframes(file.getnframes()))
    except (wave.Error, EOFError, RuntimeError):
        return None
    if kind != (16000, 1, 2) or len(held) < 2 * 16000:
        return None
    return F.pad(torch.frombuffer(held, dtype=torch.int16) / 32768, (64, 0)).unfold(0, 576, 512)


def sounds(speech: Path | None) -> tuple[list[Tensor], list[Tensor]]:
    """Windows to calibrate with and to measure on, a tensor a recording.

    Raises:
        SystemExit: Fewer than two recordings.
    """
    if speech is None:
        return [syllables(60, seed) for seed in range(4)], [syllables(150, 99)]
    found = [windows for path in sorted(speech.rglob("*.wav")) if (windows := recording(path)) is not None]
    if len(found) < 2:
        raise SystemExit(
            f"{speech} holds {len(found)} wave files of 16 kHz, 16 bits, one channel and a second or more."
        )
    return found[::2], found[1::2]


def voice(speech: Path | None = None) -> str:
    """SQNR of the probabilities, window by window from the float model's states, and on its own."""
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        return "silero-vad: not installed (pip install --no-deps silero-vad)"
    packed = torch.jit.load(str(Path(spec.origin).parent / "data" / "silero_vad.jit"))
    net = Vad(dict(packed._model.state_dict())).eval()
    seen, unseen = sounds(speech)
    batches = [pair for each in seen for pair in zip(each.split(1), follow(net, each)[1], strict=True)]
    model = qfx.quantize_fx(net, DEFAULT, batches)
    runs = [(follow(net, windows), windows) for windows in unseen]
    want = torch.cat([probabilities for (probabilities, _), _ in runs])
    beside = torch.cat([follow(model, windows, states)[0] for (_, states), windows in runs])
    alone = torch.cat([follow(model, windows)[0] for _, windows in runs])
    results = (("from the float model's states", beside), ("from its own", alone))
    each = (f"{sqnr(want, got):.1f} dB {how}, worst {(want - got).abs().max():.2f}" for how, got in results)
    return f"silero-vad: {'; '.join(each)}"


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, metavar="DIR", help="recordings for the voice detector")
    speech = parser.parse_args().speech
    torch.manual_seed(0)
    print(vocoder())
    print(heads("boxes 200 times as wide", lambda box, score: torch.cat([box * 200, score], 1)))
    print(heads("detector", lambda box, score: torch.cat([box * 100, score.sigmoid()], 1).flatten(2)))
    print(voice(speech))


if __name__ == "__main__":
    main()
