"""What the demo asks Prefect's API itself, because no command prints it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from localnode.errors import SetupError

TIMEOUT_SECONDS = 30


class NotFound(SetupError):
    """What was asked for is not there."""


@dataclass(frozen=True)
class PrefectApi:
    url: str

    def exists(self, path: str) -> bool:
        try:
            self._call(path)
        except NotFound:
            return False
        return True

    def flow_run_named(self, name: str) -> str:
        """The id of the newest run of that name."""
        wanted = {"flow_runs": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_DESC"}
        run_id: str = self._call("/flow_runs/filter", wanted)[0]["id"]
        return run_id

    def flow_run(self, run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self._call(f"/flow_runs/{run_id}")
        return run

    def states(self, run_id: str) -> list[dict[str, Any]]:
        """Of a run, the oldest first."""
        history: list[dict[str, Any]] = self._call(f"/flow_run_states/?flow_run_id={run_id}")
        return sorted(history, key=lambda state: state["timestamp"])

    def _call(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except OSError as failed:  # urllib's errors are of this kind
            missing = isinstance(failed, HTTPError) and failed.code == 404
            error = NotFound if missing else SetupError
            raise error(f"Prefect at {request.full_url} answered: {failed}") from None
