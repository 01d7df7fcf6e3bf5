"""How a place in the user's code is called."""

from __future__ import annotations

import pytest

from qfx.frontends.source import describe_line


@pytest.mark.parametrize(
    ("file", "said"),
    [("/home/me/net.py", "net.py:3, in <module>"), ("/tmp/ipykernel_91/2675960779.py", "notebook cell:3, in <module>")],
)
def test_a_line_is_named_by_its_file_or_as_a_cell(file: str, said: str) -> None:
    assert describe_line(compile("pass", file, "exec"), 3) == said
