"""Values and lists as Python source."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from optim_tools.scaffolding.source_text import import_of, list_of, sorted_names, text_of, value_source

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(values)
@example("a\\'b")
@example("a\\\\'\"b'")
def test_source_gives_an_equal_value(value: Any) -> None:
    source = value_source(value)

    assert source is not None
    assert eval(source, {"math": math}) == value


@pytest.mark.parametrize("value", [print, object(), [object()], {"a": object()}, {1, 2}, b"a"])
def test_what_has_no_literal_has_no_source(value: Any) -> None:
    assert value_source(value) is None


def test_texts_stand_in_double_quotes_where_a_formatter_has_them() -> None:
    assert [text_of(text) for text in ("a", "it's", 'say "a"')] == ['"a"', '"it\'s"', "'say \"a\"'"]


def test_a_formatter_leaves_texts_as_they_are() -> None:
    texts = ["a\\'b", "'\"", "''\"", '\'""', '\\"', "\\'", "\\\\'\"", 'it\'s\n"so"', "\x00'"]
    source = "f(\n" + "".join(f"    {text_of(text)},\n" for text in texts) + ")\n"

    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--stdin-filename", "texts.py", "-"]
    result = subprocess.run(command, input=source, text=True, capture_output=True, check=True)

    assert result.stdout == source


def test_names_are_sorted_as_linters_do() -> None:
    assert sorted_names(["b", "SGD", "Any", "Z", "SGD"]) == ["SGD", "Any", "Z", "b"]


def test_a_list_goes_over_several_lines_where_it_must() -> None:
    assert list_of("f(", ["a", "b"], ")", indent=4) == "    f(a, b)"
    assert list_of("f(", ["a" * 60, "b" * 60], ")") == f"f(\n    {'a' * 60},\n    {'b' * 60},\n)"
    assert import_of("m", ["b", "A"]) == "from m import A, b"
