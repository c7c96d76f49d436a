"""Assigns bindings to replicas. Pure.

Every replica computes the same from the same names, so that they agree without talking to each
other: rendezvous hashing, with a bound on each replica's load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection


def assign(bindings: Collection[str], replicas: Collection[str]) -> dict[str, str]:
    """Return for each binding the replica that is to serve it.

    Two replicas differ by at most one binding. A replica that joins or leaves moves few bindings
    but its own share: each pair has a score, the best pairs are taken first, and a binding whose
    best replica is full goes to the next best one.
    """
    most, extra = divmod(len(bindings), max(1, len(replicas)))
    pairs = [(_score(b, replica), b, replica) for b in bindings for replica in replicas]
    assigned: dict[str, str] = {}
    load = dict.fromkeys(replicas, 0)
    for _, binding, replica in sorted(pairs, reverse=True):
        if binding in assigned or load[replica] > most or (load[replica] == most and not extra):
            continue
        extra -= load[replica] == most
        assigned[binding] = replica
        load[replica] += 1
    return assigned


def _score(binding: str, replica: str) -> int:
    digest = hashlib.blake2b(f"{replica}\n{binding}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
