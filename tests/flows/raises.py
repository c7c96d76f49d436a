"""Fails by itself, and says so to Prefect."""

from prefect import flow


@flow
def raises(message: str = "no such table") -> None:
    raise ValueError(message)
