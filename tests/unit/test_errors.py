"""The tree in the docstring of `errors` matches its classes, and what an error says holds."""

from __future__ import annotations

import re
from collections.abc import Iterator

from workpool_operator import errors


def documented(text: str) -> Iterator[tuple[int, str]]:
    """Yield depth and name of each line of the tree."""
    for line in text.splitlines():
        if found := re.match(r"    ((?:│   |    )*)(?:[├└]── )?(\w+)", line):
            indent, name = found.groups()
            yield len(indent) // 4 + ("──" in line), name


def declared(kind: type[Exception], depth: int = 0) -> Iterator[tuple[int, str]]:
    yield depth, kind.__name__
    for each in kind.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from declared(each, depth + 1)


def test_the_documented_tree_matches_the_exception_classes() -> None:
    assert list(documented(errors.__doc__ or "")) == list(declared(errors.OperatorError))


def test_an_absurd_retry_after_keeps_nothing_back_for_longer_than_a_minute() -> None:
    for seconds, kept in ((None, None), (5.0, 5.0), (1e9, 60.0), (float("inf"), 60.0)):
        for kind in (errors.KubernetesUnavailable, errors.PrefectThrottled):
            assert kind("HTTP 429", retry_after=seconds).retry_after == kept
