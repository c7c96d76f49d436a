"""What a page of the documentation has its reader type."""

from __future__ import annotations

import re

from testbed.state import CHECKOUT


def typed(page: str, section: str) -> list[str]:
    """Return the blocks of shell commands in a section of a page."""
    text = (CHECKOUT / page).read_text()
    found = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", found, re.MULTILINE | re.DOTALL)
