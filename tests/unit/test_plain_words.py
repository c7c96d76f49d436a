"""What people read is idiomatic English: phrases that are never right in this project's texts.

`PATHS` grows as packages are cleaned; a phrase is added when a review finds a new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATHS = (
    "*.md",
    "docs/**/*.md",
    "charts/**/*",
    "manifests/**/*.yaml",
    "examples/**/*",
    ".github/**/*",
    "benchmarks/*.md",
    "benchmarks/*.py",
    "localnode/**/*.md",
    "localnode/**/*.py",
    "testbed/**/*.py",
    "testbed/*.sh",
)
#: The phrase, and what to write instead.
NEVER = {
    r"\btold\b": "reported, said, known",
    r"\bheard\b": "read, received",
    r"\bby nobody\b": "name who acts",
    r"\bwhose an? \w+ is\b": "who set it, who caused it",
    r"\bto be had\b": "available",
    r"\b(for )?want of\b": "without, out of",
    r"\blet(s|ting)? go of\b": "releases, removes",
    r"\bas meant\b": "as intended",
    r"\bwithout a word\b": "silently, without a reason",
    r"\bmade (good|whole|anew)\b": "repaired, created again",
    r"\bthat (is|are) none\b": "invalid",
    r"\b(a|the) lesser\b": "with fewer rights",
}


def texts() -> Iterator[Path]:
    for pattern in PATHS:
        yield from (path for path in ROOT.glob(pattern) if path.is_file())


def prose(text: str) -> str:
    """Without code and the targets of links, which may name what is frozen; lines joined."""
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"\]\([^)]*\)", "]", text))


@pytest.mark.parametrize("phrase", NEVER)
def test_no_text_has_a_phrase_that_is_never_right(phrase: str) -> None:
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in texts()
        if path.suffix not in {".png", ".svg"}
        if (match := re.search(rf".{{,30}}{phrase}.{{,30}}", prose(path.read_text()), re.I))
    }
    assert found == {}, f"write instead: {NEVER[phrase]}"
