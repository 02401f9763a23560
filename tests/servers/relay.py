"""Another program's server behind our log and test paths: requests pass through unchanged."""

from __future__ import annotations

import asyncio
import http.client

from tests.servers.wire import Answer, Call

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class Relay:
    def __init__(self, port: int) -> None:
        self.port = port

    async def handle(self, call: Call) -> Answer:
        return await asyncio.to_thread(self.forward, call)

    def forward(self, call: Call) -> Answer:
        """Host stays the client's, since signatures cover it."""
        upstream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            upstream.putrequest(call.method, call.target, skip_host=True, skip_accept_encoding=True)
            for name, value in call.headers.items():
                if name not in HOP_BY_HOP | {"content-length"}:
                    upstream.putheader(name, value)
            if call.body or "content-length" in call.headers:
                upstream.putheader("content-length", str(len(call.body)))
            upstream.endheaders(call.body)
            response = upstream.getresponse()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
            return Answer(response.status, response.read(), headers)
        finally:
            upstream.close()
