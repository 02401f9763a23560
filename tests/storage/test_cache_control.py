"""Which answers may be kept: the grammar of Cache-Control (RFC 9111 section 5.2, RFC 9110 section 5.6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.storage.cache_control import forbids_storing
from mediasql.storage.transport.exchange import Headers


def headers(*values: str, **more: str) -> Headers:
    names = {name.replace("_", "-"): value for name, value in more.items()}
    return Headers.of([*(("Cache-Control", value) for value in values), *names.items()])


@pytest.mark.parametrize(
    "values",
    [
        ("no-store",),
        ("NO-STORE",),
        ("private, No-Store",),
        ("no-store,max-age=60",),
        ("max-age=60 ,\tno-store ",),
        (",, no-store",),
        ("public", "no-store"),
        ("no-store", "public"),
        ('private="set-cookie, x", no-store',),
        ('community="a \\" b", no-store',),
        ('community="never closed, no-store',),
        ("no-store=1",),
    ],
)
def test_no_store_is_found(values: tuple[str, ...]) -> None:
    assert forbids_storing(headers(*values))


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("",),
        ("private",),
        ("no-cache, max-age=0, must-revalidate",),
        ("no-storee, x-no-store, no - store",),
        ('community="no-store"',),
        ('private="a, no-store, b", max-age=5',),
        ('community="a\\", no-store, \\"b"',),
        ("max-age=no-store",),
    ],
)
def test_what_only_looks_like_it_is_not(values: tuple[str, ...]) -> None:
    assert not forbids_storing(headers(*values))


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1).filter(lambda name: name != "no-store")
QUOTED = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
DIRECTIVE = st.one_of(TOKEN, st.tuples(TOKEN, st.one_of(TOKEN, QUOTED)).map("=".join))
SPACE = st.text(" \t", max_size=2)


@given(st.lists(st.tuples(DIRECTIVE, SPACE), max_size=5), st.integers(0, 5), st.sampled_from(["no-store", "NO-store"]))
def test_any_list_of_directives(others: list[tuple[str, str]], at: int, name: str) -> None:
    parts = [f"{space}{directive}{space}" for directive, space in others]
    assert not forbids_storing(headers(",".join(parts)))
    parts.insert(at, name)
    assert forbids_storing(headers(",".join(parts)))
    assert forbids_storing(headers(*parts))


def test_what_googles_json_api_says_of_every_private_object_is_not_what_its_owner_says() -> None:
    always = {"Pragma": "no-cache", "Expires": "Mon, 01 Jan 1990 00:00:00 GMT"}
    value = "no-cache, no-store, max-age=0, must-revalidate"
    assert not forbids_storing(headers(value, X_Goog_Storage_Class="STANDARD", **always))
    assert forbids_storing(headers(value, X_Goog_Storage_Class="STANDARD"))
    assert forbids_storing(headers(value, **always))
