"""What a capture takes for granted about its inputs is free and right, or checked at each call: never wrong numbers."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import qfx
from qfx.errors import CalibrationError, CaptureError, InputError
from qfx.frontends import export
from qfx.guards import written

EVERYTHING = {"": qfx.get_default_qconfig()}
FRONTENDS = ["auto", "symbolic", "export", "torchscript"]
X = torch.randn(8, 3, 8, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, and what a test does with it."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 8, 1), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.conv(x))


OF_SIZES: dict[str, Callable[[Tensor], Any]] = {
    "len": lambda y: y.reshape(len(y), -1).mean(1),
    "iteration": lambda y: sum(t for t in y) / len(y),
    "float": lambda y: y * float(y.shape[2]),
    "int": lambda y: y * int(y.shape[3] * 0.5),
    "round": lambda y: y * round(y.shape[2] / 3),
    "sqrt": lambda y: y / math.sqrt(y.shape[2]),
    "range": lambda y: torch.stack([y[i] * 2 for i in range(y.shape[0])]),
    "more": lambda y: y + 1 if y.shape[0] > 2 else y,
    "more than one": lambda y: y + 1 if y.shape[0] > 1 else y,
    "one": lambda y: y + 1 if y.shape[0] == 1 else y,
    "multiple": lambda y: y + 1 if y.shape[0] % 4 == 0 else y,
    "between": lambda y: y + 1 if 2 <= y.shape[0] <= 5 else y,
    "product": lambda y: y + 1 if y.shape[0] * y.shape[2] > 20 else y,
    "quotient": lambda y: y + 1 if y.shape[2] // y.shape[0] == 2 else y,
    "either": lambda y: y + 1 if y.shape[0] == 4 or y.shape[2] > 9 else y,
    "elements": lambda y: y + 1 if y.numel() > 1000 else y,
    "text": lambda y: y * len(f"{y.shape[0]}"),
    "table": lambda y: y * [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0][y.shape[0]],
    "in": lambda y: y + 1 if y.shape[0] in (4, 8) else y,
    "unbind": lambda y: torch.stack([t * 2 for t in y.unbind(0)]),
    "last of unbind": lambda y: y.unbind(0)[3] + y.unbind(0)[-1],
    "split": lambda y: torch.cat([t + 1 for t in y.split(2)]),
    "chunk": lambda y: torch.cat(y.chunk(2)[::-1]),
    "squeeze": lambda y: y.squeeze(),
    "squeeze the batch": lambda y: y.squeeze(0).softmax(0),
    "squeeze and read": lambda y: y * y.squeeze(0).shape[1],
    "square": lambda y: y + y.mean(3, keepdim=True).transpose(2, 3)[..., : y.shape[2] // y.shape[2]],
    "flatten": lambda y: y.flatten(1).mean(1),
    "reshape": lambda y: y.reshape(y.shape[0] * 2, -1).sum(1),
    "interpolate": lambda y: F.interpolate(y, size=(y.shape[2] * 2, y.shape[3])),
}
SHAPES = [(4, 8, 6), (8, 8, 6), (6, 8, 6), (3, 8, 6), (2, 8, 6), (1, 8, 6), (4, 4, 6), (4, 8, 3), (4, 6, 6), (1, 4, 3)]


def told(error: qfx.QfxError, what: str = "") -> None:
    """Checks that a refusal says what it is about, and what to do."""
    assert what in error.what
    assert error.remedy


def agrees(found: Callable[[], Any], wanted: Callable[[], Any]) -> bool | None:
    """Whether two calls have one result; None where the first is refused in words."""
    try:
        result = found()
    except InputError as error:
        told(error)
        return None
    expected = wanted()
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    return True


@pytest.mark.parametrize("frontend", [pytest.param("auto", marks=pytest.mark.slow), *FRONTENDS[1:]])
@pytest.mark.parametrize("example", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OF_SIZES)
def test_a_size_that_is_read_is_free_or_checked(name: str, example: int, frontend: str) -> None:
    net = Net(OF_SIZES[name]).eval()
    if name == "last of unbind" and example == 1:  # the float model does not take it
        return
    try:
        prepared = qfx.prepare_fx(net, {"": None}, X[:example], frontend=frontend)
    except CaptureError:
        assert frontend not in ("auto", "export") or name == "text"
        return
    with torch.no_grad():
        assert agrees(lambda: prepared(X[:example]), lambda: net(X[:example]))
        for batch, height, width in SHAPES:
            x = X[:batch, :, :height, :width]
            agrees(lambda x=x: prepared(x), lambda x=x: net(x))


@pytest.mark.parametrize("frontend", ["export", "torchscript"])
@pytest.mark.parametrize("name", ["len", "more", "multiple", "squeeze"])
def test_a_quantized_model_checks_what_its_float_model_asks(name: str, frontend: str) -> None:
    net = Net(OF_SIZES[name]).eval()
    quantized = qfx.quantize_fx(net, EVERYTHING, [X[:4]], frontend=frontend)
    file = io.BytesIO()
    qfx.save(quantized, file)
    file.seek(0)
    models = [quantized, pickle.loads(pickle.dumps(quantized)), copy.deepcopy(quantized), qfx.load(file)]
    for batch in (1, 2, 3, 4, 8):
        results = []
        for model in models:
            try:
                results.append(model(X[:batch]))
            except InputError as error:
                results.append(error.what)
        if isinstance(results[0], Tensor):
            assert results[0].shape == net(X[:batch]).shape
            assert (results[0] - net(X[:batch])).abs().max() < 0.25 * net(X).abs().max()
            assert all(torch.equal(result, results[0]) for result in results)
        else:
            assert set(results) == {results[0]}
            assert f"({batch}, 3, 8, 6)" in results[0] or "can't become" in results[0]


def relations(net: nn.Module, *example: Tensor) -> list[str]:
    guards = export.capture(net.eval(), example=(example, {})).meta["guards"]
    return [written(guard.wanted) for guard in guards if guard.kind == "relation"]


def test_relations_between_sizes_are_read_from_the_export() -> None:
    assert relations(Net(OF_SIZES["more"]), X[:4]) == ["x.shape[0] > 2"]
    assert relations(Net(OF_SIZES["multiple"]), X[:4]) == ["(x.shape[0] % 4) == 0"]
    assert relations(Net(lambda y: y.flatten(1)), X[:4]) == []


class Pair(nn.Module):
    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return x + other


def test_inputs_that_have_to_be_alike_are() -> None:
    prepared = qfx.prepare_fx(Pair(), {"": None}, (X, X), frontend="export")
    torch.testing.assert_close(prepared(X[:2], X[:2] * 2), X[:2] * 3)
    with pytest.raises(InputError, match=r"'other' has shape \(3, .* and 'x' has shape \(2, .* other.shape\[0\] == x"):
        prepared(X[:2], X[:3])


def test_one_tensor_in_two_places_is_two_inputs() -> None:
    for frontend in FRONTENDS:
        prepared = qfx.prepare_fx(Pair(), {"": None}, (X, X), frontend=frontend)
        torch.testing.assert_close(prepared(X, torch.zeros_like(X)), X)


def test_a_range_of_a_program_holds() -> None:
    dims = ({0: 2 * torch.export.Dim("half", min=2, max=3)},)
    program = torch.export.export(Net(lambda y: y).eval(), (X[:6],), dynamic_shapes=dims)
    quantized = qfx.quantize_fx(program, EVERYTHING, [X[:6]])
    assert quantized(X[:4]).shape[0] == 4
    for batch, said in ((5, r"% 2\) == 0"), (8, "<= 3")):
        with pytest.raises(InputError, match=said):
            quantized(X[:batch])


def test_attention_takes_one_token_and_one_sequence() -> None:
    tokens = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    prepared = qfx.prepare_fx(layer, {"": None}, tokens, frontend="export")
    for part in (tokens[:1], tokens[:, :1], tokens[:1, :1]):
        torch.testing.assert_close(prepared(part), layer(part), rtol=1e-4, atol=1e-5)


class Part(nn.Module):
    """Not to be exported: control flow that depends on values."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x if x.sum() > -1e9 else -x)


class Around(nn.Module):
    def __init__(self, inner: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.part, self.after = nn.Conv2d(3, 8, 1), Part(inner), after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.part(self.conv(x)))


ISLANDS: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = [
    (lambda y: y, lambda y: y.sum((2, 3)) / y.shape[2]),
    (lambda y: F.avg_pool2d(y, 2), lambda y: y.sum((2, 3)) / (y.shape[2] * y.shape[3])),
    (lambda y: y.transpose(0, 1).flatten(1)[None, :, :, None], lambda y: y.sum((2, 3)) / y.shape[2]),
    (lambda y: y[:, :, : y.shape[2] // 2], lambda y: y.reshape(y.shape[0], -1, y.shape[2]).mean(1)),
]


@pytest.mark.parametrize(("inner", "after"), ISLANDS)
def test_shapes_that_an_export_takes_an_island_to_return_are_checked(inner: Any, after: Any) -> None:
    net = Around(inner, after).eval()
    prepared = qfx.prepare_fx(net, {"": None}, X[:4], frontend="export")
    answers = []
    with torch.no_grad():
        for batch, height, width in SHAPES:
            x = X[:batch, :, :height, :width]
            answers.append(agrees(lambda x=x: prepared(x), lambda x=x: net(x)))
    assert answers[0]


# ---------------------------------------------------------------- what inputs are


class Asks(nn.Module):
    """A convolution, and code that asks what its second input is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)


class AsksNone(Asks):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.conv(x) if y is None else self.conv(x) + 1


class AsksTruth(Asks):
    def forward(self, x: Tensor, y: bool = True) -> Tensor:
        return self.conv(x) if y else self.conv(x) + 1


class AsksIdentity(Asks):
    def forward(self, x: Tensor, y: Any = True) -> Tensor:
        return self.conv(x) if y is True else self.conv(x) + 1


class AsksText(Asks):
    def forward(self, x: Tensor, y: str = "a") -> Tensor:
        return self.conv(x) * {"a": 1.0, "b": 2.0}.get(y, 3.0)


class AsksNumber(Asks):
    def forward(self, x: Tensor, y: Any = 2) -> Tensor:
        return self.conv(x) * y if isinstance(y, int) else self.conv(x) + 1


class AsksLength(Asks):
    def forward(self, x: Tensor, y: Any = ()) -> Tensor:
        return self.conv(x) + len(y) if len(y) > 1 else self.conv(x)


class AsksItems(Asks):
    def forward(self, x: Tensor, y: Any = ()) -> Tensor:
        return self.conv(x) + sum(t.mean() for t in y)


class AsksKey(Asks):
    def forward(self, x: Tensor, y: Any = ()) -> Tensor:
        return self.conv(x) + 1 if y.get("mask") is None else self.conv(x) * y["mask"]


class AsksDtype(Asks):
    def forward(self, x: Tensor, y: Any = ()) -> Tensor:
        return self.conv(x) + 1 if y.dtype == torch.bool else self.conv(x) * y


ONE = torch.ones(8, 1, 1)
INPUTS: list[tuple[type[Asks], list[Any]]] = [
    (AsksNone, [None, ONE]),
    (AsksTruth, [True, False]),
    (AsksIdentity, [True, False, 1]),
    (AsksText, ["a", "b", "c"]),
    (AsksNumber, [2, 3, 2.0]),
    (AsksLength, [[ONE], [ONE, ONE], [ONE, ONE, ONE]]),
    (AsksItems, [[ONE], [ONE, ONE], (ONE, ONE, ONE)]),
    (AsksKey, [{"mask": ONE}, {"mask": None}, {"other": ONE}]),
    (AsksDtype, [ONE > 0, ONE, ONE.long() * 2]),
]


@pytest.mark.parametrize("frontend", [pytest.param("auto", marks=pytest.mark.slow), *FRONTENDS[1:]])
@pytest.mark.parametrize(("kind", "values"), INPUTS)
def test_what_an_input_is_is_checked_or_right(kind: type[Asks], values: list[Any], frontend: str) -> None:
    net, x = kind().eval(), X[:2]
    for example in values:
        try:
            prepared = qfx.prepare_fx(net, {"": None}, {"x": x, "y": example}, frontend=frontend)
        except CaptureError:
            assert frontend not in ("auto", "export")
            continue
        with torch.no_grad():
            assert agrees(lambda p=prepared, v=example: p(x, v), lambda v=example: net(x, v))
            for value in values:
                agrees(lambda p=prepared, v=value: p(x, v), lambda v=value: net(x, v))


@pytest.mark.parametrize("frontend", FRONTENDS)
def test_an_argument_that_the_examples_leave_out_is_fixed_under_its_own_name(frontend: str) -> None:
    class Skips(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
            x = x if mask is None else x * mask
            return x if scale is None else x + scale

    prepared = qfx.prepare_fx(Skips(), {"": None}, {"x": X, "scale": X}, frontend=frontend)
    torch.testing.assert_close(prepared(X, None, X), X + X)
    torch.testing.assert_close(prepared(X, scale=X), X + X)
    for args, kwargs in (((X, X), {}), ((X, X, X), {}), ((X,), {"mask": X, "scale": X})):
        with pytest.raises(InputError, match="'mask' was fixed at None"):
            prepared(*args, **kwargs)


def test_calibration_names_the_batch_that_does_not_fit() -> None:
    with pytest.raises(CalibrationError, match=r"Batch 1 .*shape \(2, 3, 8, 6\)"):
        qfx.quantize_fx(Net(OF_SIZES["len"]).eval(), EVERYTHING, [X[:4], X[:2]])


# ---------------------------------------------------------------- what a frontend reads otherwise than Python


QUESTIONS: list[Callable[[Tensor], Tensor]] = [
    lambda y: y if torch.is_tensor(y) else y + 1,
    lambda y: y if type(y) is Tensor else y + 1,
    lambda y: y + 1 if hasattr(y, "tensors") else y,
    lambda y: y + 1 if callable(y) else y,
]


@pytest.mark.parametrize("frontend", FRONTENDS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_code_that_asks_what_values_are_is_captured_right_or_refused(question: Any, frontend: str) -> None:
    net = Net(question).eval()
    try:
        prepared = qfx.prepare_fx(net, {"": None}, X, frontend=frontend)
    except CaptureError as error:
        told(error, "something else than it computes")
    else:
        torch.testing.assert_close(prepared(X), net(X), rtol=1e-4, atol=1e-5)
