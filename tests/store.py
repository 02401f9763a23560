"""The sample store: S3, GCS and a web server on this machine, with sample media, and plain URLs that work.

`python -m tests.store -- COMMAND…` runs a command with the environment set and the servers up. Without a
command it prints the environment as shell lines and serves until Ctrl-C.

s3://media-samples/photos, s3://media-samples/videos and gs://media-samples/audio need no options: the
environment says where the endpoints are and has the credentials. SAMPLES_HTTP is the web server's URL and
SAMPLES_FOLDER a folder with local files.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from mimetypes import guess_type
from pathlib import Path

from tests import sample_media
from tests.servers import gcs, http, s3
from tests.servers.gcs_identity import PROJECT
from tests.servers.server import Server


@dataclass(frozen=True)
class Store:
    """`environment` is what a process needs to reach the samples; `folder` has what sample_media wrote."""

    s3: Server
    gcs: gcs.GcsServer
    http: http.HttpServer
    folder: Path
    environment: dict[str, str]


@contextmanager
def start() -> Iterator[Store]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mediasql-samples-")))
        folder = sample_media.write(home / "samples")
        s3_server = stack.enter_context(s3.start())
        gcs_server = stack.enter_context(gcs.start())
        http_server = stack.enter_context(http.start(folder / "web"))
        for server, root in ((s3_server, folder / "s3"), (gcs_server, folder / "gcs")):
            upload(server, root)
        environment = {
            **s3_environment(s3_server, home),
            **gcs_environment(gcs_server, home),
            "SAMPLES_HTTP": http_server.url,
            "SAMPLES_FOLDER": str(folder / "local"),
            # A cache of its own, so that each run makes the requests that it says it makes.
            "MEDIASQL_CACHE_DIR": str(home / "cache"),
            "NO_PROXY": "127.0.0.1",
        }
        yield Store(s3_server, gcs_server, http_server, folder, environment)


def upload(server: Server, root: Path) -> None:
    for path in sorted(root.rglob("*.*")):
        bucket, _, key = path.relative_to(root).as_posix().partition("/")
        server.put(bucket, key, path.read_bytes(), guess_type(path)[0])


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
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with start() as store:
            return run(command, store) if command else serve(store)
    except KeyboardInterrupt:
        return 130


def run(command: list[str], store: Store) -> int:
    foreign = {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"}
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return subprocess.run(command, env={**kept, **store.environment}, check=False).returncode


def serve(store: Store) -> int:
    for name, value in store.environment.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
