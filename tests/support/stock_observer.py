"""Makes the events that the observer of the stock worker makes of pods. A script: nothing imports
it, because importing prefect-kubernetes would register its kopf handlers in our own process.

A list of pods is read from standard input, each as it was seen MODIFIED, in order; the list of
their events is written to standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import redirect_stdout
from typing import Any

os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
with redirect_stdout(sys.stderr):
    from prefect_kubernetes import observer  # type: ignore[import-not-found]


class Client:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def emit(self, event: Any) -> None:
        self.events.append(event.model_dump(mode="json"))


async def main() -> None:
    observer.events_client = client = Client()
    for pod in json.load(sys.stdin):
        metadata = pod["metadata"]
        await observer._replicate_pod_event(
            event={"type": "MODIFIED", "object": pod},
            uid=metadata["uid"],
            name=metadata["name"],
            namespace=metadata["namespace"],
            labels=metadata["labels"],
            status=pod["status"],
            logger=logging.getLogger(),
        )
    json.dump(client.events, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
