"""Presigned URLs a second, which need no request: ours for S3 and Azure, and botocore's for S3."""

from __future__ import annotations

import base64
import calendar
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

from benchmarks.child import Clock
from benchmarks.runs import Bench, Result, summary

REGION, HOST = "eu-central-1", "bucket.s3.eu-central-1.amazonaws.com"
ACCESS, SECRET = "AKIDTEST", "SECRETTEST"
SECONDS = 3600


def paths(count: int) -> Iterator[str]:
    return (f"photos/2026/{number:08d}.jpg" for number in range(count))


def ours(at: float | None = None) -> Callable[[str], str]:
    """What presigns a key of the bucket, now or at that time."""
    from mediasql.storage.signing.sigv4 import Keys, QuerySigner, encode_path

    clock = time.time if at is None else lambda: at
    signer = QuerySigner(Keys(ACCESS, SECRET), REGION, f"https://{HOST}", HOST, clock=clock)
    return lambda path: signer.url("/" + encode_path(path), SECONDS)


def theirs() -> Callable[[str], str]:
    import botocore.session
    from botocore.config import Config

    client = botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=f"https://{HOST.partition('.')[2]}",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}),
    )
    return lambda path: str(client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": path}, SECONDS))


def azure() -> Callable[[str], str]:
    from mediasql.storage.signing.sas import SasSigner

    signer = SasSigner("account", "photos", base64.b64encode(b"key" * 10).decode())
    return lambda path: signer.blob(path, SECONDS)


CASES = {"S3": ours, "S3, botocore": theirs, "Azure": azure}


def presign(folder: str, case: str, count: int) -> Result:
    sign = CASES[case]()
    sign("warm.jpg")
    wrong = 0
    if case == "S3, botocore":  # the same URL as ours of that second
        url = urlsplit(sign("a b.jpg"))
        stamp = parse_qs(url.query)["X-Amz-Date"][0]
        at = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
        mine = urlsplit(ours(at)("a b.jpg"))
        wrong = int((mine.path, parse_qs(mine.query)) != (url.path, parse_qs(url.query)))
    clock = Clock()
    with clock.running():
        made = {sign(path) for path in paths(count)}
    return clock.result(wrong=wrong + (len(made) != count))


def signing(bench: Bench) -> list[Result]:
    count = bench.sizes["presigned"]
    rows: list[Result] = []
    for case in CASES:
        bench.say(f"{count} presigned URLs: {case}")
        runs = [bench.run(presign, case=case, count=count) for _ in range(bench.repeat)]
        kept = ("files", "seconds", "spread", "per_second", "correct")
        rows.append({"case": case, **{key: summary(runs, count)[key] for key in kept}})
    baseline = next(row["per_second"] for row in rows if "botocore" in row["case"])
    return [row | {"x_botocore": row["per_second"] / baseline} for row in rows]


PARTS: dict[str, Callable[[Bench], list[Result]]] = {"signing": signing}
