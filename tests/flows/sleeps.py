"""Runs for as long as it is told."""

import time

from prefect import flow


@flow
def sleeps(seconds: float = 30) -> None:
    time.sleep(seconds)
