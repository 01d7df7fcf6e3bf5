"""Pairs of a program before and after, with what is left for a hand."""

from __future__ import annotations

from textwrap import dedent

import pytest

from qfx.migrate.rewrite import migrate

PAIRS: dict[str, tuple[str, str]] = {
    "a name of torch itself": (
        """
        import torch

        x = torch.quantize_per_tensor(torch.rand(3), 0.1, 2, dtype=torch.quint8)  # as before
        """,
        """
        import torch
        import qfx

        x = qfx.quantize_per_tensor(torch.rand(3), 0.1, 2, dtype=qfx.quint8)  # as before
        """,
    ),
    "a module under an alias": (
        """
        import torch.quantization as tq
        model = tq.prepare(model,   inplace=True)
        """,
        """
        import qfx.quantization as tq
        model = tq.prepare(model,   inplace=True)
        """,
    ),
    "a module by its whole path": (
        """
        import torch.ao.quantization
        q = torch.ao.quantization.QConfig(torch.ao.quantization.MinMaxObserver, weight)
        y = torch.relu(x)
        """,
        """
        import torch, qfx.quantization
        q = qfx.quantization.QConfig(qfx.quantization.MinMaxObserver, weight)
        y = torch.relu(x)
        """,
    ),
    "a module by its whole path, and nothing else of torch": (
        """
        import torch.quantization
        torch.quantization.prepare(model)
        """,
        """
        import qfx.quantization
        qfx.quantization.prepare(model)
        """,
    ),
    "names from a module, with comments": (
        """
        from torch.ao.quantization import (
            QConfig,  # the pair
            convert as finish,
            # and this
            prepare,
        )  # all
        """,
        """
        from qfx.quantization import (
            QConfig,  # the pair
            convert as finish,
            # and this
            prepare,
        )  # all
        """,
    ),
    "some names move and some stay": (
        """
        from torch import nn, quint8, qint8 as i8
        """,
        """
        from torch import nn
        from qfx import quint8, qint8 as i8
        """,
    ),
    "a path inside the package": (
        """
        import torch
        from torch.ao.quantization.observer import HistogramObserver
        import torch.ao.quantization.observer as obs
        model = torch.ao.quantization.fuse_modules.fuse_modules(model, [["a", "b"]])
        o = obs.MinMaxObserver.with_args(eps=1e-3)
        """,
        """
        import torch
        import qfx.quantization
        from qfx.quantization import HistogramObserver
        import qfx.quantization as obs
        model = qfx.quantization.fuse_modules(model, [["a", "b"]])
        o = obs.MinMaxObserver.with_args(eps=1e-3)
        """,
    ),
    "graph mode": (
        """
        from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx
        prepared = quantize_fx.prepare_fx(model, qconfig_mapping=get_default_qconfig_mapping("x86"), example_inputs=x)
        """,
        """
        from qfx.quantization import get_default_qconfig_dict as get_default_qconfig_mapping
        import qfx as quantize_fx
        prepared = quantize_fx.prepare_fx(model, qconfig_dict=get_default_qconfig_mapping("x86"), example_inputs=x)
        """,
    ),
    "graph mode by its whole path": (
        """
        import torch
        prepared = torch.ao.quantization.quantize_fx.prepare_fx(model, {"": qconfig}, x)
        """,
        """
        import torch
        import qfx
        prepared = qfx.prepare_fx(model, {"": qconfig}, x)
        """,
    ),
    "modules of nn": (
        """
        import torch.nn as nn
        import torch.nn.quantized.functional as qF
        from torch.nn.intrinsic import ConvReLU2d
        from torch.ao.nn.quantized.modules.conv import Conv2d
        y = qF.conv2d(x, w, b)
        layer = nn.quantized.Linear(nn.Linear(2, 3).in_features, 3)
        """,
        """
        import torch.nn as nn
        import qfx.nn.quantized
        import qfx.nn.quantized.functional as qF
        from qfx.nn.intrinsic import ConvReLU2d
        from qfx.nn.quantized import Conv2d
        y = qF.conv2d(x, w, b)
        layer = qfx.nn.quantized.Linear(nn.Linear(2, 3).in_features, 3)
        """,
    ),
    "a chain that builds a mapping": (
        """
        import torch
        from torch.ao.quantization import QConfigMapping
        from torch.ao.quantization.qconfig_mapping import QConfigMapping as Map, get_default_qconfig_mapping
        a = QConfigMapping().set_global(torch.ao.quantization.default_qconfig)
        b = (
            Map()
            .set_module_name("head", None)
            .set_object_type(torch.nn.Linear, q)
            .set_module_name("tail", q)
        )
        c = get_default_qconfig_mapping("x86").set_module_name_object_type_order("b", torch.add, 1, None)
        """,
        """
        import torch
        import qfx.quantization
        from qfx.quantization import get_default_qconfig_dict as get_default_qconfig_mapping
        a = {"": qfx.quantization.default_qconfig}
        b = (
            {"object_type": [(torch.nn.Linear, q)], "module_name": [("head", None), ("tail", q)]}
        )
        c = {**get_default_qconfig_mapping("x86"), "module_name_object_type_order": [("b", torch.add, 1, None)]}
        """,
    ),
    "a chain that builds a mapping, of a module's name": (
        """
        def f():
            from torch.ao.quantization import QConfigMapping
            import torch.ao.quantization as tq
            return QConfigMapping().set_global(tq.default_qconfig), tq.QConfigMapping().set_global(None)
        """,
        """
        def f():
            import qfx.quantization as tq
            return {"": tq.default_qconfig}, {"": None}
        """,
    ),
    "the engine": (
        """
        import torch
        if "qnnpack" in torch.backends.quantized.supported_engines:
            torch.backends.quantized.engine = "qnnpack"
        """,
        """
        import torch
        import qfx.backends.quantized
        if "qnnpack" in qfx.backends.quantized.supported_engines:
            qfx.backends.quantized.engine = "qnnpack"
        """,
    ),
    "shadowed names": (
        """
        import torch
        import torch.quantization as tq

        def f(tq, torch=None):
            return tq.prepare(torch.quint8)

        def g(x):
            tq = x
            return tq.prepare, [torch.quint8 for torch in x]

        class A:
            torch = 1

            def h(self):
                return torch.quint8, self.torch.quint8
        """,
        """
        import torch
        import qfx
        import qfx.quantization as tq

        def f(tq, torch=None):
            return tq.prepare(torch.quint8)

        def g(x):
            tq = x
            return tq.prepare, [torch.quint8 for torch in x]

        class A:
            torch = 1

            def h(self):
                return qfx.quint8, self.torch.quint8
        """,
    ),
    "an import inside a function": (
        """
        def f():
            import torch as T

            return T.per_tensor_affine
        """,
        """
        def f():
            import torch as T
            import qfx

            return qfx.per_tensor_affine
        """,
    ),
    "an import that may fail": (
        """
        try:
            import torch.ao.quantization as tq
        except ImportError:
            import torch.quantization as tq
        try:
            from torch.ao.quantization import QuantStub
        except ImportError:
            QuantStub = None
        tq.convert(model)
        """,
        """
        try:
            import qfx.quantization as tq
        except ImportError:
            import qfx.quantization as tq
        try:
            from qfx.quantization import QuantStub
        except ImportError:
            QuantStub = None
        tq.convert(model)
        """,
    ),
    "a module under a name of its own": (
        """
        import torch
        tq = torch.quantization
        tq.prepare(model)
        """,
        """
        import torch
        import qfx.quantization
        tq = qfx.quantization
        tq.prepare(model)
        """,
    ),
    "several statements on a line": (
        """
        import os; import torch.quantization as tq; from torch import quint8, nn
        if os: import torch; x = torch.qint32
        """,
        """
        import os; import qfx.quantization as tq; from qfx import quint8; from torch import nn
        if os: import torch; import qfx; x = qfx.qint32
        """,
    ),
    "qfx is there already": (
        """
        import qfx
        import torch
        a = torch.quint8, qfx.quint8
        """,
        """
        import qfx
        import torch
        a = qfx.quint8, qfx.quint8
        """,
    ),
    "what takes quantized tensors as it is": (
        """
        import torch
        import torch.nn.functional as F
        y = F.relu(torch.cat([x, x])).int_repr()
        pool = torch.nn.MaxPool2d(2)
        """,
        """
        import torch
        import torch.nn.functional as F
        y = F.relu(torch.cat([x, x])).int_repr()
        pool = torch.nn.MaxPool2d(2)
        """,
    ),
    "pruning is no quantization": (
        """
        from torch.ao.pruning import WeightNormSparsifier
        """,
        """
        from torch.ao.pruning import WeightNormSparsifier
        """,
    ),
}  # fmt: skip

LEFT: dict[str, tuple[str, str, list[str]]] = {
    "no counterpart": (
        """
        from torch.ao.quantization import QConfigMapping, QConfig
        import torch
        y = torch.ops.quantized.add(a, b, 1.0, 0)
        """,
        """
        from torch.ao.quantization import QConfigMapping
        from qfx.quantization import QConfig
        import torch
        y = torch.ops.quantized.add(a, b, 1.0, 0)
        """,
        ["2:35: torch.ao.quantization.QConfigMapping: write the dict", "4:5: torch.ops.quantized.add: call"],
    ),
    "a mapping built in steps": (
        """
        from torch.ao.quantization import QConfigMapping, get_default_qconfig_mapping
        a = QConfigMapping()
        a.set_global(None)
        b = QConfigMapping().set_global(None)
        c = get_default_qconfig_mapping()
        c.set_object_type("add", None)
        """,
        """
        from torch.ao.quantization import QConfigMapping
        from qfx.quantization import get_default_qconfig_dict as get_default_qconfig_mapping
        a = QConfigMapping()
        a.set_global(None)
        b = {"": None}
        c = get_default_qconfig_mapping()
        c.set_object_type("add", None)
        """,
        [
            "2:35: torch.ao.quantization.QConfigMapping: write the dict",
            "4:1: .set_global: a qconfig_dict is a plain dict: write this as its entry ''",
            "7:1: .set_object_type: a qconfig_dict is a plain dict: write this as its entry 'object_type'",
        ],
    ),
    "a module of which something has no counterpart keeps its name": (
        """
        import torch.ao.nn.quantized as nnq
        a, b = nnq.Conv2d, nnq.Embedding
        """,
        """
        import torch.ao.nn.quantized as nnq
        import qfx.nn.quantized
        a, b = qfx.nn.quantized.Conv2d, nnq.Embedding
        """,
        ["3:20: nnq.Embedding: embeddings stay float"],
    ),
    "so does an assigned name of it": (
        """
        import torch
        tq = torch.quantization
        a, b = tq.QuantStub, tq.DTypeConfig
        """,
        """
        import torch
        import qfx.quantization
        tq = torch.quantization
        a, b = qfx.quantization.QuantStub, tq.DTypeConfig
        """,
        ["4:22: tq.DTypeConfig: qfx.quantization has no DTypeConfig"],
    ),
    "an argument that there is not": (
        """
        from torch.ao.quantization.quantize_fx import prepare_fx
        prepare_fx(model, qconfigs, backend_config=None)
        """,
        """
        from qfx import prepare_fx
        prepare_fx(model, qconfigs, backend_config=None)
        """,
        ["3:29: prepare_fx(backend_config=...): qfx.prepare_fx has no such argument"],
    ),
    "a name that is bound twice": (
        """
        import torch
        if numpy:
            torch = numpy
        x = torch.quint8
        """,
        """
        import torch
        if numpy:
            torch = numpy
        x = torch.quint8
        """,
        ["5:5: torch.quint8: torch may stand for something else here"],
    ),
    "the name qfx is taken": (
        """
        import torch
        def f(qfx):
            return torch.quint8
        x = torch.qint8
        """,
        """
        import torch
        import qfx
        def f(qfx):
            return torch.quint8
        x = qfx.qint8
        """,
        ["4:12: torch.quint8: the name qfx means something else here"],
    ),
    "everything of a module": (
        """
        from torch.quantization import *
        """,
        """
        from torch.quantization import *
        """,
        ["2:1: from torch.quantization import *: name what is imported"],
    ),
    "names in strings": (
        """
        import torch
        patch("torch.quantization.prepare", "torch.relu")
        getattr(torch, "quint8")
        """,
        """
        import torch
        patch("torch.quantization.prepare", "torch.relu")
        getattr(torch, "quint8")
        """,
        ['3:7: "torch.quantization.prepare": a name in a string: write', "4:1: torch, 'quint8':"],
    ),
    "a module as a value": (
        """
        import torch.quantization
        inspect(torch.quantization)
        """,
        """
        import qfx.quantization
        inspect(qfx.quantization)
        """,
        ["3:9: torch.quantization: check what is taken from it: it becomes qfx.quantization"],
    ),
}  # fmt: skip


def text(block: str) -> bytes:
    return dedent(block).encode()


@pytest.mark.parametrize("name", PAIRS)
def test_a_program_is_rewritten(name: str) -> None:
    before, after = PAIRS[name]
    migrated = migrate(text(before))
    assert migrated.text.decode() == dedent(after)
    assert migrated.findings == ()


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_is_named_with_its_place(name: str) -> None:
    before, after, expected = LEFT[name]
    migrated = migrate(text(before))
    assert migrated.text.decode() == dedent(after)
    said = [f"{at.line}:{at.column}: {at.name}: {at.remedy}" for at in migrated.findings]
    assert len(said) == len(expected)
    for line, start in zip(said, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize("encode", [
    lambda s: s.replace("\n", "\r\n").encode(),
    lambda s: b"\xef\xbb\xbf" + s.encode(),
    lambda s: b"# coding: latin-1\n" + s.encode("latin-1"),
    lambda s: s.rstrip("\n").replace("    ", "\t").encode(),
], ids=["carriage returns", "byte order mark", "latin-1", "tabs, no last newline"])  # fmt: skip
def test_encoding_and_whitespace_stay(encode) -> None:
    before = "import torch\nif torch:\n    x = 'é',torch.quint8;y=( 1 ,)  \n"
    after = "import torch\nimport qfx\nif torch:\n    x = 'é',qfx.quint8;y=( 1 ,)  \n"
    assert migrate(encode(before)).text == encode(after)
