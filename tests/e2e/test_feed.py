"""A follower in one process sees what other processes and threads commit: each message once, in order."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from steno.storage.feed import NewArrival, changes, follow
from steno.storage.model import NewMessage
from steno.storage.store import Store

WRITER = """
import sys
from steno.storage.model import NewMessage
from steno.storage.store import Store

path, name, count = sys.argv[1:]
with Store(path) as store:
    for number in range(int(count)):
        store.append("s", NewMessage(role="user", content="text", id=f"{name}-{number}"))
        store.append("other", NewMessage(role="user", content="not followed"))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Store(tmp_path / "steno.db") as store:
        store.create(id="s")
        store.create(id="other")
    return tmp_path / "steno.db"


def writer(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(count)])


@pytest.mark.check("MDB-31")
def test_a_follower_sees_each_message_of_other_processes_once(path: Path) -> None:
    count = 60
    with Store(path) as store:
        arrivals = follow(store, "s", since=0, wait_s=0.002)
        writers = [writer(path, name, count) for name in ("a", "b")]
        seen = [next(arrivals) for _ in range(2 * count)]
        arrivals.close()
        assert [process.wait(30) for process in writers] == [0, 0]
        ids = [each.message.id for each in seen]
        for name in ("a", "b"):
            assert [each for each in ids if each.startswith(name)] == [f"{name}-{at}" for at in range(count)]
        assert [each.cursor for each in seen] == sorted({each.cursor for each in seen})
        assert [each.message for each in changes(store, session="s").items[1:]] == ids


@pytest.mark.check("MDB-31")
def test_a_follower_that_was_away_while_others_wrote_gets_what_it_missed(path: Path) -> None:
    with Store(path) as store:
        arrivals = follow(store, "s", since=0, wait_s=0.002)
        store.append("s", NewMessage(role="user", content="text", id="first"))
        last: NewArrival = next(arrivals)
        arrivals.close()
        assert writer(path, "a", 20).wait(30) == 0
        resumed = follow(store, "s", since=last.cursor, wait_s=0.002)
        assert [next(resumed).message.id for _ in range(20)] == [f"a-{at}" for at in range(20)]
        resumed.close()


def test_a_follower_in_a_thread_ends_when_it_is_told_to(path: Path) -> None:
    seen: list[str] = []
    began, enough, stop = threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        with Store(path) as store:
            for each in follow(store, "s", since=0, wait_s=0.002, stop=lambda: began.set() or stop.is_set()):
                seen.append(each.message.id)
                if len(seen) == 3:
                    enough.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert began.wait(10)
    with Store(path) as store:
        for name in "abc":
            store.append("s", NewMessage(role="user", content="text", id=name))
    assert enough.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert seen == ["a", "b", "c"]
