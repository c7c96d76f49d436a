"""What people read is idiomatic English: phrases that are never right in this project's texts.

A phrase is added when a review finds a new one.
"""

from __future__ import annotations

import re
from functools import cache
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
    "operator/**/*.py",
    "tests/**/*.py",
    "tests/*.md",
    "localnode/**/*.md",
    "localnode/**/*.py",
    "testbed/**/*.py",
    "testbed/*.sh",
)
#: The phrase, and what to write instead.
NEVER = {
    r"\btold\b": "reported, said, known",
    r"\bheard\b": "read, received",
    r"\b(nobody|anybody)\b": "name who acts; everyone who",
    r"\bwhose an? \w+ is\b": "who set it, who caused it",
    r"\bto be had\b": "available",
    r"\b(for )?want of\b": "without, out of",
    r"\blet(s|ting)? go of\b": "releases, removes",
    r"\bas meant\b": "as intended",
    r"\bwithout a word\b": "silently, without a reason",
    r"\bmade (good|whole|anew)\b": "repaired, created again",
    r"\bthat (is|are) none\b": "invalid",
    r"\b(a|the) lesser\b": "with fewer rights",
    r"\bno one\b": "name who acts",
    r"\bbeside\b": "next to, in addition to",
    r"\b(doubts?|troubles?)\b": "stale, warning; problem",
    r"\bgives? up\b": "stops, ends",
    r"\bgoes on\b": "continues",
    r"\blooks? at\b": "checks, reads",
    r"\bstands? in\b": "is in, replaces",
    r"\bwhere none\b": "if there is none",
    r"\b(phantoms?|sweeps?|swept|seats?|ledger|follower)\b": "stray claim, collect, slot, store",
    r"\bexternal write\b": "step that can be repeated",
    r"\banew\b": "again",
    r"\bfor ever\b": "forever, until cancelled",
    r"\bmend(s|ed|ing)?\b": "fix, repair, restore",
    r"\bso often as\b": "as often as, up to a limit",
    r"\bleftovers?\b": "previous Job",
}


@cache
def texts() -> dict[str, str]:
    """Return the prose of each file, by its path."""
    paths = {path for pattern in PATHS for path in ROOT.glob(pattern) if path.is_file()}
    return {
        str(path.relative_to(ROOT)): prose(path.read_text())
        for path in sorted(paths - {Path(__file__)})
        if path.suffix not in {".png", ".svg"}
    }


def prose(text: str) -> str:
    """Return the text on one line, without code and the targets of links: they may be frozen."""
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"\]\([^)]*\)", "]", text))


@pytest.mark.parametrize("phrase", NEVER)
def test_no_text_has_a_phrase_that_is_never_right(phrase: str) -> None:
    found = {
        name: text[max(0, match.start() - 30) : match.end() + 30]
        for name, text in texts().items()
        if (match := re.search(phrase, text, re.IGNORECASE))
    }
    assert found == {}, f"write instead: {NEVER[phrase]}"
