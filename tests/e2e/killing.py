"""Kill a writer at random moments, and look each time whether the store is sound and holds what was acknowledged.

    make crash ARGS="--kills 20000 --seed 7"     as long as you like; test_killing.py kills two hundred

A writer says what it is about to do and, when the call has returned, that it is done. So after the kill the store must
hold all that was done, and the last thing begun either whole or not at all. Writers are forked from a process that has
everything imported and no store open, so that a kill costs milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steno.storage.doctor import examine
from steno.storage.forks import fork
from steno.storage.indexing import index
from steno.storage.model import NewMessage
from steno.storage.purge import purge_message, purge_session
from steno.storage.rows import HIDDEN_FOR_EVER, HIDDEN_ITSELF
from steno.storage.sqlite import dbapi
from steno.storage.store import Store

KILLS_A_STORE = 25
MOST_ACKNOWLEDGED = 25
LONGEST_WAIT_S = 0.004

Operation = dict[str, Any]
Model = dict[str, dict[str, Any]]
"""By session: title, metadata, whether it is deleted, and its messages [id, content, whether deleted] in order."""


# What a store holds, and what an operation makes of that


def model_of(store: Store) -> Model:
    """What a store holds."""
    found: Model = {}
    for deleted in (False, True):
        for session in list(store.sessions(deleted=deleted)):
            row = store.find(session.id)
            assert row is not None
            found[session.id] = {
                "title": session.title,
                "metadata": session.metadata,
                "deleted": deleted,
                "messages": [
                    [each.id, each.content, bool(each.hidden & (HIDDEN_ITSELF | HIDDEN_FOR_EVER))]
                    for each in store.message_rows(row.no, hidden=True)
                ],
            }
    return found


def after(model: Model, operation: Operation) -> Model:
    """What a store holds when an operation is done."""
    name, session = operation["op"], operation.get("session", "")
    held = dict(model)
    if name == "create":
        held[session] = {"title": operation["title"], "metadata": {}, "deleted": False, "messages": []}
    elif name == "add":
        added = [[id_, content, False] for id_, content in operation["messages"]]
        held[session] = {**held[session], "messages": [*held[session]["messages"], *added]}
    elif name in ("edit", "delete message", "purge message"):
        messages = [_changed(each, operation) for each in held[session]["messages"]]
        held[session] = {**held[session], "messages": messages}
    elif name == "describe":
        metadata = {**held[session]["metadata"], **operation["metadata"]}
        held[session] = {**held[session], "title": operation["title"], "metadata": metadata}
    elif name in ("delete", "restore"):
        held[session] = {**held[session], "deleted": name == "delete"}
    elif name == "fork":
        shown = [each for each in held[session]["messages"] if not each[2]]
        held[operation["id"]] = {**held[session], "title": f"Fork of {held[session]['title']}", "messages": shown}
    elif name == "purge":
        del held[session]
    return held


def _changed(message: list[Any], operation: Operation) -> list[Any]:
    id_, content, _ = message
    if id_ != operation["message"]:
        return message
    contents = {"edit": operation["content"], "delete message": content, "purge message": ""}
    return [id_, contents[operation["op"]], operation["op"] != "edit"]


def carry_out(store: Store, operation: Operation) -> None:
    """Do an operation."""
    name, session = operation["op"], operation.get("session", "")
    does: dict[str, Callable[[], object]] = {
        "create": lambda: store.create(id=session, title=operation["title"], tags=["a", "b"]),
        "add": lambda: store.add_messages(
            session, [NewMessage(role="user", content=content, id=id_) for id_, content in operation["messages"]]
        ),
        "edit": lambda: store.edit_message(session, operation["message"], {"content": operation["content"]}),
        "delete message": lambda: store.delete_message(session, operation["message"]),
        "purge message": lambda: purge_message(store, session, operation["message"]),
        "describe": lambda: store.update(
            session, fields={"title": operation["title"]}, metadata=operation["metadata"]
        ),
        "delete": lambda: store.delete(session),
        "restore": lambda: store.restore(session),
        "fork": lambda: fork(store, session, id=operation["id"]),
        "purge": lambda: purge_session(store, session),
        "index": lambda: index(store),
    }  # fmt: skip
    does[name]()


def drawn(model: Model, rng: random.Random) -> Operation:
    """An operation that can be done."""
    live = [session for session, held in model.items() if not held["deleted"]]
    deleted = [session for session, held in model.items() if held["deleted"]]
    if not live or rng.random() < 0.03:
        return {"op": "create", "session": _name(rng), "title": _name(rng)}
    if deleted and rng.random() < 0.06:
        return {"op": rng.choice(["restore", "restore", "purge"]), "session": rng.choice(deleted)}
    session = rng.choice(live)
    shown = [id_ for id_, _, gone in model[session]["messages"] if not gone]
    texts = {"title": _name(rng), "content": _text(rng), "metadata": {rng.choice("abc"): _name(rng)}}
    ways = ["add"] * 10 + ["describe"] * 3 + ["index"] * 2 + ["delete"]
    ways += ["edit", "edit", "delete message", "purge message"] if shown else []
    ways += ["fork"] if len(shown) < 60 else []
    ways += ["purge"] if len(live) > 4 else []
    count = rng.choice([1, 1, 1, 10])
    return {
        "op": rng.choice(ways),
        "session": session,
        "id": _name(rng),
        "message": rng.choice(shown) if shown else None,
        "messages": [[_name(rng), _text(rng)] for _ in range(count)],
        **texts,
    }


def _name(rng: random.Random) -> str:
    return f"{rng.getrandbits(48):012x}"


def _text(rng: random.Random) -> str:
    """Short or long, so even that it is compressed or not."""
    size = rng.choice([1, 3, 30, 300])
    return rng.choice([f"words {_name(rng)} " * size, rng.randbytes(size).hex()])


# The writer


def serve() -> None:
    """Fork a writer for each line ``<seed> <path>`` on standard input, and say when it has ended."""
    for line in sys.stdin:
        seed, path = line.rstrip("\n").split(" ", 1)
        pid = os.fork()
        if not pid:
            _write(Path(path), random.Random(int(seed)))
        os.waitpid(pid, 0)
        os.write(1, b"\n")  # ends what it could not say to its end
        _say({"ended": True})


def _write(path: Path, rng: random.Random) -> None:
    _say({"pid": os.getpid()})
    store = Store(path)
    if rng.random() < 0.5:
        store.execute("PRAGMA wal_autocheckpoint = 10")  # so that kills hit checkpoints, too
    model = model_of(store)
    while True:
        operation = drawn(model, rng)
        _say({"begun": operation})
        carry_out(store, operation)
        _say({"done": True})
        model = after(model, operation)


def _say(what: object) -> None:
    line = json.dumps(what).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


# Who kills it


class Killer:
    """Kills writers of stores in a directory, and looks what is left."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._rng = random.Random(seed)
        self.acknowledged = 0
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-m", "steno.tests.e2e.killing", "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def close(self) -> None:
        """End the process that writers are forked from."""
        self._server.communicate()

    def run(self, kills: int) -> None:
        """Kill so many writers; raises `AssertionError` that names the kill and the seed."""
        for first in range(0, kills, KILLS_A_STORE):
            path = self._folder / f"{first}" / "steno.db"
            path.parent.mkdir()
            model: Model = {}
            for number in range(first, min(first + KILLS_A_STORE, kills)):
                begun = self._kill_one(path, number)
                try:
                    model = looked(path, model, begun)
                except AssertionError as exc:
                    raise AssertionError(f"kill {number} of seed {self._seed}, store {path}: {exc}") from exc
            shutil.rmtree(path.parent)

    def _kill_one(self, path: Path, number: int) -> list[tuple[Operation, bool]]:
        """Let a writer run for a while and kill it; what it began, each with whether it was done."""
        server, begun, pid = self._server, [], 0
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{self._seed * 1_000_003 + number} {path}\n".encode())
        server.stdin.flush()
        left, wait_s = self._rng.randint(0, MOST_ACKNOWLEDGED), self._rng.uniform(0, LONGEST_WAIT_S)
        while said := server.stdout.readline():
            try:
                line = json.loads(said)
            except ValueError:  # killed while it said what it was about to begin
                continue
            if "pid" in line:
                pid = line["pid"]
            elif "begun" in line:
                begun.append((line["begun"], False))
            elif "done" in line:
                begun[-1] = (begun[-1][0], True)
                self.acknowledged += 1
                left -= 1
            else:
                return begun
            if left == 0 and pid:
                time.sleep(wait_s)  # the moment is to be any
                os.kill(pid, signal.SIGKILL)
                left = -1
        raise AssertionError("the writers are gone")


def looked(path: Path, model: Model, begun: list[tuple[Operation, bool]]) -> Model:
    """Make sure that a store is sound and holds what it must; return what that is."""
    for operation, done in begun:
        if done:
            model = after(model, operation)
    allowed = [model]
    if begun and not begun[-1][1]:
        allowed.append(after(model, begun[-1][0]))
    connection = dbapi.connect(str(path))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    with Store(path) as store:
        wrong = [f"{each.name}: {each.what}" for each in examine(store) if not each.ok]
        assert wrong == [], wrong
        held = model_of(store)
    assert held in allowed, f"the last begun was {begun[-1] if begun else 'nothing'}"
    return held


def main() -> None:
    """Kill as many writers as is asked for."""
    parser = argparse.ArgumentParser(description="Kill writers at random moments, and look what is left.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="steno-killing-"))  # stays where something is wrong
    killer = Killer(folder, options.seed)
    killer.run(options.kills)
    killer.close()
    folder.rmdir()
    took_s = time.monotonic() - began
    said = f"{options.kills} kills, {killer.acknowledged} writes acknowledged, none lost"
    print(f"{said} ({took_s:.0f} s, seed {options.seed})")  # noqa: T201


if __name__ == "__main__":
    main()
