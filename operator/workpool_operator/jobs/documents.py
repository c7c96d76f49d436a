"""Reads YAML and JSON: the values, and the line and column of each.

Does not interpret what it reads. Anchors and merge keys work as in YAML 1.1, which kubectl reads.
Times and dates stay strings, as in Kubernetes.
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
MAX_VALUES = 500_000  # nested anchors can expand to more than fits into memory
MAX_DEPTH = 200
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, if installed, is 10x faster
_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_SUFFIXES = (".yaml", ".yml", ".json")
_MAY_BE_JSON = re.compile(r"\s*[{\[]")
_SURE_TO_BE_JSON = re.compile(r'\s*(\{\s*"|\[\s*[{\["])')
# Go template syntax that is never a placeholder of a base job template.
_HELM = re.compile(
    r"\{\{-?\s*(\$?\.(Values|Release|Chart|Capabilities|Files|Template)\b|\$\w*\s*:?=|/\*"
    r"|(if|else|end|range|with|define|block|include|template|tpl|toYaml)\b)"
)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; both numbers count from 1."""

    line: int = 1
    column: int = 1


class UnreadableFile(OperatorError):
    """A file cannot be used; `problem` says why, `position` where (default: at its start)."""

    def __init__(self, file: str, problem: str, *, position: Position | None = None) -> None:
        place = f":{position.line}:{position.column}" if position else ""
        super().__init__(f"{file}{place}: {problem}")
        self.file, self.problem, self.position = file, problem, position or Position()


class HelmTemplate(UnreadableFile):
    """A file is a Helm template, and is YAML only after Helm has rendered it."""

    def __init__(self, file: str, *, position: Position) -> None:
        problem = "looks like a Helm template: render it first (helm template)"
        super().__init__(file, problem, position=position)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, the position of each value, and duplicate keys."""

    file: str
    value: Any
    positions: Mapping[Path, Position] = field(default_factory=dict)
    repeated: tuple[tuple[Path, Position], ...] = ()

    def position(self, path: Path) -> Position:
        """Return the position of the value, or of the nearest parent that the file has."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, Position())


def read_documents(file: str) -> list[Document]:
    """Return the documents of a file (`-`: standard input) without the empty ones.

    Raises:
        UnreadableFile: the file does not exist, or is not valid YAML or JSON.
    """
    return parse(_text(file), file)


def parse(text: str, name: str) -> list[Document]:
    """Return the documents of a text without the empty ones; errors name it `name`.

    Raises:
        UnreadableFile: it is not valid YAML or JSON.
    """
    try:
        found = list(_json(text, name) or parse_documents(text, name))
    except UnreadableFile as error:
        if helm := _HELM.search(text):
            raise HelmTemplate(name, position=_position_at(text, helm.start())) from error
        raise
    return [document for document in found if document.value is not None]


def find_files(path: str) -> list[str]:
    """Return the YAML and JSON files in a directory, recursively, without hidden ones.

    Raises:
        UnreadableFile: one of the directories cannot be read.
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
        raise UnreadableFile("''", "the file name is empty: is a shell variable unset?")
    try:
        data = sys.stdin.buffer.read() if file == STDIN else pathlib.Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except IsADirectoryError as error:
        raise UnreadableFile(file, "is a directory: name a file in it") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(file, "is not UTF-8 text") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UnreadableFile(
            file, f"cannot be read: {getattr(error, 'strerror', error)}"
        ) from error


def _json(text: str, name: str) -> list[Document]:
    """Return the document of a JSON file, with the positions that YAML finds; [] for other files.

    Raises:
        UnreadableFile: the text is meant to be JSON, and is neither valid JSON nor valid YAML.
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
    try:  # JSON allows a tab only between values, where YAML does not
        [document] = parse_documents(text.replace("\t", " "), name)
    except (UnreadableFile, ValueError):  # valid JSON that is not YAML has no positions
        return [Document(name, value)]
    return [Document(name, value, document.positions, document.repeated)]


def _refuse_json(text: str, name: str, error: json.JSONDecodeError) -> None:
    """Raise JSON's error, unless the text is valid YAML."""
    try:
        for _ in parse_documents(text, name):
            pass
    except UnreadableFile as refusal:
        if refusal.position == Position():  # not a syntax error
            raise
        problem = f"is not valid JSON: {error.msg[0].lower()}{error.msg[1:]}"
        raise UnreadableFile(name, problem, position=Position(error.lineno, error.colno)) from error


def _position_at(text: str, index: int) -> Position:
    before = text[:index]
    return Position(before.count("\n") + 1, index - before.rfind("\n"))


def parse_documents(text: str, name: str) -> Iterator[Document]:
    """Yield the documents of a YAML text; errors name the file `name`."""
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
            name, _problem(error), position=_position(mark) if mark else None
        ) from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UnreadableFile(name, " ".join(str(error).split())) from error
    except RecursionError as error:
        raise UnreadableFile(name, "is nested too deeply") from error


def _refuse_depth(text: str) -> None:
    """Refuse deep nesting before libyaml recurses into it: its stack overflow ends the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise RecursionError


class _Loader(_BASE):  # type: ignore[misc]
    """Loads only plain values, and leaves dates as strings."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _positions(root: yaml.Node) -> dict[Path, Position]:
    """Return the position of each value; in a mapping, of its key."""
    found: dict[Path, Position] = {}
    waiting: list[tuple[Path, yaml.Node, yaml.Node]] = [((), root, root)]
    while waiting:
        path, where, node = waiting.pop()
        found.setdefault(path, _position(where.start_mark))  # of duplicates, the last comes first
        if len(found) > MAX_VALUES:
            raise ValueError(f"its anchors expand to more than {MAX_VALUES} values")
        for key, place, child in _children(node):
            waiting.append(((*path, key), place, child))
    return found


def _children(node: yaml.Node) -> Iterator[tuple[str | int, yaml.Node, yaml.Node]]:
    """Yield each key, the node that marks its position, and its value."""
    if isinstance(node, yaml.SequenceNode):
        yield from ((index, item, item) for index, item in enumerate(node.value))
    elif isinstance(node, yaml.MappingNode):  # merged keys come first, so that its own keys win
        yield from ((str(key.value), key, value) for key, value in node.value)


def _repeated(root: yaml.Node) -> list[tuple[Path, Position]]:
    """Return duplicate keys: kubectl refuses them, PyYAML takes the last."""
    found: list[tuple[Path, Position]] = []
    parents: set[int] = set()
    done: set[int] = set()  # anchors repeat nodes

    def visit(node: yaml.Node, path: Path) -> None:
        if id(node) in parents:
            raise ValueError("an anchor contains itself")
        if id(node) in done:
            return
        parents.add(id(node))
        seen: set[str | int] = set()
        for key, place, child in _children(node):
            if key in seen and place.tag != _MERGE:
                found.append(((*path, key), _position(place.start_mark)))
            seen.add(key)
            visit(child, (*path, key))
        parents.remove(id(node))
        done.add(id(node))

    visit(root, ())
    return found


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _problem(error: yaml.MarkedYAMLError) -> str:
    if error.problem == "found unhashable key":
        return "a key is a mapping or a list: keys must be strings"
    found = " ".join(part for part in (error.context, error.problem) if part)
    return f"is not valid YAML or JSON: {found}"
