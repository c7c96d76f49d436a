"""Results, notes and errors as a person or a program reads them."""

from __future__ import annotations

import re

import pytest
import typer
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from workpool_operator.cli import output
from workpool_operator.errors import OperatorError

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))
documents = st.dictionaries(
    texts,
    st.recursive(
        texts | st.integers() | st.none() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
        max_leaves=10,
    ),
)


def plain(text: str) -> str:
    """Return the text without colours."""
    return re.sub("\x1b\\[[0-9;]*m", "", text)


@given(documents)
@example({"a": "b\u2028c"})
def test_yaml_output_means_the_same_as_the_document(document):
    assert yaml.safe_load(output.as_yaml(document)) == document


@given(documents)
@example({"a": "b\u2028c"})
@example({"a": ["b\n"]})
def test_comments_change_nothing_in_the_document(document):
    comments: dict[tuple[str | int, ...], str] = {(key,): "from somewhere" for key in document}
    assert yaml.safe_load(plain(output.as_commented_yaml(document, comments))) == document


def test_a_comment_follows_its_value_on_the_same_line():
    comments: dict[tuple[str | int, ...], str] = {("a",): "template", ("b", "c"): "run: c"}
    text = plain(output.as_commented_yaml({"a": 1, "b": {"c": "x\ny"}}, comments))
    assert "a: 1     # template" in text
    assert "  c: |-  # run: c" in text


def test_an_error_is_one_line_and_exit_code_1(capsys):
    with pytest.raises(typer.Exit) as end, output.errors_in_one_line():
        raise OperatorError("no answer\nfrom the server")
    assert end.value.exit_code == 1
    captured = capsys.readouterr()
    assert captured.err == "workpool-operator: error: no answer from the server\n"
    assert captured.out == ""
