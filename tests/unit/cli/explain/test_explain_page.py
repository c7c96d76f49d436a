"""docs/commands.md names each reason that explain can give."""

from __future__ import annotations

import re

from testbed.state import CHECKOUT

SOURCES = CHECKOUT / "operator" / "workpool_operator" / "cli" / "explain"


def test_the_page_on_commands_has_each_reason_and_no_other() -> None:
    page = (CHECKOUT / "docs" / "commands.md").read_text()
    section = page.partition("\n## explain: ")[2].partition("\n## ")[0]
    table = section.partition("| reason | the run |")[2]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    named = {word for row in rows for word in re.findall(r"`(\w+)`", row.split("|")[1])}
    text = "".join(file.read_text() for file in SOURCES.glob("*.py"))
    given = set(re.findall(r"\breason=\"(\w+)\"", text))
    given |= set(re.findall(r" if job.ended else \"(\w+)\"", text))
    given |= set(re.findall(r"_full\(\"(\w+)\"", text))
    assert named == given
