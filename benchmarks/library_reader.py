"""Read one session of a database through the iterator, and print what memory that took: a process of its own.

The memory is read from ``/proc``, so it is measured on Linux only.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

from steno import SessionManager, SQLiteSessionStore


def main(path: str, session_id: str) -> None:
    """Print the sizes in MB before the first message and at most, and the bytes that were read."""
    with closing(SQLiteSessionStore(path)) as store:
        session = SessionManager(store=store).get_session(session_id)
        assert session is not None
        start_mb = _memory_mb("VmRSS")
        size_bytes = sum(len(message.content) for message in session.iter_messages())
        print(json.dumps({"start_mb": start_mb, "most_mb": _memory_mb("VmHWM"), "size_bytes": size_bytes}))


def _memory_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(":", 1) for line in status)[name].split()[0]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
