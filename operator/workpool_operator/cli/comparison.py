"""Our Job of a run beside the stock worker's: what differs, and by which documented rule it may."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workpool_operator.cli import output
from workpool_operator.cli.redaction import REDACTED, Redaction
from workpool_operator.cli.stock import StockWorker
from workpool_operator.errors import RenderError
from workpool_operator.jobs import certificates
from workpool_operator.jobs.credentials import CUSTOM_HEADERS, VARIABLES
from workpool_operator.jobs.equivalence import RULES, Difference, differences
from workpool_operator.jobs.inputs import Subject
from workpool_operator.jobs.manifest import container
from workpool_operator.jobs.refusals import accepted_here

UNDOCUMENTED = "not documented: a defect, please report it"
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both manifests, and every difference between them."""

    stock: Object
    ours: Object
    differences: list[Difference]

    @property
    def equivalent(self) -> bool:
        """Every difference is one that the documentation names."""
        return all(each.rule for each in self.differences)

    def text(self, redaction: Redaction) -> str:
        """A unified diff, then why each place differs."""
        if not self.differences:
            return "no difference"
        return "\n".join([*self._diff(redaction), "", *self._reasons()])

    def document(self, redaction: Redaction) -> Object:
        """The same for a program."""
        return {
            "equivalent": self.equivalent,
            "differences": [{"path": each.path, "rule": each.rule} for each in self.differences],
            "stock": redaction.document(self.stock),
            "ours": redaction.document(self.ours),
        }

    def _reasons(self) -> Iterator[str]:
        """Each rule with the places that it covers; what has none comes last."""
        for rule in RULES:
            if paths := [each.path for each in self.differences if each.rule == rule.name]:
                yield from (output.styled(f"{rule.name}: {rule.here}", "cyan"), *_indented(paths))
        if paths := [each.path for each in self.differences if each.rule is None]:
            yield from (output.styled(UNDOCUMENTED, "red"), *_indented(paths))

    def _diff(self, redaction: Redaction) -> Iterator[str]:
        stock, ours = (
            output.as_yaml(_sorted(redaction.document(each))).splitlines()
            for each in (self.stock, self.ours)
        )
        for line in difflib.unified_diff(stock, ours, "stock worker", "operator", lineterm=""):
            colour = _COLOURS.get(line[:1])
            yield output.styled(line, colour) if colour else line


def compare(ours: Object, subject: Subject, worker: StockWorker) -> Comparison:
    """What the stock worker makes of the same documents.

    Raises:
        RenderError: it makes nothing of them.
    """
    environment = _environment(subject)
    document = {
        "run": subject.run,
        "flow": subject.flow,
        "deployment": subject.deployment,
        "pool": subject.pool,
        "worker_name": subject.worker_name,
        "environment": environment,
    }
    try:
        stock = worker.render(document).manifest
    except RenderError as error:
        why = f" (ours makes a Job: {rule})" if (rule := accepted_here(str(error))) else ""
        raise RenderError("", f"the stock worker crashes the run{why}: {error}") from error
    found = differences(stock, ours, environment=environment, subject=subject)
    return Comparison(stock, ours, found)


def _environment(subject: Subject) -> dict[str, str]:
    """The stock worker's own, as it would be set up for the same runs."""
    plain = {
        e["name"]: e["value"]
        for e in subject.environment
        if "value" in e and e["name"] != certificates.VARIABLE  # a file that only pods have
    }
    redacted = {CUSTOM_HEADERS: json.dumps({"X-Redacted": REDACTED})}
    referred = [e["name"] for e in subject.environment if e["name"] in VARIABLES]
    return plain | {name: redacted.get(name, REDACTED) for name in referred}


def _indented(paths: list[str]) -> Iterator[str]:
    return (f"  {path}" for path in paths)


def _sorted(manifest: Object) -> Any:
    """In an order that both sides share."""
    container(manifest)["env"].sort(key=lambda entry: str(entry.get("name")))
    return _by_key(manifest)


def _by_key(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _by_key(value[key]) for key in sorted(value)}
    return [_by_key(item) for item in value] if isinstance(value, list) else value
