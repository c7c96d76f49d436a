"""`python -m benchmarks.dashboard URL MINUTES`: draws the panels of the Grafana dashboard.

It queries a Prometheus, as Grafana does, and writes docs/dashboard.svg.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx

from benchmarks import pictures
from benchmarks.pictures import Series
from testbed.state import CHECKOUT

FILE = CHECKOUT / "charts" / "workpool-operator" / "files" / "dashboard.json"
PICTURE = CHECKOUT / "docs" / "dashboard.svg"
POINTS = 60
COLUMNS = 3
UNITS = {"s": "seconds", "bytes": "bytes", "reqps": "per second", "short": ""}
#: What Grafana puts in place of a variable if everything is selected.
VARIABLES = {"$namespace": ".*", "$binding": ".*", "$job": ".*"}

Object = dict[str, Any]


def main() -> None:
    url, minutes = sys.argv[1], float(sys.argv[2])
    with httpx.Client(base_url=f"{url}/api/v1", trust_env=False) as prometheus:
        charts = [_draw(prometheus, panel, minutes) for panel in panels()]
    PICTURE.write_text(pictures.grid("The dashboard of workpool-operator", charts, columns=COLUMNS))
    print(f"written to {PICTURE}")


def panels() -> Iterator[Object]:
    """Return the panels that have queries."""
    return (panel for panel in json.loads(FILE.read_text())["panels"] if panel.get("targets"))


def expression(target: Object, *, rate_interval: str = "1m") -> str:
    """Return the query of a panel as Grafana sends it, with everything selected."""
    text = str(target["expr"]).replace("$__rate_interval", rate_interval)
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def legend(target: Object, labels: Object) -> str:
    """Return the name of one series."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), target["legendFormat"])


def _draw(prometheus: httpx.Client, panel: Object, minutes: float) -> str:
    end = time.time()
    start, step = end - 60 * minutes, 60 * minutes / POINTS
    drawn = []
    for target in panel["targets"]:
        span: dict[str, str | float] = {"start": start, "end": end, "step": step}
        query = {"query": expression(target), **span}
        answer = prometheus.get("/query_range", params=query).raise_for_status().json()
        for found in answer["data"]["result"]:
            values = ((at, float(value)) for at, value in found["values"])
            points = [((at - start) / 60, value) for at, value in values if not math.isnan(value)]
            if points:
                drawn.append(Series(legend(target, found["metric"]) or "-", points))
    drawn.sort(key=lambda each: -max(value for _, value in each.points))
    unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    return pictures.lines(panel["title"], drawn, x="minutes", y=unit, height=250)


if __name__ == "__main__":
    main()
