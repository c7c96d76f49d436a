"""Files and texts are read with the position of each value; an error is one line."""

from __future__ import annotations

import itertools
import json

import pytest

from workpool_operator.jobs import documents
from workpool_operator.jobs.documents import Position, UnreadableFile


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes):
        path = tmp_path / "file"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return documents.read_documents(str(path))

    return read


def test_each_document_of_a_file_has_the_positions_of_its_values(read):
    first, second = read("a:\n  b: [1, 2]\n---\n# nothing\n---\n- c\n")
    assert (first.value, second.value) == ({"a": {"b": [1, 2]}}, ["c"])
    assert first.position(("a", "b")) == Position(2, 3)
    assert first.position(("a", "b", 1)) == Position(2, 10)
    assert second.position((0,)) == Position(6, 3)


def test_a_missing_value_has_the_position_of_its_nearest_parent(read):
    [document] = read("a:\n  b: 1\n")
    assert document.position(("a", "c", 0)) == Position(1, 1)
    assert document.position(("x",)) == Position(1, 1)


def test_anchors_and_merge_keys_are_followed_and_own_keys_win(read):
    [document] = read("base: &base {image: a, cpu: 1}\nmine:\n  <<: *base\n  cpu: 2\n")
    assert document.value["mine"] == {"image": "a", "cpu": 2}
    assert document.position(("mine", "cpu")) == Position(4, 3)
    assert document.position(("mine", "image")) == Position(1, 14)
    assert document.repeated == ()


def test_a_duplicate_key_is_found(read):
    [document] = read("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert document.repeated == ((("b", "c"), Position(2, 11)), (("a",), Position(3, 1)))


def test_json_has_positions_too_even_with_tabs_and_surrogate_pairs(read):
    [document] = read('{\n\t"a": {"b": "x\\ty", "c": "\\ud83d\\ude00"}}')
    assert document.value == {"a": {"b": "x\ty", "c": "\N{GRINNING FACE}"}}
    [document] = read('{\n\t"a":\t{"b": 1}}')
    assert document.position(("a", "b")) == Position(2, 8)


def test_dates_stay_strings_as_in_kubernetes(read):
    [document] = read("when: 2026-01-01\nat: 2026-01-01T10:00:00Z\n")
    assert document.value == {"when": "2026-01-01", "at": "2026-01-01T10:00:00Z"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {b", ":2:1: is not valid YAML or JSON: while parsing a flow mapping"),
        ("a: *undefined", ":1:4: is not valid YAML or JSON: found undefined alias"),
        ("a:\n\t- b", ":2:1: is not valid YAML or JSON: while scanning"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
        ("? [1]\n: 2", "keys must be strings"),
        ('{"a": 1,, "b": 2}', ":1:9: is not valid JSON: expecting property name enclosed"),
        ('{\n  "a": [1 2]\n', ":2:11: is not valid JSON: expecting ',' delimiter"),
        ('[{"a": 1}', ":1:10: is not valid JSON: expecting ',' delimiter"),
        ("kind: {{ .Values.kind }}\n", ":1:7: looks like a Helm template: render it first"),
        ("a: 1\n{{- if .Values.on }}\nb: 2\n{{- end }}", ":2:1: looks like a Helm template"),
        ('{{ include "x" . | nindent 4 }}', ":1:1: looks like a Helm template"),
        ("{{ image }}: {", "is not valid YAML or JSON"),
        ("a: &x [*x]", ": an anchor contains itself"),
        # PyYAML itself has a limit since 6.0.4: "exceeded maximum nesting depth".
        pytest.param("[" * 100_000, "nest", id="too many levels"),
        (b"\xff\xfe\x00", ": is not UTF-8 text"),
        ("\x00", "control characters are not allowed"),
    ],
)
def test_an_invalid_document_is_an_error_in_one_line(read, text, problem):
    with pytest.raises(UnreadableFile) as refusal:
        read(text)
    assert problem in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_nested_anchors_are_refused_before_they_fill_the_memory(read):
    names = "abcdefghi"
    rows = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise(names)]
    with pytest.raises(UnreadableFile, match="expand to more than"):
        read("\n".join(["a: &a [x]", *rows]))


def test_a_megabyte_is_read(read):
    big = {f"key-{number}": {"value": ["x" * 50] * 3} for number in range(6000)}
    text = json.dumps(big, indent=1)
    assert len(text) > 1_000_000
    [document] = read(text)
    assert document.value == big
    assert document.position(("key-1", "value", 2)).line == 13


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere/file", "cannot be read: No such file"),
        (".", "is a directory: name a file in it"),
        ("a\0b", "cannot be read: embedded null"),
        ("", "the file name is empty: is a shell variable unset"),
    ],
)
def test_a_path_that_is_not_a_file_is_an_error(path, problem):
    with pytest.raises(UnreadableFile, match=problem):
        documents.read_documents(path)


def test_a_directory_is_searched_for_yaml_and_json_but_not_for_hidden_files(tmp_path):
    for name in ("b.yaml", "a/c.yml", "a/d.json", "a/README.md", ".git/e.yaml", ".f.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a: 1")
    (tmp_path / "a" / "itself").symlink_to(tmp_path)
    found = [path.removeprefix(f"{tmp_path}/") for path in documents.find_files(str(tmp_path))]
    assert found == ["b.yaml", "a/c.yml", "a/d.json"]


def test_a_directory_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UnreadableFile, match="gone: cannot be read: No such file"):
        documents.find_files(str(tmp_path / "gone"))
