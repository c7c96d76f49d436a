"""Ends its process without a report to Prefect."""

import os

from prefect import flow


@flow
def exit_without_report(code: int = 3) -> None:
    os._exit(code)
