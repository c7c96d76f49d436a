"""The flow of `make demo`: greets, and says where it runs."""

from __future__ import annotations

import os
import platform

from prefect import flow, get_run_logger


@flow
def hello(name: str = "world") -> str:
    """Returns the greeting that it logs."""
    greeting = f"Hello, {name}, from pod {platform.node()} (uid {os.getuid()})"
    get_run_logger().info(greeting)
    return greeting
