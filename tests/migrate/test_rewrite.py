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
        from qfx.quantization import get_default_qconfig_mapping
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
    "a mapping built by a chain of calls and by statements": (
        """
        import torch
        from torch.ao.quantization import QConfigMapping
        from torch.ao.quantization.qconfig_mapping import QConfigMapping as Map, get_default_qconfig_mapping
        a = QConfigMapping().set_global(torch.ao.quantization.default_qconfig)
        b = (
            Map()
            .set_module_name("head", None)  # stays float
            .set_object_type(torch.nn.Linear, q)
        )
        c = get_default_qconfig_mapping("x86")
        c.set_object_type("add", None)
        """,
        """
        import torch
        import qfx.quantization
        from qfx.quantization import QConfigMapping
        from qfx.quantization import QConfigMapping as Map, get_default_qconfig_mapping
        a = QConfigMapping().set_global(qfx.quantization.default_qconfig)
        b = (
            Map()
            .set_module_name("head", None)  # stays float
            .set_object_type(torch.nn.Linear, q)
        )
        c = get_default_qconfig_mapping("x86")
        c.set_object_type("add", None)
        """,
    ),
    "custom configurations": (
        """
        from torch.ao.quantization.fx.custom_config import PrepareCustomConfig, ConvertCustomConfig as C
        import torch.ao.quantization.fx.custom_config as cc
        from torch.ao.quantization.quantize_fx import prepare_qat_fx, convert_fx
        p = prepare_qat_fx(model, qconfig_mapping=m, example_inputs=x, prepare_custom_config=PrepareCustomConfig())
        q = convert_fx(graph_module=p, convert_custom_config_dict=C().to_dict()), cc.FuseCustomConfig()
        """,
        """
        from qfx.quantization import PrepareCustomConfig, ConvertCustomConfig as C
        import qfx.quantization as cc
        from qfx import prepare_qat_fx, convert_fx
        p = prepare_qat_fx(model, qconfig_dict=m, example_inputs=x, prepare_custom_config=PrepareCustomConfig())
        q = convert_fx(prepared=p, convert_custom_config=C().to_dict()), cc.FuseCustomConfig()
        """,
    ),
    "everything of a module that is used": (
        """
        from torch.quantization import *  # all
        from torch.ao.quantization.quantize_fx import *
        from torch.ao.quantization.observer import *
        model.qconfig = get_default_qconfig("x86")
        p = prepare(model) or prepare_fx(model, qconfig_mapping=QConfigMapping(), example_inputs=model)
        for model in sorted(p):
            pass
        """,
        """
        from qfx.quantization import QConfigMapping, get_default_qconfig, prepare  # all
        from qfx import prepare_fx
        model.qconfig = get_default_qconfig("x86")
        p = prepare(model) or prepare_fx(model, qconfig_dict=QConfigMapping(), example_inputs=model)
        for model in sorted(p):
            pass
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
        from torch.ao.quantization import get_fuser_method, QConfig
        import torch
        y = torch.ops.quantized.add(a, b, 1.0, 0)
        """,
        """
        from torch.ao.quantization import get_fuser_method
        from qfx.quantization import QConfig
        import torch
        y = torch.ops.quantized.add(a, b, 1.0, 0)
        """,
        ["2:35: torch.ao.quantization.get_fuser_method: call qfx", "4:5: torch.ops.quantized.add: call"],
    ),
    "exported programs and torchao": (
        """
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e, convert_pt2e
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
        from torch.ao.quantization.quantize_pt2e import prepare_qat_pt2e
        quantizer = xiq.X86InductorQuantizer()
        """,
        """
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e, convert_pt2e
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as xiq
        from torch.ao.quantization.quantize_pt2e import prepare_qat_pt2e
        quantizer = xiq.X86InductorQuantizer()
        """,
        [
            "2:53: torchao.quantization.pt2e.quantize_pt2e.prepare_pt2e: call qfx.quantize_fx",
            "2:67: torchao.quantization.pt2e.quantize_pt2e.convert_pt2e: call qfx.quantize_fx",
            "3:8: torchao.quantization.pt2e.quantizer.x86_inductor_quantizer: call qfx.quantize_fx",
            "4:49: torch.ao.quantization.quantize_pt2e.prepare_qat_pt2e: call qfx.quantize_fx",
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
        ["3:20: nnq.Embedding: use qfx.nn.quantized.dynamic.Embedding, which quantize_dynamic makes"],
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
        from torch.ao.quantization import MinMaxObserver
        MinMaxObserver(dtype, factory_kwargs=None)
        """,
        """
        from qfx.quantization import MinMaxObserver
        MinMaxObserver(dtype, factory_kwargs=None)
        """,
        ["3:23: MinMaxObserver(factory_kwargs=...): qfx.quantization.MinMaxObserver has no such argument"],
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
        from torch.ao.nn.quantized import *
        layers = Linear, DTypeConfig
        """,
        """
        from torch.quantization import *
        from torch.ao.nn.quantized import *; from qfx.nn.quantized import Linear
        layers = Linear, DTypeConfig
        """,
        [
            "2:1: from torch.quantization import *: name what is imported",
            "3:1: from torch.ao.nn.quantized import *: name what is imported",
        ],
    ),
    "everything of a module, for others": (
        """
        'What the package offers.'
        from torch.quantization import *
        """,
        """
        'What the package offers.'
        from torch.quantization import *
        """,
        ["3:1: from torch.quantization import *: name what is imported"],
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
    "quantized models as TorchScript": (
        """
        import torch
        from torch.quantization import convert, quantize_dynamic
        torch.jit.script(model)
        convert(model, inplace=True)
        torch.jit.save(torch.jit.script(model), path)
        small = quantize_dynamic(other)
        torch.jit.script(other), torch.jit.script(small)
        torch.jit.script(convert(other))
        """,
        """
        import torch
        from qfx.quantization import convert, quantize_dynamic
        torch.jit.script(model)
        convert(model, inplace=True)
        torch.jit.save(torch.jit.script(model), path)
        small = quantize_dynamic(other)
        torch.jit.script(other), torch.jit.script(small)
        torch.jit.script(convert(other))
        """,
        [f"{at}: torch.jit.script: a quantized model is no TorchScript" for at in ("6:16", "8:26", "9:1")],
    ),
    "the numeric suite and a description of a backend": (
        """
        import torch.ao.ns._numeric_suite as ns
        import torch.quantization._numeric_suite as old
        from torch.ao.ns._numeric_suite_fx import add_loggers, extract_weights
        from torch.ao.quantization.backend_config import get_native_backend_config
        from torch.ao.quantization.quantize_fx import convert_fx
        weights = ns.compare_weights(model.state_dict(), quantized.state_dict())
        before = old.compare_model_outputs(model, quantized, data)
        q = convert_fx(prepared, backend_config=get_native_backend_config())
        """,
        """
        import torch.ao.ns._numeric_suite as ns
        import torch.quantization._numeric_suite as old
        from torch.ao.ns._numeric_suite_fx import add_loggers, extract_weights
        from torch.ao.quantization.backend_config import get_native_backend_config
        from qfx import convert_fx
        weights = ns.compare_weights(model.state_dict(), quantized.state_dict())
        before = old.compare_model_outputs(model, quantized, data)
        q = convert_fx(prepared, backend_config=get_native_backend_config())
        """,
        [
            "2:8: torch.ao.ns._numeric_suite: qfx.compare(prepared, quantized, data) compares every node",
            "3:8: torch.quantization._numeric_suite: qfx.compare(prepared, quantized, data) compares every node",
            "4:43: torch.ao.ns._numeric_suite_fx.add_loggers: qfx.compare(prepared, quantized, data) compares",
            "4:56: torch.ao.ns._numeric_suite_fx.extract_weights: a layer's int8 weight is quantized.state_dict()[",
            "5:50: torch.ao.quantization.backend_config.get_native_backend_config: leave backend_config out",
        ],
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
