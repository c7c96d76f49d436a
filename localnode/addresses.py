"""Which addresses and interface a node has: a block of its own, by a number, on this machine.

Two nodes never share a block, whichever checkout or state folder they belong to, and a block is
skipped if the machine already uses its addresses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from localnode import commands
from localnode.errors import SetupError
from localnode.lock import exclusive

# One registry for the machine, as its interfaces are; like them it does not survive a reboot.
REGISTRY = Path("/run/localnode")
NUMBERS = range(256)
NOTE = "slot"  # in the owner's folder: the number of its block


@dataclass(frozen=True)
class Addresses:
    number: int

    @property
    def interface(self) -> str:
        """The host's end of the veth pair."""
        return f"localnode{self.number}"

    @property
    def link(self) -> IPv4Network:
        return IPv4Network(f"10.200.{self.number}.0/30")

    @property
    def host(self) -> str:
        return str(self.link[1])

    @property
    def node(self) -> str:
        return str(self.link[2])

    @property
    def pods(self) -> IPv4Network:
        """Only seen inside the node, which puts its own address on what leaves it."""
        return IPv4Network(f"10.201.{self.number}.0/24")


def claim(owner: Path) -> Addresses:
    """Return the block that `owner` (a state folder) holds, or give it the first free one."""
    with exclusive(REGISTRY, purpose="chooses addresses for a node"):
        block = held_by(owner) or _first_free()
        (owner / NOTE).write_text(str(block.number))
        _record(block).write_text(str(owner))
        return block


def held_by(owner: Path) -> Addresses | None:
    """Return the block of `owner`, if it holds one; its note survives the loss of the registry."""
    note = owner / NOTE
    noted = note.read_text() if note.exists() else ""
    if noted and _holder(Addresses(int(noted))) in (owner, None):
        return Addresses(int(noted))
    return next((block for block in map(Addresses, NUMBERS) if _holder(block) == owner), None)


def release(owner: Path) -> None:
    """Give the block back; the last one takes the registry with it."""
    with exclusive(REGISTRY, purpose="chooses addresses for a node"):
        block = held_by(owner)
        if block is not None:
            _record(block).unlink(missing_ok=True)
            (owner / NOTE).unlink(missing_ok=True)
        if not any(REGISTRY.iterdir()):
            REGISTRY.rmdir()


def _first_free() -> Addresses:
    used = _used_networks()
    for block in map(Addresses, NUMBERS):
        holder = _holder(block)
        abandoned = holder is None or not holder.exists()
        if abandoned and not any(block.link.overlaps(network) for network in used):
            return block
    raise SetupError(f"all {len(NUMBERS)} nodes of this machine are in use: see {REGISTRY}")


def _holder(block: Addresses) -> Path | None:
    record = _record(block)
    return Path(record.read_text()) if record.exists() else None


def _record(block: Addresses) -> Path:
    return REGISTRY / str(block.number)


def _used_networks() -> list[IPv4Network]:
    routes = json.loads(commands.run(["ip", "-4", "-json", "route"]))
    names = (str(route["dst"]) for route in routes)
    return [IPv4Network(name) for name in names if name != "default"]
