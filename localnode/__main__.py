"""`python -m localnode up NAME` and `python -m localnode down NAME`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from localnode import debian
from localnode.builds import DEFAULT_KUBERNETES
from localnode.cache import Cache
from localnode.errors import SetupError
from localnode.layout import NAME, NAME_RULE
from localnode.node import LocalNode


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    cache = Cache(options.cache.absolute())
    up_command = f"python -m localnode up {options.name}"
    state = options.state.absolute() / options.name
    try:
        node = LocalNode(state, cache, up_command=up_command, kubernetes=options.kubernetes)
        if options.verb == "up":
            up(node, options.image)
        else:
            node.down()
    except SetupError as error:
        print(f"{options.verb} {options.name} failed: {error}", file=sys.stderr)
        return 1
    return 0


def up(node: LocalNode, images: Sequence[Path]) -> None:
    """Install what is missing, start the node and load the image archives."""
    if missing := debian.missing(debian.NODE):
        print(f"Debian packages to install: {' '.join(missing)}", flush=True)
        debian.install(missing, node.cache)
    node.up()
    for archive in images:
        node.load_image(archive)
    print(f"node {node.name} is up; look around with\n  {node.kubectl} get pods -A")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m localnode", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, summary in (("up", "start the node, or continue"), ("down", "remove the node")):
        command = verbs.add_parser(verb, help=summary)
        command.add_argument("name", type=_name)
        command.add_argument("--state", type=Path, default=_home("STATE", ".local/state"))
        command.add_argument("--cache", type=Path, default=_home("CACHE", ".cache"))
        command.add_argument("--kubernetes", default=DEFAULT_KUBERNETES, help="minor version")
        if verb == "up":
            command.add_argument("--image", type=Path, action="append", default=[], help="archive")
    return parser


def _name(given: str) -> str:
    if not NAME.fullmatch(given):
        raise argparse.ArgumentTypeError(f"{given!r} is not a valid name: {NAME_RULE}")
    return given


def _home(kind: str, default: str) -> Path:
    """Return the folder in which nodes, or programs, are kept unless an option names another."""
    return Path(os.environ.get(f"XDG_{kind}_HOME") or Path.home() / default) / "localnode"


if __name__ == "__main__":
    sys.exit(main())
