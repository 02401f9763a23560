"""Chromium without a window, driven over its DevTools protocol: what a visitor of a page sees."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.servers.process import StartError, running
from tests.servers.server import fetch

# Nothing but what a page asks for, and that of this machine only.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1200,900",
)


@dataclass(frozen=True)
class Response:
    """What the browser got for one of its requests."""

    url: str
    status: int
    headers: dict[str, str]


class Page:
    """A tab. `responses` are those since it was opened; `complaints` what its console says."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, runner: asyncio.Runner) -> None:
        self._socket = socket
        self._runner = runner
        self._numbers = itertools.count()
        self.responses: list[Response] = []
        self.complaints: list[str] = []

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        return self._runner.run(asyncio.wait_for(self._command(method, parameters), 60))

    async def _command(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while (message := await self._socket.receive_json()).get("id") != number:
            self._note(message["method"], message["params"])
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    def _note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Network.responseReceived":
            answer = said["response"]
            headers = {name.lower(): value for name, value in answer["headers"].items()}
            self.responses.append(Response(answer["url"], answer["status"], headers))
        elif method == "Log.entryAdded":
            self.complaints.append(said["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))

    def open(self, url: str) -> None:
        """Go there, and wait until all is loaded that the page loads by itself."""
        self.command("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression, or of its promise."""
        result = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < deadline, f"never: {condition}; {self.complaints}"
            time.sleep(0.05)

    def media(self, name: str, **features: str) -> None:
        """Answer the page's media queries: `page.media("screen", prefers_color_scheme="dark")`."""
        wanted = [{"name": feature.replace("_", "-"), "value": value} for feature, value in features.items()]
        self.command("Emulation.setEmulatedMedia", media=name, features=wanted)

    def picture(self, path: Path) -> None:
        """Write the whole page, as it looks, to a PNG file."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def program() -> str:
    name = os.environ.get("MEDIASQL_TEST_CHROMIUM") or "chromium"
    if (found := shutil.which(name)) is None:
        raise StartError(f"{name} is not installed; `make servers` installs it (or `apt-get install chromium`)")
    return found


@contextmanager
def start() -> Iterator[int]:
    """A browser; the port at which it is driven."""
    found = program()
    with tempfile.TemporaryDirectory(prefix="mediasql-chromium-", ignore_cleanup_errors=True) as folder:

        def command(port: int) -> list[str]:
            return [found, *OPTIONS, f"--user-data-dir={folder}", f"--remote-debugging-port={port}", "about:blank"]

        with running(command) as child:
            yield child.port


@contextmanager
def opened(port: int) -> Iterator[Page]:
    """A new tab of that browser."""
    made = json.loads(fetch(f"http://127.0.0.1:{port}/json/new?about:blank", "PUT").body)
    with asyncio.Runner() as runner:
        session = runner.run(_session())
        try:
            page = Page(runner.run(session.ws_connect(made["webSocketDebuggerUrl"], max_msg_size=0)), runner)
            for domain in ("Page", "Network", "Log", "Runtime"):
                page.command(f"{domain}.enable")
            yield page
        finally:
            runner.run(session.close())
            fetch(f"http://127.0.0.1:{port}/json/close/{made['id']}")


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()
