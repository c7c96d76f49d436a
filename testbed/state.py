"""Where a checkout keeps what it runs, which `down` removes, and what it builds, which stays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from localnode.cache import Cache
from localnode.errors import SetupError
from localnode.layout import NAME, NAME_RULE

CHECKOUT = Path(__file__).resolve().parent.parent


def cache(environ: Mapping[str, str] = os.environ) -> Cache:
    """Return `WORKPOOL_OPERATOR_CACHE`, else a folder below the user's cache folder."""
    chosen = environ.get("WORKPOOL_OPERATOR_CACHE")
    if chosen:
        return Cache(Path(chosen))
    base = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Cache(Path(base) / "workpool-operator")


def root(environ: Mapping[str, str] = os.environ) -> Path:
    """Return `WORKPOOL_OPERATOR_STATE`, else a folder below the user's state folder."""
    chosen = environ.get("WORKPOOL_OPERATOR_STATE")
    if chosen:
        return Path(chosen).absolute()
    base = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).absolute() / "workpool-operator"


def name(environ: Mapping[str, str] = os.environ) -> str:
    """Return `CLUSTER_NAME`, else a name of this checkout's own; with another one for each
    version that `KUBERNETES` names."""
    chosen = environ.get("CLUSTER_NAME") or default_name(CHECKOUT)
    if version := environ.get("KUBERNETES"):
        chosen += f"-{version.replace('.', '-')}"
    if not NAME.fullmatch(chosen):
        raise SetupError(f"CLUSTER_NAME={chosen!r} is not a valid name: {NAME_RULE}")
    return chosen


def default_name(checkout: Path) -> str:
    """Return `wpo-` and six digits that differ between checkouts."""
    return "wpo-" + hashlib.sha256(str(checkout).encode()).hexdigest()[:6]


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the current name; it need not exist."""
    return root(environ) / name(environ)
