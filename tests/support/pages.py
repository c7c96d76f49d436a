"""What the pages of the documentation have their readers type.

The line above each block of commands says which test runs it word by word, or at least checks what
it would do, or why none does: `<!-- run by tests/e2e/test_quickstart.py -->`, `<!-- checked by
tests/contract/test_readme.py -->`, `<!-- not run: needs Docker -->`.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from testbed.state import CHECKOUT

PAGES = (
    "README.md",
    *sorted(str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("docs/*.md")),
)
_PART = re.compile(
    r"^#+ (?P<heading>[^\n]+)$"
    r"|(?:^ *<!-- (?P<mark>(?:run by|checked by|not run:)[^\n]*) -->\n)?"
    r"^ *```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)

_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of commands under a heading. `mark` is "" if no line above it is one."""

    page: str
    heading: str
    mark: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the page's blocks of shell commands."""
    found, heading = [], ""
    for part in _PART.finditer((CHECKOUT / page).read_text()):
        if part["heading"]:
            heading = part["heading"]
        elif part["language"] in {"sh", "bash", "shell", "console"}:
            found.append(Block(page, heading, part["mark"] or "", textwrap.dedent(part["text"])))
    return found


def typed(page: str, heading: str) -> list[str]:
    """Return the blocks under a heading that a test runs or checks."""
    return [
        block.text
        for block in blocks(page)
        if block.heading == heading and not block.mark.startswith("not run:")
    ]


def commands(page: str, program: str) -> list[str]:
    """Return the commands of a program in the page's blocks, sessions and sentences, each with the
    program's name and up to a pipe, a redirection or a comment."""
    text = (CHECKOUT / page).read_text().replace("\\\n", " ")
    fenced = "\n".join(_FENCE.findall(text))
    lines = re.findall(rf"(?:^ *(?:\$ )?|\| )({program} .*)$", fenced, re.MULTILINE)
    named = re.findall(rf"`(?:[^`|]*\| )?({program} [^`]*)`", _FENCE.sub("", text))
    return [" ".join(re.split(r" [|>#<&]", command)[0].split()) for command in (*lines, *named)]
