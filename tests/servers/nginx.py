"""nginx: what most HTTP media sit behind, and fast enough (5,000 requests a second) to measure against.

Beside the files, `/norange/…` answers ranges with 200, `/novalidators/…` has neither ETag nor Last-Modified,
`/limited/…` allows 20 requests a second and then answers 429, `/few/…` allows 10 connections at a time and then answers
503, `/lat/SECONDS/…` waits before it serves. With an authority it speaks TLS too, and HTTP/2 on a port of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.authority import Authority
from tests.servers.process import StartError, free_port, running
from tests.servers.server import Request, Server, fetch
from tests.waiting import eventually

# tcp_nopush, which Debian's own configuration turns on, delays small ranges on loopback by 40 ms.
CONFIGURATION = """
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
worker_processes 1; pid logs/nginx.pid; error_log logs/error.log warn; daemon off;
events { worker_connections 4096; }
http {
  include /etc/nginx/mime.types; default_type application/octet-stream;
  log_format json escape=json '{"method":"$request_method","path":"$request_uri","status":$status,'
                              '"bytes":$body_bytes_sent,"range":"$http_range","at":$msec}';
  access_log logs/access.log json;
  sendfile on; tcp_nopush off; keepalive_requests 1000000;
  client_body_temp_path tmp/b; proxy_temp_path tmp/p; fastcgi_temp_path tmp/f; uwsgi_temp_path tmp/u;
  scgi_temp_path tmp/s;
  limit_req_zone $server_name zone=few:1m rate=20r/s;
  limit_conn_zone $binary_remote_addr zone=ten:1m;
  server {
    listen 127.0.0.1:PORT backlog=1024; server_name any;
    TLS
    root FOLDER/files;
    location / { autoindex on; }
    location /norange/ { alias FOLDER/files/; max_ranges 0; }
    location /novalidators/ { alias FOLDER/files/; etag off; if_modified_since off;
                              add_header Last-Modified ""; }
    location /limited/ { alias FOLDER/files/; limit_req zone=few burst=5 nodelay; limit_req_status 429;
                         add_header Retry-After 1 always; }
    location ~ ^/few/(?<rest>.*)$ { limit_conn ten 10; limit_conn_status 503; echo_sleep 0.01; echo_exec /$rest; }
    location /r302/ { rewrite ^/r302/(.*)$ /$1 redirect; }
    location ~ ^/lat/(?<seconds>[0-9.]+)/(?<rest>.*)$ { echo_sleep $seconds; echo_exec /$rest; }
  }
}
"""

TLS = """listen 127.0.0.1:{tls} ssl backlog=1024; listen 127.0.0.1:{http2} ssl http2 backlog=1024;
    ssl_certificate {certificate}; ssl_certificate_key {key};"""


@dataclass(frozen=True)
class NginxServer(Server):
    """A bucket is a folder under `folder`, and may be empty; large trees may be written there directly."""

    folder: Path
    tls_url: str = ""
    http2_url: str = ""

    @property
    def log(self) -> Path:
        return self.folder.parent / "logs/access.log"

    def put(self, bucket: str, key: str, data: bytes, content_type: str | None = None) -> None:
        path = self.folder / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def seed(self, bucket: str, n: int, size: int = 1024) -> None:
        for index in range(n):
            self.put(bucket, f"d{index // 1000:03d}/o{index:06d}.jpg", b"x" * size)

    def requests(self) -> list[Request]:
        # nginx logs after it has answered, each request before the next.
        mark = f"/{uuid.uuid4()}"
        fetch(self.url + mark)
        logged = eventually(lambda: text if mark in (text := self.log.read_text()) else "")
        return [request for request in map(parsed, logged.splitlines()) if request.path != mark]

    def reset(self) -> None:
        os.truncate(self.log, 0)


@contextmanager
def start(authority: Authority | None = None) -> Iterator[NginxServer]:
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if not program:
        raise StartError("nginx is not installed; `make servers` installs it")
    with tempfile.TemporaryDirectory(prefix="mediasql-nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, nginx reads files as another user
        for part in ("files", "logs", "tmp"):
            (folder / part).mkdir()
        tls, urls = "", ("", "")
        if authority is not None:
            certificate, key = authority.issue("127.0.0.1", "localhost")
            ports = free_port(), free_port()
            urls = f"https://127.0.0.1:{ports[0]}", f"https://127.0.0.1:{ports[1]}"
            tls = TLS.format(certificate=certificate, key=key, tls=ports[0], http2=ports[1])
        with running(lambda port: command(program, folder, port, tls)) as child:
            yield NginxServer(child.port, {}, folder / "files", *urls)


def command(program: str, folder: Path, port: int, tls: str = "") -> list[str]:
    settings = CONFIGURATION.replace("PORT", str(port)).replace("FOLDER", str(folder)).replace("TLS", tls)
    (folder / "nginx.conf").write_text(settings)
    # The shell ends nginx when our end of its stdin closes: no orphan if the tests are killed.
    script = '"$@" & server=$!; trap "kill $server; wait" TERM; cat; kill $server; wait'
    arguments = ["-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "logs/error.log")]
    return ["/bin/sh", "-c", script, "sh", program, *arguments]


def parsed(line: str) -> Request:
    entry = json.loads(line)
    path, _, query = entry["path"].partition("?")
    return Request(**{**entry, "path": path, "query": query, "range": entry["range"] or None})
