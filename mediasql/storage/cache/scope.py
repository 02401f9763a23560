"""For whom objects are kept: the endpoint and the account, as far as the configuration tells, and no secret.

What is known to be none is told in clear; all else goes into one digest, salted, so that another password or option
makes another scope, and nobody reads it out of the cache.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from ...errors import redact
from ..imports import importing

_CLEAR = re.compile(
    r"(?:[a-z0-9]{1,12}\.)?(?:client_kwargs\.)?(?:endpoint|endpoint_url|region|region_name|partition|project|account"
    r"|account_name|account_host|AccountName|BlobEndpoint|EndpointSuffix|tenant_id|client_id|user|username|host|port"
    r"|anon|profile|requester_pays|use_ssl|policy)"
)
_ENDPOINT = re.compile(r"endpoint|host|url", re.IGNORECASE)
_TOLD = re.compile(r"[\w.:/@+\\-]{1,200}")
# Attributes of credential objects that tell whose they are, and stay when the credentials are renewed.
_WHOSE = re.compile(
    r"_*(?:service_account_email|signer_email|account|account_name|account_key|client_id|tenant_id|user|username|login"
    r"|principal|project_id|quota_project_id|profile|profile_name|refresh_token|access_key|access_key_id|named_key)"
)
_numbers: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def scope(kind: str, facts: Mapping[str, Any], clear: Collection[str], salt: Callable[[], bytes]) -> str:
    """What tells the objects of one configuration of a store from those of another.

    facts  options and what else decides, by name; `clear` are names of which no value is a secret
    """
    told, hidden = {}, []
    for name, value in sorted(_flat(facts)):
        shown = _shown(name, value) if name in clear or _CLEAR.fullmatch(name) else ""
        if shown:
            told[name] = shown
        if shown != value:
            hidden.append((name, value))
    if hidden:
        text = repr(hidden).encode(errors="surrogatepass")
        told["others"] = blake2b(text, digest_size=8, key=salt()).hexdigest()
    return " ".join([kind, *(f"{name}={value}" for name, value in told.items())])


def _flat(facts: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Facts with those inside of them, such as `client_kwargs.region_name`, as text."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", _text(value)


def _shown(name: str, value: str) -> str:
    """A name, or the scheme and host of an address; '' where it looks like anything else."""
    if _ENDPOINT.search(name):
        start, mark, rest = value.partition("://") if "://" in value else ("", "", value)
        value = start + mark + re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return value if _TOLD.fullmatch(value) and redact(value) == value else ""


def _text(value: Any) -> str:
    """The same text for the same value, in each process."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | bytes):
        return repr(value)
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, Set):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {text}' for name, text in sorted(_flat(value)))}}}"
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return f"{_text(type(value))} {_whose(value)}"


def _whose(value: Any) -> str:
    """Whose credentials an object holds. One that does not tell is nobody else's, and nobody's in another process."""
    attributes = getattr(value, "__dict__", {})
    told = {name: held for name, held in attributes.items() if isinstance(held, str | tuple) and _WHOSE.fullmatch(name)}
    told = {name: _text(held) for name, held in told.items() if held}
    if told:
        return repr(sorted(told.items()))
    with suppress(TypeError):
        return _numbers.setdefault(value, secrets.token_hex(8))
    return secrets.token_hex(8)


def configured(protocols: Collection[str] | None = None) -> dict[str, Any]:
    """The options that fsspec takes from its files and variables for these protocols; for all, by protocol.

    Importing fsspec for that would take longer than a scan of known answers.
    """
    found: dict[str, dict[str, Any]] = {}
    if "fsspec.config" in sys.modules:
        with importing("fsspec.config"):
            from fsspec.config import conf

        found = conf
    else:
        with suppress(OSError, RuntimeError, ValueError, TypeError):  # RuntimeError: there is no home directory
            _read_files(Path(os.environ.get("FSSPEC_CONFIG_DIR") or Path.home() / ".config" / "fsspec"), found)
        _read_variables(found)
    if protocols is None:
        return dict(found)
    return {name: value for protocol in protocols for name, value in found.get(protocol, {}).items()}


def _read_files(folder: Path, found: dict[str, dict[str, Any]]) -> None:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            given: Mapping[str, Any] = json.loads(path.read_text())
        elif path.suffix == ".ini":
            from configparser import ConfigParser

            parser = ConfigParser()
            parser.read(path)
            given = {name: parser[name] for name in parser.sections()}
        else:
            continue
        for protocol, options in given.items():
            found.setdefault(protocol, {}).update(options)


def _read_variables(found: dict[str, dict[str, Any]]) -> None:
    for name, value in sorted(os.environ.items(), key=lambda pair: pair[0].count("_") > 1):
        prefix, _, rest = name.partition("_")
        protocol, _, option = rest.lower().partition("_")
        if prefix != "FSSPEC" or not protocol:
            continue
        with suppress(ValueError):
            value = json.loads(value)
        if option:
            found.setdefault(protocol, {})[option] = value
        elif isinstance(value, Mapping):
            found.setdefault(protocol, {}).update(value)
