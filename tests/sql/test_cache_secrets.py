"""Whatever is configured and asked for: no secret of it is in any byte of the cache."""

from __future__ import annotations

import gc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.media import answers
from tests.sql.conftest import Web

SECRETS = st.text("ABCdef0123456789-_~", min_size=6, max_size=20).map(lambda text: f"HU{text}SH")
PLACES = st.sampled_from(
    [
        "http://{secret}@{host}/{name}",
        "http://ada:{secret}@{host}/{name}",
        "http://{host}/{name}?access_key={secret}",
        "http://{host}/{name}?size=3&jwt={secret}&code={secret}",
        "http://{host}/{name}?sessionid={secret}#token={secret}",
        "http://{host}/{name}?X-Amz-Algorithm=a&X-Amz-Credential={secret}&X-Amz-Date=d&X-Amz-Expires=1"
        "&X-Amz-SignedHeaders=h&X-Amz-Signature={secret}&X-Amz-Security-Token={secret}",
        "http://{host}/{name}?AWSAccessKeyId={secret}&Signature={secret}",
    ]
)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"headers": {"Authorization": "Bearer {secret}"}},
    {"headers": {"X-Anything": "{secret}"}, "cookies": {"session": "{secret}"}},
    {"username": "ada", "password": "{secret}"},
    {"client_kwargs": {"params": {"sig": "{secret}"}, "proxy": "http://ada:{secret}@proxy"}},
]


def filled(value: Any, secret: str) -> Any:
    if isinstance(value, dict):
        return {name: filled(inner, secret) for name, inner in value.items()}
    return value.replace("{secret}", secret)


ASKED = st.tuples(PLACES, SECRETS, st.sampled_from(["p1.jpg", "none.jpg", "text.jpg"]))


@given(st.lists(ASKED, min_size=1, max_size=4), st.sampled_from(OPTIONS), SECRETS)
@settings(max_examples=25)
def test_no_byte_of_the_cache_tells(
    web: Web, asked: list[tuple[str, str, str]], options: dict[str, Any], password: str
) -> None:
    host = web.server.url.removeprefix("http://")
    secrets = [password, *(secret for _, secret, _ in asked)]
    with TemporaryDirectory() as folder:
        config: dict[str, Any] = {"cache_dir": folder, "storage_options": {"http": filled(options, password)}}
        con = mediasql.connect(timeout=20, **config)
        con.execute("SELECT width(?1), content(?1)", (web.url(2),)).fetchall()
        for place, secret, name in asked:
            url = place.format(host=host, secret=secret, name=name)
            con.execute("SELECT width(?1), content(?1), media_error(?1)", (url,)).fetchall()
        con.execute("SELECT * FROM media_cache").fetchall()
        con.close()
        kept = answers.opened(mediasql.Config.load(**config))
        assert kept is not None
        kept.flush()
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        written = b"".join(path.read_bytes() for path in files) + "".join(map(str, files)).encode()
        assert web.url(2).encode() in written
        assert [secret for secret in secrets if secret.encode() in written] == []
        kept.close()
        gc.collect()
