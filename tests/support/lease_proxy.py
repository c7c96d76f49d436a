"""Gives an operator Leases that only it sees: it holds what another one holds, too."""

from __future__ import annotations

import itertools
import json
from typing import Any

from tests.support.fault_proxy import Call, FaultProxy, Rule
from tests.support.fault_proxy.rules import Answer

LISTED = {"metadata": {"resourceVersion": "1"}, "items": []}


def keep_leases_apart(proxy: FaultProxy) -> None:
    """Answer requests for Leases in place of the API server."""
    leases: dict[str, dict[str, Any]] = {}
    versions = itertools.count(2)

    async def answer(rule: Rule, call: Call) -> Answer:
        name = call.path.rpartition("/leases")[2].strip("/")
        if call.method == "GET" and not name:
            return _answer(LISTED if "watch" not in call.query else None)
        if call.method != "GET":
            change = json.loads(call.body)
            name = name or change["metadata"]["name"]
            known = leases.get(name, {"metadata": {"name": name, "uid": name}, "spec": {}})
            version = {"resourceVersion": str(next(versions))}
            spec = {**known["spec"], **change["spec"]}
            leases[name] = {"metadata": {**known["metadata"], **version}, "spec": spec}
        return _answer(leases[name])

    proxy.on("*", r"/leases(/|$)").do(answer)


def _answer(body: Any) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    return Answer(200, content, {"Content-Type": "application/json"})
