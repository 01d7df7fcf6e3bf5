"""Ops on integers and truth values in programs: every sample of every row, as one program, against the reference."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._ops import OpOverload

import qfx
from qfx.frontends.shapes import propagate_shapes
from qfx.ir.nodes import Decision, decide
from qfx.lowering.compile import compile_int8
from qfx.lowering.compiled import Compiled
from qfx.lowering.emitters import takes_integers
from qfx.models import QuantizedModel
from qfx.ops import TABLE, Op
from qfx.ops.index.rows import ROWS
from qfx.ops.spellings import ALIASES, Alias
from qfx.pipeline import LOWER, run
from qfx.runtime import isa_names

FLOAT = Decision("float", "it is computed in float")
DYNAMIC = {"": qfx.default_dynamic_qconfig}
STATIC = {"": qfx.get_default_qconfig()}
INTEGERS = torch.tensor([[3, -2, 0], [7, 1, -5]])
KINDS = {"int64": INTEGERS, "int32": INTEGERS.int(), "bool": INTEGERS > 0, "float32": INTEGERS.float() * 0.75}


def compiled(op: Op, args: Any, kwargs: Any) -> tuple[Compiled, list[Tensor]]:
    """The call with every tensor as an input, and the inputs."""
    graph, tensors = fx.Graph(), []

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        tensors.append(value)
        return graph.placeholder(f"x{len(tensors)}")

    node = graph.call_function(op.fn, fx.node.map_aggregate(tuple(args), placed), dict(kwargs))
    decide(node, FLOAT)
    graph.output(node)
    gm = propagate_shapes(fx.GraphModule(nn.Module(), graph), tuple(tensors))
    return compile_int8(run(LOWER, gm)), tensors


def assert_same(got: Tensor, want: Tensor) -> None:
    assert got.dtype is want.dtype
    assert torch.equal(got.nan_to_num(7.5), want.nan_to_num(7.5))


SAMPLES = [
    pytest.param(op, i, id=f"{op.name}-{i}")
    for op in (TABLE[row.name] for row in ROWS)
    if not op.looks_up  # in a table that is a constant
    for i in range(len(op.samples()))
]


@pytest.mark.parametrize(("op", "i"), SAMPLES)
def test_every_row_is_a_program_that_computes_what_torch_does(op: Op, i: int) -> None:
    sample = op.samples()[i]
    program, tensors = compiled(op, sample.args, sample.kwargs)
    assert [part.executable is not None for part in program.segments] == [True]
    assert_same(program.run(tuple(tensors)), op.fn(*sample.args, **sample.kwargs))


ARITHMETIC: dict[str, list[dict[str, Any]]] = {
    "add": [{}], "sub": [{}], "mul": [{}], "div": [{}],
    "add_scalar": [{"value": 3}, {"value": 0.5}], "rsub_scalar": [{"value": 1}, {"value": 1.0}],
    "mul_scalar": [{"value": -2}, {"value": -10000.0}], "neg": [{}], "abs": [{}], "sign": [{}], "square": [{}],
    "relu": [{}], "clamp": [{"min": -1, "max": 2}, {"min": 0}, {"min": -0.5, "max": 0.5}],
    "log": [{}], "exp": [{}], "sqrt": [{}],
}  # fmt: skip


def operand_kinds() -> Iterator[Any]:
    """Every op with every kind of each of its operands."""
    for name in ARITHMETIC:
        for kinds in itertools.product(KINDS, repeat=len(TABLE[name].tensors)):
            yield pytest.param(name, kinds, id="-".join((name, *kinds)))


@pytest.mark.parametrize(("name", "kinds"), list(operand_kinds()))
def test_arithmetic_promotes_as_torch_does(name: str, kinds: tuple[str, ...]) -> None:
    op, (first, *others) = TABLE[name], kinds
    pair = bool(others)
    args = [KINDS[first], *(KINDS[other][:1] for other in others)]
    for kwargs in ARITHMETIC[name]:
        try:
            want = op.fn(*args, **kwargs)
        except (RuntimeError, TypeError):
            continue  # what torch does not do
        program, tensors = compiled(op, args, kwargs)
        assert all(part.executable is not None for part in program.segments) == (want.dtype is not torch.bool or pair)
        got = program.run(tuple(tensors))
        assert got.dtype is want.dtype
        torch.testing.assert_close(got, want, rtol=2.0**-22, atol=0.0, equal_nan=True)
        if not want.is_floating_point():
            assert torch.equal(got, want)


MOVES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "reshape": (((3, 2),), {}), "flatten": ((), {"start_dim": 0, "end_dim": 1}), "permute": ((), {"dims": (1, 0)}),
    "transpose": ((), {"dim0": 0, "dim1": 1}), "unsqueeze": ((), {"dim": 1}), "squeeze": ((), {"dim": 0}),
    "slice": ((), {"dim": 1, "start": 1, "end": None, "step": 1}), "select": ((), {"dim": 0, "index": 1}),
    "expand": (((4, 2, 3),), {}), "dropout": ((), {}),
    "windows": ((), {"dims": (1,), "size": (2,), "stride": (1,), "dilation": (1,)}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MOVES)
def test_moves_take_every_kind(name: str, kind: str) -> None:
    args, kwargs = MOVES[name]
    program, tensors = compiled(TABLE[name], (KINDS[kind], *args), kwargs)
    assert [part.executable is not None for part in program.segments] == [True]
    assert_same(program.run(tuple(tensors)), TABLE[name].fn(KINDS[kind], *args, **kwargs))


@pytest.mark.parametrize("name", ["cat", "stack"])
@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, KINDS)), ids="-".join)
def test_joins_promote_as_torch_does(name: str, kinds: tuple[str, str]) -> None:
    values = [KINDS[kind] for kind in kinds]
    program, tensors = compiled(TABLE[name], (values,), {"dim": 0})
    assert [part.executable is not None for part in program.segments] == [True]
    assert_same(program.run(tuple(tensors)), TABLE[name].fn(values, dim=0))


def test_the_tests_walk_what_takes_integers() -> None:
    walked = {*ARITHMETIC, *MOVES, "cat", "stack", *(row.name for row in ROWS)}
    assert {name for name in TABLE if takes_integers(name, gives="s64")} <= walked


# ---------------------------------------------------------------- spellings

Call = Callable[..., Tensor]
ON_TRUTH = ("logical_and", "logical_or", "logical_xor", "logical_not")
GIVEN: dict[str, Callable[[Call, Tensor, Tensor], Tensor]] = {
    "where": lambda f, x, y: f(x > 1, x, y),
    "x.where": lambda f, x, y: f(x, x > 1, y),
    "masked_fill": lambda f, x, y: f(x + 0, x > 1, 7),
    "masked_fill_": lambda f, x, y: f(x + 0, x > 1, 7),
    "arange": lambda f, x, y: f(x.shape[1]),
    "full": lambda f, x, y: f((x.shape[0], 3), 2.5),
    "zeros": lambda f, x, y: f((x.shape[0], 3)),
    "ones": lambda f, x, y: f((x.shape[0], 3)),
    "full_like": lambda f, x, y: f(x, 4),
    "new_full": lambda f, x, y: f(x, (2, x.shape[0]), 4),
    "new_zeros": lambda f, x, y: f(x, 2, x.shape[0]),
    "new_ones": lambda f, x, y: f(x, (2, x.shape[0])),
    "cumsum": lambda f, x, y: f(x, 1),
    "argmax": lambda f, x, y: f(x, 1),
    "gather": lambda f, x, y: f(x, 1, y),
    "long": lambda f, x, y: f(x > 1),
}
"""How a spelling is called, by its name, where not with ``x`` and as many operands as its row has."""

WRITTEN = [
    alias
    for alias in ALIASES.values()
    if alias.op in {row.name for row in ROWS if not row.looks_up} and not isinstance(alias.spelling, OpOverload)
]


class Spelled(nn.Module):
    """A call of two tensors of integers."""

    def __init__(self, alias: Alias) -> None:
        super().__init__()
        self.alias = alias
        self.call: Call = alias.spelling  # type: ignore[assignment]
        self.key = str(alias.spelling if isinstance(alias.spelling, str) else alias.spelling.__name__)
        if isinstance(alias.spelling, str):
            self.call = lambda x, *args: getattr(x, str(alias.spelling))(*args)
            self.key = "x.where" if self.key == "where" else self.key

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.key in GIVEN:
            return GIVEN[self.key](self.call, x, y)
        operands = [x > 1, y > 0] if self.alias.op in ON_TRUTH else [x, y]
        return self.call(*operands[: len(TABLE[self.alias.op].tensors) or 1])


@pytest.mark.parametrize("alias", WRITTEN, ids=lambda alias: alias.name)
def test_every_spelling_is_a_step(alias: Alias) -> None:
    x, y = INTEGERS, torch.tensor([[0, 2, 1], [1, 1, 0]])
    net = Spelled(alias)
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=(x, y), frontend="symbolic")
    assert [part.executable is not None for part in model.compiled.segments] == [True]
    for a, b in ((x, y), (x[:1].flip(1), y[:1])):
        assert_same(model(a, b), net(a, b))


# ---------------------------------------------------------------- as models have them


class Masked(nn.Module):
    """Attention with a mask of int64 made into truth values, and places of a cumulative sum, in each of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30, 16, padding_idx=1), nn.Embedding(20, 16)
        self.layers = nn.ModuleList([nn.Linear(16, 48), nn.Linear(16, 48)])
        self.register_buffer("kinds", torch.zeros(1, 20, dtype=torch.int64))
        self.kind = nn.Embedding(2, 16)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        padded = ids.ne(1).int()
        places = (torch.cumsum(padded, dim=1).type_as(padded) * padded).long() + 1
        kinds = self.kinds[:, : ids.shape[1]].expand(ids.shape[0], ids.shape[1])
        x = self.words(ids) + self.places(places) + self.kind(kinds)
        for layer in self.layers:
            q, k, v = (each.unflatten(-1, (2, 8)).transpose(1, 2) for each in layer(x).chunk(3, -1))
            order = torch.arange(ids.shape[1])
            seen = (order[None, :] <= order[:, None]) & mask[:, None, None, :].bool()
            x = x + F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        last = (ids == 29).int().argmax(-1)
        return x[torch.arange(x.shape[0]), last]


def masked_inputs(batch: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    ids = torch.randint(2, 30, (batch, length), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(length) < (torch.arange(batch) % length + 1)[:, None]).long()
    return torch.where(mask > 0, ids, 1), mask


@torch.no_grad()
@pytest.mark.parametrize("frontend", ["export", "torchscript"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_masks_and_places_are_part_of_the_program(frontend: str) -> None:
    torch.manual_seed(0)
    net: Any = Masked().eval()
    model = qfx.quantize_fx(net, DYNAMIC, example_inputs=masked_inputs(3, 7), frontend=frontend)
    assert [part.executable is not None for part in model.compiled.segments] == [True]
    for batch, length in ((3, 7), (2, 12), (5, 2)):
        given = masked_inputs(batch, length, seed=1)
        want = net(*given)
        assert float(F.cosine_similarity(model(*given), want).min()) > 0.995
        for isa in isa_names():
            assert torch.equal(QuantizedModel(model.graph_module(), {}, isa)(*given), model(*given))


@torch.no_grad()
@pytest.mark.parametrize("qconfigs", [DYNAMIC, STATIC], ids=["dynamic", "static"])
def test_a_batch_of_texts_goes_through_the_whole_program_a_few_at_a_time(qconfigs: Any) -> None:
    torch.manual_seed(0)
    model: Any = qfx.quantize_fx(Masked().eval(), qconfigs, [masked_inputs(3, 7)], frontend="export")
    given = masked_inputs(480, 18, seed=1)
    executable = model.compiled.segments[0].executable
    steps = executable.explain(*(tuple(x.shape) for x in given)).steps
    assert min(step.slices for step in steps if step.name != "output") > 1
    apart = [model(*(x[i : i + 2] for x in given)) for i in range(0, 480, 2)]
    assert torch.equal(model(*given), torch.cat(apart))


def test_a_saved_model_with_masks_computes_the_same(tmp_path: Path) -> None:
    model = qfx.quantize_fx(Masked().eval(), DYNAMIC, example_inputs=masked_inputs(3, 7))
    qfx.save(model, tmp_path / "model.qfx")
    loaded: Any = qfx.load(tmp_path / "model.qfx")
    for given in (masked_inputs(2, 5), masked_inputs(4, 9)):
        assert torch.equal(loaded(*given), model(*given))
        assert torch.equal(QuantizedModel(loaded.graph_module(), {}, None)(*given), model(*given))


class Joined(nn.Module):
    """Which of several texts, one behind the other, each place is of."""

    def forward(self, places: Tensor) -> Tensor:
        steps = torch.diff(places, prepend=places[:, :1] - 1, dim=-1)
        return torch.cumsum(steps != 1, -1)


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_differences_of_places_are_steps_of_the_program(frontend: str) -> None:
    places = torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]])
    model = qfx.quantize_fx(Joined(), DYNAMIC, example_inputs=places, frontend=frontend)
    assert [part.executable is not None for part in model.compiled.segments] == [True]
    for given in (places, places[:, 1:].repeat(2, 1)):
        assert_same(model(given), Joined()(given))


def test_what_each_layer_computes_of_a_mask_is_computed_once() -> None:
    model = qfx.quantize_fx(Masked().eval(), DYNAMIC, example_inputs=masked_inputs(3, 7))
    names = [getattr(node.target, "__name__", "") for node in model.graph_module().graph.nodes]
    assert [names.count(name) for name in ("le", "logical_and", "where")] == [1, 1, 1]


BY_TENSORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "first": lambda x, i: x[i],
    "second": lambda x, i: x[:, i],
    "last": lambda x, i: x[..., i],
    "third, with a dim behind": lambda x, i: x[:, :, i - 2, :],
    "two dims": lambda x, i: x[:, i, i[:, None]],
    "rows of the last": lambda x, i: x[:, :, :, i.unsqueeze(0) - 5],
}


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
@pytest.mark.parametrize("name", BY_TENSORS)
def test_any_dims_beside_each_other_are_indexed_by_tensors(name: str, frontend: str) -> None:
    class Taken(nn.Module):
        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            return BY_TENSORS[name](x, index) * 2.0

    x, index = torch.randn(4, 5, 6, 7), torch.tensor([2, 0, -1])
    model = qfx.quantize_fx(Taken(), DYNAMIC, example_inputs=(x, index), frontend=frontend)
    assert [part.executable is None for part in model.compiled.segments] == [False]
    for given in ((x, index), (torch.randn(7, 5, 6, 7), torch.tensor([1, 2]))):
        assert torch.equal(model(*given), Taken()(*given))


@pytest.mark.parametrize("wrong", [20, -21])
def test_an_index_outside_of_a_dim_is_an_error_in_words(wrong: int) -> None:
    class Taken(nn.Module):
        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            return x[index] * 2.0

    model = qfx.quantize_fx(Taken(), DYNAMIC, example_inputs=(torch.randn(20, 3), torch.tensor([1, 2])))
    assert torch.equal(model(torch.ones(20, 3), torch.tensor([-20, 19])), torch.full((2, 3), 2.0))
    with pytest.raises(qfx.InputError, match="outside of its dim, which has 20 places"):
        model(torch.ones(20, 3), torch.tensor([1, wrong]))
