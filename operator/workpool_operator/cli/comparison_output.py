"""Prints a comparison with the stock worker's Job: as a diff with reasons, or as a document."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from workpool_operator.cli import output
from workpool_operator.cli.redaction import Redaction
from workpool_operator.jobs.manifest import get_flow_container
from workpool_operator.parity.comparison import Comparison
from workpool_operator.parity.differences import RULES, Difference

UNDOCUMENTED = "not documented: please report this bug"
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}

Object = dict[str, Any]


def as_text(comparison: Comparison, redaction: Redaction) -> str:
    """Return a unified diff, followed by the reason of each difference."""
    if not comparison.differences:
        return "no difference"
    diff = _diff(redaction.redact(comparison.stock), redaction.redact(comparison.ours))
    return "\n".join([*diff, "", *_reasons(comparison.differences)])


def as_document(comparison: Comparison, redaction: Redaction) -> Object:
    """Return the comparison for programs."""
    return {
        "equivalent": comparison.equivalent,
        "differences": [{"path": each.path, "rule": each.rule} for each in comparison.differences],
        "stock": redaction.redact(comparison.stock),
        "ours": redaction.redact(comparison.ours),
    }


def _reasons(differences: list[Difference]) -> Iterator[str]:
    """Yield each rule with the paths that it explains, then the unexplained ones."""
    for rule in RULES:
        if paths := [each.path for each in differences if each.rule == rule.name]:
            yield from (output.styled(f"{rule.name}: {rule.here}", "cyan"), *_indented(paths))
    if paths := [each.path for each in differences if each.rule is None]:
        yield from (output.styled(UNDOCUMENTED, "red"), *_indented(paths))


def _diff(*manifests: Object) -> Iterator[str]:
    stock, ours = (output.as_yaml(_sorted(each)).splitlines() for each in manifests)
    for line in difflib.unified_diff(stock, ours, "stock worker", "operator", lineterm=""):
        colour = _COLOURS.get(line[:1])
        yield output.styled(line, colour) if colour else line


def _indented(paths: list[str]) -> Iterator[str]:
    return (f"  {path}" for path in paths)


def _sorted(manifest: Object) -> Any:
    """Return the manifest in an order that both sides share."""
    get_flow_container(manifest)["env"].sort(key=lambda entry: str(entry.get("name")))
    return _by_key(manifest)


def _by_key(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _by_key(value[key]) for key in sorted(value)}
    return [_by_key(item) for item in value] if isinstance(value, list) else value
