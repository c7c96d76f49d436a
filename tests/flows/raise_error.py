"""Raises an error, so that the flow reports its own failure."""

from prefect import flow


@flow
def raise_error(message: str = "no such table") -> None:
    raise ValueError(message)
