"""YAML and JSON files as a person wrote them: values, and the line and column of each.

Reads only; knows nothing of what a document means. Anchors and merge keys work as in YAML 1.1,
which is what kubectl reads, but times and dates stay text, as in Kubernetes.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import yaml

from workpool_operator.errors import OperatorError
from workpool_operator.jobs.field_errors import Path

STDIN = "-"
MAX_VALUES = 500_000  # anchors within anchors may stand for more than any memory holds
MAX_DEPTH = 200
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it is there
_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_SUFFIXES = (".yaml", ".yml", ".json")
_MAY_BE_JSON = re.compile(r"\s*[{\[]")
_SURE_TO_BE_JSON = re.compile(r'\s*(\{\s*"|\[\s*[{\["])')
# What Go's templates have and the placeholders of a base job template have not.
_HELM = re.compile(
    r"\{\{-?\s*(\$?\.(Values|Release|Chart|Capabilities|Files|Template)\b|\$\w*\s*:?=|/\*"
    r"|(if|else|end|range|with|define|block|include|template|tpl|toYaml)\b)"
)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where something is in a file; both count from 1."""

    line: int = 1
    column: int = 1


class UnreadableFile(OperatorError):
    """A file holds no document; `problem` says why, at `position` if that is known."""

    def __init__(self, file: str, problem: str, *, spot: Position | None = None) -> None:
        place = f":{spot.line}:{spot.column}" if spot else ""
        super().__init__(f"{file}{place}: {problem}")
        self.file, self.problem, self.spot = file, problem, spot or Position()


class HelmTemplate(UnreadableFile):
    """A file that becomes YAML only when Helm renders it."""

    def __init__(self, file: str, *, spot: Position) -> None:
        problem = "looks like a Helm template: render it first (helm template)"
        super().__init__(file, problem, spot=spot)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, the place of each value in it, and the keys that it has twice."""

    file: str
    value: Any
    positions: Mapping[Path, Position] = field(default_factory=dict)
    repeated: tuple[tuple[Path, Position], ...] = ()

    def position(self, path: Path) -> Position:
        """Of the value, or of the nearest one around it that the file has."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, Position())


def read_documents(file: str) -> list[Document]:
    """The documents of a file, `-` being standard input; empty ones are left out.

    Raises:
        Unreadable: there is no such file, or it holds neither YAML nor JSON.
    """
    text = _text(file)
    try:
        found = list(_json(text, file) or parse_documents(text, file))
    except UnreadableFile as error:
        if helm := _HELM.search(text):
            raise HelmTemplate(file, spot=_position_at(text, helm.start())) from error
        raise
    return [document for document in found if document.value is not None]


def find_files(path: str) -> list[str]:
    """The files of YAML and JSON in a directory and those below it; hidden ones are left out.

    Raises:
        Unreadable: one of the directories cannot be read.
    """
    found: list[str] = []
    for folder, folders, names in os.walk(path, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = (name for name in sorted(names) if not name.startswith("."))
        found += [os.path.join(folder, name) for name in files if name.endswith(_SUFFIXES)]
    return found


def _refuse_folder(error: OSError) -> NoReturn:
    raise UnreadableFile(str(error.filename), f"cannot be read: {error.strerror}") from error


def _text(file: str) -> str:
    if not file:
        raise UnreadableFile("''", "is an empty name, perhaps of a variable that is not set")
    try:
        data = sys.stdin.buffer.read() if file == STDIN else pathlib.Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except IsADirectoryError as error:
        raise UnreadableFile(file, "is a directory; name a file in it") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(file, "is not text in UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UnreadableFile(
            file, f"cannot be read: {getattr(error, 'strerror', error)}"
        ) from error


def _json(text: str, name: str) -> list[Document]:
    """A file of JSON, with the places that YAML finds in it; none where it is not JSON.

    Raises:
        Unreadable: it is neither JSON nor YAML, but its author took it for JSON.
    """
    if not _MAY_BE_JSON.match(text):
        return []
    try:
        value = json.loads(text)
    except RecursionError:
        return []
    except json.JSONDecodeError as error:
        if name.endswith(".json") or _SURE_TO_BE_JSON.match(text):
            _refuse_json(text, name, error)
        return []
    try:  # JSON has no tab but between values, where YAML would not have one
        [document] = parse_documents(text.replace("\t", " "), name)
    except (UnreadableFile, ValueError):  # what only JSON can say: it is valid all the same
        return [Document(name, value)]
    return [Document(name, value, document.positions, document.repeated)]


def _refuse_json(text: str, name: str, error: json.JSONDecodeError) -> None:
    """In JSON's words, unless YAML can read it."""
    try:
        for _ in parse_documents(text, name):
            pass
    except UnreadableFile as refusal:
        if refusal.spot == Position():  # not a matter of syntax
            raise
        problem = f"is not valid JSON: {error.msg[0].lower()}{error.msg[1:]}"
        raise UnreadableFile(name, problem, spot=Position(error.lineno, error.colno)) from error


def _position_at(text: str, index: int) -> Position:
    before = text[:index]
    return Position(before.count("\n") + 1, index - before.rfind("\n"))


def parse_documents(text: str, name: str) -> Iterator[Document]:
    """The documents of a text of YAML, under the name of a file."""
    try:
        _refuse_depth(text)
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            repeated = tuple(_repeated(node))
            value = loader.construct_document(node)
            yield Document(name, value, _positions(node), repeated)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableFile(
            name, _problem(error), spot=_position(mark) if mark else None
        ) from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UnreadableFile(name, " ".join(str(error).split())) from error
    except RecursionError as error:
        raise UnreadableFile(name, "is nested too deeply") from error


def _refuse_depth(text: str) -> None:
    """Before libyaml recurses into the text: it ends the process where its stack ends."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise RecursionError


class _Loader(_BASE):  # type: ignore[misc]
    """Safe, and without dates: Kubernetes has none."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _positions(root: yaml.Node) -> dict[Path, Position]:
    """The place of each value; in a mapping, the place of its key."""
    spots: dict[Path, Position] = {}
    waiting: list[tuple[Path, yaml.Node, yaml.Node]] = [((), root, root)]
    while waiting:
        path, where, node = waiting.pop()
        spots.setdefault(path, _position(where.start_mark))  # the last of two comes first here
        if len(spots) > MAX_VALUES:
            raise ValueError(f"its anchors stand for more than {MAX_VALUES} values")
        for key, place, child in _children(node):
            waiting.append(((*path, key), place, child))
    return spots


def _children(node: yaml.Node) -> Iterator[tuple[str | int, yaml.Node, yaml.Node]]:
    """Key, the node that shows where it is, and its value."""
    if isinstance(node, yaml.SequenceNode):
        yield from ((index, item, item) for index, item in enumerate(node.value))
    elif isinstance(node, yaml.MappingNode):  # what it merges comes first: its own keys win
        yield from ((str(key.value), key, value) for key, value in node.value)


def _repeated(root: yaml.Node) -> list[tuple[Path, Position]]:
    """Keys that a mapping has twice: kubectl refuses them, PyYAML takes the last."""
    found: list[tuple[Path, Position]] = []
    around: set[int] = set()
    done: set[int] = set()  # what anchors repeat is looked at once

    def visit(node: yaml.Node, path: Path) -> None:
        if id(node) in around:
            raise ValueError("an anchor holds itself")
        if id(node) in done:
            return
        around.add(id(node))
        seen: set[str | int] = set()
        for key, place, child in _children(node):
            if key in seen and place.tag != _MERGE:
                found.append(((*path, key), _position(place.start_mark)))
            seen.add(key)
            visit(child, (*path, key))
        around.remove(id(node))
        done.add(id(node))

    visit(root, ())
    return found


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _problem(error: yaml.MarkedYAMLError) -> str:
    if error.problem == "found unhashable key":
        return "has a mapping or a list as a key: a key must be text"
    found = " ".join(part for part in (error.context, error.problem) if part)
    return f"is neither YAML nor JSON: {found}"
