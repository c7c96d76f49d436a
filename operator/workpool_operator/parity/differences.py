"""Lists the differences between our Job of a run and the stock worker's, each with its rule. Pure.

`RULES` is the only list of allowed differences; docs/architecture.md shows the same one. A
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
    """What pool, deployment and run ask for: `variables` is the environment as it is merged here,
    `labels` are those of deployment and run."""

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
    """Both manifests whole, the environment of the stock worker's process, and what was given."""

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
    sides = Manifests(
        FlatManifest.of(stock), FlatManifest.of(ours), environment or {}, RunInputs.of(render_input)
    )
    return [
        Difference(place.text, place.stock, place.ours, _rule(place, sides))
        for place in unequal_fields(sides.stock, sides.ours)
    ]


def _rule(owner: UnequalField, sides: Manifests) -> str | None:
    return next((rule.name for rule in RULES if rule.covers(owner, sides)), None)


def _is_name(owner: UnequalField, sides: Manifests) -> bool:
    if owner.path == ("metadata", "generateName"):
        return owner.ours is ABSENT
    is_short = isinstance(owner.ours, str) and len(owner.ours) <= JOB_NAME_LENGTH
    return owner.path == ("metadata", "name") and is_short


def _is_own_metadata(owner: UnequalField, sides: Manifests) -> bool:
    return owner.is_metadata and owner.path[-1].startswith(models.PREFIX)


def _is_run_id(owner: UnequalField, sides: Manifests) -> bool:
    if not owner.is_metadata or owner.path[-1] != FLOW_RUN_ID_KEY:
        return False
    return owner.ours is ABSENT if "labels" in owner.path else isinstance(owner.ours, str)


def _is_credential(owner: UnequalField, sides: Manifests) -> bool:
    reference = (*ENV, owner.variable, "valueFrom", "secretKeyRef")
    is_reference = sides.ours.get(*reference, "name") is not ABSENT
    is_part_of_it = owner.ours is ABSENT or owner.path[: len(reference)] == reference
    return owner.variable in CREDENTIALS and is_reference and is_part_of_it


def _is_server_ca(owner: UnequalField, sides: Manifests) -> bool:
    """Covers the variable, the volume and its mount."""
    if owner.variable == certificates.VARIABLE:
        return owner.stock is ABSENT
    for folder in ((*POD, "volumes"), (*CONTAINER, "volumeMounts")):
        entry = owner.path[: len(folder) + 1]
        if entry[:-1] == folder and sides.ours.get(*entry, "name") == certificates.VOLUME:
            return owner.stock is ABSENT
    return False


def _is_handed_on(owner: UnequalField, sides: Manifests) -> bool:
    is_setting = owner.variable.startswith("PREFECT_") and owner.variable in sides.environment
    return is_setting and owner.ours is ABSENT


def _is_read_from_environment(owner: UnequalField, sides: Manifests) -> bool:
    """The stock worker's own value is where ours is empty."""
    if owner.variable in sides.environment or not isinstance(owner.stock, str):
        return False
    text = owner.stock
    for value in sorted(filter(None, sides.environment.values()), key=len, reverse=True):
        text = text.replace(value, "")
    return bool(text == owner.ours)


def _is_namespace(owner: UnequalField, sides: Manifests) -> bool:
    return owner.path == ("metadata", "namespace")


def _is_ttl(owner: UnequalField, sides: Manifests) -> bool:
    kept = sides.ours.get("metadata", "annotations", models.TTL_ANNOTATION)
    is_ttl = owner.path == ("spec", "ttlSecondsAfterFinished")
    return is_ttl and owner.ours is ABSENT and (owner.stock is None or kept == str(owner.stock))


def _is_replacement(owner: UnequalField, sides: Manifests) -> bool:
    is_missing = owner.stock is ABSENT and owner.ours == "Failed"
    return owner.path == ("spec", "podReplacementPolicy") and is_missing


def _is_misplaced(owner: UnequalField, sides: Manifests) -> bool:
    """Removed from the pod's spec, and in the Job's spec unless that has its own value."""
    *parent, key = owner.path
    if key not in ("parallelism", "completions") or tuple(parent) not in (POD, ("spec",)):
        return False
    wanted = sides.stock.get("spec", key)
    wanted = sides.stock.get(*POD, key) if wanted is ABSENT else wanted
    return sides.ours.get(*POD, key) is ABSENT and sides.ours.get("spec", key) == wanted


def _is_repaired(owner: UnequalField, sides: Manifests) -> bool:
    """The API server would refuse the stock value and accepts ours, possibly under another key."""
    if not owner.is_metadata:
        return False
    if owner.stock is ABSENT:
        beside = (path for path in sides.stock.values if path[:-1] == owner.path[:-1])
        return not all(map(_is_key, beside))
    is_kept = owner.ours is ABSENT or _is_valid(owner.path, owner.ours)
    return is_kept and not _is_valid(owner.path, owner.stock)


def _is_valid(path: Path, value: Any) -> bool:
    is_any = "annotations" in path
    is_value = isinstance(value, str) and (is_any or bool(_VALUE.fullmatch(value)))
    return _is_key(path) and is_value


def _is_key(path: Path) -> bool:
    *domain, name = path[-1].rsplit("/", 1)
    return bool(_NAME.fullmatch(name)) and all(map(_DOMAIN.fullmatch, domain))


def _is_text(owner: UnequalField, sides: Manifests) -> bool:
    is_there = bool(owner.variable) or owner.path[:-1] == (*CONTAINER, "args")
    given = sides.inputs.variables.get(owner.variable, owner.stock)
    return is_there and not isinstance(given, str) and owner.ours == scalars.text(given)


def _is_merged(owner: UnequalField, sides: Manifests) -> bool:
    """Ours has the innermost level's value. The stock worker has another level's value, a mapping's
    Python representation, or variables named after the keys of an entry."""
    if owner.path == ENV:
        return _is_order_given(owner, sides.inputs.variables)
    if owner.variable not in sides.inputs.variables:
        return owner.ours is ABSENT and owner.variable in ("name", "value", "valueFrom")
    wanted = sides.inputs.variables[owner.variable]
    if wanted is None:
        return owner.ours is ABSENT
    entry = {"name": owner.variable}
    entry |= wanted if isinstance(wanted, Mapping) else {"value": scalars.text(wanted)}
    return bool(owner.ours == FlatManifest.of(entry).get(*owner.path[len(ENV) + 1 :]))


def _is_order_given(owner: UnequalField, given: Mapping[str, Any]) -> bool:
    """Users' variables have the order of their levels, all others the order of the stock worker; a
    variable that the worker also sets keeps the worker's position."""
    ours = [name for name in owner.ours if name in given]
    users = [name for name in ours if not name.startswith("PREFECT_")]
    theirs, own = ([n for n in names if n not in given] for names in (owner.stock, owner.ours))
    return bool(ours) and users == [name for name in given if name in users] and theirs == own


def _is_null(owner: UnequalField, sides: Manifests) -> bool:
    return owner.stock is None and owner.ours is ABSENT


def _is_command(owner: UnequalField, sides: Manifests) -> bool:
    """Only within a longer text: both leave a sole placeholder to Prefect."""
    if not isinstance(owner.stock, str) or not isinstance(owner.ours, str):
        return False
    return owner.stock in (owner.ours.replace(COMMAND, unset) for unset in ("", "None"))


def _is_label_of_run(owner: UnequalField, sides: Manifests) -> bool:
    is_label = owner.is_metadata and "labels" in owner.path
    return is_label and sides.inputs.labels.get(owner.path[-1]) == owner.ours


def _is_once(owner: UnequalField, sides: Manifests) -> bool:
    if owner.path != ENV or len(set(owner.stock)) == len(owner.stock):
        return False
    return tuple(dict.fromkeys(owner.stock)) == tuple(owner.ours)


def _is_sigterm(owner: UnequalField, sides: Manifests) -> bool:
    """In a list, the stock worker keeps the variable if it is empty and moves it if it is set."""
    if owner.path == ENV:
        theirs, ours = (
            [n for n in names if n != SIGTERM_BEHAVIOR] for names in (owner.stock, owner.ours)
        )
        return theirs == ours
    return owner.path == (*ENV, SIGTERM_BEHAVIOR, "value") and owner.stock == ""


def _is_joined(owner: UnequalField, sides: Manifests) -> bool:
    lists = (owner.path[:end] for end, part in enumerate(owner.path) if part.startswith("["))
    return any(_is_no_list(path, sides.stock) for path in lists)


def _is_no_list(path: Path, manifest: FlatManifest) -> bool:
    """Return whether the list contains a list, a null, or an item of nulls only."""
    inside = [each[len(path) :] for each in manifest.values if each[:-1][: len(path)] == path]
    has_list = any(len(rest) > 1 and rest[1].startswith("[") for rest in inside)
    is_null: dict[str, bool] = {}
    for rest in inside:
        null = len(rest) < 3 and manifest.get(*path, *rest) is None
        is_null[rest[0]] = null and is_null.get(rest[0], True)
    return has_list or any(is_null.values())


def _is_default_image(owner: UnequalField, sides: Manifests) -> bool:
    return owner.path == (*CONTAINER, "image") and owner.stock is None


def _is_data(owner: UnequalField, sides: Manifests) -> bool:
    return isinstance(owner.ours, str) and bool(PLACEHOLDER_CAPTURE_REGEX.search(owner.ours))


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
    Rule("the worker's own environment", "not passed on", _is_handed_on),
    Rule("`{{ $NAME }}`", "empty, unless the settings allow the name", _is_read_from_environment),
    Rule("namespace", "the binding's `jobs.namespace`", _is_namespace),
    Rule("TTL", "patched in when the run's end is reported", _is_ttl),
    Rule("`podReplacementPolicy`", "`Failed` if it is missing", _is_replacement),
    Rule("`parallelism`, `completions` in the pod's spec", "in the Job's spec", _is_misplaced),
    Rule("labels and annotations that are invalid", "repaired", _is_repaired),
    Rule(
        "arguments and variables that are not text",
        "text, a boolean as `true` or `false`",
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
    Rule("`{{ command }}` in a longer text, not set", f"`{COMMAND}`", _is_command),
    Rule("labels of the flow run and its deployment", "on the Job, repaired", _is_label_of_run),
    Rule("an image that is null", "Prefect's own image, as if it were not set", _is_default_image),
    Rule("values with `{{ }}` in them", "never expanded again", _is_data),
)
