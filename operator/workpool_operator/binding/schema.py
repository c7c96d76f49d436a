"""What the fields of a `WorkPoolBinding` are built with: names as in Kubernetes, and CEL rules."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Part(BaseModel):
    """A group of fields, in camelCase outside and snake_case inside."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """One CEL rule; `message` says what is expected and what to do."""
    return {"rule": expression, "message": message, **more}


def matching(pattern: str, message: str) -> dict[str, str]:
    """Like `pattern` of a schema, whose refusal only cites the regular expression."""
    return rule(f"self.matches(r'{pattern}')", message)


def rules(*validations: dict[str, str]) -> dict[str, Any]:
    return {"x-kubernetes-validations": list(validations)}
