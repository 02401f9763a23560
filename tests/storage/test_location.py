from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.storage.location import Location

ODD = 'a b/%20%41/q?x=1&y=#frag/it\'s "x"/é日本/[1]*{a,b}::c:d//e.jpg'


@pytest.mark.parametrize(
    ("url", "scheme", "container", "path"),
    [
        ("s3://bucket/a/b.jpg", "s3", "bucket", "a/b.jpg"),
        ("S3://bucket/a.jpg", "s3", "bucket", "a.jpg"),
        (f"s3://bucket/{ODD}", "s3", "bucket", ODD),
        ("s3://bucket", "s3", "bucket", ""),
        ("s3://bucket//a", "s3", "bucket", "/a"),
        ("gs://bucket/a?generation=3", "gs", "bucket", "a?generation=3"),
        ("gcs://bucket/a#b", "gcs", "bucket", "a#b"),
        ("az://container/a", "az", "container", "a"),
        ("abfs://container@account.dfs.core.windows.net/a", "abfs", "container@account.dfs.core.windows.net", "a"),
        ("https://host:8080/a%20b.jpg?token=x%2By#f", "https", "host:8080", "a%20b.jpg?token=x%2By#f"),
        ("https://host?x=/a", "https", "host", "?x=/a"),
        ("https://host#f", "https", "host", "#f"),
        ("http:///a", "http", "", "a"),
        ("file:///tmp/a%20b.jpg", "file", "", "/tmp/a%20b.jpg"),
        ("file:/tmp/a.jpg", "file", "", "/tmp/a.jpg"),
        ("FILE:///tmp/a", "file", "", "/tmp/a"),
        ("/tmp/a.jpg", "file", "", "/tmp/a.jpg"),
        ("a.jpg", "file", "", "a.jpg"),
        ("~/a.jpg", "file", "", "~/a.jpg"),
        ("file:a", "file", "", "file:a"),
        ("", "file", "", ""),
        ("c://a", "file", "", "c://a"),
        ("a::b.jpg", "file", "", "a::b.jpg"),
        ("memory://a/b", "memory", "a", "b"),
        ("data:image/png;base64,AAAA", "data", "", "data:image/png;base64,AAAA"),
        ("zip://a/b.jpg::s3://k/a.zip", "zip", "", "zip://a/b.jpg::s3://k/a.zip"),
        ("simplecache::s3://k/a.jpg", "simplecache", "", "simplecache::s3://k/a.jpg"),
        ("simplecache::zip://a::s3://k", "simplecache", "", "simplecache::zip://a::s3://k"),
        # Stores do not lie in other files: this is a key.
        ("s3://bucket/a::http://b", "s3", "bucket", "a::http://b"),
        ("s3://bucket/a::b:c.jpg", "s3", "bucket", "a::b:c.jpg"),
        # Only the scheme decides.
        ("https://host/s3://bucket/key", "https", "host", "s3://bucket/key"),
        ("./s3://bucket/key", "file", "", "./s3://bucket/key"),
    ],
)
def test_a_url_has_these_parts(url: str, scheme: str, container: str, path: str) -> None:
    assert Location.parse(url) == Location(url, scheme, container, path)


@pytest.mark.parametrize(
    ("url", "name", "extension"),
    [
        ("s3://bucket/2026/A.JPG", "A.JPG", "jpg"),
        ("s3://bucket/a?b.png", "a?b.png", "png"),
        ("s3://bucket/a.jpg#b", "a.jpg#b", "jpg#b"),
        ("https://host/d/a.JPG?x=/b.png#c.gif", "a.JPG", "jpg"),
        ("https://host", "", ""),
        ("https://host.jpg?x=b.png", "", ""),
        ("s3://bucket/dir/", "dir", ""),
        ("s3://bucket.jpg", "", ""),
        ("a::b.jpg", "a::b.jpg", "jpg"),
        (".bashrc", ".bashrc", ""),
        ("a.", "a.", ""),
        ("zip://d/in.jpg::s3://k/a.zip", "in.jpg", "jpg"),
        ("simplecache::s3://k/d/a.mp4", "a.mp4", "mp4"),
        ("data:image/png;base64,AA/a.b", "", ""),
    ],
)
def test_its_name_is_the_last_part_of_the_path(url: str, name: str, extension: str) -> None:
    location = Location.parse(url)
    assert (location.name, location.extension) == (name, extension)


@given(st.text())
def test_any_text_is_a_location_and_survives(text: str) -> None:
    location = Location.parse(text)
    assert str(location) == location.url == text
    assert text.endswith(location.path)
    assert isinstance(location.name + location.extension, str)


@given(
    st.sampled_from(["s3", "gs", "gcs", "az", "abfs", "memory", "sftp"]),
    st.text(st.characters(exclude_characters="/:"), min_size=1),
    st.text().filter(lambda key: "::" not in key),
)
def test_container_and_key_are_taken_as_they_are(scheme: str, container: str, key: str) -> None:
    location = Location.parse(f"{scheme}://{container}/{key}")
    assert (location.scheme, location.container, location.path) == (scheme, container, key)


@given(st.text())
def test_a_key_of_a_store_may_hold_anything(key: str) -> None:
    assert Location.parse(f"s3://bucket/{key}").path == key
    assert not Location.parse(f"s3://bucket/{key}").chained
