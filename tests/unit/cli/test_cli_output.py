"""Results, notes and errors as they reach a person or a program."""

from __future__ import annotations

import re

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st

from workpool_operator.cli import output
from workpool_operator.cli.commented_yaml import with_comments
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
    """Without colours, as it is where no terminal is."""
    return re.sub("\x1b\\[[0-9;]*m", "", text)


@given(documents)
def test_any_document_comes_out_as_yaml_that_means_the_same(document):
    assert yaml.safe_load(output.as_yaml(document)) == document


@given(documents)
def test_comments_change_nothing_of_a_document(document):
    comments: dict[tuple[str | int, ...], str] = {(key,): "from somewhere" for key in document}
    assert yaml.safe_load(plain(with_comments(document, comments))) == document


def test_comments_stand_beside_their_values():
    comments: dict[tuple[str | int, ...], str] = {("a",): "template", ("b", "c"): "run: c"}
    text = plain(with_comments({"a": 1, "b": {"c": "x\ny"}}, comments))
    assert "a: 1     # template" in text
    assert "  c: |-  # run: c" in text


def test_an_error_is_one_line_and_exit_code_1(capsys):
    with pytest.raises(typer.Exit) as end, output.errors_in_one_line():
        raise OperatorError("no answer\nfrom anybody")
    assert end.value.exit_code == 1
    captured = capsys.readouterr()
    assert captured.err == "workpool-operator: error: no answer from anybody\n"
    assert captured.out == ""
