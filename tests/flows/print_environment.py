"""Writes its environment to its run's log."""

import os

from prefect import flow


@flow(log_prints=True)
def print_environment(names: list[str]) -> None:
    for name in names:
        print(f"{name}={os.environ.get(name)}")
