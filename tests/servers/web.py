"""www.example.com, on http and https: the web server of http.py, which is its own forward proxy.

With `http_proxy` and `https_proxy` set to its URL and `SSL_CERT_FILE` to its certificate, a URL can be written down
that names no port: `https://www.example.com/images/photo.jpg`. Through the proxy no other host can be reached.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.servers.http import HttpServer, Site
from tests.servers.process import python_module, running
from tests.servers.wire import Answer, Call, Service, serve

HOST = "www.example.com"
DIRECT = "127.0.0.1,localhost"


@dataclass(frozen=True)
class WebServer(HttpServer):
    """`certificate` is the PEM file of the authority that vouches for HOST."""

    certificate: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process reach HOST here, and nothing else but this machine."""
        settings = {"http_proxy": self.url, "https_proxy": self.url, "no_proxy": DIRECT}
        # Some programs read the one spelling, some the other.
        upper = {name.upper(): value for name, value in settings.items()}
        return {**settings, **upper, "SSL_CERT_FILE": str(self.certificate)}


@contextmanager
def start(folder: Path | None = None) -> Iterator[WebServer]:
    """Serve what is put, and the files under `folder`."""
    with tempfile.TemporaryDirectory(prefix="mediasql-web-") as name:
        certificates = Path(name)
        with running(python_module("tests.servers.web", name, *([str(folder)] if folder else []))) as child:
            yield WebServer(child.port, {}, certificates / "authority.pem")


class Web(Service):
    def __init__(self, site: Site, tls: ssl.SSLContext) -> None:
        super().__init__(site.handle, site.put, reset=site.visits.clear)
        self.tls = tls

    async def turn(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        """After CONNECT, the client's connection goes on in TLS."""
        if call.method != "CONNECT" or call.target.lower() != f"{HOST}:443":
            return await super().turn(call, writer)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.start_tls(self.tls)
        return True

    async def answer(self, call: Call) -> Answer:
        """A proxy is asked for whole URLs (RFC 9112, section 3.2.2)."""
        if call.target.startswith("/"):
            return await super().answer(call)
        scheme, _, rest = call.target.rpartition("://")
        host, _, path = rest.partition("/")
        if scheme != "http" or host.lower().removesuffix(":80") != HOST:
            return Answer(502, f"{host} cannot be reached: this proxy has {HOST} and nothing else\n".encode())
        return await super().answer(replace(call, target=f"/{path}"))


def certify(folder: Path) -> ssl.SSLContext:
    """TLS for HOST, by an authority of the moment whose certificate goes to folder/authority.pem."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer, subject = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("mediasql test authority", HOST)
    )
    known_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    authority = (
        certificate(issuer, issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(known_by, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        certificate(subject, issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage("digital_signature"), critical=True)
        .add_extension(known_by, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    (folder / "authority.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    own = folder / "server.pem"
    own.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + leaf.public_bytes(Encoding.PEM)
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own)
    return tls


def certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def key_usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: name in names for name in every})


if __name__ == "__main__":
    port, certificates, *folder = sys.argv[1:]
    site = Site(Path(folder[0]) if folder else None)
    serve(Web(site, certify(Path(certificates))), int(port))
