from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql import ConfigError
from mediasql.config import Config


def test_keyword_before_environment_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Config.load().timeout == 60
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "7.5")
    monkeypatch.setenv("MEDIASQL_ON_ERROR", "raise")
    monkeypatch.setenv("MEDIASQL_MAX_AGE", "none")
    monkeypatch.setenv("MEDIASQL_PROGRESS", "off")
    monkeypatch.setenv("MEDIASQL_STORAGE_OPTIONS", '{"s3": {"anon": true}}')
    loaded = Config.load(timeout=3)
    assert (loaded.timeout, loaded.on_error, loaded.max_age, loaded.progress) == (3, "raise", None, False)
    assert Config.load().timeout == 7.5
    assert loaded.options_for("s3://b/k", "s3") == {"anon": True}


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("on", True), ("True", True), ("0", False), ("off", False)]
)
def test_a_switch(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    assert Config.load().trust_schema is False
    monkeypatch.setenv("MEDIASQL_TRUST_SCHEMA", value)
    assert Config.load().trust_schema is expected
    assert Config.load(trust_schema=not expected).trust_schema is not expected


def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "")
    assert Config.load().timeout == 60


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *(("timeout", value, "positive number of seconds") for value in (0, -1, "x", "inf", "nan", None, True, [], "")),
        *(("concurrency", value, "whole number of 1 or more") for value in (0, 2.5, "x", float("inf"), None, "1e400")),
        *(("max_age", value, "0 or more, or None") for value in (-1, "never", "nan", {})),
        *(("on_error", value, "'null' or 'raise'") for value in ("RAISE", None, 1, [])),
        *(("progress", value, "'on', 'off' or 'auto'") for value in ("yes", 2, "")),
        *(("trust_schema", value, "'on' or 'off'") for value in ("auto", None, 2, "yes")),
    ],
)
def test_a_bad_value_is_named_with_what_is_valid(name: str, value: object, wanted: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config.load(**{name: value})
    assert str(error.value).startswith(f"{name}: {value!r} is not valid; ")
    assert wanted in str(error.value)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASQL_CONCURRENCY", "many")
    with pytest.raises(ConfigError, match="MEDIASQL_CONCURRENCY: 'many' is not valid; a whole number"):
        Config.load()


@pytest.mark.parametrize("value", ["{hunter2", '"hunter2"', {"s3": "hunter2"}, [("s3", "hunter2")], {1: {}}, 5, None])
def test_storage_options_are_never_shown(value: object) -> None:
    with pytest.raises(ConfigError, match="a mapping of schemes or URL prefixes") as error:
        Config.load(storage_options=value)
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in repr(Config.load(storage_options={"s3": {"secret": "hunter2"}}))


def test_an_unknown_option_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"no option 'time_out'; there are: timeout, .*storage_options"):
        Config.load(time_out=3)


def test_a_config_does_not_change() -> None:
    given_options = {"s3": {"anon": True}}
    config = Config.load(storage_options=given_options)
    given_options["s3"]["anon"] = False
    assert config.options_for("s3://b/k", "s3") == {"anon": True}
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.timeout = 1  # type: ignore[misc]


def test_every_option_is_described() -> None:
    assert set(Config.describe()) == {option.name for option in dataclasses.fields(Config)}
    assert all(Config.describe().values())


@pytest.mark.parametrize(
    ("url", "scheme", "expected"),
    [
        ("s3://other/k", "s3", "scheme"),
        ("s3://data", "s3", "bucket"),
        ("s3://data/k", "s3", "bucket"),
        ("S3://data/k", "s3", "bucket"),
        ("s3://database/k", "s3", "scheme"),
        ("s3://data/raw/k", "s3", "folder"),
        ("s3://data/rawest/k", "s3", "bucket"),
        ("s3://data/raw?x", "s3", "folder"),
        ("gs://data/raw", "gs", None),
    ],
)
def test_the_longest_prefix_wins_where_a_path_ends(url: str, scheme: str, expected: str | None) -> None:
    options = {
        "s3://data/raw/": {"from": "folder"},
        "s3": {"from": "scheme", "kept": 1},
        "s3://data": {"from": "bucket"},
    }
    found = Config.load(storage_options=json.dumps(options)).options_for(url, scheme)
    assert found.get("from") == expected
    assert found.get("kept") == (1 if expected else None)


@given(st.lists(st.text("ab/", max_size=5), max_size=4), st.text("ab/", max_size=8))
def test_options_come_from_prefixes_only(prefixes: list[str], path: str) -> None:
    options = {f"s3://{prefix}": {prefix.rstrip("/"): True} for prefix in prefixes}
    found = Config.load(storage_options=options).options_for(f"s3://{path}", "s3")
    expected = {p.rstrip("/") for p in prefixes if f"{path}/".startswith(f"{p.rstrip('/')}/") or not p.strip("/")}
    assert set(found) == expected
