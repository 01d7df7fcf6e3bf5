"""What the tests of integrations share: a small BERT, its tokenizer, and the same quantized."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from tests.integrations import nets


@pytest.fixture(scope="session")
def hf() -> ModuleType:
    """The package transformers."""
    return nets.definitions()


@pytest.fixture(scope="session")
def tokenizer(hf: ModuleType) -> Any:
    return nets.word_tokenizer()


@pytest.fixture(scope="session")
def bert(hf: ModuleType) -> Any:
    return nets.made("BertModel", "BertConfig", **nets.SIZES)


@pytest.fixture(scope="session")
def quantized(bert: Any) -> Any:
    """BERT, by rows."""
    from qfx.integrations import quantize_encoder

    return quantize_encoder(bert)
