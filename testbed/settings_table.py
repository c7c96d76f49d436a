"""The settings of the process, as `settings.py` describes them: the table in docs/settings.md."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator

from pydantic_core import PydanticUndefined

from workpool_operator import settings

HEAD = """\
| variable | default | meaning |
|---|---|---|
"""


def table() -> str:
    """Return the settings as a Markdown table."""
    rows = (
        f"| `{settings.ENV_PREFIX}{name.upper()}` | {_default(name)} | {meaning} |\n"
        for name, meaning in _described()
    )
    return HEAD + "".join(rows)


def _described() -> Iterator[tuple[str, str]]:
    """Yield each setting with its docstring, on one line."""
    (definition,) = ast.parse(inspect.getsource(settings.Settings)).body
    assert isinstance(definition, ast.ClassDef)
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(meaning))):
                yield name, " ".join(meaning.split())


def _default(name: str) -> str:
    default = settings.Settings.model_fields[name].default
    if default is PydanticUndefined or default in (None, "", frozenset()):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"
