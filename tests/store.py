"""The sample store: S3, GCS, Azure and a web server on this machine, with sample media, and plain URLs that work.

`python -m tests.store -- COMMAND…` runs a command with the environment set and the servers up. Without a
command it prints the environment as shell lines and serves until Ctrl-C. Azure is there when Azurite is installed;
with `--azure` it has to be.

s3://media-samples, gs://media-samples, az://media-samples and https://www.example.com/images need no options: the
environment says where the endpoints are and has the credentials. s3://media-private refuses them, and
s3://public-photos wants none. SAMPLES_HTTP is the web server's own URL and SAMPLES_FOLDER a folder with local files.
tests/sample_media.py has the list of what is where.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.servers import azure, gcs, s3, web
from tests.servers.gcs_identity import PROJECT
from tests.servers.process import ROOT, StartError
from tests.servers.server import Server

CACHE = ROOT / ".cache"
DENIED = ("media-private",)
# Not guess_type, whose answers differ from machine to machine.
CONTENT_TYPES = {
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".zip": "application/zip",
}
# What would lead a command elsewhere; MEDIASQL_ variables are the command's own affair.
FOREIGN = ("AWS_", "AZURE_", "CLOUDSDK_", "FSSPEC_", "GCLOUD_", "GCSFS_", "GOOGLE_", "STORAGE_")


@dataclass(frozen=True)
class Store:
    """`environment` is what a process needs to reach the samples; `folder` has what sample_media wrote."""

    s3: Server
    gcs: gcs.GcsServer
    http: web.WebServer
    azure: azure.AzureServer | None
    folder: Path
    environment: dict[str, str]


@contextmanager
def start(with_azure: bool | None = None) -> Iterator[Store]:
    """Without `with_azure`, Azure is in the store when Azurite is installed."""
    if with_azure is None:
        with_azure = azure.installed()
    if with_azure:
        azure.program()  # says what is missing before anything else starts
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mediasql-samples-")))
        folder = home / "samples"
        servers = (
            s3.start(DENIED),
            gcs.start(),
            web.start(folder / "web"),
            azure.start() if with_azure else nullcontext(),
        )
        with ThreadPoolExecutor() as pool:
            starting = [pool.submit(stack.enter_context, server) for server in servers]
            shutil.copytree(samples(CACHE), folder)
        s3_server, gcs_server, web_server, azure_server = (each.result() for each in starting)
        for server, name in ((s3_server, "s3"), (gcs_server, "gcs"), (azure_server, "azure")):
            if server:
                upload(server, folder / name)
        environment = {
            **s3_environment(s3_server, home),
            **gcs_environment(gcs_server, home),
            **({"AZURE_STORAGE_CONNECTION_STRING": azure_server.connection_string} if azure_server else {}),
            **web_server.environment,
            "SAMPLES_HTTP": web_server.url,
            "SAMPLES_FOLDER": str(folder / "local"),
            # A cache of its own, so that each run makes the requests that it says it makes.
            "MEDIASQL_CACHE_DIR": str(home / "cache"),
        }
        yield Store(s3_server, gcs_server, web_server, azure_server, folder, environment)


def samples(cache: Path) -> Path:
    """A folder under `cache` with what sample_media writes, which takes seconds and is done once per version."""
    source = (ROOT / "tests/sample_media.py").read_bytes()
    versions = f"{version('pillow')} {version('av')}".encode()
    folder = cache / f"samples-{hashlib.sha256(source + versions).hexdigest()[:16]}"
    if folder.exists():
        return folder
    from tests import sample_media  # and with it PyAV and Pillow

    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="samples-", dir=cache) as name:
        written = sample_media.write(Path(name) / "samples")
        try:
            written.rename(folder)
        except OSError:
            if not folder.exists():  # another process was faster
                raise
    return folder


def upload(server: Server, root: Path) -> None:
    for path in sorted(root.rglob("*.*")):
        bucket, _, key = path.relative_to(root).as_posix().partition("/")
        server.put(bucket, key, path.read_bytes(), CONTENT_TYPES[path.suffix])


def s3_environment(server: Server, home: Path) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": s3.KEY,
        "AWS_SECRET_ACCESS_KEY": s3.SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        # Whoever runs the demo may have a profile, which must not mix with these.
        "AWS_CONFIG_FILE": str(home / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "aws-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def gcs_environment(server: gcs.GcsServer, home: Path) -> dict[str, str]:
    credentials = home / "service-account.json"
    credentials.write_text(json.dumps(server.service_account))
    return {
        "STORAGE_EMULATOR_HOST": server.url,
        "FSSPEC_GS_ENDPOINT_URL": server.url,
        "FSSPEC_GCS_ENDPOINT_URL": server.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "NO_GCE_CHECK": "true",
        # By default gcsfs asks for the bucket's type over gRPC, which waits 60 s against plain HTTP.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.store")
    parser.add_argument("--azure", action="store_true", help="fail when Azurite is not installed")
    parser.add_argument("command", nargs="*", help="what to run, after --")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with start(given.azure or None) as store:
            return run(given.command, store) if given.command else serve(store)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(command: list[str], store: Store) -> int:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and not name.lower().endswith("_proxy")
    }
    return subprocess.run(command, env={**kept, **store.environment}, check=False).returncode


def serve(store: Store) -> int:
    for name, value in store.environment.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
