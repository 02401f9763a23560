"""Which certificates of servers are believed."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Any

from .exchange import Tls

# The first that is set counts; requests, curl and OpenSSL read these.
FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def from_environment() -> Tls:
    """Return what the environment says, else the system's store, else that of certifi."""
    return _found(tuple(os.environ.get(name) for name in (*FILES, "SSL_CERT_DIR")))


def of_store(verify: object, bundle: str | None) -> Tls | None:
    """Return what the options of a store say, None where they say nothing: `verify` as requests and botocore take it
    (False, or a path), `bundle` the path of a file or folder."""
    if verify is False:
        return Tls(verify=False)
    path = verify if isinstance(verify, str) and verify else bundle
    if not path:
        return None
    return Tls(ca_dir=path) if os.path.isdir(path) else Tls(ca_file=path)


@lru_cache(16)
def _found(values: tuple[str | None, ...]) -> Tls:
    *files, folder = values
    file = next(filter(None, files), None)
    if file is not None and os.path.isdir(file):  # REQUESTS_CA_BUNDLE may name a folder
        file, folder = None, file
    if file or folder:
        return Tls(ca_file=file, ca_dir=folder)
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(os.scandir(paths.capath))):
        return Tls(ca_file=paths.cafile, ca_dir=paths.capath)
    import certifi

    return Tls(ca_file=certifi.where())


def apply(curl: Any, tls: Tls) -> None:
    """Set these on a new handle of libcurl."""
    import pycurl

    curl.setopt(pycurl.SSL_VERIFYPEER, int(tls.verify))
    curl.setopt(pycurl.SSL_VERIFYHOST, 2 if tls.verify else 0)
    for option, value in (
        (pycurl.CAINFO, tls.ca_file),
        (pycurl.CAPATH, tls.ca_dir),
        (pycurl.SSLCERT, tls.client_cert),
        (pycurl.SSLKEY, tls.client_key),
    ):
        if value is not None:
            curl.setopt(option, value)


@lru_cache(16)
def context(tls: Tls) -> ssl.SSLContext:
    """Return the same for Python's ssl module."""
    made = ssl.create_default_context(cafile=tls.ca_file, capath=tls.ca_dir)
    # Python 3.13 began to insist on details of RFC 5280 that authorities of one's own often lack, and libcurl does not.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if tls.client_cert:
        made.load_cert_chain(tls.client_cert, tls.client_key)
    return made
