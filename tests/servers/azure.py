"""Azure Blob Storage: Microsoft's Azurite (from npm), which checks Shared Key and SAS signatures."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import ROOT, StartError, python_module, running
from tests.servers.relay import Relay
from tests.servers.server import Server
from tests.servers.wire import Service, serve

ACCOUNT = "devstoreaccount1"
# Azurite's published key, not a secret: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class AzureServer(Server):
    """Azurite has the account in the path, unlike the real service: `endpoint` is what takes a container."""

    account: str = ACCOUNT
    key: str = KEY

    @property
    def endpoint(self) -> str:
        return f"{self.url}/{self.account}"

    @property
    def connection_string(self) -> str:
        return connection_string(self.port)


def connection_string(port: int) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
    )


def installed() -> bool:
    return place().exists()


def place() -> Path:
    return Path(os.environ.get("MEDIASQL_TEST_AZURITE") or ROOT / "node_modules/.bin/azurite-blob")


def program() -> Path:
    path = place()
    if not path.exists():
        raise StartError("Azurite is not installed; `make servers` installs it (or `npm install --no-save azurite@3`)")
    return path


@contextmanager
def start() -> Iterator[AzureServer]:
    program()
    with running(python_module("tests.servers.azure")) as child:
        options = {
            "account_name": ACCOUNT,
            "account_key": KEY,
            "connection_string": connection_string(child.port),
        }
        yield AzureServer(child.port, dict.fromkeys(("az", "abfs", "abfss"), options))


class Azurite(Relay):
    def __init__(self, port: int) -> None:
        # 0.3 s, and only the server process needs them.
        from azure.core.pipeline.transport import RequestsTransport
        from azure.storage.blob import BlobServiceClient

        super().__init__(port)
        self.client = BlobServiceClient.from_connection_string(
            connection_string(port),
            retry_total=0,
            transport=RequestsTransport(use_env_settings=False),  # no proxy on the way to this machine
        )
        self.containers: set[str] = set()

    def put(self, bucket: str, key: str, data: bytes, content_type: str | None) -> None:
        from azure.storage.blob import ContentSettings

        container = self.client.get_container_client(bucket)
        if bucket not in self.containers and not container.exists():
            container.create_container()
        self.containers.add(bucket)
        settings = ContentSettings(content_type=content_type) if content_type else None
        container.upload_blob(key, data, overwrite=True, content_settings=settings)


def azurite(port: int, folder: str) -> list[str]:
    where = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder]
    # The SDK announces API versions that Azurite learns of only months later.
    return [str(program()), *where, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory(prefix="mediasql-azurite-") as folder,
        running(lambda port: azurite(port, folder)) as child,
    ):
        server = Azurite(child.port)
        serve(Service(server.handle, server.put), int(sys.argv[1]))
