"""The names that the package exports: all of them there, documented, and no others."""

from __future__ import annotations

import inspect
import subprocess
import sys

import mediasql

NAMES = {
    *(
        "Config",
        "MediaConnection",
        "MediaCursor",
        "connect",
        "load",
        "loadable_path",
        "media_function",
        "register",
        "filesystem",
        "errors",
        "__version__",
    ),
    *("MediaError", "UsageError", "UnknownScheme", "ConfigError", "MissingExtra", "CredentialsError", "SigningError"),
    *("ForbiddenByPolicy", "MediaWarning", "CacheWarning"),
    *("load_ipython_extension", "unload_ipython_extension"),
    *("UnavailableError", "NotFound", "Forbidden", "DecodeError", "Unsupported", "TransientError"),
}


def test_exported_names() -> None:
    assert set(mediasql.__all__) == NAMES
    assert mediasql.__all__ == sorted(mediasql.__all__)
    for name in NAMES - {"__version__"}:
        assert inspect.getdoc(getattr(mediasql, name)), name


def test_all_errors_are_exported_and_drawn() -> None:
    kinds = {
        name
        for name, value in vars(mediasql.errors).items()
        if inspect.isclass(value) and issubclass(value, mediasql.MediaError | mediasql.MediaWarning)
    }
    assert kinds <= NAMES
    tree = mediasql.errors.__doc__ or ""
    for name in kinds:
        assert f"{name} " in tree or f"{name}\n" in tree, name
        parent = getattr(mediasql, name).__base__.__name__
        assert parent in ("Exception", "UserWarning") or tree.index(parent) < tree.index(f" {name} "), name


def test_the_import_is_light() -> None:
    heavy = "{'aiohttp', 'av', 'PIL', 's3fs', 'gcsfs', 'apsw', 'fsspec'}"
    script = f"import sys, mediasql; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
