"""Two processes that merge one fork at the same time merge it once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from steno.storage.forks import fork
from steno.storage.model import NewMessage
from steno.storage.store import Store

# It says that it is ready, and merges when it is told to.
MERGE = """
import sys
from steno.storage.forks import merge
from steno.storage.store import Store
with Store(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    print(len(merge(store, "f")))
"""


def test_two_processes_that_merge_one_fork_merge_it_once(tmp_path: Path):
    path = tmp_path / "steno.db"
    said = [str(number) for number in range(200)]
    with Store(path) as store:
        store.create(id="s", title="S")
        fork(store, "s", id="f")
        store.add_messages("f", [NewMessage(role="user", content=each) for each in said])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MERGE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("now\n")
        each.stdin.flush()
    merged = [int(each.communicate(timeout=60)[0]) for each in processes]
    assert [each.returncode for each in processes] == [0, 0]
    assert sorted(merged) == [0, len(said)]
    with Store(path) as store:
        assert [message.content for message in store.messages("s")] == said
