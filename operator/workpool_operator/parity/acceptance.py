"""Templates and values that only the stock worker or only this project accepts. Pure.

`ACCEPTED_HERE` and `REFUSED_HERE` are the only lists; docs/migration.md shows the same ones. Any
other refusal by one side alone is a bug.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownRefusal:
    """What only one side refuses: its name, what the other side does, and the refusal's text."""

    name: str
    here: str
    matches: re.Pattern[str]


def accepted_here(stock_error: str) -> str | None:
    """Return the known reason why only the stock worker fails, with this error; else None."""
    return next((o.name for o in ACCEPTED_HERE if o.matches.search(stock_error)), None)


def refused_here(our_error: str) -> str | None:
    """Return the known reason why only the operator fails, with this error; else None."""
    return next((o.name for o in REFUSED_HERE if o.matches.search(our_error)), None)


_PATHS = "(required attributes|incompatible values).*"
ACCEPTED_HERE: Final = (
    KnownRefusal(
        "`restartPolicy`", "`Never` if it is missing", re.compile(f"{_PATHS}/restartPolicy")
    ),
    KnownRefusal(
        "no `parallelism`, `completions` in the pod's spec",
        "they belong in the Job's spec",
        re.compile("required attributes.*/(parallelism|completions)"),
    ),
    KnownRefusal(
        "the flow's container with any name, at any position",
        "`prefect-job`, otherwise the first; it is named `prefect-job` if it has no name",
        re.compile(f"{_PATHS}/containers/0/name"),
    ),
    KnownRefusal(
        "a namespace that is null",
        "the binding's `jobs.namespace`",
        re.compile(r"namespace\n  Input should be a valid string .*NoneType"),
    ),
    KnownRefusal(
        "no `variables`", "a template does not need them", re.compile("KeyError: 'variables'")
    ),
    KnownRefusal(
        "labels and annotations that are not strings",
        "strings, a boolean as `true` or `false`",
        re.compile(
            r"TypeError: text must be str|"
            r"(labels|annotations)\.\S+\n  Input should be a valid string"
        ),
    ),
    KnownRefusal(
        "an `env` that is null",
        "as if it were not set",
        re.compile("'NoneType' object (has no attribute 'items'|is not iterable)"),
    ),
    KnownRefusal(
        "a list of variables over a mapping",
        "merged by name, as mappings are",
        re.compile(r"unsupported operand type\(s\) for \|: 'dict' and 'list'"),
    ),
    KnownRefusal(
        "`metadata`, `labels`, `annotations` that are null",
        "as if they were missing",
        re.compile(rf"{_PATHS}/metadata/\w+ must have value \{{\}}|'NoneType' is not iterable"),
    ),
)

REFUSED_HERE: Final = (
    KnownRefusal(
        "another cluster",
        "the stock worker creates the Job there; here it runs in the binding's cluster",
        re.compile("cluster_config: names another cluster"),
    ),
    KnownRefusal(
        "a TTL that is not a number of seconds",
        "the API server would refuse the Job",
        re.compile("ttlSecondsAfterFinished: expected"),
    ),
    KnownRefusal(
        "an annotation that is a mapping or a list",
        "the API server would refuse the Job",
        re.compile("metadata.annotations.*: expected a string"),
    ),
    KnownRefusal(
        "a variable whose value is a mapping or a list",
        "the stock worker uses its Python representation",
        re.compile("env.*: expected a string, a number, true, false"),
    ),
    KnownRefusal(
        "a variable without a name",
        "the stock worker drops it silently",
        re.compile("env.*: expected a name in each entry"),
    ),
)
