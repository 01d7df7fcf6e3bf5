"""Modules for ``torch.jit.script`` that keep something. It reads annotations as they are, so none are strings here."""

import torch
from torch import Tensor, nn


class Scripted(nn.Module):
    """A layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)


class Counts(Scripted):
    """A number."""

    n: int

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return self.fc(x) * self.n


class Holds(Scripted):
    """A tensor."""

    h: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.h = torch.zeros(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.h = torch.tanh(self.fc(x) + self.h)
        return self.h


class Keeps(Scripted):
    """A list."""

    cache: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.cache = []

    def forward(self, x: Tensor) -> Tensor:
        self.cache.append(x)
        return self.fc(x) * len(self.cache)


class Fills(Scripted):
    """A dict."""

    table: dict[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.table = {"y": torch.zeros(4)}

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x) + self.table["y"]
        self.table["y"] = y.mean(0)
        return y


class Shows(Scripted):
    """A tensor that only others read."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.fc(x)
        return self.last * 2
