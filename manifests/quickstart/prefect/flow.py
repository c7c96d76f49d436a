"""The flow of the quick start."""

from prefect import flow


@flow(log_prints=True)
def hello(name: str = "world") -> None:
    """Greet."""
    print(f"Hello, {name}!")
