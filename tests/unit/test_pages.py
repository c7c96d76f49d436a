"""What README and docs/ have their readers type: each block of commands says which test runs or
checks it, or why none does; our own program has the commands and options, and the CRD the fields,
that the pages use.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from typing import Any

import pytest
import typer
import yaml

from testbed.state import CHECKOUT
from tests.support.pages import PAGES, Block, blocks, commands, typed
from workpool_operator.api import crd
from workpool_operator.api.v1alpha1 import API_VERSION, KIND
from workpool_operator.cli import app, binding_check

BLOCKS = [block for page in PAGES for block in blocks(page)]
SCHEMA = crd.schema()["properties"]["spec"]
PROGRAM: Any = typer.main.get_command(app)


def name(block: Block) -> str:
    return f"{block.page}: {block.heading}"


def test_each_block_of_commands_is_marked() -> None:
    assert len(BLOCKS) > 30
    assert [name(block) for block in BLOCKS if not block.mark] == []


@pytest.mark.parametrize("block", BLOCKS, ids=name)
def test_a_mark_names_a_test_of_the_block_or_a_reason(block: Block) -> None:
    if test := re.fullmatch(r"(run|checked) by (tests/\S+\.py)", block.mark):
        text = (CHECKOUT / test[2]).read_text()
        assert f'"{block.page}"' in text or "in PAGES" in text
        assert test[1] == "checked" or f'"{block.heading}"' in text
    else:
        assert re.fullmatch(r"not run: .{10,}", block.mark), block.mark


def test_what_is_marked_as_not_run_is_not_typed() -> None:
    assert [text.splitlines()[0] for text in typed("docs/quickstart.md", "With kind")] == [
        "kubectl apply -k manifests/quickstart"
    ]


@pytest.mark.parametrize("page", PAGES)
def test_our_program_has_the_options_that_a_page_uses(page: str) -> None:
    for command in commands(page, "workpool-operator"):
        first, *arguments = shlex.split(command)[1:]
        if not first.startswith("--"):
            assert first in PROGRAM.commands, command
            named = PROGRAM.commands[first]
            named.make_parser(named.context_class(named)).parse_args(arguments)


def test_the_targets_of_make_that_pages_name_exist() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    lines = re.findall(r"^(.*?):.*##|^checks = (.*)$", makefile, re.M)
    targets = {name for line in lines for name in " ".join(line).split()}
    texts = [(CHECKOUT / page).read_text() for page in (*PAGES, "CONTRIBUTING.md")]
    named = {name for text in texts for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.M)}
    assert {"check", "docs"} <= named
    assert named - targets == set()


def specs(page: str) -> list[Any]:
    """The specs of bindings in the YAML of a page, also as values of the chart."""
    text = (CHECKOUT / page).read_text()
    found = re.findall(r"^( *)```yaml\n(.*?)^ *```|<<EOF\n(.*?)^EOF$", text, re.M | re.S)
    documents = [
        document
        for _, block, typed in found
        for document in yaml.safe_load_all(textwrap.dedent(block or typed))
        if isinstance(document, dict)
    ]
    bound = [each for document in documents for each in document.get("bindings", [document])]
    return [
        each["spec"]
        for each in bound
        if "spec" in each and each.get("kind", "WorkPoolBinding") == "WorkPoolBinding"
    ]


def unknown(value: Any, schema: Any, path: str) -> list[str]:
    if isinstance(value, list):
        return [each for item in value for each in unknown(item, schema.get("items", {}), path)]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    fields = schema["properties"]
    return [
        wrong
        for name, inner in value.items()
        for wrong in (
            unknown(inner, fields[name], f"{path}.{name}") if name in fields else [f"{path}.{name}"]
        )
    ]


@pytest.mark.parametrize("page", PAGES)
def test_a_binding_that_a_page_shows_has_only_fields_that_exist(page: str) -> None:
    assert [wrong for spec in specs(page) for wrong in unknown(spec, SCHEMA, "spec")] == []


def wishes() -> list[str]:
    """What docs/bindings.md shows as parts of a spec."""
    rows = re.findall(r"^\| [^|`]*? \| (.*?) \|", (CHECKOUT / "docs/bindings.md").read_text(), re.M)
    codes = [code for row in rows for code in re.findall(r"`(.*?)`", row)]
    return [code for code in codes if re.match(r"[a-zA-Z]+: ", code)]


@pytest.mark.parametrize("wish", wishes())
def test_each_part_of_a_spec_that_expresses_a_wish_makes_a_valid_binding(wish: str) -> None:
    smallest: dict[str, Any] = {
        "workPool": {"name": "etl"},
        "server": {"url": "http://prefect.prefect.svc:4200/api"},
    }
    spec = smallest | yaml.safe_load(wish)
    if "clientCertificate" in wish:
        spec["jobs"] = {"serverURL": smallest["server"]["url"]}
    binding = {"apiVersion": API_VERSION, "kind": KIND, "spec": spec}
    binding["metadata"] = {"name": "etl", "namespace": "data"}
    found = binding_check.check(binding)
    assert [each for each in found if each.severity == "error"] == []


def test_the_bindings_of_pages_are_found_and_a_wrong_field_is_noticed() -> None:
    assert sum(len(specs(page)) for page in PAGES) >= 15
    assert unknown({"jobs": {"env": [{"nam": "A"}]}}, SCHEMA, "spec") == ["spec.jobs.env.nam"]
