"""Decodes the bytes of lists and watches to models. Pure.

An object that does not match its model is left out and passed to `mismatched`; the others are
decoded. A body that is not from a Kubernetes API raises KubernetesUnavailable: the same request can
succeed later.
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

Mismatched = Callable[[dict[str, Any], ValidationError], None]
_status: TypeAdapter[WatchEvent[Status]] = TypeAdapter(WatchEvent[Status])
_list_meta = TypeAdapter(ListMeta)


def field(body: bytes, *path: str) -> Any:
    """Return one field of an answer for which there is no model; without a path, the document.

    Raises:
        KubernetesUnavailable: the field is missing.
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
    """Decodes lists and watches of objects of the type `view`.

    `mismatched(metadata, error)` is called for each object that does not match the type.
    """

    def __init__(self, view: type[V], *, mismatched: Mismatched) -> None:
        of: Any = view
        self._mismatched = mismatched
        self._page: TypeAdapter[Page[V]] = TypeAdapter(Page[of])
        self._event: TypeAdapter[WatchEvent[V]] = TypeAdapter(WatchEvent[of])
        self._object: TypeAdapter[V] = TypeAdapter(view)

    def list_page(self, body: bytes) -> Page[V]:
        """Decode one page of a list.

        Raises:
            KubernetesUnavailable: the body is not a list.
        """
        try:
            return self._page.validate_json(body)
        except ValidationError:
            return self._page_in_part(_json(body))

    def watch_event(self, line: bytes) -> WatchEvent[V] | WatchEvent[Status] | str:
        """Decode one line of a watch; return only the resource version of an object that does not
        match its model.

        Raises:
            KubernetesUnavailable: the line is not a watch event.
        """
        try:
            event = self._event.validate_json(line)
        except ValidationError as error:
            return self._other_event(line, error)
        return decode(_status, line) if event.type == "ERROR" else event

    def _page_in_part(self, page: Any) -> Page[V]:
        if not isinstance(page, dict) or not isinstance(page.get("items") or [], list):
            raise KubernetesUnavailable(not_a_kubernetes_answer("not a list"))
        metadata = decode(_list_meta, json.dumps(page.get("metadata")).encode())
        items = (self._decode_item(item) for item in page.get("items") or [])
        return Page(metadata, tuple(item for item in items if item is not None))

    def _decode_item(self, item: Any) -> V | None:
        try:
            return self._object.validate_python(item)
        except ValidationError as error:
            self._mismatched(_metadata(item), error)
            return None

    def _other_event(self, line: bytes, error: ValidationError) -> WatchEvent[Status] | str:
        raw = _json(line)
        if not isinstance(raw, dict) or not isinstance(raw.get("object"), dict):
            raise KubernetesUnavailable(not_a_kubernetes_answer(first_mismatch(error))) from error
        if raw.get("type") == "ERROR":
            return decode(_status, line)
        metadata = _metadata(raw["object"])
        self._mismatched(metadata, error)
        return str(metadata.get("resourceVersion") or "")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KubernetesUnavailable(not_a_kubernetes_answer("not JSON")) from error


def _metadata(item: Any) -> dict[str, Any]:
    found = item.get("metadata") if isinstance(item, dict) else None
    return found if isinstance(found, dict) else {}
