"""The media behind an SQL value: a URL, or the bytes themselves."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from ..errors import DecodeError, ForbiddenByPolicy, NotFound, TransientError, UnavailableError, Unsupported
from ..media.info import MediaInfo
from ..media.probe import Want
from ..storage.location import Location
from ..storage.paths import absolute, is_utf8, path_text
from ..storage.providers.base import ObjectInfo, Provider
from ..storage.providers.local import local_path
from . import calls

if TYPE_CHECKING:
    from .session import Session


class Media:
    """One URL (str) or BLOB (bytes) as functions see it. Its properties fetch when they are first read."""

    __slots__ = ("_listed", "_session", "value")

    def __init__(self, session: Session, value: str | bytes, listed: ObjectInfo | None = None) -> None:
        self._session = session
        self.value = value
        self._listed = listed

    @property
    def location(self) -> Location:
        """Where it is. Raises Unsupported for a BLOB, which is nowhere."""
        if isinstance(self.value, bytes):
            raise Unsupported("a BLOB has no URL")
        return Location.parse(self.value)

    @property
    def provider(self) -> Provider:
        return self._session.store.provider(self.location)

    @property
    def object(self) -> ObjectInfo:
        """Size, validators and declared type, as the store tells them."""
        if isinstance(self.value, bytes):
            return self._session.blob_answer(self.value, Want.OBJECT).object
        return self._session.answer(self.value, Want.OBJECT, self._listed).object

    @property
    def info(self) -> MediaInfo:
        """What its header tells. Raises DecodeError for what is not media."""
        return self._info(Want.HEADER)

    @property
    def info_with_exif(self) -> MediaInfo:
        """The same, with `exif` and `orientation` looked for wherever they may be."""
        return self._info(Want.EXIF)

    def _info(self, want: Want) -> MediaInfo:
        if isinstance(self.value, bytes):
            answer = self._session.blob_answer(self.value, want)
        else:
            answer = self._session.answer(self.value, want, self._listed)
        if answer.error is not None:
            raise answer.error.again()
        if answer.info is None:
            raise DecodeError("its header was not read")
        return answer.info

    @property
    def content(self) -> bytes:
        """All of its bytes."""
        if isinstance(self.value, bytes):
            return self.value
        return calls.content(self._session, self)

    def sha256(self) -> str:
        """The SHA-256 of its bytes in hexadecimal; a large object is hashed part by part, not held."""
        if isinstance(self.value, bytes):
            return hashlib.sha256(self.value).hexdigest()
        return calls.digest(self._session, self)

    def presign(self, seconds: int) -> str:
        """Its presigned URL; see `Store.presign`."""
        return self._session.store.presign(self.location, seconds)

    def prefetch(self) -> int:
        """Have its bytes in the cache. Returns how many those are. Raises Unsupported for a BLOB."""
        if isinstance(self.value, bytes):
            raise Unsupported("a BLOB has no URL")
        return calls.prefetch(self._session, self)

    def local_path(self) -> str:
        """The path of a file with its bytes, which stays as long as the statement runs; of a local one, its own."""
        if isinstance(self.value, bytes):
            raise Unsupported("a BLOB has no URL")
        if self._session.config.profile == "hosted":
            raise ForbiddenByPolicy("paths of this machine are not told in profile 'hosted'")
        location = self.location
        if location.scheme != "file":
            path = calls.file(self._session, self)
        else:
            self._session.store.provider(location)  # which refuses what a policy forbids
            path = absolute(local_path(location))
            if not os.path.isfile(path):
                raise NotFound("no such file")
        if not is_utf8(path):
            raise Unsupported(f"its path is not UTF-8, so that no SQL text can hold it: {path_text(path)}")
        return path

    def refresh(self) -> bool:
        """Whether the object is another than it was, which the store is asked now. Raises Unsupported for a BLOB."""
        if isinstance(self.value, bytes):
            raise Unsupported("a BLOB has no URL")
        return self._session.refresh(self.value)

    def error(self) -> str | None:
        """Why it cannot be read as media; None when it can. In a write, which would keep it, TransientError raises."""
        try:
            _ = self.info
        except UnavailableError as error:
            return str(error)
        except TransientError as error:
            if self._session.statement.writing:
                raise
            return str(error)
        return None
