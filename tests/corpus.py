"""Real media that nobody here wrote, where they are at hand: `../shared/corpus`, next to the repository."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "corpus"
CORPUS: Path | None = _FOLDER if _FOLDER.is_dir() else None
REPORTED = _FOLDER / "reported"


def corpus_files(*suffixes: str) -> list[Path]:
    """The files of the corpus with one of `suffixes` ('.jpg'), all files without; none without a corpus.

    Not those in `reported`: Pillow or PyAV are known to be wrong about them, or not to read them.
    """
    if CORPUS is None:
        return []
    return sorted(
        path
        for path in CORPUS.rglob("*")
        if path.is_file() and (not suffixes or path.suffix.lower() in suffixes) and REPORTED not in path.parents
    )
