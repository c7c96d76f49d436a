"""The environment of a flow's container. Pure.

Its levels (template, pool, deployment, run) are merged by name, in whichever of two forms each is:
a mapping of names to values, or Kubernetes' list of EnvVars. The innermost level wins; outer
variables keep their place and new ones follow, because `$(NAME)` in a value refers to variables
before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from workpool_operator.jobs import scalars

SIGTERM_BEHAVIOR = "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"
_DOTTED = "env."
_FORMS = "expected a mapping of names to values, or a list of {name, value} as in Kubernetes"
_VALUES = "expected text, a number, true, false, null, or a mapping with valueFrom alone"

Entry = dict[str, Any]


class InvalidVariable(ValueError):
    """What is no environment, or no value of one: `name` is the variable's, "" without one."""

    def __init__(self, problem: str, *, name: str = "") -> None:
        super().__init__(problem)
        self.name = name


def by_name(env: Any) -> dict[str, Any]:
    """The values by name: null unsets, a mapping with `valueFrom` refers.

    Raises:
        Misfit: it has neither of the two forms.
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
    """The levels' variables by name, the innermost level being the last.

    Raises:
        Misfit: one of them is no environment.
    """
    found: dict[str, Any] = {}
    for level in levels:
        found |= by_name(level)
    return found


def validated(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables, plain values as text.

    Raises:
        Misfit: a value is neither plain nor a reference.
    """
    return {name: _checked(name, value) for name, value in variables.items()}


def to_env_vars(variables: Mapping[str, Any]) -> list[Entry]:
    """The variables as Kubernetes' EnvVars; those that are null are left out."""
    return [
        {"name": name, **(value if isinstance(value, Mapping) else {"value": value})}
        for name, value in variables.items()
        if value is not None
    ]


def collect_env(job_variables: Mapping[str, Any]) -> dict[str, Any]:
    """The job variables of one level with all of its environment in `env`, as a mapping: what
    dotted keys (`env.NAME`) say, then what `env` says.

    Raises:
        Misfit: `env` is no environment.
    """
    env = job_variables.get("env")
    if isinstance(env, str):
        return dict(job_variables)  # all of it from a block
    dotted = {
        key.removeprefix(_DOTTED): value
        for key, value in job_variables.items()
        if key.startswith(_DOTTED)
    }
    for name in dotted:
        if "." in name:
            raise InvalidVariable("a name with a dot has to be a key of env itself", name=name)
    rest = {k: v for k, v in job_variables.items() if k != "env" and not k.startswith(_DOTTED)}
    if env is None and not dotted:
        return rest
    return rest | {"env": dotted | by_name(env)}


def overlay(deployment: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The job variables of a deployment overlaid by those of its run; environments are merged.

    Raises:
        Misfit: one of the two has an `env` that is no environment.
    """
    outer, inner = collect_env(deployment), collect_env(run)
    levels = outer.get("env"), inner.get("env")
    if all(isinstance(level, Mapping) for level in levels):
        inner["env"] = merge_levels(levels)
    return outer | inner


def merge_run_environment(
    *,
    inherited: Iterable[Mapping[str, Any]],
    run: Iterable[Mapping[str, Any]],
    unset: Collection[str],
    template: Any,
    reschedules: bool,
) -> list[Entry]:
    """What the run inherits, but for what its user unset; the run's own and the user's, who wins;
    then what the template fixed. `reschedules` says that a stopped pod is not started again by
    Kubernetes."""
    below = (e for e in inherited if e["name"] not in unset)
    found = {str(e["name"]): dict(e) for e in (*below, *run)}
    _set_sigterm_behavior(found, reschedules=reschedules)
    fixed = (e for e in as_list(template) if _is_left(e, found))
    return [*found.values(), *map(_with_text, fixed)]


def as_list(env: Any) -> list[Any]:
    """A container's environment as the list that Kubernetes takes. A mapping of variables among its
    entries, for which a placeholder may stand, is taken for what it holds."""
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
    """The keys, which are no secrets, unlike what they hold."""
    return ", ".join(map(repr, sorted(map(str, value))[:3])) or "nothing in it"


def _is_mapping_form(item: Any) -> bool:
    if not isinstance(item, Mapping) or isinstance(item.get("name"), str):
        return False
    return not set(item) <= {"name", "value", "valueFrom"}


def _is_left(entry: Any, found: Mapping[str, Any]) -> bool:
    """A null stands for a variable that is not set."""
    if not isinstance(entry, Mapping):
        return True
    is_null = "value" in entry and entry["value"] is None and "valueFrom" not in entry
    return str(entry.get("name")) not in found and not is_null


def _with_text(entry: Any) -> Any:
    value = entry.get("value") if isinstance(entry, Mapping) else None
    plain = isinstance(value, bool | int | float)
    return {**entry, "value": scalars.text(value)} if plain else entry


def _set_sigterm_behavior(found: dict[str, Entry], *, reschedules: bool) -> None:
    """Without Kubernetes' own retries a stopped pod reschedules its run, else it leaves it."""
    if not reschedules:
        found[SIGTERM_BEHAVIOR] = {"name": SIGTERM_BEHAVIOR, "value": "relinquish"}
    elif not _is_set(found.get(SIGTERM_BEHAVIOR, {})):
        found[SIGTERM_BEHAVIOR] = {"name": SIGTERM_BEHAVIOR, "value": "reschedule"}


def _is_set(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("value") or entry.get("valueFrom"))
