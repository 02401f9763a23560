"""A server that sends what it is told, byte for byte, over TLS or not."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Sends on a connection what it wants to, for a request; True when another may follow on the same.
Script = Callable[["Exchanged"], bool]


@dataclass
class Exchanged:
    """One request, and the connection to answer it on. `number` counts requests from 0."""

    connection: socket.socket
    request: bytes
    number: int
    ending: threading.Event

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def reset(self) -> None:
        """End the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Below TLS, which would say goodbye.
        socket.socket(fileno=self.connection.detach()).close()

    @property
    def range(self) -> tuple[int, int] | None:
        """The first byte asked for, and the one behind the last."""
        _, found, rest = self.request.lower().partition(b"\r\nrange: bytes=")
        if not found:
            return None
        first, _, last = rest.partition(b"\r\n")[0].partition(b"-")
        return int(first), int(last) + 1


@dataclass
class ScriptedServer:
    url: str
    requests: list[bytes] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)


@contextmanager
def scripted(script: Script, context: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """A server that answers each request by `script`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "https" if context is not None else "http"
        server = ScriptedServer(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), contextlib.closing(connection):
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                while request := receive(connection):
                    number = len(server.requests)
                    server.requests.append(request)
                    if not script(Exchanged(connection, request, number, server.ending)):
                        break
                if connection.fileno() >= 0:
                    connection.shutdown(socket.SHUT_WR)
                    connection.close()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server
        server.ending.set()
        listener.shutdown(socket.SHUT_RDWR)


def receive(connection: socket.socket) -> bytes:
    """The head of one request."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    return data
