"""The commands of README and docs/: each block says which test runs or checks it, or why none
does; and our own program has the commands and options that they use."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer

from testbed.state import CHECKOUT
from tests.support.pages import PAGES, Block, blocks, typed
from workpool_operator.cli import app

BLOCKS = [block for page in PAGES for block in blocks(page)]
PROGRAM: Any = typer.main.get_command(app)
#: The program's name, and its arguments up to the end of the command, in text or in a block.
OURS = re.compile(r"(?:^|[`|>$] ?)workpool-operator ((?:[a-z]|--version|--install)[^`|\n]*)", re.M)


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


def commands(page: str) -> list[str]:
    text = re.sub(r"\\\n *", "", (CHECKOUT / page).read_text())
    text = re.sub(r"(?<=`)([^`\n]*)\n *([^`\n]*)(?=`)", r"\1 \2", text)  # broken in two lines
    return [found.partition(" #")[0] for found in OURS.findall(text)]


@pytest.mark.parametrize("page", PAGES)
def test_our_program_has_the_options_that_a_page_uses(page: str) -> None:
    for command in commands(page):
        first, *arguments = shlex.split(command.replace("...", ""))
        if not first.startswith("--"):
            assert first in PROGRAM.commands, command
            named = PROGRAM.commands[first]
            named.make_parser(named.context_class(named)).parse_args(arguments)
