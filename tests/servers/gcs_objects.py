"""The objects of a GCS server: generations, checksums, and listings in pages."""

from __future__ import annotations

import base64
import bisect
import datetime
import hashlib
import itertools
from dataclasses import dataclass, field
from typing import Any

import google_crc32c

generations = itertools.count(1_700_000_000_000_001)


@dataclass(frozen=True)
class Blob:
    bucket: str
    name: str
    data: bytes
    content_type: str | None
    metadata: dict[str, str] | None = None
    generation: int = field(default_factory=lambda: next(generations))
    updated: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    @property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.data).digest()).decode()

    @property
    def crc32c(self) -> str:
        return base64.b64encode(google_crc32c.value(self.data).to_bytes(4, "big")).decode()

    @property
    def etag(self) -> str:
        """The JSON API's: of the generation, and without quotes even in the header."""
        return base64.b64encode(self.generation.to_bytes(9, "big")).decode()

    def resource(self) -> dict[str, Any]:
        moment = self.updated.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        shown = {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(len(self.data)),
            "md5Hash": self.md5,
            "crc32c": self.crc32c,
            "etag": self.etag,
            "timeCreated": moment,
            "updated": moment,
            "metadata": self.metadata,
        }
        return {name: value for name, value in shown.items() if value is not None}


class Bucket:
    def __init__(self, name: str) -> None:
        self.name = name
        self.blobs: dict[str, Blob] = {}
        self.names: list[str] = []

    def put(self, name: str, data: bytes, content_type: str | None, metadata: Any = None) -> Blob:
        if name not in self.blobs:
            # GCS orders names by their UTF-8 bytes, and so does str by code points.
            bisect.insort(self.names, name)
        self.blobs[name] = Blob(self.name, name, data, content_type, metadata)
        return self.blobs[name]

    def delete(self, name: str) -> None:
        del self.blobs[name]
        self.names.remove(name)

    def resource(self) -> dict[str, Any]:
        return {
            "kind": "storage#bucket",
            "id": self.name,
            "name": self.name,
            "location": "US",
            "locationType": "multi-region",
            "storageClass": "STANDARD",
        }

    def page(
        self,
        prefix: str = "",
        delimiter: str = "",
        pageToken: str = "",
        maxResults: str = "1000",
        startOffset: str = "",
        endOffset: str = "",
        **_: str,
    ) -> dict[str, Any]:
        """One page of a listing; the parameters are the JSON API's."""
        last = base64.urlsafe_b64decode(pageToken).decode()
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        limit = min(int(maxResults), 1000)
        for name in self.names[bisect.bisect_left(self.names, max(prefix, startOffset, last)) :]:
            if not name.startswith(prefix) or (endOffset and name >= endOffset):
                break
            head, found, _tail = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            entry = prefix + head + found if found else name
            if entry <= last or entry in prefixes[-1:]:
                continue
            if len(items) + len(prefixes) == limit:
                token = base64.urlsafe_b64encode(max([*prefixes[-1:], *(i["name"] for i in items[-1:])]).encode())
                return listing(items, prefixes, nextPageToken=token.decode())
            if found:
                prefixes.append(entry)
            else:
                items.append(self.blobs[name].resource())
        return listing(items, prefixes)


def listing(items: list[dict[str, Any]], prefixes: list[str], **more: str) -> dict[str, Any]:
    """GCS leaves out what is empty."""
    shown = {"items": items, "prefixes": prefixes, **more}
    return {"kind": "storage#objects", **{name: value for name, value in shown.items() if value}}
