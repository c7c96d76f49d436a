"""Lists the differences between our Job of a run and the stock worker's, each with its rule. Pure.

`RULES` is the only list of allowed differences; docs/migration.md shows the same one. A
difference without a rule is a bug. `acceptance` has the cases where only one of the two renders a
Job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prefect.utilities.templating import PLACEHOLDER_CAPTURE_REGEX

from workpool_operator.jobs import certificates, environment, names, scalars
from workpool_operator.jobs.environment import SIGTERM_BEHAVIOR
from workpool_operator.jobs.field_errors import get_path
from workpool_operator.jobs.inputs import RenderInput
from workpool_operator.jobs.manifest import COMMAND, FLOW_RUN_ID_KEY
from workpool_operator.jobs.names import JOB_NAME_LENGTH
from workpool_operator.kube import models
from workpool_operator.parity.flat_manifest import (
    ABSENT,
    CONTAINER,
    ENV,
    POD,
    FlatManifest,
    Path,
    UnequalField,
    unequal_fields,
)

_POOLS_ENVIRONMENTS = (
    ("job_configuration", "env"),
    ("variables", "properties", "env", "default"),
)
CREDENTIALS = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_CLIENT_CUSTOM_HEADERS")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(rf"({_NAME.pattern})?")
_DOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of the manifest; `rule` names the rule that allows the difference, if one does."""

    path: str
    stock: Any
    ours: Any
    rule: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: stock {self.stock!r}, ours {self.ours!r} ({self.rule or 'no rule'})"


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What pool, deployment and run set: `variables` is their merged environment, `labels` those of
    deployment and run."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, render_input: RenderInput | None) -> RunInputs:
        """Return the values that the pool, the deployment and the run give."""
        if render_input is None:
            return cls()
        template = render_input.pool["base_job_template"]
        own = [get_path(template, path) for path in _POOLS_ENVIRONMENTS]
        levels = [*own, render_input.job_variables.get("env")]
        documents = [each for each in (render_input.deployment, render_input.run) if each]
        labels = {k: v for each in documents for k, v in (each.get("labels") or {}).items()}
        return cls(
            environment.merge_levels(
                level for level in levels if isinstance(level, Mapping | list)
            ),
            {names.label_key(k): names.label_value(scalars.text(v)) for k, v in labels.items()},
        )


@dataclass(frozen=True, slots=True)
class Manifests:
    """Both manifests, the environment of the stock worker's process, and what the run sets."""

    stock: FlatManifest
    ours: FlatManifest
    environment: Mapping[str, str]
    inputs: RunInputs


@dataclass(frozen=True, slots=True)
class Rule:
    """An allowed difference: its name, what we do instead, and which fields it covers."""

    name: str
    here: str
    covers: Callable[[UnequalField, Manifests], bool]


def find_differences(
    stock: Object,
    ours: Object,
    *,
    environment: Mapping[str, str] | None = None,
    render_input: RenderInput | None = None,
) -> list[Difference]:
    """Return all differences, by path.

    `environment` is what is known of the stock worker's own environment, and `render_input` what
    both Jobs were rendered from.
    """
    manifests = Manifests(
        FlatManifest.of(stock), FlatManifest.of(ours), environment or {}, RunInputs.of(render_input)
    )
    return [
        Difference(each.text, each.stock, each.ours, _rule(each, manifests))
        for each in unequal_fields(manifests.stock, manifests.ours)
    ]


def _rule(unequal: UnequalField, manifests: Manifests) -> str | None:
    return next((rule.name for rule in RULES if rule.covers(unequal, manifests)), None)


def _is_name(unequal: UnequalField, manifests: Manifests) -> bool:
    if unequal.path == ("metadata", "generateName"):
        return unequal.ours is ABSENT
    is_short = isinstance(unequal.ours, str) and len(unequal.ours) <= JOB_NAME_LENGTH
    return unequal.path == ("metadata", "name") and is_short


def _is_own_metadata(unequal: UnequalField, manifests: Manifests) -> bool:
    return unequal.is_metadata and unequal.path[-1].startswith(models.PREFIX)


def _is_run_id(unequal: UnequalField, manifests: Manifests) -> bool:
    if not unequal.is_metadata or unequal.path[-1] != FLOW_RUN_ID_KEY:
        return False
    return unequal.ours is ABSENT if "labels" in unequal.path else isinstance(unequal.ours, str)


def _is_credential(unequal: UnequalField, manifests: Manifests) -> bool:
    reference = (*ENV, unequal.variable, "valueFrom", "secretKeyRef")
    is_reference = manifests.ours.get(*reference, "name") is not ABSENT
    is_part_of_it = unequal.ours is ABSENT or unequal.path[: len(reference)] == reference
    return unequal.variable in CREDENTIALS and is_reference and is_part_of_it


def _is_server_ca(unequal: UnequalField, manifests: Manifests) -> bool:
    """Covers the variable, the volume and its mount."""
    if unequal.variable == certificates.VARIABLE:
        return unequal.stock is ABSENT
    for folder in ((*POD, "volumes"), (*CONTAINER, "volumeMounts")):
        entry = unequal.path[: len(folder) + 1]
        if entry[:-1] == folder and manifests.ours.get(*entry, "name") == certificates.VOLUME:
            return unequal.stock is ABSENT
    return False


def _is_inherited(unequal: UnequalField, manifests: Manifests) -> bool:
    is_setting = (
        unequal.variable.startswith("PREFECT_") and unequal.variable in manifests.environment
    )
    return is_setting and unequal.ours is ABSENT


def _is_read_from_environment(unequal: UnequalField, manifests: Manifests) -> bool:
    """Return whether ours lacks only values from the stock worker's own environment."""
    if unequal.variable in manifests.environment or not isinstance(unequal.stock, str):
        return False
    text = unequal.stock
    for value in sorted(filter(None, manifests.environment.values()), key=len, reverse=True):
        text = text.replace(value, "")
    return bool(text == unequal.ours)


def _is_namespace(unequal: UnequalField, manifests: Manifests) -> bool:
    return unequal.path == ("metadata", "namespace")


def _is_ttl(unequal: UnequalField, manifests: Manifests) -> bool:
    kept = manifests.ours.get("metadata", "annotations", models.TTL_ANNOTATION)
    is_ttl = unequal.path == ("spec", "ttlSecondsAfterFinished")
    return (
        is_ttl and unequal.ours is ABSENT and (unequal.stock is None or kept == str(unequal.stock))
    )


def _is_replacement(unequal: UnequalField, manifests: Manifests) -> bool:
    is_missing = unequal.stock is ABSENT and unequal.ours == "Failed"
    return unequal.path == ("spec", "podReplacementPolicy") and is_missing


def _is_misplaced(unequal: UnequalField, manifests: Manifests) -> bool:
    """Return whether it moved from the pod's spec to the Job's, unless that has its own value."""
    *parent, key = unequal.path
    if key not in ("parallelism", "completions") or tuple(parent) not in (POD, ("spec",)):
        return False
    wanted = manifests.stock.get("spec", key)
    wanted = manifests.stock.get(*POD, key) if wanted is ABSENT else wanted
    return manifests.ours.get(*POD, key) is ABSENT and manifests.ours.get("spec", key) == wanted


def _is_repaired(unequal: UnequalField, manifests: Manifests) -> bool:
    """Return whether the API server accepts only ours, possibly under another key."""
    if not unequal.is_metadata:
        return False
    if unequal.stock is ABSENT:
        siblings = (path for path in manifests.stock.values if path[:-1] == unequal.path[:-1])
        return not all(map(_is_key, siblings))
    is_kept = unequal.ours is ABSENT or _is_valid(unequal.path, unequal.ours)
    return is_kept and not _is_valid(unequal.path, unequal.stock)


def _is_valid(path: Path, value: Any) -> bool:
    is_any = "annotations" in path
    is_value = isinstance(value, str) and (is_any or bool(_VALUE.fullmatch(value)))
    return _is_key(path) and is_value


def _is_key(path: Path) -> bool:
    *domain, name = path[-1].rsplit("/", 1)
    return bool(_NAME.fullmatch(name)) and all(map(_DOMAIN.fullmatch, domain))


def _is_text(unequal: UnequalField, manifests: Manifests) -> bool:
    is_there = bool(unequal.variable) or unequal.path[:-1] == (*CONTAINER, "args")
    given = manifests.inputs.variables.get(unequal.variable, unequal.stock)
    return is_there and not isinstance(given, str) and unequal.ours == scalars.text(given)


def _is_merged(unequal: UnequalField, manifests: Manifests) -> bool:
    """Return whether ours has the innermost level's value. The stock worker has that of another
    level, a mapping's Python representation, or variables named after the keys of an entry."""
    if unequal.path == ENV:
        return _is_order_given(unequal, manifests.inputs.variables)
    if unequal.variable not in manifests.inputs.variables:
        return unequal.ours is ABSENT and unequal.variable in ("name", "value", "valueFrom")
    wanted = manifests.inputs.variables[unequal.variable]
    if wanted is None:
        return unequal.ours is ABSENT
    entry = {"name": unequal.variable}
    entry |= wanted if isinstance(wanted, Mapping) else {"value": scalars.text(wanted)}
    return bool(unequal.ours == FlatManifest.of(entry).get(*unequal.path[len(ENV) + 1 :]))


def _is_order_given(unequal: UnequalField, given: Mapping[str, Any]) -> bool:
    """Users' variables have the order of their levels, all others the order of the stock worker; a
    variable that the worker also sets keeps the worker's position."""
    ours = [name for name in unequal.ours if name in given]
    users = [name for name in ours if not name.startswith("PREFECT_")]
    theirs, own = ([n for n in names if n not in given] for names in (unequal.stock, unequal.ours))
    return bool(ours) and users == [name for name in given if name in users] and theirs == own


def _is_null(unequal: UnequalField, manifests: Manifests) -> bool:
    return unequal.stock is None and unequal.ours is ABSENT


def _is_command(unequal: UnequalField, manifests: Manifests) -> bool:
    """Return whether only an unset command in a longer string differs."""
    if not isinstance(unequal.stock, str) or not isinstance(unequal.ours, str):
        return False
    return unequal.stock in (unequal.ours.replace(COMMAND, unset) for unset in ("", "None"))


def _is_label_of_run(unequal: UnequalField, manifests: Manifests) -> bool:
    is_label = unequal.is_metadata and "labels" in unequal.path
    return is_label and manifests.inputs.labels.get(unequal.path[-1]) == unequal.ours


def _is_once(unequal: UnequalField, manifests: Manifests) -> bool:
    if unequal.path != ENV or len(set(unequal.stock)) == len(unequal.stock):
        return False
    return tuple(dict.fromkeys(unequal.stock)) == tuple(unequal.ours)


def _is_sigterm(unequal: UnequalField, manifests: Manifests) -> bool:
    """In a list, the stock worker keeps the variable if it is empty and moves it if it is set."""
    if unequal.path == ENV:
        theirs, ours = (
            [n for n in names if n != SIGTERM_BEHAVIOR] for names in (unequal.stock, unequal.ours)
        )
        return theirs == ours
    return unequal.path == (*ENV, SIGTERM_BEHAVIOR, "value") and unequal.stock == ""


def _is_joined(unequal: UnequalField, manifests: Manifests) -> bool:
    lists = (unequal.path[:end] for end, part in enumerate(unequal.path) if part.startswith("["))
    return any(_is_flattened(path, manifests.stock) for path in lists)


def _is_flattened(path: Path, manifest: FlatManifest) -> bool:
    """Return whether the list contains a list, a null, or an item of nulls only."""
    inside = [each[len(path) :] for each in manifest.values if each[:-1][: len(path)] == path]
    has_list = any(len(rest) > 1 and rest[1].startswith("[") for rest in inside)
    is_null: dict[str, bool] = {}
    for rest in inside:
        null = len(rest) < 3 and manifest.get(*path, *rest) is None
        is_null[rest[0]] = null and is_null.get(rest[0], True)
    return has_list or any(is_null.values())


def _is_default_image(unequal: UnequalField, manifests: Manifests) -> bool:
    return unequal.path == (*CONTAINER, "image") and unequal.stock is None


def _is_data(unequal: UnequalField, manifests: Manifests) -> bool:
    return isinstance(unequal.ours, str) and bool(PLACEHOLDER_CAPTURE_REGEX.search(unequal.ours))


RULES: Final = (
    Rule("name", "computed, at most 57 characters, never `generateName`", _is_name),
    Rule(
        "own labels and annotations",
        "in addition to Prefect's descriptive ones; a user's with our prefix are dropped",
        _is_own_metadata,
    ),
    Rule("`prefect.io/flow-run-id`", "an annotation instead of a label", _is_run_id),
    Rule("credentials", "by Secret reference", _is_credential),
    Rule("the binding's CA", "a file, and `PREFECT_API_SSL_CERT_FILE`", _is_server_ca),
    Rule("the worker's own environment", "not passed on", _is_inherited),
    Rule("`{{ $NAME }}`", "empty, unless the settings allow the name", _is_read_from_environment),
    Rule(
        "namespace",
        "the binding's `jobs.namespace`, or one of its `allowedNamespaces` that the run chooses",
        _is_namespace,
    ),
    Rule("TTL", "patched in when the run's end is reported", _is_ttl),
    Rule("`podReplacementPolicy`", "`Failed` if it is missing", _is_replacement),
    Rule("`parallelism`, `completions` in the pod's spec", "in the Job's spec", _is_misplaced),
    Rule("labels and annotations that are invalid", "repaired", _is_repaired),
    Rule(
        "arguments and variables that are not strings",
        "strings, a boolean as `true` or `false`",
        _is_text,
    ),
    Rule("duplicate variables", "only the last one", _is_once),
    Rule(
        "an environment as a list, or with `valueFrom` in a mapping",
        "merged by name, whatever the form; the innermost level wins, and the order is kept; a "
        "mapping if a placeholder uses it elsewhere",
        _is_merged,
    ),
    Rule(f"`{SIGTERM_BEHAVIOR}` in a list", "set if it is empty", _is_sigterm),
    Rule("a list or a null within a list", "joined, left out", _is_joined),
    Rule("a field that is null", "left out, as if its variable were not set", _is_null),
    Rule("`{{ command }}` in a longer string, not set", f"`{COMMAND}`", _is_command),
    Rule("labels of the flow run and its deployment", "on the Job, repaired", _is_label_of_run),
    Rule("an image that is null", "Prefect's own image, as if it were not set", _is_default_image),
    Rule("values with `{{ }}` in them", "never expanded again", _is_data),
)
