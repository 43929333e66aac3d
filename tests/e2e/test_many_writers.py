"""Eight threads and four processes write one session at once: nothing is lost, doubled or locked out."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from steno import SessionManager, SQLiteSessionStore

THREADS, PROCESSES, EACH = 8, 4, 30

WRITER = """
import sys
from steno import SessionManager, SQLiteSessionStore

with SessionManager(store=SQLiteSessionStore(sys.argv[1])) as manager:
    print("ready", flush=True)
    sys.stdin.readline()
    session = manager.load_session("shared")
    for number in range(int(sys.argv[3])):
        session.add_message("user", f"{sys.argv[2]}-{number}")
        session.metadata[f"{sys.argv[2]}-{number}"] = number
        session.state["last-" + sys.argv[2]] = number
        manager.save(session)
"""


def test_every_message_and_every_key_of_many_writers_is_there_once(tmp_path: Path):
    path = tmp_path / "s.db"
    failures: list[BaseException] = []
    with SessionManager(store=SQLiteSessionStore(path)) as manager:
        manager.create_session(session_id="shared")
        start = threading.Event()

        def write(name: str) -> None:
            try:
                start.wait(60)
                session = manager.load_session("shared")
                for number in range(EACH):
                    session.add_message("user", f"{name}-{number}")
                    session.metadata[f"{name}-{number}"] = number
                    session.state[f"last-{name}"] = number
                    manager.save(session)
            except BaseException as exc:  # noqa: BLE001  to be seen by the test
                failures.append(exc)

        threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(THREADS)]
        command = [sys.executable, "-c", WRITER, str(path)]
        processes = [
            subprocess.Popen(
                [*command, f"p{number}", str(EACH)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for number in range(PROCESSES)
        ]
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in threads:
            each.start()
        start.set()
        for each in processes:
            each.communicate("\n", timeout=110)
        for each in threads:
            each.join()
        assert failures == []
        assert [each.returncode for each in processes] == [0] * PROCESSES

        names = [f"t{number}" for number in range(THREADS)] + [f"p{number}" for number in range(PROCESSES)]
        expected = sorted(f"{name}-{number}" for name in names for number in range(EACH))
        session = manager.load_session("shared")
        assert sorted(str(each.content) for each in session.messages) == expected
        assert sorted(session.metadata) == expected
        assert session.state == {f"last-{name}": EACH - 1 for name in names}
        for name in names:
            mine = [each.content for each in session.messages if str(each.content).startswith(f"{name}-")]
            assert mine == [f"{name}-{number}" for number in range(EACH)]


def test_threads_that_share_one_session_object_lose_nothing(tmp_path: Path):
    with SessionManager(store=SQLiteSessionStore(tmp_path / "s.db")) as manager:
        session = manager.create_session(session_id="shared")

        def write(name: int) -> None:
            for number in range(EACH):
                session.add_message("user", f"{name}-{number}")
                manager.save(session)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(THREADS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        expected = sorted(f"{name}-{number}" for name in range(THREADS) for number in range(EACH))
        assert sorted(str(each.content) for each in manager.load_session("shared").messages) == expected
