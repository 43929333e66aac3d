"""A process of its own for what is measured of the files: one that appends at a pace, or one that mirrors once.

The memory is read from ``/proc``, so it is measured on Linux only.
"""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path

from files_store import bring_up
from generate import Prose

from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror


def append(database: str, session: str, pause_s: str, at_most: str) -> dict[str, object]:
    """Append one message each ``pause_s`` until input ends; how many, the last one's id, and when it was committed."""
    prose, last, count = Prose(12), "", 0
    texts = [prose.text(700) for _ in range(100)]
    with Store(database) as store:
        began = time.monotonic()
        while count < int(at_most) and not _ended(began + count * float(pause_s)):
            last = store.append(session, NewMessage(role="user", content=texts[count % len(texts)])).id
            count += 1
        return {"count": count, "last": last, "at_s": time.monotonic()}


def mirror(database: str, root: str) -> dict[str, object]:
    """Bring a directory up: how long that took, and the memory before and at most, in MB."""
    with Store(database) as store:
        start_mb = _memory_mb("VmRSS")
        began = time.perf_counter()
        bring_up(Mirror(store, Path(root)))
        return {"took_s": time.perf_counter() - began, "start_mb": start_mb, "most_mb": _memory_mb("VmHWM")}


def _ended(due_s: float) -> bool:
    """Wait until it is time, or the input ends; say whether it has."""
    return bool(select.select([sys.stdin], [], [], max(0.0, due_s - time.monotonic()))[0])


def _memory_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(":", 1) for line in status)[name].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps({"append": append, "mirror": mirror}[sys.argv[1]](*sys.argv[2:])))
