"""Writes the parts of README.md that are made by running: `python -m tests.readme`, or `make readme`.

They stand between `<!-- begin KIND ARGUMENT -->` and `<!-- end -->`. Addresses that differ between runs (the ports of
the sample stores) are replaced by fixed ones; nothing else is.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import mediasql
from mediasql.config import Config
from mediasql.sql.registry import examples, functions, summary, tables
from tests import store

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_PART = re.compile(r"(<!-- begin (\w+)(?: (\S+))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_ENTRY = re.compile(r"^(?:\| |\*\*)`(\w+)(?:\(([^`]*)\))?`(.*)$", re.MULTILINE)
STATEMENTS_ONLY = "Statements only."

FAMILIES = {
    "properties": "Any media",
    "image": "Images and video",
    "timed": "Video and audio",
    "make": "Pictures made of them",
    "url": "URLs",
    "cache": "The cache",
    "control": "mediasql itself",
}


def render(text: str) -> str:
    """The README with all its generated parts made anew. The sample stores must be running."""
    return _PART.sub(lambda part: f"{part[1]}{_KINDS[part[2]](part[3])}{part[5]}", text)


@dataclass(frozen=True)
class Entry:
    """What README.md says of one function, table or Python name."""

    arguments: tuple[str, ...]
    text: str

    @property
    def arities(self) -> range:
        """How many arguments it takes: those in brackets are optional."""
        return range(sum(not name.startswith("[") for name in self.arguments), len(self.arguments) + 1)


def reference(kind: str) -> dict[str, Entry]:
    """The entries of README.md's reference of 'functions', 'tables' or 'names', as it stands there now."""
    (text,) = (part[4] for part in _PART.finditer(README.read_text()) if part[2] == kind)
    if kind == "tables":  # of which each column has a line, too
        text = "\n".join(line for line in text.splitlines() if line.startswith("**"))
    return {name: Entry(tuple(filter(None, given.split(", "))), said) for name, given, said in _ENTRY.findall(text)}


def _example(name: str) -> str:
    sys.path.insert(0, str(ROOT / "sql_examples"))
    from demo import transcript

    parts: list[str] = []
    quiet: list[str] = []
    with _directory(Path(os.environ["SAMPLES_FOLDER"]).parent):
        for statement, output in transcript((ROOT / "sql_examples" / f"{name}.sql").read_text()):
            quiet.append(statement)
            if output:
                parts.append(_block("sql", "\n".join(quiet)) + _block("text", _stable(output)))
                quiet = []
    if quiet:
        parts.append(_block("sql", "\n".join(quiet)))
    return "".join(parts)


def _script(name: str) -> str:
    """The code of a Python example, and what running it prints."""
    file = ROOT / "sql_examples" / f"{name}.py"
    folder = Path(os.environ["SAMPLES_FOLDER"]).parent
    done = subprocess.run([sys.executable, file], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return _block("python", file.read_text()) + _block("text", _stable(done.stdout))


def _session(name: str) -> str:
    """The lines of a shell example, each with what it prints, in an empty directory."""
    shown = ""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PATH": path, "MEDIASQL_CACHE_DIR": f"{folder}/.cache"}
        for line in (ROOT / "sql_examples" / f"{name}.sh").read_text().splitlines():
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=True,
            )
            output = done.stdout.rstrip("\n")
            shown += (line if line.startswith("#") else f"$ {line}") + "\n" + (f"{output}\n" if output else "")
    return _block("console", _stable(shown))


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.strip(chr(10))}\n```\n"


def _stable(output: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d{5}", "127.0.0.1:49152", output)


def _functions(_: str) -> str:
    lines = []
    for family, title in FAMILIES.items():
        lines.append(f"\n**{title}**\n\n| function | value | for example |\n|---|---|---|\n")
        for function in functions().values():
            if function.family == family:
                (sql, result), *_ = examples(function.doc)
                value = _cell(summary(function.doc)) + (f" {STATEMENTS_ONLY}" if function.directonly else "")
                lines.append(f"| `{function.signature}` | {value} | {_code(sql)} → {_code(result)} |\n")
    return "".join(lines)


def _tables(_: str) -> str:
    lines = []
    for table in tables().values():
        lines.append(f"\n**`{table.signature}`**: {_cell(summary(table.doc))}\n\n| column | type | |\n|---|---|---|\n")
        for column in table.columns:
            lines.append(f"| `{column.name}` | {column.type or 'any'} | {_cell(column.doc)} |\n")
    return "".join(lines)


def _names(_: str) -> str:
    lines = ["| name | what it is |\n|---|---|\n"]
    for name in mediasql.__all__:
        if name.startswith("__"):
            continue
        first = _cell((getattr(mediasql, name).__doc__ or "").partition("\n\n")[0])
        lines.append(f"| `{name}` | {first} |\n")
    return "".join(lines)


def _options(_: str) -> str:
    lines = ["| option | variable | default | meaning |\n|---|---|---|---|\n"]
    for option in fields(Config):
        default = getattr(Config(), option.name)
        lines.append(
            f"| `{option.name}` | `MEDIASQL_{option.name.upper()}` | `{default}` | {option.metadata['doc']} |\n"
        )
    return "".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _code(text: str) -> str:
    text = text.replace("\n", " ").replace("|", "\\|")
    return f"`{text}`" if text.strip("\\|") else "NULL"


_KINDS: dict[str, Callable[[str], str]] = {
    "example": _example,
    "script": _script,
    "session": _session,
    "functions": _functions,
    "tables": _tables,
    "options": _options,
    "names": _names,
}


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> None:
    """Write README.md; with `--check`, only say how it differs, and leave with status 1 when it does."""
    with store.start(with_azure=True) as running:
        os.environ.update(running.environment)
        before = README.read_text()
        after = render(before)
    if "--check" not in sys.argv:
        README.write_text(after)
    elif after != before:
        sys.exit("\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "README.md", "run now", n=2)))


if __name__ == "__main__":
    main()
