"""Random networks: the program's integers and floats are the interpreter's, on every instruction set and thread count.

``python -m tests.fuzz.networks --seconds 60 --seed 0``
"""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import qfx
from qfx.lowering.compile import compile_int8
from qfx.lowering.compiled import Compiled, fetch_codes
from qfx.lowering.interpreter import interpret_integers
from qfx.models import QuantizedModel
from qfx.runtime import isa_names
from tests.fuzz.driver import Fuzzer, main
from tests.fuzz.graphs import RandomNet, grow

_SYMMETRIC = {"dtype": qfx.qint8, "qscheme": qfx.per_tensor_symmetric}
QCONFIGS = (
    qfx.get_default_qconfig(),
    qfx.get_default_qconfig("fbgemm"),
    qfx.QConfig(qfx.MinMaxObserver.with_args(**_SYMMETRIC), qfx.default_per_channel_weight_observer),
    qfx.QConfig(qfx.MinMaxObserver, qfx.default_weight_observer),
    qfx.per_channel_dynamic_qconfig,
)
WIDE = ("layers", "windows", "functions", "norms", "products", "moves", "recurrent")
NARROW = ("moves", "products")


@dataclass(frozen=True)
class Plan:
    """What a seed stands for.

    Attributes:
        net: The network.
        inputs: Calibration batches, the first one the example.
        others: Inputs of other batch sizes that it takes.
        qconfig: How to quantize it.
        frontend: How to capture it.
    """

    net: RandomNet
    inputs: list[Tensor]
    others: list[Tensor]
    qconfig: qfx.QConfig
    frontend: str


def plan(seed: int) -> Plan:
    """The network of a seed, and how to quantize it."""
    rng = random.Random(seed)
    rank, free_batch = rng.choice([2, 3, 3, 4, 4, 4, 5]), rng.random() < 0.6
    longest = {2: 40, 3: 13, 4: 9, 5: 5}[rank]
    shape = (rng.randint(1, 4), *(rng.randint(1, longest) for _ in range(rank - 1)))
    families = NARROW if rng.random() < 0.4 else WIDE
    net = grow(rng, families, shape, rng.randint(2, 14), free_batch=free_batch)
    inputs = [torch.randn(shape) * rng.choice([0.3, 1.0, 3.0]) for _ in range(2)]
    others = [x for n in (1, 5) if _takes(net, x := torch.randn(n, *shape[1:]))] if free_batch else []
    frontend = "export" if free_batch and rng.random() < 0.15 else "symbolic"
    return Plan(net, inputs, others, rng.choice(QCONFIGS), frontend)


def _takes(net: RandomNet, x: Tensor) -> bool:
    """Whether torch runs the network on ``x``: norms of one value a group it does not."""
    try:
        with torch.no_grad():
            net(x)
    except (RuntimeError, ValueError):
        return False
    return True


def case(seed: int) -> None:
    """Quantize the network of ``seed``; raises an AssertionError that shows it where a bit differs."""
    planned = plan(seed)
    try:
        check(planned)
    except Exception as error:
        raise AssertionError(f"{error}\n{planned.net.describe(planned.inputs[0])}") from error


def check(planned: Plan) -> None:
    """The program is the interpreter bit for bit, sample by sample, and as near to the float model as its QDQ graph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = qfx.quantize_fx(
            planned.net,
            {"": planned.qconfig},
            planned.inputs,
            example_inputs=planned.inputs[0],
            frontend=planned.frontend,
        )
    loaded = {isa: compile_int8(model.compiled.root, isa) for isa in isa_names()}
    before = qfx.get_num_threads()
    try:
        for x in [*planned.inputs[:1], *planned.others]:
            for isa, compiled in loaded.items():
                for threads in (1, 2):
                    qfx.set_num_threads(threads)
                    _require_same(model, compiled, x, f"{isa}, {threads} threads, input {tuple(x.shape)}")
    finally:
        qfx.set_num_threads(before)
    if planned.others and not planned.qconfig.is_dynamic:
        _require_samples_apart(model, planned.others[-1])
    require_as_near_as_graph(planned.net, model, planned.inputs[0])


def _require_same(model: QuantizedModel, compiled: Compiled, x: Tensor, where: str) -> None:
    want, exact = interpret_integers(model.graph_module(), (x,)), _is_exact(compiled)
    for name, codes in fetch_codes(compiled, (x,)).items():
        right = torch.equal(codes, want.codes[name].to(torch.int16))
        assert right or not exact, f"{where}: the integers of {name} differ"
    for index, (ours, theirs) in enumerate(zip(compiled.run((x,)), want.output, strict=True)):
        assert same(ours, theirs) or (not exact and near(ours, theirs)), f"{where}: output {index} differs"


_MOVES = frozenset(
    ("view", "reshape", "permute", "transpose", "getitem", "flip", "roll", "repeat", "chunk", "split", "tensor_split",
     "unbind", "contiguous", "clone")
)  # fmt: skip


def _is_exact(compiled: Compiled) -> bool:
    """Whether all that torch computes of the model are moves: its float results depend on strides and threads.

    Norms that the runtime computes add in another order than the interpreter, which shows where a sum cancels.
    """
    own = {name for part in compiled.segments for name in part.steps if part.executable is not None}
    for node in compiled.graph.nodes:
        name = getattr(node.target, "__name__", str(node.target)).split(".")[0]
        if name in ("group_norm", "instance_norm", "layer_norm"):
            return False
        if node.meta.get("in_torch") and node.name not in own and name not in _MOVES:
            return False
    return True


def near(a: Tensor, b: Tensor) -> bool:
    """Whether two results of float operations differ by what an order of summation can change."""
    return a.shape == b.shape and torch.allclose(
        a, b, rtol=1e-3, atol=1e-3 * max(1.0, float(b.abs().max())), equal_nan=True
    )


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN where the other has NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(1e30), b.nan_to_num(1e30))


def _require_samples_apart(model: QuantizedModel, x: Tensor) -> None:
    whole, apart = model(x), [model(x[i : i + 1]) for i in range(len(x))]
    exact = _is_exact(model.compiled)
    for index, result in enumerate(whole):
        joined = torch.cat([one[index] for one in apart])
        right = same(result, joined) or (not exact and near(result, joined))
        assert right, f"output {index} of {len(x)} samples is not that of each"


def require_as_near_as_graph(net: nn.Module, model: QuantizedModel, x: Tensor) -> None:
    """The program's error against the float model is not above that of its QDQ graph in floats.

    Roundings of halves differ between the two, each by one step, so up to twice the error is left to chance.
    """
    with torch.no_grad():
        want, rounded, got = (torch.cat([t.flatten() for t in run(x)]) for run in (net, model.run_graph, model))
    if not bool(rounded.isfinite().all()):
        return
    ours, theirs = ((want - made).double().square().sum() for made in (got, rounded))
    between, power = (got - rounded).double().square().sum(), want.double().square().sum()
    near = ours <= 2 * theirs or between <= 1e-3 * power
    assert near, f"error {float(ours):.3g} against float, the QDQ graph's {float(theirs):.3g}, of {float(power):.3g}"


FUZZER = Fuzzer("tests.fuzz.networks", case)

if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main(FUZZER))
