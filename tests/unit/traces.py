"""Looking for words on the disk: in every file below a folder, as they stand, compressed, and as terms of an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import zstandard

from steno.storage.sqlite import dbapi

_FRAME = b"\x28\xb5\x2f\xfd"
_STEP = 256


def traces(folder: Path, words: Iterable[str]) -> set[tuple[str, str]]:
    """The files (by their path below a folder, or name) that hold a word, in any case."""
    wanted = [word.lower() for word in words]
    found: set[tuple[str, str]] = set()
    for path in sorted(folder.rglob("*")):
        relative = str(path.relative_to(folder))
        found |= {(relative, word) for word in wanted if word in relative.lower()}
        if path.is_file():
            data = path.read_bytes()
            texts = [each.decode(errors="ignore").lower() for each in (data, *_decompressed(data))]
            found |= {(relative, word) for word in wanted for text in texts if word in text}
            found |= {(relative, word) for word in wanted for term in _terms(path, data) if word in term}
    return found


def _decompressed(data: bytes) -> Iterator[bytes]:
    """What begins like something compressed, as far as it can be read."""
    at = data.find(_FRAME)
    while at >= 0:
        reader, text = zstandard.ZstdDecompressor().decompressobj(), b""
        try:
            for start in range(at, len(data), _STEP):
                text += reader.decompress(data[start : start + _STEP])
                if reader.eof:
                    break
        except zstandard.ZstdError:
            pass
        yield text
        at = data.find(_FRAME, at + 1)


def _terms(path: Path, data: bytes) -> list[str]:
    """The terms in the index of a database: there they share their beginnings, so that no word stands whole."""
    if not data.startswith(b"SQLite format 3"):
        return []
    with closing(dbapi.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab (main, search, row)")
        return [term for (term,) in connection.execute("SELECT term FROM terms")]
