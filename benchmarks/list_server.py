"""`python -m benchmarks.list_server PORT`: a bucket that is only listed, as S3 lists it, each page after a while.

Its keys are `dDDD/oNNNNNN.jpg`, 1,000 to a prefix.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_right
from urllib.parse import parse_qs, unquote, urlsplit

PREFIXES, EACH = 100, 1000
KEYS = [f"d{prefix:03}/o{number:06}.jpg" for prefix in range(PREFIXES) for number in range(EACH)]
SECONDS = 0.05  # that a page takes

_ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>1024</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)
_ENTRIES = [_ENTRY.format(key) for key in KEYS]


def page(query: dict[str, list[str]]) -> str:
    """The answer of ListObjectsV2 (Amazon S3 API Reference)."""
    prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
    after = unquote(query.get("continuation-token", query.get("start-after", [""]))[0])
    most = int(query.get("max-keys", ["1000"])[0])
    at = max(bisect_right(KEYS, after), bisect_right(KEYS, prefix))
    found: list[str] = []
    last = ""
    while at < len(KEYS) and KEYS[at].startswith(prefix) and len(found) < most:
        end = KEYS[at].find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            found.append(_ENTRIES[at])
            last = KEYS[at]
            at += 1
        else:
            last = KEYS[at][: end + 1]
            found.append(f"<CommonPrefixes><Prefix>{last}</Prefix></CommonPrefixes>")
            at = bisect_right(KEYS, last + "\U0010ffff")
    more = at < len(KEYS) and KEYS[at].startswith(prefix)
    token = f"<NextContinuationToken>{KEYS[at - 1]}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>many</Name><Prefix>{prefix}</Prefix><KeyCount>{len(found)}</KeyCount><MaxKeys>{most}</MaxKeys>"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(found)}</ListBucketResult>"
    )


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(SECONDS)
            query = parse_qs(urlsplit(head.split(b" ", 2)[1].decode()).query)
            body = page(query).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(port: int) -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
