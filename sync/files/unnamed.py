"""Files of which nobody can tell whose they are, and the sessions that they may be of.

Whoever renames a file and breaks its header has not deleted its session: while such a file stands there that shows
the id in its first line, or that is the very file, the session is kept (tests/unit/test_files_unnamed.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .ledger import Record
from .reading import first_line

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+")
_WORD = re.compile(rb"[A-Za-z0-9_-]+")
_LINE_BYTES = 1 << 20


class Unnamed:
    """The first lines and inodes of such files."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._inodes: dict[int, Path] = {}
        self._words: dict[bytes, Path] = {}
        self._lines: dict[Path, bytes] = {}
        for path in paths:
            with suppress(OSError):
                self._inodes[path.lstat().st_ino] = path
            self._lines[path] = line = first_line(path, limit_bytes=_LINE_BYTES)
            self._words.update(dict.fromkeys(_WORD.findall(line), path))

    def like(self, record: Record, session_id: str) -> Path | None:
        """The file that may be the one of a session, which is missing from its place; None where there is none."""
        same = self._inodes.get(record.fingerprint.inode)
        if same is not None:
            return same
        if _PLAIN_ID.fullmatch(session_id):
            return self._words.get(session_id.encode())
        forms = [session_id, *(json.dumps(session_id, ensure_ascii=each)[1:-1] for each in (True, False))]
        return next((path for path, line in self._lines.items() if any(each.encode() in line for each in forms)), None)
