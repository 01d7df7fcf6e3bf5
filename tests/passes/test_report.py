"""What the report prints, and its other forms."""

from __future__ import annotations

import json

import pytest
import torch

import qfx
from qfx.columns import shortened, table
from qfx.passes.report import Record, Report

LONG = "the operand that it reads is of a kind for which there is no integer arithmetic in any of the programs"


def report_of(count: int) -> Report:
    records = [
        Record(
            f"encoder_layers_{i}_self_attention_output_dense",
            "linear",
            f"encoder.layers.{i}.self_attention.output.dense",
            "modeling.py:12, in forward: hidden = self.dense(hidden)",
            "int8" if i % 3 else "float",
            "weights and activations quantized" if i % 3 else LONG,
            qfx.QParams(0.5, 3, qfx.quint8) if i % 3 else None,
            recovery=("bias corrected",) if i % 3 else (),
        )
        for i in range(count)
    ]
    return Report(records, "symbolic", "the default")


def test_every_reason_stands_once_with_its_number() -> None:
    report = report_of(30)
    for width in (None, 60, 100):
        text = " ".join(report.text(width).split())
        assert text.count(LONG) == 1
        assert text.count("weights and activations quantized") == 1
        assert text.count("bias corrected") == 1
    rows = report.text().splitlines()
    numbers = {line.split(maxsplit=1)[1]: line.split()[0] for line in rows[rows.index("why:") + 1 :]}
    for record in report:
        row = next(line for line in rows if line.startswith(record.name + " "))
        assert ",".join(numbers[reason] for reason in record.reasons) in row.split()


def test_the_summary_counts_decisions_and_ops() -> None:
    assert report_of(30).summary() == [
        "30 nodes: 20 int8, 10 float",
        "int8: 20 linear",
        "float: 10 linear",
        "captured by symbolic: the default",
    ]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_lines_fit_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = str(report_of(12)).splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("encoder") for line in lines) == 12


def test_full_width_loses_nothing() -> None:
    report, text = report_of(12), report_of(12).text()
    assert all(r.name in text and r.module_path in text and str(r.source) in text for r in report)
    assert "…" not in text


def test_a_report_of_nothing_prints() -> None:
    assert Report(()).text(80).startswith("0 nodes: none")
    assert Report(()).to_dict()["nodes"] == []
    assert list(Report(()).to_pandas().columns) == list(report_of(1)[0].to_dict())


def test_as_a_dict_it_is_json_and_whole() -> None:
    report = report_of(6)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["counts"] == {"float": 2, "int8": 4}
    for record, facts in zip(report, data["nodes"], strict=True):
        assert [facts[key] for key in ("name", "op", "module_path", "source", "decision", "reason")] == [
            record.name, record.op, record.module_path, record.source, record.decision, record.reason,
        ]  # fmt: skip
        grid = (0.5, 3, "quint8", 0, 255) if record.qparams else (None,) * 5
        assert tuple(facts[key] for key in ("scale", "zero_point", "dtype", "qmin", "qmax")) == grid
        assert facts["recovery"] == list(record.recovery)


def test_as_a_frame_it_has_a_row_a_node() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
    report = qfx.quantize_fx(net, {"": qfx.get_default_qconfig()}, [torch.randn(1, 3, 8, 8)]).report
    frame = report.to_pandas()
    assert list(frame["name"]) == [record.name for record in report]
    assert (frame["decision"] == "int8").all()


def test_tables_shorten_the_widest_columns_first() -> None:
    rows = [("a", "bb", "c"), ("x" * 40, "y" * 30, "z" * 20)]
    lines = table(rows, width=70, elastic=("a", "bb"))
    assert max(map(len, lines)) == 70
    assert "z" * 20 in lines[2]
    assert [len(cell) for cell in lines[2].split()] == [23, 23, 20]
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcdef…ijk"


class Mixed(torch.nn.Module):
    """Layers in int8, one kept float, one in a part that torch runs."""

    class Deciding(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) if bool(x.sum() > 0) else x

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.kept = (torch.nn.Linear(8, 8) for _ in range(3))
        self.deciding = Mixed.Deciding()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.kept(self.deciding(torch.relu(self.second(self.first(x)))))


def test_a_models_repr_counts_its_layers() -> None:
    qconfigs = {"": qfx.get_default_qconfig(), "module_name": [("kept", None)]}
    quantized = qfx.quantize_fx(Mixed(), qconfigs, [torch.randn(4, 8)], frontend="symbolic")
    layers = quantized.report.layers()
    assert {record.module_path: record.decision for record in layers} == {
        "first": "int8", "second": "int8", "deciding": "float", "kept": "float",
    }  # fmt: skip
    counts = f"{len(quantized.report)} nodes, {len(quantized.report.decided('float'))} in float"
    assert repr(quantized) == f"QuantizedModel(2 of 4 layers int8; {counts}; captured by symbolic)"
    assert repr(quantized) in repr(torch.nn.Sequential(quantized))


def test_layers_inside_of_islands_count() -> None:
    quantized = qfx.quantize_fx(Mixed(), {"": qfx.default_dynamic_qconfig}, frontend="symbolic")
    assert repr(quantized).startswith("QuantizedModel(4 of 4 layers int8; ")
