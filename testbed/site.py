"""Hooks of mkdocs, which builds the documentation's site from docs/ as a forge shows it.

A link to a file outside docs/ becomes one to the site's page of that file, or to the forge.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

CHECKOUT = Path(__file__).resolve().parents[1]
FORGE = "https://github.com/workpool-operator/workpool-operator"
#: The pages of the site that are not in docs/.
ELSEWHERE = (
    "charts/workpool-operator/README.md",
    "examples/README.md",
    "benchmarks/README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
DECISIONS = "decisions/index.md"
#: What tests/support/pages.py reads above a block of commands. It is a comment on the forge.
_MARK = re.compile(r"<!-- (run by|checked by|not run:) (.*) -->")
_SHOWN = {"run by": "Run by", "checked by": "Checked by", "not run:": "Not run by a test:"}
#: A page by its name: the chart's README is also shown where a relative link would not work.
_NAMED = re.compile(r"(?<!\]\()(?<![\w/`\[])docs/[\w-]+\.md")
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^()\s#]+)(?=[#)])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/, and the list of the decisions."""
    for page in ELSEWHERE:
        files.append(File.generated(config, page, abs_src_path=str(CHECKOUT / page)))
    files.append(File.generated(config, DECISIONS, content=_decisions()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with links that lead to a page of the site, or to the forge, and with a line
    above each block of commands that says how it is tested."""
    name = page.file.src_uri
    folder = posixpath.dirname(name if name in ELSEWHERE else f"docs/{name}")
    if name in ELSEWHERE:
        up = posixpath.relpath(".", folder or ".")
        markdown = _NAMED.sub(rf"[\g<0>]({up}/\g<0>)", markdown)
    tested = _MARK.sub(_caption, markdown)
    return _LINK.sub(lambda link: _target(name, folder, link[1]), tested)


def _target(page: str, folder: str, link: str) -> str:
    """Return the link of a page, whose file is in the folder, as the site needs it."""
    path = posixpath.normpath(posixpath.join(folder, link))
    if path == "docs/decisions":
        path = f"docs/{DECISIONS}"
    if path in ELSEWHERE or path.startswith("docs/"):
        return posixpath.relpath(path.removeprefix("docs/"), posixpath.dirname(page) or ".")
    kind = "tree" if (CHECKOUT / path).is_dir() else "blob"
    return f"{FORGE}/{kind}/main/{path}"


def _caption(mark: re.Match[str]) -> str:
    link = rf'<a href="{FORGE}/blob/main/\g<0>">\g<0></a>'
    how = re.sub(r"tests/\S+\.py", link, mark[2])
    return f"<small>{_SHOWN[mark[1]]} {how}</small>\n"


def _decisions() -> str:
    """Return a page that lists the decisions by their titles."""
    rows = []
    for file in sorted((CHECKOUT / "docs" / "decisions").glob("*.md")):
        title = file.read_text().partition("\n")[0].lstrip("# ")
        rows.append(f"- [{title}]({file.name})\n")
    return "# Decisions\n\nWhat was decided, and why.\n\n" + "".join(rows)
