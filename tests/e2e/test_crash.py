"""Killed at every named step between two writes: nothing acknowledged is lost, nothing is there twice.

The steps are found in the package itself, so that a step without a scenario fails here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steno.storage.conflicts import conflicts
from steno.storage.model import NewMessage
from steno.storage.purge import purge_history
from steno.storage.store import Store
from steno.sync.vault.names import SegmentName
from steno.tests.e2e.device import Device, Done, Process, equal, until
from steno.tests.e2e.scripted_models import Models
from steno.tests.e2e.terminal import Terminal

ROOT = Path(__file__).parents[2]
STEPS = {
    name
    for layer in ("storage", "sync", "daemon", "cli")
    for path in (ROOT / layer).rglob("*.py")
    if path.name != "steps.py"
    for name in re.findall(r'\bstep\("([^"]+)"\)', path.read_text(encoding="utf-8"))
}
FAULTS = {"push.": pytest.mark.fault(1), "pull.": pytest.mark.fault(2), "files.": pytest.mark.fault(3)}
SESSION, GONE = "kept", "gone"
NEW = "another passphrase"
pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]

# A system that cannot exchange two files, such as some network disks: the same daemon, told so.
WITHOUT_EXCHANGE = (
    "import sys, steno.sync.files.exchange as exchange; exchange.atomic_rename = lambda *_: False\n"
    "from steno.cli.main import main; sys.exit(main(['daemon', 'run']))"
)


@pytest.fixture(scope="module")
def used(short: Path, make_pair: Callable[[Path], Pair]) -> Pair:
    """Two devices with the same two sessions, their files written; tests take copies."""
    folder = short / "used"
    laptop, desktop = make_pair(folder)
    with laptop.store(write=True) as store:
        for session in (SESSION, GONE):
            store.create(id=session, title=session)
            store.add_messages(session, [NewMessage(role="user", content=text, id=text) for text in ("one", "two")])
    for device in (laptop, desktop):
        device.sync_here()
        device.write_files_here()
    return laptop, desktop


@pytest.fixture
def both(used: Pair, place: Path):
    laptop, desktop = used
    shutil.copytree(folder_of(laptop), folder := place / "r")
    devices = laptop.copy(place / "a", remote=folder), desktop.copy(place / "b", remote=folder)
    yield devices
    for device in devices:
        device.kill()


def folder_of(device: Device) -> Path:
    return device.folder


def add(device: Device, *contents: str) -> None:
    """Write messages as `steno add` does; they are acknowledged when this returns."""
    with device.store(write=True) as store:
        for each in contents:
            store.append(SESSION, NewMessage(role="user", content=each))


def killed(process: Process) -> bool:
    return process.wait(60) == -signal.SIGKILL


def dies(device: Device, *arguments: str, at: str, **environment: str) -> None:
    done = device.steno(*arguments, code=None, STENO_KILL_AT=at, **environment)
    assert done.code == -signal.SIGKILL, f"never passed {at}: {done}"


def daemon_dies(device: Device, at: str) -> None:
    assert killed(device.spawn(STENO_KILL_AT=at)), f"never passed {at}: {device.log()[-1500:]}"


def ends_well(both: Pair, *contents: str) -> None:
    """Start the daemon again, let all settle, and compare: the session has these messages, once, everywhere."""
    laptop, _ = both
    laptop.start()
    until(lambda: laptop.settled() and _shown(laptop) == list(contents), "the files show what the store holds")
    assert laptop.status()["problems"] == []
    laptop.stop()
    are_equal(both, *contents)


def are_equal(both: Pair, *contents: str) -> None:
    """Compare the two devices after a sync: the session has these messages, once, on both."""
    laptop, desktop = both
    laptop.sync_here()
    desktop.sync_here()
    assert laptop.contents(SESSION) == desktop.contents(SESSION) == list(contents)
    assert equal(laptop, desktop)
    _tiles(folder_of(laptop))
    assert [path.name for path in laptop.home.sessions.rglob(".steno-*")] == []
    with laptop.store() as store:
        assert list(conflicts(store)) == []


def _shown(device: Device) -> list[str]:
    """What the file of the session shows; there must be no other of it."""
    found = [path.read_text(encoding="utf-8").splitlines() for path in device.files()]
    mine = [lines for lines in found if lines and json.loads(lines[0])["id"] == SESSION]
    return [json.loads(line)["content"] for line in mine[0][1:]] if len(mine) == 1 else []


def _tiles(remote: Path) -> None:
    """Every device's log on the remote has each number once."""
    names = [SegmentName.parse(f"log/{path.name}") for path in (remote / "log").iterdir()]
    found = sorted((name.device, name.first, name.last) for name in names if name is not None)
    assert len(found) == len(names)
    for device in {name for name, _, _ in found}:
        numbers = [number for name, first, last in found if name == device for number in range(first, last + 1)]
        assert numbers == list(range(1, len(numbers) + 1))


# The scenarios, by step


def push(both: Pair, at: str) -> None:
    laptop, _ = both
    add(laptop, "three")
    dies(laptop, "sync", at=at)
    add(laptop, "four")
    laptop.steno("sync")
    are_equal(both, "one", "two", "three", "four")


def copied(both: Pair, at: str) -> None:
    """A copy of this home published first, and this one dies when it has become another device."""
    laptop, _ = both
    copy = laptop.copy(laptop.place.with_name("copy"))
    add(copy, "of the copy")
    copy.steno("sync")
    add(laptop, "of the laptop")
    dies(laptop, "sync", at=at)
    laptop.steno("sync")
    are_equal(both, "one", "two", "of the copy", "of the laptop")


def pull(both: Pair, at: str) -> None:
    laptop, desktop = both
    more = [f"more {number}" for number in range(4500)]  # three slices
    with desktop.store(write=True) as store:
        store.add_messages(SESSION, [NewMessage(role="user", content=each) for each in more])
    desktop.sync_here()
    dies(laptop, "sync", at=at)
    laptop.steno("sync")
    are_equal(both, "one", "two", *more)


def write_again(both: Pair, at: str) -> None:
    laptop, desktop = both
    with laptop.store(write=True) as store:
        store.create(id="secret")
        store.append("secret", NewMessage(role="user", content="secret"))
    laptop.sync_here()
    laptop.steno("purge", "secret", "--yes")
    dies(laptop, "sync", at=at)
    add(laptop, "three")
    laptop.steno("sync")
    are_equal(both, "one", "two", "three")
    with desktop.store() as store:
        assert store.find("secret") is None


def heal(both: Pair, at: str) -> None:
    laptop, desktop = both
    for each in (laptop.folder / "log").iterdir():
        each.unlink()
    dies(laptop, "repair", at=at)
    add(laptop, "three")
    laptop.steno("repair")
    laptop.steno("sync")
    assert laptop.json("verify")["damaged"] == {}
    desktop.sync_here()
    assert laptop.contents(SESSION) == desktop.contents(SESSION) == ["one", "two", "three"]


def retire(both: Pair, at: str) -> None:
    laptop, desktop = both
    with desktop.store(write=True) as store:
        store.append(SESSION, NewMessage(role="user", content="of the desktop"))
        gone = store.device
    desktop.sync_here()
    dies(laptop, "devices", "retire", gone, "--yes", at=at)
    laptop.steno("devices", "retire", gone, "--yes")
    assert [each.name for each in (laptop.folder / "log").iterdir() if each.name.startswith(gone)] == []
    [found] = [each for each in laptop.json("devices") if each["id"] == gone]
    assert found["retired"]
    fresh = Device(laptop.place.with_name("fresh"), remote=laptop.folder).make()
    fresh.sync_here()
    assert fresh.contents(SESSION) == ["one", "two", "of the desktop"]


def write_new(both: Pair, at: str) -> None:
    laptop, _ = both
    with laptop.store(write=True) as store:
        store.create(id="new", title="New")
        store.append("new", NewMessage(role="user", content="text"))
    daemon_dies(laptop, at)
    ends_well(both, "one", "two")
    assert laptop.contents("new") == ["text"]
    assert len(laptop.files()) == 3


def write_changed(both: Pair, at: str) -> None:
    laptop, _ = both
    add(laptop, "three")
    daemon_dies(laptop, at)
    add(laptop, "four")
    ends_well(both, "one", "two", "three", "four")


def remove_file(both: Pair, at: str) -> None:
    laptop, _ = both
    with laptop.store(write=True) as store:
        store.delete(GONE)
    daemon_dies(laptop, at)
    ends_well(both, "one", "two")
    assert sorted(laptop.everything()) == [SESSION]
    assert len(laptop.files()) == 1


def take_edit(both: Pair, at: str) -> None:
    laptop, _ = both
    path = laptop.file(SESSION)
    edited = path.read_text(encoding="utf-8").replace('"content":"two"', '"content":"2"')
    path.write_text(edited + '{"role":"user","content":"by hand"}\n', encoding="utf-8")
    daemon_dies(laptop, at)
    ends_well(both, "one", "2", "by hand")


def take_displaced(both: Pair, at: str) -> None:
    """An edit that nobody could notice before the file was exchanged: same size, same times, same inode."""
    laptop, _ = both
    laptop.write_files_here()
    path = laptop.file(SESSION)
    look = path.stat()
    text = path.read_text(encoding="utf-8").replace('"content":"two"', '"content":"2.."')
    with path.open("r+", encoding="utf-8") as file:
        file.write(text)
    os.utime(path, ns=(look.st_atime_ns, look.st_mtime_ns))
    assert path.stat().st_size == look.st_size
    add(laptop, "three")
    daemon_dies(laptop, at)
    ends_well(both, "one", "2..", "three")


def write_without_exchange(both: Pair, at: str) -> None:
    laptop, _ = both
    add(laptop, "three")
    laptop.daemon = laptop.run("-c", WITHOUT_EXCHANGE, STENO_KILL_AT=at)
    assert killed(laptop.daemon), f"never passed {at}: {laptop.log()[-1500:]}"
    ends_well(both, "one", "two", "three")


def name_anew(both: Pair, at: str) -> None:
    _has_former_title(both)
    laptop, _ = both
    daemon_dies(laptop, at)
    _is_named_anew(both)


def name_anew_without_exchange(both: Pair, at: str) -> None:
    _has_former_title(both)
    laptop, _ = both
    laptop.daemon = laptop.run("-c", WITHOUT_EXCHANGE, STENO_KILL_AT=at)
    assert killed(laptop.daemon), f"never passed {at}: {laptop.log()[-1500:]}"
    _is_named_anew(both)


def _has_former_title(both: Pair) -> None:
    """The name of the file holds a title that was purged."""
    with both[0].store(write=True) as store:
        store.update(SESSION, fields={"title": "present"})
        purge_history(store, SESSION)


def _is_named_anew(both: Pair) -> None:
    laptop, _ = both
    ends_well(both, "one", "two")
    assert laptop.file(SESSION).name == f"present.{SESSION}.jsonl"
    assert sorted(laptop.everything()) == [GONE, SESSION]
    assert len(laptop.files()) == 2


def index(both: Pair, at: str) -> None:
    laptop, _ = both
    add(laptop, "a word like quuxfrobnicate")
    daemon_dies(laptop, at)
    ends_well(both, "one", "two", "a word like quuxfrobnicate")
    assert len(laptop.json("search", "quuxfrobnicate")["results"]) == 1


def import_files(both: Pair, at: str) -> None:
    laptop, _ = both
    folder = laptop.place.parent / "import"
    folder.mkdir()
    for name in "abc":
        lines = [{"messages": [{"role": "user", "content": f"{name} {number}"}]} for number in range(2)]
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    dies(laptop, "import", str(folder), at=f"{at}:2")
    done = laptop.steno("import", str(folder), "--json").json
    assert done["messages_added"] == 2
    laptop.steno("import", str(folder))
    assert len(laptop.json("list", "--all")) == 2 + 6
    are_equal(both, "one", "two")


def init(both: Pair, at: str) -> None:
    place = both[0].place.parent
    device, remote = Device(place / "fresh").configure(), place / "other"
    dies(device, "init", "--remote", str(remote), at=at)
    again = device.steno("init", "--remote", str(remote), code=None)
    if again.code == 5:
        device.steno("join", str(remote))
    else:
        assert again.code == 0, again.err
    device.steno("create", "--id", "first")
    device.steno("sync")
    other = Device(place / "joined").configure()
    other.steno("join", str(remote))
    other.steno("sync")
    assert equal(device, other)


def join(both: Pair, at: str) -> None:
    place = both[0].place.parent
    device = Device(place / "fresh").configure()
    dies(device, "join", str(folder_of(both[0])), at=at)
    device.steno("join", str(folder_of(both[0])))
    device.sync_here()
    assert equal(device, both[0])


def up(both: Pair, at: str) -> None:
    place = both[0].place.parent
    device = Device(place / "fresh").configure()
    dies(device, "up", "--no-import", at=at)
    device.daemon = device.begin("up", "--no-import")
    try:
        until(lambda: "Mirroring" in device.log(), "the daemon runs")
        device.steno("create", "--id", "first")
        device.steno("sync")
    finally:
        device.stop()
    found = json.loads(device.home.vault_file.read_bytes())
    assert found["recovery"] in device.log()
    other = Device(place / "joined").configure()
    other.steno("join", found["url"], STENO_PASSPHRASE=found["recovery"])
    other.steno("sync")
    assert equal(device, other)


def restore(both: Pair, at: str) -> None:
    laptop, _ = both
    saved = str(laptop.place.parent / "saved.db")
    laptop.steno("backup", saved)
    add(laptop, "three")
    laptop.sync_here()
    dies(laptop, "backup", "--restore", saved, at=at)
    assert laptop.contents(SESSION) in (["one", "two"], ["one", "two", "three"])
    laptop.steno("doctor")
    laptop.steno("backup", "--restore", saved)
    assert laptop.contents(SESSION) == ["one", "two"]
    ends_well(both, "one", "two", "three")
    laptop.steno("doctor")


def pull_by_force(both: Pair, at: str) -> None:
    """What was never sent is here or in a copy, and files that showed it bring none of it back."""
    laptop, _ = both
    add(laptop, "never sent")
    laptop.write_files_here()
    dies(laptop, "sync", "--force", "--pull", "--yes", at=at)
    assert "never sent" in _anywhere(laptop)
    laptop.start()
    until(lambda: laptop.settled() and _shown(laptop) == laptop.contents(SESSION), "the files show the store")
    laptop.stop()
    laptop.steno("sync", "--force", "--pull", "--yes")
    assert "never sent" in _anywhere(laptop)
    if at == "restore.replaced":
        ends_well(both, "one", "two")


def _anywhere(device: Device) -> list[Any]:
    """What the session shows, in the store or in a copy of it."""
    found: list[Any] = []
    for path in (device.home.database, *device.home.backups.glob("*.db")):
        with Store(path, read_only=True) as store:
            found += [message.content for message in store.messages(SESSION)]
    return found


def discard(both: Pair, at: str) -> None:
    """A refused save is taken back, and what was typed is kept."""
    laptop, _ = both
    path = laptop.file(SESSION)
    path.write_text(path.read_text(encoding="utf-8") + "what was typed", encoding="utf-8")
    assert _discarded(laptop, at) == -signal.SIGKILL
    if path.read_text(encoding="utf-8").endswith("what was typed"):
        assert _discarded(laptop, "") == 0
    kept = [each.read_text(encoding="utf-8") for each in path.parent.glob("*.refused*")]
    assert any(each.endswith("what was typed") for each in kept)
    ends_well(both, "one", "two")


def _discarded(device: Device, at: str) -> int:
    environment = device.environment(EDITOR="true", STENO_KILL_AT=at)
    command = [sys.executable, "-m", "steno.cli.main", "files", "edit", SESSION]
    with contextlib.closing(Terminal(command, environment=environment)) as terminal:
        terminal.wait("[d]iscard what you changed?")
        terminal.type("d\n")
        return terminal.end()


def halt(both: Pair, at: str) -> None:
    """A directory that is gone stops the mirror, also if it dies in saying so."""
    laptop, _ = both
    laptop.home.sessions.rename(laptop.place / "elsewhere")
    daemon_dies(laptop, at)
    assert laptop.contents(SESSION) == ["one", "two"]
    laptop.steno("files", "resume", "--restore")
    ends_well(both, "one", "two")


def rebuild(both: Pair, at: str) -> None:
    laptop, _ = both
    with laptop.file(SESSION).open("a", encoding="utf-8") as file:
        file.write('{"role":"user","content":"typed without a database"}\n')
    laptop.home.database.write_bytes(b"nothing of a database is left" * 1000)
    laptop.home.database.with_name("steno.db-wal").write_bytes(b"a log of another time")
    dies(laptop, "doctor", "--rebuild", at=at)
    if at == "rebuild.placed":
        laptop.steno("doctor", "--rebuild", code=5)
    else:
        assert "doctor --rebuild" in laptop.steno("list", code=1).err
        laptop.steno("doctor", "--rebuild")
    assert list(laptop.place.glob(".rebuilding-*")) == []
    assert [path.read_bytes() for path in laptop.home.backups.glob("*-wal")] == [b"a log of another time"]
    ends_well(both, "one", "two", "typed without a database")
    laptop.steno("doctor")


def passwd(both: Pair, at: str) -> None:
    """From the first step on it is the new passphrase that opens, and running it again finishes."""
    laptop, _ = both
    dies(laptop, "vault", "passwd", at=at, STENO_PASSPHRASE=NEW)
    laptop.steno("vault", "passwd", STENO_PASSPHRASE=NEW)
    assert _keys_that_count(both) == 1
    late = Device(laptop.place.parent / "late").configure()
    late.steno("join", str(folder_of(laptop)), STENO_PASSPHRASE=NEW)
    late.steno("sync")
    assert equal(late, laptop)
    are_equal(both, "one", "two")


def rotate(both: Pair, at: str) -> None:
    """Whatever was left of the first try, the second one gives a key that everybody follows to."""
    laptop, _ = both
    dies(laptop, "vault", "rotate", at=at)
    add(laptop, "three")
    laptop.steno("sync")
    laptop.steno("vault", "rotate")
    add(laptop, "four")
    assert _keys_that_count(both) == 1
    _follow(both, "one", "two", "three", "four")


def revoke(both: Pair, at: str) -> None:
    laptop, desktop = both
    dies(laptop, "vault", "rotate", "--revoke", at=at, STENO_PASSPHRASE=NEW)
    again = laptop.steno("vault", "rotate", "--revoke", code=None, STENO_PASSPHRASE=NEW)
    assert again.code == 0 or "present passphrase" in again.err
    add(laptop, "three")
    laptop.steno("sync")
    desktop.steno("sync", code=8)
    assert desktop.contents(SESSION) == ["one", "two"]
    desktop.steno("join", str(folder_of(laptop)), STENO_PASSPHRASE=NEW)
    _follow(both, "one", "two", "three")


def _follow(both: Pair, *contents: str) -> None:
    """Sync as people do, since keys change; the session has these messages on both."""
    laptop, desktop = both
    for device in (laptop, desktop, laptop):
        device.steno("sync")
    assert laptop.contents(SESSION) == desktop.contents(SESSION) == list(contents)
    assert equal(laptop, desktop)


def _keys_that_count(both: Pair) -> int:
    return len([path for path in (folder_of(both[0]) / "keys").iterdir() if "-" not in path.name])


def to_keyring(both: Pair, at: str) -> None:
    """The key is always in one of the two places, and the file says in which."""
    laptop, desktop = both
    entries = laptop.place.parent / "keyring"
    entries.mkdir()
    backend = "steno.tests.e2e.file_keyring.FileKeyring"

    def steno(*arguments: str, code: int | None = 0, at: str = "") -> Done:
        return laptop.steno(
            *arguments, code=code, STENO_KILL_AT=at, PYTHON_KEYRING_BACKEND=backend, STENO_TEST_KEYRING=str(entries)
        )

    with laptop.home.config_file.open("a", encoding="utf-8") as file:
        file.write('[vault]\nkey = "keyring"\n')
    if at == "keyring.named":
        steno("vault", "key")
    steno("vault", "key", code=-signal.SIGKILL, at=at)
    add(laptop, "three")
    steno("sync")
    assert steno("vault", "key", "--json").json["kept"] == "keyring"
    desktop.sync_here()
    assert equal(laptop, desktop)
    assert desktop.contents(SESSION) == ["one", "two", "three"]


def credentials_to_keyring(both: Pair, at: str) -> None:
    """What a service must know is always in one of the two places, and the file says in which."""
    laptop, _ = both
    entries = laptop.place.parent / "keyring"
    entries.mkdir()
    laptop.home.credentials_file.write_text("STENO_S3_SECRET_ACCESS_KEY=hunter2\n", encoding="utf-8")
    laptop.home.credentials_file.chmod(0o600)
    backend = "steno.tests.e2e.file_keyring.FileKeyring"

    def credentials(*arguments: str, code: int = 0, at: str = "") -> str:
        return laptop.steno(
            "remote", "credentials", *arguments,
            code=code, STENO_KILL_AT=at, PYTHON_KEYRING_BACKEND=backend, STENO_TEST_KEYRING=str(entries),
        ).out  # fmt: skip

    if at == "credentials.named":
        credentials("--to", "keyring")
    credentials("--to", "keyring", code=-signal.SIGKILL, at=at)
    assert "STENO_S3_SECRET_ACCESS_KEY" in credentials()
    credentials("--to", "keyring")
    assert credentials() == "STENO_S3_SECRET_ACCESS_KEY  keyring\n"
    assert "hunter2" not in laptop.home.credentials_file.read_text(encoding="utf-8")
    assert any("hunter2" in entry.read_text(encoding="utf-8") for entry in entries.iterdir())


def delete_vault(both: Pair, at: str) -> None:
    """Half deleted it lets nobody in; what the devices hold stays, and running it again finishes."""
    laptop, desktop = both
    vault = json.loads(laptop.home.vault_file.read_bytes())["kept"]["vault"]
    dies(laptop, "vault", "delete", vault, at=at)
    assert Device(laptop.place.parent / "late").configure().steno("join", str(folder_of(laptop)), code=6).err
    again = laptop.steno("vault", "delete", vault, code=None)
    if again.code == 6:  # all of it was deleted, and this home did not know yet
        laptop.steno("vault", "leave")
    else:
        assert again.code == 0 or "no remote is configured" in again.err
    desktop.steno("sync", code=6)
    desktop.steno("vault", "leave")
    assert laptop.contents(SESSION) == desktop.contents(SESSION) == ["one", "two"]
    assert equal(laptop, desktop)
    left = [path for path in folder_of(laptop).rglob("*") if path.is_file() and ".tmp" not in path.parts]
    assert left == []
    following = str(laptop.place.parent / "next")
    laptop.steno("init", "--remote", following)
    desktop.steno("join", following)
    _follow(both, "one", "two")


def pair_offer(both: Pair, at: str) -> None:
    laptop, _ = both
    dies(laptop, "pair", "--no-wait", at=at)
    _pairs(both, "")


def pair_accept(both: Pair, at: str) -> None:
    _pairs(both, at)


def _pairs(both: Pair, at: str) -> None:
    laptop, _ = both
    offer = laptop.json("pair", "--no-wait")
    device = Device(laptop.place.parent / "late").configure()
    done = device.steno("pair", offer["code"], stdin=offer["secret"], code=None, STENO_KILL_AT=at)
    if at:
        assert done.code == -signal.SIGKILL
        again = laptop.json("pair", "--no-wait")
        device.steno("pair", again["code"], stdin=again["secret"])
    device.steno("sync")
    assert equal(device, laptop)


def talk(both: Pair, at: str) -> None:
    laptop, _ = both
    models = Models(laptop.place.parent / "models")
    asked = "chat", "-s", SESSION, "three"
    assert killed(laptop.run("-m", "steno.cli.main", *asked, STENO_KILL_AT=at, **models.environment)), laptop.log()
    laptop.steno("list")
    are_equal(both, "one", "two", "three", *(["You said: one\n\ntwo\n\nthree"] if at == "draft.kept" else []))


def take_up(both: Pair, at: str) -> None:
    laptop, _ = both
    models = Models(laptop.place.parent / "models")
    asked = laptop.run("-m", "steno.cli.main", "chat", "-s", SESSION, "slowly", **models.environment)
    drafts = laptop.home.drafts
    until(lambda: drafts.exists() and any("You said" in each.read_text() for each in drafts.iterdir()), "a draft")
    asked.kill()
    asked.wait()
    dies(laptop, "list", at=at)
    laptop.steno("list")
    assert [*drafts.iterdir()] == []
    are_equal(both, "one", "two", "slowly", "You said: ")


Scenario = Callable[[Pair, str], None]
SCENARIOS: dict[str, list[Scenario]] = {
    "home.made": [join],
    "home.store-made": [init, up],
    "vault.passphrase-kept": [up],
    "vault.key-put": [init],
    "vault.made": [init, up],
    "vault.kept": [join],
    "vault.former-key-deleted": [passwd, rotate, revoke],
    "passwd.key-put": [passwd],
    "passwd.kept": [passwd],
    "rotate.notice-put": [rotate],
    "rotate.key-put": [rotate],
    "rotate.kept": [rotate],
    "revoke.key-put": [revoke],
    "revoke.notice-put": [revoke],
    "revoke.kept": [revoke],
    "delete.object": [delete_vault],
    "delete.vault-deleted": [delete_vault],
    "delete.left": [delete_vault],
    "keyring.stored": [to_keyring],
    "keyring.named": [to_keyring],
    "credentials.stored": [credentials_to_keyring],
    "credentials.named": [credentials_to_keyring],
    "pair.offered": [pair_offer],
    "pair.kept": [pair_accept],
    "import.file": [import_files],
    "chat.asked": [talk],
    "draft.kept": [talk],
    "draft.taken": [take_up],
    "index.slice": [index],
    "restore.staged": [restore, pull_by_force],
    "restore.kept": [restore, pull_by_force],
    "restore.replaced": [restore, pull_by_force],
    "rebuild.session": [rebuild],
    "rebuild.staged": [rebuild],
    "rebuild.moved": [rebuild],
    "rebuild.set-aside": [rebuild],
    "rebuild.placed": [rebuild],
    "push.batched": [push],
    "push.intended": [push],
    "push.put": [push],
    "push.acknowledged": [push],
    "device.put": [push],
    "heal.ended": [heal],
    "retire.healed": [retire],
    "retire.told": [retire],
    "retire.deleted": [retire],
    "rewrite.announced": [write_again],
    "rewrite.put": [write_again],
    "rewrite.replaced": [write_again],
    "rewrite.deleted": [write_again],
    "identity.settled": [copied],
    "pull.fetched": [pull],
    "pull.slice": [pull],
    "files.temp-written": [write_new, write_changed],
    "files.published": [write_new],
    "files.exchanged": [write_changed],
    "files.displaced-removed": [write_changed],
    "files.recorded": [write_new, write_changed],
    "files.cursor": [write_new],
    "files.set-aside-for-removal": [remove_file],
    "files.removed": [remove_file],
    "files.read": [take_edit],
    "files.absorbed": [take_edit],
    "files.displaced-kept": [take_displaced],
    "files.displaced-absorbed": [take_displaced],
    "files.set-aside": [write_without_exchange],
    "files.renamed": [name_anew],
    "files.set-aside-for-name": [name_anew_without_exchange],
    "files.halted": [halt],
    "files.own-text-beside": [discard],
    "files.refused-set-aside": [discard],
}


class Case(NamedTuple):
    at: str
    scenario: Scenario


CASES = [Case(at, scenario) for at, scenarios in SCENARIOS.items() for scenario in scenarios]


def test_every_step_has_a_scenario_in_which_the_process_dies_there():
    assert sorted(STEPS) == sorted(SCENARIOS)


def _cases() -> Iterator[Any]:
    for case in CASES:
        marks = [mark for start, mark in FAULTS.items() if case.at.startswith(start)]
        yield pytest.param(case, id=f"{case.at}-{case.scenario.__name__}", marks=marks)


@pytest.mark.parametrize("case", list(_cases()))
def test_a_process_that_is_killed_at_a_step_loses_nothing_and_doubles_nothing(both: Pair, case: Case):
    case.scenario(both, case.at)


@pytest.mark.fault(2)
@pytest.mark.parametrize("slice_", [2, 3])
def test_a_pull_killed_between_two_slices_is_done_again(both: Pair, slice_: int):
    pull(both, f"pull.slice:{slice_}")


@pytest.mark.fault(35)
def test_a_daemon_that_was_killed_starts_again_beside_its_stale_socket_and_lock(both: Pair):
    laptop, _ = both
    laptop.start()
    laptop.kill()
    assert laptop.home.socket.exists()
    assert laptop.home.daemon_file.exists()
    assert laptop.home.daemon_lock.exists()
    assert laptop.steno("daemon", "status", code=1).err.startswith("Error: no daemon is running")
    ends_well(both, "one", "two")


def test_appends_that_were_acknowledged_survive_the_kill_of_their_writer(both: Pair):
    laptop, _ = both
    script = (
        "import sys; from steno.storage.store import Store; from steno.storage.model import NewMessage\n"
        f"store = Store({str(laptop.home.database)!r})\n"
        "for number in range(10**9):\n"
        f"    store.append({SESSION!r}, NewMessage(role='user', content=str(number)))\n"
        "    print(number, flush=True)\n"
    )
    laptop.start()
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(200)]
    writer.kill()
    said += writer.stdout.read().splitlines(keepends=True)
    writer.wait()
    writer.stdout.close()
    acknowledged = [line.strip() for line in said if line.endswith("\n")]
    laptop.kill()
    written = laptop.contents(SESSION)[2:]
    assert written[: len(acknowledged)] == acknowledged
    assert len(written) <= len(acknowledged) + 1
    ends_well(both, "one", "two", *written)
