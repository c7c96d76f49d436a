"""From the bytes of a list or a watch to views. Pure.

One object that does not fit its view is left out and handed to `odd`; the others are read. What is
no answer of a Kubernetes API at all is a `KubernetesUnavailable`: the same request may be answered
better later.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from workpool_operator.errors import KubernetesUnavailable
from workpool_operator.kube.models import (
    ListMeta,
    Page,
    Status,
    WatchEvent,
    decode,
    first_mismatch,
    not_a_kubernetes_answer,
)

V = TypeVar("V")

Mismatch = Callable[[dict[str, Any], ValidationError], None]
_status: TypeAdapter[WatchEvent[Status]] = TypeAdapter(WatchEvent[Status])
_list_meta = TypeAdapter(ListMeta)


def field(body: bytes, *path: str) -> Any:
    """One field of an answer that needs no view; without a path the whole document.

    Raises:
        KubernetesUnavailable: it is not there.
    """
    found = _json(body)
    try:
        for key in path:
            found = found[key]
    except (LookupError, TypeError) as error:
        raise KubernetesUnavailable(
            not_a_kubernetes_answer(".".join(path) + ": missing")
        ) from error
    return found


class Decoder(Generic[V]):
    """Reads lists and watches of the objects that `view` is the view of."""

    def __init__(self, view: type[V], *, odd: Mismatch) -> None:
        of: Any = view
        self._odd = odd
        self._page: TypeAdapter[Page[V]] = TypeAdapter(Page[of])
        self._event: TypeAdapter[WatchEvent[V]] = TypeAdapter(WatchEvent[of])
        self._object: TypeAdapter[V] = TypeAdapter(view)

    def list_page(self, body: bytes) -> Page[V]:
        """One page of a list."""
        try:
            return self._page.validate_json(body)
        except ValidationError:
            return self._page_in_part(_json(body))

    def watch_event(self, line: bytes) -> WatchEvent[V] | WatchEvent[Status] | str:
        """One line of a watch; of an odd object only its resource version."""
        try:
            event = self._event.validate_json(line)
        except ValidationError as error:
            return self._other_event(line, error)
        return decode(_status, line) if event.type == "ERROR" else event

    def _page_in_part(self, page: Any) -> Page[V]:
        if not isinstance(page, dict) or not isinstance(page.get("items") or [], list):
            raise KubernetesUnavailable(not_a_kubernetes_answer("no list"))
        metadata = decode(_list_meta, json.dumps(page.get("metadata")).encode())
        items = (self._decode_item(item) for item in page.get("items") or [])
        return Page(metadata, tuple(item for item in items if item is not None))

    def _decode_item(self, item: Any) -> V | None:
        try:
            return self._object.validate_python(item)
        except ValidationError as error:
            self._odd(_metadata(item), error)
            return None

    def _other_event(self, line: bytes, error: ValidationError) -> WatchEvent[Status] | str:
        raw = _json(line)
        if not isinstance(raw, dict) or not isinstance(raw.get("object"), dict):
            raise KubernetesUnavailable(not_a_kubernetes_answer(first_mismatch(error))) from error
        if raw.get("type") == "ERROR":
            return decode(_status, line)
        metadata = _metadata(raw["object"])
        self._odd(metadata, error)
        return str(metadata.get("resourceVersion") or "")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KubernetesUnavailable(not_a_kubernetes_answer("no JSON")) from error


def _metadata(item: Any) -> dict[str, Any]:
    found = item.get("metadata") if isinstance(item, dict) else None
    return found if isinstance(found, dict) else {}
