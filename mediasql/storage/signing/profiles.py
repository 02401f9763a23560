"""What AWS's configuration files say of a profile, read in a tenth of a millisecond: botocore takes 0.3 s to import.

After "Configuration and credential file settings" of the AWS CLI User Guide. It tells objects of one endpoint and
account from those of another, and signs nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import sigv4

# Of regions where buckets of the same names are others.
_PARTITION = re.compile(r"cn-|us-gov-|us-iso[a-z]*-|eu-isoe-|eusc-")
_ACCOUNT = re.compile(r":(\d{12}):")
_SECTION = re.compile(r"\[\s*(?:(profile|services|sso-session)\s+)?[\"']?(.*?)[\"']?\s*\]")


def profile(name: str) -> dict[str, str]:
    """Its settings. Those in groups are named like `s3.endpoint_url`; those of its services are among them."""
    config = _sections(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    credentials = _sections(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    found = {**config.get(("", name), {}), **config.get(("profile", name), {}), **credentials.get(("", name), {})}
    return {**found, **config.get(("services", found.get("services", "")), {})}


def facts(given: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the endpoint and the account, of options and variables that do and of where botocore looks then.

    It follows botocore's order, but for what only a request would tell.
    """
    found = dict(given)
    key, *_ = [found.pop(name, None) for name in ("key", "secret", "token")]
    name = found.get("profile") or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    said = profile(str(name or "default"))
    client = found.get("client_kwargs")
    client = client if isinstance(client, Mapping) else {}
    places = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "endpoint_url")
    if not any(found.get(place) for place in places) and not client.get("endpoint_url"):
        found["endpoint"] = said.get("s3.endpoint_url") or said.get("endpoint_url")
    region = client.get("region_name") or os.environ.get("AWS_DEFAULT_REGION") or said.get("region")
    found["partition"] = match[0] if (match := _PARTITION.match(str(region or ""))) else None
    if not found.get("anon"):
        key = key or (None if found.get("profile") else os.environ.get("AWS_ACCESS_KEY_ID"))
        found["account"], found["keys"] = _whose(key, said)
    return found


def _whose(key: Any, said: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The AWS account, and where that is not known what tells one from another; of a key ID, or of a profile."""
    if key is None:
        role = said.get("role_arn") or os.environ.get("AWS_ROLE_ARN") or ""
        if match := _ACCOUNT.search(f"{role}:{said.get('sso_account_id', '')}:"):
            return match[1], None
        key = said.get("aws_access_key_id")
    account = sigv4.account_of(str(key)) if key else None
    return account, None if account else key or said.get("credential_process")


def _sections(path: str) -> dict[tuple[str, str], dict[str, str]]:
    try:
        lines = Path(path).expanduser().read_text(errors="replace").splitlines()
    except (OSError, RuntimeError):
        return {}
    found: dict[tuple[str, str], dict[str, str]] = {}
    section: dict[str, str] = {}
    group = ""
    for line in lines:
        if match := _SECTION.match(line):
            section = found.setdefault((match[1] or "", match[2]), {})
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip() or line.lstrip()[:1] in ("#", ";"):
            continue
        name = name.strip().lower()
        if line[:1].isspace() and group:
            section[f"{group}.{name}"] = value.strip()
        else:
            group = name
            section[name] = value.strip()
    return found
