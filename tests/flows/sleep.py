"""Sleeps for the given seconds."""

import time

from prefect import flow


@flow
def sleep(seconds: float = 30) -> None:
    time.sleep(seconds)
