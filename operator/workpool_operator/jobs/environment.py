"""Merges the environment of a flow's container. Pure.

Its levels (template, pool, deployment, run) are merged by name. Each is a mapping of names to
values or a list of Kubernetes' EnvVars. The innermost level wins; outer variables keep their
position and new ones follow, because `$(NAME)` in a value refers to earlier variables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from workpool_operator.jobs import scalars

SIGTERM_BEHAVIOR = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"
_DOTTED = "env."
_FORMS = "expected a mapping of names to values, or a list of {name, value}"
_VALUES = "expected a string, a number, true, false, null, or a mapping with only valueFrom"

Entry = dict[str, Any]


class InvalidVariable(ValueError):
    """An environment or a value in it is invalid; `name` is the variable's, if known."""

    def __init__(self, problem: str, *, name: str = "") -> None:
        super().__init__(problem)
        self.name = name


def by_name(env: Any) -> dict[str, Any]:
    """Return the values by name: null unsets a variable, a mapping has its `valueFrom`.

    Raises:
        InvalidVariable: it is neither a mapping nor a list of EnvVars.
    """
    if env is None:
        return {}
    if isinstance(env, Mapping):
        return dict(env)
    if not isinstance(env, list):
        raise InvalidVariable(f"{_FORMS}, got {env!r:.80}")
    for index, entry in enumerate(env):
        if not (isinstance(entry, Mapping) and isinstance(entry.get("name"), str)):
            raise InvalidVariable(f"expected a name in each entry, got none in entry {index}")
    return {entry["name"]: _value(entry) for entry in env}


def merge_levels(levels: Iterable[Any]) -> dict[str, Any]:
    """Merge the variables by name; the last level is the innermost and wins.

    Raises:
        InvalidVariable: a level is not an environment.
    """
    found: dict[str, Any] = {}
    for level in levels:
        found |= by_name(level)
    return found


def validated(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables with plain values as strings.

    Raises:
        InvalidVariable: a value is neither plain nor a reference.
    """
    return {name: _checked(name, value) for name, value in variables.items()}


def to_env_vars(variables: Mapping[str, Any]) -> list[Entry]:
    """Return the variables as Kubernetes' EnvVars, without those that are null."""
    return [
        {"name": name, **(value if isinstance(value, Mapping) else {"value": value})}
        for name, value in variables.items()
        if value is not None
    ]


def collect_env(job_variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return one level's job variables with its whole environment in `env`, as a mapping: dotted
    keys (`env.NAME`) first, then those of `env`.

    Raises:
        InvalidVariable: `env` is not an environment.
    """
    env = job_variables.get("env")
    if isinstance(env, str):
        return dict(job_variables)  # a placeholder: a block gives all of it
    dotted = {
        key.removeprefix(_DOTTED): value
        for key, value in job_variables.items()
        if key.startswith(_DOTTED)
    }
    for name in dotted:
        if "." in name:
            raise InvalidVariable(
                "write a name with a dot as a key of env, not as a dotted key", name=name
            )
    rest = {k: v for k, v in job_variables.items() if k != "env" and not k.startswith(_DOTTED)}
    if env is None and not dotted:
        return rest
    return rest | {"env": dotted | by_name(env)}


def overlay(deployment: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Override a deployment's job variables with its run's; environments are merged.

    Raises:
        InvalidVariable: the `env` of one of them is not an environment.
    """
    outer, inner = collect_env(deployment), collect_env(run)
    levels = outer.get("env"), inner.get("env")
    if all(isinstance(level, Mapping) for level in levels):
        inner["env"] = merge_levels(levels)
    return outer | inner


def merge_run_environment(
    *,
    inherited: Iterable[Mapping[str, Any]],
    fixed: Iterable[Mapping[str, Any]] = (),
    run: Iterable[Mapping[str, Any]],
    unset: Collection[str],
    template: Any,
    reschedules: bool,
) -> list[Entry]:
    """Merge what the run inherits, except variables that are `unset`, what its binding `fixed`, its
    own, and then what the template's container has. The binding's win, then the run's own.
    `reschedules`: Kubernetes does not replace a stopped pod, so the run is scheduled again."""
    first = {str(e["name"]): dict(e) for e in fixed}
    below = [e for e in inherited if e["name"] not in unset]
    own = (e for e in run if e["name"] not in first)
    found = {str(e["name"]): dict(e) for e in (*below, *first.values(), *own)}
    _set_sigterm_behavior(found, reschedules=reschedules)
    rest = (e for e in as_list(template) if _is_kept(e, found))
    return [*found.values(), *map(_with_text, rest)]


def as_list(env: Any) -> list[Any]:
    """Return a container's environment as a list of EnvVars. A mapping of variables among the
    entries, which a placeholder can be, is replaced by its variables."""
    if isinstance(env, Mapping):
        return list(to_env_vars(env))
    if not isinstance(env, list):
        return []
    inside = (to_env_vars(item) if _is_mapping_form(item) else [item] for item in env)
    return [entry for each in inside for entry in each]


def _value(entry: Mapping[str, Any]) -> Any:
    given = {k: entry[k] for k in ("value", "valueFrom") if entry.get(k) not in (None, "")}
    return given if "valueFrom" in given else entry.get("value", "")


def _checked(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"valueFrom"} and isinstance(value["valueFrom"], Mapping):
            return dict(value)
        raise InvalidVariable(f"{_VALUES}, got a mapping with {_listed(value)}", name=name)
    if isinstance(value, list):
        raise InvalidVariable(f"{_VALUES}, got a list", name=name)
    return None if value is None else scalars.text(value)


def _listed(value: Mapping[str, Any]) -> str:
    """List the keys: unlike the values they are not secret."""
    return ", ".join(map(repr, sorted(map(str, value))[:3])) or "no keys"


def _is_mapping_form(item: Any) -> bool:
    if not isinstance(item, Mapping) or isinstance(item.get("name"), str):
        return False
    return not set(item) <= {"name", "value", "valueFrom"}


def _is_kept(entry: Any, found: Mapping[str, Any]) -> bool:
    """Return whether the template's entry is not overridden; null counts as not set."""
    if not isinstance(entry, Mapping):
        return True
    is_null = "value" in entry and entry["value"] is None and "valueFrom" not in entry
    return str(entry.get("name")) not in found and not is_null


def _with_text(entry: Any) -> Any:
    value = entry.get("value") if isinstance(entry, Mapping) else None
    plain = isinstance(value, bool | int | float)
    return {**entry, "value": scalars.text(value)} if plain else entry


def _set_sigterm_behavior(found: dict[str, Entry], *, reschedules: bool) -> None:
    """Set what a stopped pod does: reschedule its run, unless Kubernetes itself retries the pod."""
    if not reschedules:
        found[SIGTERM_BEHAVIOR] = {"name": SIGTERM_BEHAVIOR, "value": "relinquish"}
    elif not _is_set(found.get(SIGTERM_BEHAVIOR, {})):
        found[SIGTERM_BEHAVIOR] = {"name": SIGTERM_BEHAVIOR, "value": "reschedule"}


def _is_set(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("value") or entry.get("valueFrom"))
