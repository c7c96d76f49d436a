"""Completes at once."""

from prefect import flow


@flow(log_prints=True)
def hello(name: str = "world") -> str:
    print(f"Hello, {name}!")
    return name
