"""URLs: their parts, and presigned ones."""

from __future__ import annotations

from ...errors import SigningError
from ..registry import Media, function


@function(from_url=True)
def fileurl(media: Media) -> str:
    """The full URL of the media; a local path becomes a file:// URL.

    sql> SELECT fileurl('/data/summer 2026.jpg'), fileurl('s3://bucket/a.jpg')
    file:///data/summer%202026.jpg|s3://bucket/a.jpg
    """
    return media.provider.file_url(media.location)


@function(perishable=True)
def presigned_url(media: Media, seconds: int = 3600) -> str:
    """An https:// URL through which anyone can read the object for `seconds`, an hour unless said otherwise.

    Signed without a request for each row: Signature V4 on S3 and GCS (7 days at most), a SAS on Azure. http(s) URLs
    and objects of public buckets are given as plain URLs; local files have none, and give NULL. In a VIRTUAL generated
    column each query signs afresh, so that the URL has never expired.

    sql> SELECT presigned_url('https://example.com/a.jpg?v=2', 60), presigned_url('photo.jpg')
    https://example.com/a.jpg?v=2|
    """
    if seconds < 1:
        raise SigningError(f"{seconds} seconds is not a time for which a URL can be valid; 1 is the least")
    return media.presign(seconds)


@function(from_url=True)
def url_scheme(media: Media) -> str:
    """The scheme of the URL in lower case, 'file' for local paths.

    sql> SELECT url_scheme('s3://bucket/a.jpg'), url_scheme('photo.jpg')
    s3|file
    """
    return media.location.scheme


@function(from_url=True)
def url_host(media: Media) -> str | None:
    """The bucket, container or host, without user and password; NULL for local paths.

    sql> SELECT url_host('s3://bucket/a.jpg'), url_host('https://ada:secret@example.com/a.jpg')
    bucket|example.com
    """
    location = media.location
    host = location.container
    return (host.rpartition("@")[2] if location.scheme in ("http", "https") else host) or None


@function(from_url=True)
def url_name(media: Media) -> str:
    """The last part of the path, without query string.

    sql> SELECT url_name('s3://bucket/2026/a.jpg'), url_name('https://example.com/a.jpg?v=2')
    a.jpg|a.jpg
    """
    return media.location.name


@function(from_url=True)
def url_ext(media: Media) -> str | None:
    """The extension in lower case, without its dot; NULL when there is none.

    sql> SELECT url_ext('s3://bucket/2026/A.JPG'), url_ext('s3://bucket/README')
    jpg|
    """
    return media.location.extension or None
