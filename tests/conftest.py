"""Fixtures: servers that start when a test first asks for them, and an environment that nobody else set."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import mediasql
from mediasql.sql.loadable import build
from tests import clock as clocks
from tests import realtime, store
from tests.servers import azure, gcs, http, nginx, s3
from tests.servers import gcs_emulator as emulator
from tests.servers.fault import FaultProxy
from tests.servers.server import Server

# Read by gcsfs at import: against anything but Google's own service, its gRPC probe waits 60 s per bucket.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"

# How long examples take, and are in the making, is no property of what is tested; examples share fixtures on purpose.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("any machine")

# Shells ignore it for what they start in the background, and Python leaves it so. Some tests are about Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

FOREIGN = ("AWS_", "GOOGLE_", "GCLOUD_", "CLOUDSDK_", "GCSFS_", "AZURE_", "FSSPEC_", "MEDIASQL_", "STORAGE_")


def pytest_configure(config: pytest.Config) -> None:
    """Tests make our own warnings on purpose; those that are about them look for them."""
    config.addinivalue_line("filterwarnings", "ignore::mediasql.MediaWarning")


def pytest_collection_finish() -> None:
    """Take thousands of tests out of the garbage collector's sight, or it would go through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No credentials, endpoints, proxies or caches of whoever runs the tests; the new HOME."""
    for name in list(os.environ):
        if name.startswith("MEDIASQL_TEST_"):
            continue
        if name.startswith(FOREIGN) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "aws-credentials"))
    monkeypatch.setenv("BOTO_CONFIG", str(home / "boto"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    monkeypatch.setenv("MEDIASQL_CACHE_DIR", str(home / "mediasql-cache"))
    return home


def server_fixture(name: str, start: Callable[[], AbstractContextManager[Server]]) -> object:
    """One server for the whole session. A test that counts requests begins with `server.reset()`."""

    @pytest.fixture(scope="session", name=name)
    def fixture() -> Iterator[Server]:
        with start() as server:
            yield server

    return fixture


nothing_is_real_time = realtime.nothing_is_real_time
clock = clocks.clock
s3_server = server_fixture("s3_server", s3.start)
gcs_server = server_fixture("gcs_server", gcs.start)
gcs_emulator = server_fixture("gcs_emulator", emulator.start)
azure_server = server_fixture("azure_server", azure.start)
http_server = server_fixture("http_server", http.start)
nginx_server = server_fixture("nginx_server", nginx.start)


@pytest.fixture(scope="session")
def loadable() -> str:
    """The path of the loadable extension, built from the sources as they are."""
    if not build.is_current():
        build.build()
    return mediasql.loadable_path()


@pytest.fixture(scope="session")
def sample_store() -> Iterator[store.Store]:
    """The sample media in S3, GCS, on the web and in a folder. See `sample_environment`."""
    with store.start() as running:
        yield running


@pytest.fixture
def sample_environment(sample_store: store.Store, environment: Path, monkeypatch: pytest.MonkeyPatch) -> store.Store:
    """The store, with its variables set in this process: plain `s3://media-samples/…` URLs work."""
    for name, value in sample_store.environment.items():
        if name != "MEDIASQL_CACHE_DIR":  # the test's own
            monkeypatch.setenv(name, value)
    return sample_store


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[int], FaultProxy]]:
    """`fault_proxy(server.port)` gives a proxy with no fault yet, gone when the test ends."""
    with ExitStack() as stack:
        yield lambda upstream_port: stack.enter_context(FaultProxy(upstream_port))
