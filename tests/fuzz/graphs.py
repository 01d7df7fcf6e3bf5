"""Random networks: a graph grown op by op on example tensors, whose shapes say what fits next.

Every op of :data:`FAMILIES` looks at the values so far and proposes a step, or nothing. A step is kept when torch runs
it and its result is small and finite.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_ELEMENTS, MOST_DIMS, LARGEST = 20_000, 6, 1e4


@dataclass(frozen=True)
class Step:
    """A call: ``apply(layer?, *operands)``.

    Attributes:
        text: What it is, for people.
        apply: Takes the layer, if there is one, and the operands.
        operands: Which values it reads.
        layer: The module that it calls, or None.
    """

    text: str
    apply: Callable[..., Any]
    operands: tuple[int, ...]
    layer: nn.Module | None = None

    def run(self, values: list[Any]) -> Any:
        given = [values[i] for i in self.operands]
        return self.apply(*given) if self.layer is None else self.apply(self.layer, *given)


class RandomNet(nn.Module):
    """The steps as a module: returns every value that no step reads, but at least the last."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList([s.layer for s in steps if s.layer is not None])
        read = {i for step in steps for i in step.operands}
        self.results = [i for i in range(1, len(steps) + 1) if i not in read]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        values: list[Any] = [x]
        for step in self.steps:
            values.append(step.run(values))
        return tuple(values[i] for i in self.results)

    def describe(self, x: Tensor) -> str:
        """One line a step, with the shape of its result."""
        values: list[Any] = [x]
        lines = [f"v0 = input {tuple(x.shape)}"]
        for step in self.steps:
            values.append(step.run(values))
            reads = ", ".join(f"v{i}" for i in step.operands)
            lines.append(f"v{len(values) - 1} = {step.text} of {reads}: {tuple(values[-1].shape)}")
        return "\n".join(lines)


@dataclass
class Growth:
    """A network while it grows.

    Attributes:
        rng: Of every choice.
        values: The values on the example, the input first.
        wider: The same for another batch size, where the batch is dim 0 of every value; else None.
        steps: The steps so far.
    """

    rng: random.Random
    values: list[Tensor]
    wider: list[Tensor] | None
    steps: list[Step] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The first dim that ops may move or reduce."""
        return 0 if self.wider is None else 1

    def any_value(self) -> int:
        """Of a value, late ones and the first layer's result more likely; not the input once there is another."""
        last = len(self.values) - 1
        if self.rng.random() < 0.25:
            return min(1, last)
        return max(self.rng.randint(min(1, last), last), self.rng.randint(min(1, last), last))

    def dim(self, value: int) -> int:
        """A dim that ops may move, counted from the front or from the back."""
        rank = self.values[value].dim()
        dim = self.rng.randrange(self.first, rank)
        return dim if self.rng.random() < 0.6 else dim - rank

    def shape(self, value: int) -> tuple[int, ...]:
        return tuple(self.values[value].shape)

    def try_step(self, step: Step) -> bool:
        """Keep ``step`` if it fits."""
        with torch.no_grad():
            try:
                made = step.run(self.values)
                wide = step.run(self.wider) if self.wider is not None else None
            except (RuntimeError, ValueError, IndexError, TypeError):
                return False
        if not isinstance(made, Tensor) or not self._fits(made, wide):
            return False
        self.values.append(made)
        if self.wider is not None:
            self.wider.append(wide)
        self.steps.append(step)
        return True

    def _fits(self, made: Tensor, wide: Any) -> bool:
        if made.dtype != torch.float32 or not 0 < made.numel() <= MOST_ELEMENTS or made.dim() > MOST_DIMS:
            return False
        if not bool(made.isfinite().all()) or float(made.abs().max()) > LARGEST:
            return False
        if self.wider is None:
            return True
        batches = self.values[0].shape[0], self.wider[0].shape[0]
        return made.dim() > 0 and (made.shape[0], wide.shape[0]) == batches and made.shape[1:] == wide.shape[1:]


Propose = Callable[[Growth, int], "Step | None"]
FAMILIES: dict[str, dict[str, Propose]] = {}


def proposes(family: str) -> Callable[[Propose], Propose]:
    """Register the decorated function: it proposes a step on a value, or None where it fits none."""

    def register(propose: Propose) -> Propose:
        FAMILIES.setdefault(family, {})[propose.__name__.strip("_")] = propose
        return propose

    return register


def grow(
    rng: random.Random, families: Iterable[str], shape: tuple[int, ...], steps: int, *, free_batch: bool
) -> RandomNet:
    """A network for inputs of ``shape`` that begins with a layer of weights.

    Args:
        rng: Of every choice, of the weights too.
        families: Which ops.
        shape: Of the input.
        steps: How many ops, about.
        free_batch: Whether dim 0 is a batch that no op mixes, of any length.
    """
    torch.manual_seed(rng.randrange(2**31))
    example, wider = torch.randn(shape), torch.randn(shape[0] + 3, *shape[1:])
    growth = Growth(rng, [example], [wider] if free_batch else None)
    ops = {name: propose for family in families for name, propose in FAMILIES[family].items()}
    _first_layer(growth)
    for _ in range(30 * steps):
        if len(growth.steps) > steps:
            break
        propose = ops[rng.choice(sorted(ops))]
        step = propose(growth, growth.any_value())
        if step is not None:
            growth.try_step(step)
    return RandomNet(growth.steps).eval()


def _first_layer(growth: Growth) -> None:
    proposals = [FAMILIES["layers"][name] for name in ("conv", "linear")]
    growth.rng.shuffle(proposals)
    for propose in proposals * 20:
        step = propose(growth, 0)
        if step is not None and growth.try_step(step):
            return
    raise AssertionError(f"no layer takes {growth.shape(0)}")


# ---------------------------------------------------------------- moves


@proposes("moves")
def flatten(g: Growth, v: int) -> Step | None:
    rank = len(g.shape(v))
    if rank <= g.first:
        return None
    i, j = sorted(g.rng.randrange(g.first, rank) for _ in range(2))
    j = j if g.rng.random() < 0.5 else j - rank
    return Step(f"flatten({i}, {j})", lambda x: x.flatten(i, j), (v,))


@proposes("moves")
def transpose(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    i, j = g.dim(v), g.dim(v)
    return Step(f"transpose({i}, {j})", lambda x: x.transpose(i, j), (v,))


@proposes("moves")
def permute(g: Growth, v: int) -> Step | None:
    moved = list(range(g.first, len(g.shape(v))))
    g.rng.shuffle(moved)
    dims = [*range(g.first), *moved]
    return Step(f"permute({dims})", lambda x: x.permute(dims), (v,))


@proposes("moves")
def matrix_transpose(g: Growth, v: int) -> Step | None:
    return Step("mT", lambda x: x.mT, (v,)) if len(g.shape(v)) >= 2 + g.first else None


@proposes("moves")
def reversed_dims(g: Growth, v: int) -> Step | None:
    return Step("T", lambda x: x.T, (v,)) if len(g.shape(v)) == 2 and not g.first else None


@proposes("moves")
def movedim(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    i, j = g.dim(v), g.dim(v)
    return Step(f"movedim({i}, {j})", lambda x: x.movedim(i, j), (v,))


@proposes("moves")
def reshape(g: Growth, v: int) -> Step | None:
    """Any other factors of the same number of elements."""
    left = math.prod(g.shape(v)[g.first :])
    sizes: list[int] = []
    while left > 1 and len(sizes) < 3:
        size = g.rng.choice([f for f in range(1, left + 1) if left % f == 0])
        sizes.append(size)
        left //= size
    wanted = [-1] * g.first + [*sizes, left]
    if not g.first and g.rng.random() < 0.5:
        wanted[g.rng.randrange(len(wanted))] = -1
    return Step(f"reshape({wanted})", lambda x: x.reshape(wanted), (v,))


@proposes("moves")
def unflatten(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dim = g.dim(v)
    length = g.shape(v)[dim]
    part = g.rng.choice([f for f in range(1, length + 1) if length % f == 0])
    sizes = (part, g.rng.choice([-1, length // part]))
    return Step(f"unflatten({dim}, {sizes})", lambda x: x.unflatten(dim, sizes), (v,))


@proposes("moves")
def squeeze(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dim = g.dim(v)
    return Step(f"squeeze({dim})", lambda x: x.squeeze(dim), (v,))


@proposes("moves")
def unsqueeze(g: Growth, v: int) -> Step | None:
    rank = len(g.shape(v))
    dim = g.rng.randint(g.first, rank)
    dim = dim if g.rng.random() < 0.6 else dim - rank - 1
    return Step(f"unsqueeze({dim})", lambda x: x.unsqueeze(dim), (v,))


@proposes("moves")
def piece(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dim = g.dim(v)
    count = g.rng.randint(1, max(1, min(4, g.shape(v)[dim])))
    which = g.rng.randint(-1, 0)
    kind = g.rng.choice(["chunk", "split", "tensor_split"])
    return Step(f"{kind}({count}, {dim})[{which}]", lambda x: getattr(x, kind)(count, dim)[which], (v,))


@proposes("moves")
def unbind(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dim = g.dim(v)
    which = g.rng.randrange(-g.shape(v)[dim], g.shape(v)[dim])
    return Step(f"unbind({dim})[{which}]", lambda x: x.unbind(dim)[which], (v,))


@proposes("moves")
def index(g: Growth, v: int) -> Step | None:
    """Slices, integers, None and an ellipsis between brackets."""
    items: list[Any] = [slice(None)] * g.first
    for length in g.shape(v)[g.first :]:
        start = g.rng.choice([None, 0, 1, -2, -length])
        stop = g.rng.choice([None, None, -1, length, length + 3])
        choice = g.rng.random()
        items.append(slice(start, stop, g.rng.choice([None, 1, 2])) if choice < 0.7 else slice(None))
        if choice > 0.9:
            items[-1] = g.rng.randrange(-length, length)
        if g.rng.random() < 0.1:
            items.append(None)
    if len(items) > g.first and g.rng.random() < 0.3:
        items = [...] if not g.first else [slice(None), ...]
    key = tuple(items)
    return Step(f"{key}", lambda x: x[key], (v,))


@proposes("moves")
def narrow(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dim = g.dim(v)
    start = g.rng.randrange(g.shape(v)[dim])
    length = g.rng.randint(1, g.shape(v)[dim] - start)
    return Step(f"narrow({dim}, {start}, {length})", lambda x: x.narrow(dim, start, length), (v,))


@proposes("moves")
def cat(g: Growth, v: int) -> Step | None:
    """With values of the same other lengths, itself and its views among them."""
    if len(g.shape(v)) <= g.first:
        return None
    dim = g.dim(v)
    rank = len(g.shape(v))

    def beside(shape: tuple[int, ...]) -> bool:
        return len(shape) == rank and all(
            a == b for i, (a, b) in enumerate(zip(shape, g.shape(v), strict=True)) if i != dim % rank
        )

    fitting = [i for i in range(1, len(g.values)) if beside(g.shape(i))] or [v]
    others = [g.rng.choice(fitting) for _ in range(g.rng.randint(1, 3))]
    return Step(f"cat({dim})", lambda *xs: torch.cat(xs, dim), (v, *others))


@proposes("moves")
def stack(g: Growth, v: int) -> Step | None:
    alike = [i for i in range(1, len(g.values)) if g.shape(i) == g.shape(v)] or [v]
    others = [g.rng.choice(alike) for _ in range(g.rng.randint(1, 2))]
    dim = g.rng.randint(g.first, len(g.shape(v)))
    return Step(f"stack({dim})", lambda *xs: torch.stack(xs, dim), (v, *others))


@proposes("moves")
def expand(g: Growth, v: int) -> Step | None:
    sizes = [-1 if n != 1 or i < g.first else g.rng.choice([-1, 2, 3]) for i, n in enumerate(g.shape(v))]
    if not g.first and g.rng.random() < 0.3:
        sizes = [2, *sizes]
    return Step(f"expand({sizes})", lambda x: x.expand(sizes), (v,))


@proposes("moves")
def repeat(g: Growth, v: int) -> Step | None:
    times = [1 if i < g.first else g.rng.choice([1, 1, 2]) for i in range(len(g.shape(v)))]
    return Step(f"repeat({times})", lambda x: x.repeat(times), (v,))


@proposes("moves")
def flip(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dim = g.dim(v)
    return Step(f"flip({dim})", lambda x: x.flip(dim), (v,))


@proposes("moves")
def roll(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dim, by = g.dim(v), g.rng.randint(-2, 3)
    return Step(f"roll({by}, {dim})", lambda x: x.roll(by, dim), (v,))


@proposes("moves")
def contiguous(g: Growth, v: int) -> Step | None:
    return Step("contiguous", lambda x: x.contiguous(), (v,))


@proposes("moves")
def pad(g: Growth, v: int) -> Step | None:
    spatial = g.rng.randint(1, 3)
    if len(g.shape(v)) - g.first < spatial:
        return None
    mode = g.rng.choice(["constant", "constant", "reflect", "replicate", "circular"])
    amounts = [g.rng.randint(-1 if mode == "constant" else 0, 2) for _ in range(2 * spatial)]
    value = g.rng.choice([0.0, 0.5, -1.0]) if mode == "constant" else None
    return Step(f"pad({amounts}, {mode}, {value})", lambda x: F.pad(x, amounts, mode, value), (v,))


@proposes("moves")
def pixel_shuffle(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) < 3 + g.first:
        return None
    factor, name = g.rng.choice([1, 2, 3]), g.rng.choice(["pixel_shuffle", "pixel_unshuffle"])
    return Step(f"{name}({factor})", lambda x: getattr(F, name)(x, factor), (v,))


@proposes("moves")
def channel_shuffle(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) < 3:
        return None
    groups = g.rng.choice([1, 2, 3, 4])
    return Step(f"channel_shuffle({groups})", lambda x: F.channel_shuffle(x, groups), (v,))


# ---------------------------------------------------------------- products


@proposes("products")
def matmul(g: Growth, v: int) -> Step | None:
    other = g.rng.choice([v, g.any_value()])
    turned = g.rng.choice([(False, False), (False, True), (True, False)])

    def multiply(x: Any, y: Any) -> Any:
        return (x.mT if turned[0] else x) @ (y.mT if turned[1] else y)

    return Step(f"matmul (transposed {turned})", multiply, (v, other)) if len(g.shape(v)) > g.first else None


@proposes("products")
def matmul_of_function(g: Growth, v: int) -> Step | None:
    name = g.rng.choice(["matmul", "bmm", "mm"])
    return Step(name, getattr(torch, name), (v, g.any_value()))


@proposes("products")
def attention(g: Growth, v: int) -> Step | None:
    if not g.first + 2 <= len(g.shape(v)) <= 4:
        return None
    causal = g.rng.random() < 0.3
    return Step(
        f"attention (causal {causal})", lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=causal), (v,)
    )


@proposes("products")
def mean(g: Growth, v: int) -> Step | None:
    return _reduction(g, v, g.rng.choice(["mean", "sum", "amax"]))


def _reduction(g: Growth, v: int, name: str) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dims = tuple({d % len(g.shape(v)): d for d in (g.dim(v) for _ in range(g.rng.randint(1, 2)))}.values())
    keepdim = g.rng.random() < 0.4
    return Step(f"{name}({dims}, keepdim={keepdim})", lambda x: getattr(x, name)(dims, keepdim=keepdim), (v,))


@proposes("products")
def binary(g: Growth, v: int) -> Step | None:
    name = g.rng.choice(["add", "sub", "mul", "add", "maximum", "div"])
    return Step(name, getattr(torch, name), (v, g.any_value()))


@proposes("products")
def with_number(g: Growth, v: int) -> Step | None:
    name, number = g.rng.choice(["add", "sub", "mul", "rsub"]), round(g.rng.uniform(-2, 2), 2)
    return Step(f"{name}({number})", lambda x: getattr(torch, name)(x, number), (v,))


@proposes("products")
def with_constant(g: Growth, v: int) -> Step | None:
    """A parameter that broadcasts."""
    shape = [n if g.rng.random() < 0.7 else 1 for n in g.shape(v)[g.rng.randint(g.first, len(g.shape(v))) :]]
    name = g.rng.choice(["add", "mul", "sub"])
    layer = _Constant(shape)
    return Step(f"{name} {shape}", lambda layer, x: getattr(torch, name)(x, layer()), (v,), layer)


class _Constant(nn.Module):
    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(shape))

    def forward(self) -> Tensor:
        return self.value


# ---------------------------------------------------------------- layers


@proposes("layers")
def linear(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    layer = nn.Linear(g.shape(v)[-1], g.rng.choice([1, 2, 3, 5, 8, 17]), bias=g.rng.random() < 0.7)
    return Step(f"{layer}", lambda layer, x: layer(x), (v,), layer)


_CONVS = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d), 3: (nn.Conv3d, nn.ConvTranspose3d)}


@proposes("layers")
def conv(g: Growth, v: int) -> Step | None:
    """On batches and, where the batch need not be dim 0, on values without one."""
    rank = len(g.shape(v))
    dims = [d for d in _CONVS if rank == d + 2 or (rank == d + 1 and not g.first)]
    if not dims:
        return None
    spatial = g.rng.choice(dims)
    transposed = g.rng.random() < 0.25
    channels = g.shape(v)[-spatial - 1]
    groups = g.rng.choice([f for f in range(1, channels + 1) if channels % f == 0] + [1, channels])
    options: dict[str, Any] = {
        "kernel_size": tuple(g.rng.choice([1, 1, 2, 3, 3, 5]) for _ in range(spatial)),
        "stride": tuple(g.rng.choice([1, 1, 2, 3]) for _ in range(spatial)),
        "dilation": tuple(g.rng.choice([1, 1, 2]) for _ in range(spatial)),
        "groups": groups,
        "bias": g.rng.random() < 0.7,
        "padding": tuple(g.rng.choice([0, 1, 2]) for _ in range(spatial)),
    }
    if not transposed and g.rng.random() < 0.2:
        options["padding_mode"] = g.rng.choice(["reflect", "replicate", "circular"])
    layer = _CONVS[spatial][transposed](channels, groups * g.rng.choice([1, 1, 2, 3]), **options)
    return Step(f"{layer}", lambda layer, x: layer(x), (v,), layer)


_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@proposes("layers")
def batch_norm(g: Growth, v: int) -> Step | None:
    rank = len(g.shape(v))
    if rank not in _NORMS:
        return None
    layer = _NORMS[rank](g.shape(v)[1]).eval()
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean):
            assert isinstance(tensor, Tensor)
            tensor.copy_(torch.randn(tensor.shape))
    return Step(f"{layer}", lambda layer, x: layer(x), (v,), layer)


# ---------------------------------------------------------------- windows


@proposes("windows")
def pool(g: Growth, v: int) -> Step | None:
    rank = len(g.shape(v))
    dims = [d for d in (1, 2, 3) if rank == d + 2 or (rank == d + 1 and not g.first)]
    if not dims:
        return None
    spatial = g.rng.choice(dims)
    kernel = tuple(g.rng.choice([1, 2, 2, 3]) for _ in range(spatial))
    padding = tuple(g.rng.randint(0, k // 2) for k in kernel)
    given: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": tuple(g.rng.choice([1, 2, 3]) for _ in range(spatial)),
        "padding": padding,
        "ceil_mode": g.rng.random() < 0.4,
    }
    name = g.rng.choice(["max_pool", "avg_pool", "lp_pool"])
    if name == "lp_pool":
        function = getattr(F, f"lp_pool{spatial}d")
        return Step(f"lp_pool({kernel})", lambda x: function(x, 2.0, kernel), (v,))
    if name == "avg_pool":
        given["count_include_pad"] = g.rng.random() < 0.5
        if spatial > 1 and g.rng.random() < 0.2:
            given["divisor_override"] = 3
    else:
        given["dilation"] = tuple(g.rng.choice([1, 1, 2]) for _ in range(spatial))
    function = getattr(F, f"{name}{spatial}d")
    return Step(f"{name}{spatial}d({given})", lambda x: function(x, **given), (v,))


@proposes("windows")
def adaptive_pool(g: Growth, v: int) -> Step | None:
    rank = len(g.shape(v))
    dims = [d for d in (1, 2, 3) if rank == d + 2 or (rank == d + 1 and not g.first)]
    if not dims:
        return None
    spatial = g.rng.choice(dims)
    size: Any = tuple(g.rng.choice([1, 2, 3, 5]) for _ in range(spatial))
    if spatial > 1 and g.rng.random() < 0.2:
        size = (None, *size[1:])
    name = f"adaptive_{g.rng.choice(['avg', 'max'])}_pool{spatial}d"
    return Step(f"{name}({size})", lambda x: getattr(F, name)(x, size), (v,))


@proposes("windows")
def interpolate(g: Growth, v: int) -> Step | None:
    spatial = len(g.shape(v)) - 2
    if spatial not in (1, 2, 3):
        return None
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[spatial]
    mode = g.rng.choice(["nearest", linear, "nearest-exact", "area"])
    given: dict[str, Any] = {"mode": mode}
    if mode == "area" or g.rng.random() < 0.5:  # the exporter computes with the scale factors of an area
        given["size"] = tuple(g.rng.randint(1, 7) for _ in range(spatial))
    else:
        given["scale_factor"] = tuple(g.rng.choice([0.5, 1.5, 2.0]) for _ in range(spatial))
    if mode == linear:
        given["align_corners"] = g.rng.random() < 0.5
    return Step(f"interpolate({given})", lambda x: F.interpolate(x, **given), (v,))


# ---------------------------------------------------------------- functions, norms


_CURVES: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "mish": F.mish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "clamp": lambda x: x.clamp(-0.5, 0.75),
    "abs": torch.abs,
    "square": torch.square,
    "exp": torch.exp,
    "neg": torch.neg,
    "round": torch.round,
    "sign": torch.sign,
    "sqrt of abs": lambda x: x.abs().sqrt(),
    "reciprocal": lambda x: torch.reciprocal(x.abs() + 1),
    "glu": lambda x: F.glu(x, -1),
    "rsqrt": lambda x: torch.rsqrt(x.square() + 0.1),
}


@proposes("functions")
def curve(g: Growth, v: int) -> Step | None:
    name = g.rng.choice(sorted(_CURVES))
    return Step(name, _CURVES[name], (v,))


@proposes("functions")
def prelu(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) < 2:
        return None
    layer = nn.PReLU(g.rng.choice([1, g.shape(v)[1]]))
    return Step(f"{layer}", lambda layer, x: layer(x), (v,), layer)


@proposes("norms")
def softmax(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) <= g.first:
        return None
    dim, name = g.dim(v), g.rng.choice(["softmax", "log_softmax"])
    return Step(f"{name}({dim})", lambda x: getattr(x, name)(dim), (v,))


@proposes("norms")
def layer_norm(g: Growth, v: int) -> Step | None:
    count = g.rng.randint(1, 2)
    if len(g.shape(v)) < count + g.first:
        return None
    layer = nn.LayerNorm(g.shape(v)[-count:])
    return Step(f"{layer}", lambda layer, x: layer(x), (v,), layer)


@proposes("norms")
def group_norm(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) < 2:
        return None
    channels = g.shape(v)[1]
    layer = nn.GroupNorm(g.rng.choice([f for f in range(1, channels + 1) if channels % f == 0]), channels)
    return Step(f"{layer}", lambda layer, x: layer(x), (v,), layer)


@proposes("norms")
def instance_norm(g: Growth, v: int) -> Step | None:
    rank = len(g.shape(v))
    cls = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}.get(rank)
    if cls is None:
        return None
    layer = cls(g.shape(v)[1], affine=g.rng.random() < 0.5)
    return Step(f"{layer}", lambda layer, x: layer(x), (v,), layer)


@proposes("recurrent")
def recurrent(g: Growth, v: int) -> Step | None:
    if len(g.shape(v)) != 2 + g.first:
        return None
    cls = g.rng.choice([nn.LSTM, nn.GRU, nn.RNN])
    layer = cls(g.shape(v)[-1], g.rng.choice([2, 5]), batch_first=bool(g.first), bidirectional=g.rng.random() < 0.4)
    return Step(f"{layer}", lambda layer, x: layer(x)[0], (v,), layer)
