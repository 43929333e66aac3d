"""Kill daemons at random moments while people write on several devices over a real remote, and look what is left.

    make soak ARGS="--kills 300 --seed 7"     a third over each of folder, S3 and WebDAV; test_soak.py kills thirty

People append, edit, describe and delete through the store, say things to the daemon, and save files by hand, whatever
runs. What returned is acknowledged. When all daemons have run for a while undisturbed every device must be equal, in
the store and in its files, sound, and hold all that was acknowledged (`Deeds`), once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

from steno.daemon.client import address
from steno.storage.errors import StenoError
from steno.storage.model import NewMessage
from steno.storage.rows import MessageRow
from steno.storage.sqlite import dbapi
from steno.storage.store import Store
from steno.tests import servers
from steno.tests.e2e.device import Device, until
from steno.tests.e2e.forking import Forker
from steno.tests.server_fixtures import RCLONE_SETTINGS, S3_SETTINGS, WEBDAV_PASSWORD, WEBDAV_USER
from steno.tests.simulation.deeds import MARK, Deeds, edit_text
from steno.tests.simulation.test_stores_converge import state

SESSIONS = [f"session-{number}" for number in range(6)]
KILLS_A_LOOK = 25
LONGEST_LIFE_S, LONGEST_GAP_S = 0.9, 0.1
SETTLED_WITHIN_S = 60.0
FEWEST_LINES = 8
"""A file that has fewer is not shortened by hand: what drops half of its lines is asked about."""


class Soak:
    """Some devices over one remote, their daemons, and the people who write there."""

    def __init__(self, folder: Path, remote: Path | str, *, seed: int, devices: int = 2) -> None:
        self._rng = random.Random(seed)
        self.devices = [Device(folder / name, remote=remote).make(found=name == "a") for name in "abcdef"[:devices]]
        self.deeds = Deeds()
        self._told: dict[str, str] = {}
        """What daemons answered to and what was written into files, each with its session; nobody edits it."""
        self._done = dict.fromkeys((*_TO_STORES, "say", *_BY_HAND), 0)
        self.kills = 0

    @property
    def done(self) -> dict[str, int]:
        """How often each kind of writing was acknowledged."""
        return self._done

    def close(self) -> None:
        """End the daemons."""
        for device in self.devices:
            device.kill()

    def run(self, kills: int) -> None:
        """Kill so many daemons; raises `AssertionError` where something is wrong."""
        for number in range(1, kills + 1):
            self._turn()
            if number == kills or not number % KILLS_A_LOOK:
                self.look()

    def _turn(self) -> None:
        """Let daemons run and people write, until one daemon is killed at any moment of that."""
        rng = self._rng
        victim = rng.choice(self.devices)
        for device in self.devices:
            if not device.runs() and (device is victim or rng.random() < 0.8):
                device.spawn()
        if rng.random() < 0.8:
            _answers(victim)
        ends = time.monotonic() + rng.uniform(0, LONGEST_LIFE_S)
        for _ in range(rng.randint(1, 10)):
            self._write(rng.choice(self.devices))
            time.sleep(max(0.0, min(rng.uniform(0, LONGEST_GAP_S), ends - time.monotonic())))
        time.sleep(max(0.0, ends - time.monotonic()))  # the moment is to be any
        assert victim.runs(), f"the daemon ended by itself: {victim.log()[-2000:]}"
        victim.kill()
        self.kills += 1

    # Writing

    def _write(self, device: Device) -> None:
        rng = self._rng
        session = rng.choice(SESSIONS)
        what = rng.choices([*_WEIGHTS], [*_WEIGHTS.values()])[0]
        if what == "say":
            is_done = self._say(device, session)
        elif what in _BY_HAND:
            is_done = self._save(device, session, what)
        else:
            is_done = self._act(device, session, what)
        self._done[what] += is_done

    def _act(self, device: Device, session: str, what: str) -> bool:
        """Write to the store, as a command does that needs no daemon."""
        with device.store(write=True) as store, store.transaction():
            row = store.find(session)
            if row is None or row.hidden:
                self.deeds.act(store, lambda store, _: _made(store, session))
                return False
            ids = [each.id for each in store.message_rows(row.no) if what != "edit" or self._is_ours(session, each.id)]
            if not ids and what in ("edit", "delete message"):
                return False
            message = self._rng.choice(ids or [""])
            field = {"edit": (session, message, "content"), "title": (session, None, "title")}.get(what)
            self.deeds.act(store, lambda store, at: _TO_STORES[what](store, session, message, at), edits=field)
        return True

    def _is_ours(self, session: str, message: str) -> bool:
        """Say whether a message is one whose edits are followed."""
        return (session, message) in self.deeds.authors

    def _say(self, device: Device, session: str) -> bool:
        """Say something to the daemon; that it answers is its promise."""
        text = f"<{next(self.deeds.numbers)}> {MARK} told"
        with contextlib.suppress(StenoError):
            where = address("sessions", session, "messages")
            device.client.request("POST", where, body={"role": "user", "content": text}, timeout_s=5)
            self._told[text] = session
            return True
        return False

    def _save(self, device: Device, session: str, what: str) -> bool:
        """Save a session's file as an editor does: all of it, by renaming."""
        path = _file_of(device, session)
        if path is None:
            return False
        lines = path.read_text(encoding="utf-8").splitlines()
        action = next(self.deeds.numbers)
        saved = _BY_HAND[what](self, session, lines, action)
        if not saved:
            return False
        beside = path.with_name(f".{path.name}.swp")
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        beside.rename(path)
        saved()
        return True

    def _edit_line(self, session: str, lines: list[str], action: int) -> Callable[[], None] | None:
        at = self._line(lines, lambda message: self._is_ours(session, message))
        if not at:
            return None
        lines[at] = json.dumps({**json.loads(lines[at]), "content": edit_text(action)})
        message = json.loads(lines[at])["id"]
        return lambda: self.deeds.saved(action, edits=(session, message, "content"))

    def _edit_title(self, session: str, lines: list[str], action: int) -> Callable[[], None]:
        lines[0] = json.dumps({**json.loads(lines[0]), "title": edit_text(action)})
        return lambda: self.deeds.saved(action, edits=(session, None, "title"))

    def _add_line(self, session: str, lines: list[str], action: int) -> Callable[[], None]:
        text = f"<{action}> {MARK} by hand"
        at = self._rng.choice([len(lines), self._rng.randint(1, len(lines))])
        lines.insert(at, json.dumps({"role": "user", "content": text}))
        return lambda: self._told.update({text: session})

    def _drop_line(self, session: str, lines: list[str], action: int) -> Callable[[], None] | None:
        at = self._line(lines, lambda _: len(lines) >= FEWEST_LINES)
        if not at:
            return None
        gone = json.loads(lines.pop(at))["id"]
        return lambda: self.deeds.saved(action, hides={(session, gone)})

    def _line(self, lines: list[str], fits: Callable[[str], bool]) -> int:
        """Which line of a file is chosen, of those of messages that fit; 0 where there is none."""
        ids = [json.loads(line).get("id") for line in lines]
        return self._rng.choice([at for at, id_ in enumerate(ids) if at and id_ and fits(id_)] or [0])

    # Looking

    def look(self) -> None:
        """Let all come to rest, and see that nothing is lost and everything equal and sound."""
        for device in self.devices:
            if not device.runs():
                device.spawn()
        for device in self.devices:
            _answers(device)
        until(self._settled, "all devices are equal and have nothing left to do", within_s=SETTLED_WITHIN_S)
        for device in self.devices:
            device.stop()
        states = []
        for device in self.devices:
            self._look_at(device)
            self.check(device)
            with device.store() as store:
                states.append(state(store))
        assert all(each == states[0] for each in states), "devices differ"

    def _settled(self) -> bool:
        for device in self.devices:
            assert device.runs(), f"the daemon ended by itself: {device.log()[-2000:]}"
            device.client.sync()
        if not all(device.settled() for device in self.devices):
            return False
        first, *others = (device.everything() for device in self.devices)
        return all(first == other for other in others)

    def _look_at(self, device: Device) -> None:
        """The database, the files, the remote and what the commands say of them are as they should be."""
        connection = dbapi.connect(str(device.home.database))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        for command in (["doctor"], ["verify"], ["files", "verify"], ["sync"], ["status"]):
            device.steno(*command)
        assert [path.name for path in device.home.sessions.rglob(".steno-*")] == []

    def check(self, device: Device) -> None:
        """Raise `AssertionError` where a device lacks something that was acknowledged."""
        with device.store() as store:
            self._check(store)

    def _check(self, store: Store) -> None:
        deeds = self.deeds
        lost = deeds.lost(store, deeds.acts)
        assert not lost, f"messages are lost: {lost}"
        swallowed = deeds.swallowed(store)
        assert not swallowed, f"a deletion swallowed what its writer had not seen: {swallowed}"
        forgotten = deeds.forgotten(store, deeds.acts)
        assert not forgotten, f"{sorted(forgotten)} is gone, and nobody replaced it knowingly"
        said = Counter((each.content, session) for session, each in _messages(store))
        told = {text: said[text, session] for text, session in self._told.items() if said[text, session] != 1}
        assert not told, f"what was told is not there once: {told}"
        doubled = [text for (text, _), count in said.items() if count > 1]
        assert not doubled, f"what was written once is there more often: {doubled}"


def _messages(store: Store) -> list[tuple[str, MessageRow]]:
    """Every message that is not purged, with its session."""
    sessions = [store.find(session) for session in SESSIONS]
    return [(row.id, each) for row in sessions if row is not None for each in store.message_rows(row.no, hidden=True)]


def _answers(device: Device) -> None:
    until(device.answers, f"the daemon of {device.place.name} answers")


def _file_of(device: Device, session: str) -> Path | None:
    """The file of a session, if it is written by now."""
    return next((path for path in device.files() if path.name.endswith(f"{session}.jsonl")), None)


def _made(store: Store, session: str) -> None:
    if store.find(session) is None:
        store.create(id=session)
    else:
        store.restore(session)


_TO_STORES: dict[str, Callable[[Store, str, str, int], object]] = {
    "append": lambda store, session, _, at: store.append(
        session, NewMessage(role="user", content=f"<{at}> {MARK} said")
    ),
    "edit": lambda store, session, message, at: store.edit_message(session, message, {"content": edit_text(at)}),
    "title": lambda store, session, _, at: store.update(session, fields={"title": edit_text(at)}),
    "describe": lambda store, session, _, at: store.update(
        session, metadata={"abc"[at % 3]: {"d": at}}, state={"e": at}, add_tags=["xyz"[at % 3]]
    ),
    "delete message": lambda store, session, message, _: store.delete_message(session, message),
    "delete": lambda store, session, *_: store.delete(session),
}
_BY_HAND: dict[str, Callable[[Soak, str, list[str], int], Callable[[], None] | None]] = {
    "edit a line": Soak._edit_line,
    "edit the header": Soak._edit_title,
    "add a line": Soak._add_line,
    "drop a line": Soak._drop_line,
}
_WEIGHTS = {
    "append": 6, "edit": 3, "title": 1, "describe": 2, "delete message": 1, "delete": 0.3, "say": 4,
    "edit a line": 3, "edit the header": 1, "add a line": 3, "drop a line": 0.6,
}  # fmt: skip


# The remotes


@contextlib.contextmanager
def remotes() -> Generator[dict[str, Callable[[Path], Path | str]]]:
    """What is killed over: for each kind of remote what makes an empty one, beside a directory."""
    os.environ.update(S3_SETTINGS | RCLONE_SETTINGS)
    webdavs = servers.start_rclone(user=WEBDAV_USER, password=WEBDAV_PASSWORD)
    with servers.start_s3() as s3, webdavs as webdav:
        yield {
            "folder": lambda folder: folder / "remote",
            "s3": lambda _: servers.bucket(s3),
            "webdav": lambda folder: f"webdav+{webdav.url}/{folder.name}/vault",
        }


def main() -> None:
    """Kill as many daemons as is asked for."""
    parser = argparse.ArgumentParser(description="Kill daemons at random moments, and look what is left.")
    parser.add_argument("--kills", type=int, default=300, help="in all, as many over each remote")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--devices", type=int, default=3)
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("STENO_")]:
        del os.environ[name]
    Device.forker = Forker()
    with remotes() as made:
        for number, (name, remote) in enumerate(made.items()):
            _soaked(name, remote, options.kills // len(made), seed=options.seed + number, devices=options.devices)
    Device.forker.close()


def _soaked(name: str, remote: Callable[[Path], Path | str], kills: int, *, seed: int, devices: int) -> None:
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="steno-soak-"))  # stays where something is wrong
    soak = Soak(folder, remote(folder), seed=seed, devices=devices)
    try:
        soak.run(kills)
    except AssertionError as exc:
        exc.add_note(f"kill {soak.kills} over {name}, seed {seed}, in {folder}")
        raise
    finally:
        soak.close()
    shutil.rmtree(folder)
    done = ", ".join(f"{count} × {what}" for what, count in soak.done.items())
    said = f"{name}: {kills} kills of {devices} devices, nothing lost of {done}"
    print(f"{said} ({time.monotonic() - began:.0f} s, seed {seed})", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
