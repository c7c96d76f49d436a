"""Which addresses and interface a local node has: its slot, a number of its own on this machine.

Promises: two nodes never share a slot, whichever checkout or state folder they belong to, and a
slot whose addresses the machine already uses is passed over.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from testbed import commands, state
from testbed.errors import TestbedError

# One registry for the machine, as its interfaces are; like them it does not survive a reboot.
REGISTRY = Path("/run/workpool-operator")
SLOTS = range(256)
NOTE = "slot"  # in the owner's folder


@dataclass(frozen=True)
class Slot:
    number: int

    @property
    def interface(self) -> str:
        """The host's end of the veth pair."""
        return f"wpo{self.number}"

    @property
    def link(self) -> IPv4Network:
        return IPv4Network(f"10.200.{self.number}.0/30")

    @property
    def host_address(self) -> str:
        return str(self.link[1])

    @property
    def node_address(self) -> str:
        return str(self.link[2])

    @property
    def pods(self) -> IPv4Network:
        """Seen only inside the node, which gives its own address to what leaves it."""
        return IPv4Network(f"10.201.{self.number}.0/24")


def claim(owner: Path) -> Slot:
    """The slot that `owner` (a state folder) holds, or the first free one from now on."""
    with state.exclusive(REGISTRY, purpose="chooses addresses for a node"):
        slot = held_by(owner) or _first_free()
        (owner / NOTE).write_text(str(slot.number))
        _record(slot).write_text(str(owner))
        return slot


def held_by(owner: Path) -> Slot | None:
    """The slot that `owner` holds, if it holds one; its note outlives a registry that was lost."""
    note = owner / NOTE
    noted = note.read_text() if note.exists() else ""
    if noted and _holder(Slot(int(noted))) in (owner, None):
        return Slot(int(noted))
    return next((slot for slot in map(Slot, SLOTS) if _holder(slot) == owner), None)


def release(owner: Path) -> None:
    """Gives the slot back; the registry goes with its last slot."""
    with state.exclusive(REGISTRY, purpose="chooses addresses for a node"):
        slot = held_by(owner)
        if slot is not None:
            _record(slot).unlink(missing_ok=True)
            (owner / NOTE).unlink(missing_ok=True)
        if not any(REGISTRY.iterdir()):
            REGISTRY.rmdir()


def _first_free() -> Slot:
    used = _used_networks()
    for slot in map(Slot, SLOTS):
        holder = _holder(slot)
        abandoned = holder is None or not holder.exists()
        if abandoned and not any(slot.link.overlaps(network) for network in used):
            return slot
    raise TestbedError(f"all {len(SLOTS)} nodes of this machine are in use: see {REGISTRY}")


def _holder(slot: Slot) -> Path | None:
    record = _record(slot)
    return Path(record.read_text()) if record.exists() else None


def _record(slot: Slot) -> Path:
    return REGISTRY / str(slot.number)


def _used_networks() -> list[IPv4Network]:
    routes = json.loads(commands.run(["ip", "-4", "-json", "route"]))
    named = (str(route["dst"]) for route in routes)
    return [IPv4Network(name) for name in named if name != "default"]
