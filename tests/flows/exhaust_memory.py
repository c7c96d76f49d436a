"""Allocates memory until the kernel kills it: give it a memory_limit."""

from prefect import flow


@flow
def exhaust_memory() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(b"x" * (16 << 20)))
