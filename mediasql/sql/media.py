"""The media behind an SQL value: a URL, or the bytes themselves."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..errors import DecodeError, TransientError, UnavailableError, Unsupported
from ..media.info import MediaInfo
from ..media.probe import Want
from ..storage.location import Location
from ..storage.providers.base import ObjectInfo, Provider
from . import calls

if TYPE_CHECKING:
    from .session import Session


class Media:
    """One URL (str) or BLOB (bytes) as functions see it. Its properties fetch when they are first read."""

    __slots__ = ("_session", "value")

    def __init__(self, session: Session, value: str | bytes) -> None:
        self._session = session
        self.value = value

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
        return self._session.answer(self.value, Want.OBJECT).object

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
            answer = self._session.answer(self.value, want)
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
