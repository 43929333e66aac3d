"""What is kept off the remote stays on its device, by the real commands, whatever happens to it, until it is shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steno.cli import pulling
from steno.cli.progress import Progress
from steno.storage import restore
from steno.storage.local_only import PROJECTS
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.vault.membership import required_membership
from steno.sync.vault.seal import unpack, unseal
from steno.tests.e2e.device import Device, Done, equal, until
from steno.tests.e2e.test_mirror import SESSION, transcript

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]
SECRET = "rhododendron"
SETTING = '\n[vault]\nlocal-only = ["{}"]\n'


def made(device: Device, *more: str) -> str:
    """A session that is local-only, with a message."""
    session = device.json("create", "--id", f"about-{SECRET}", "--title", SECRET, "--local-only", *more)["id"]
    device.steno("add", session, f"{SECRET} said")
    return session


def told(device: Device) -> bytes:
    """All that lies on the remote, opened."""
    found = required_membership(device.home)
    log = sorted((device.folder / "log").iterdir())
    return b"".join(
        unpack(unseal(each.read_bytes(), keyring=found.keyring, vault_id=found.vault, name=f"log/{each.name}"), name="")
        for each in log
    )


def ids(device: Device) -> list[str]:
    return sorted(each["id"] for each in device.json("list", "--all"))


def keep_project(device: Device, project: str) -> None:
    with device.home.config_file.open("a", encoding="utf-8") as file:
        file.write(SETTING.format(project))


def test_it_stays_here_and_the_rest_is_sent(pair: Pair):
    laptop, desktop = pair
    session = made(laptop)
    laptop.steno("create", "--id", "open", "--title", "in the open")
    laptop.steno("sync")
    desktop.steno("sync")
    assert ids(desktop) == ["open"]
    assert ids(laptop) == [session, "open"]
    assert b"in the open" in told(laptop)
    assert SECRET.encode() not in told(laptop)


def test_it_is_seen_everywhere_that_it_is(pair: Pair):
    laptop, _ = pair
    session = made(laptop)
    assert laptop.json("show", session)["local_only"] is True
    assert [each["local_only"] for each in laptop.json("list")] == [True]
    assert "Local only:" in laptop.steno("show", session).out
    status = laptop.json("status")
    assert (status["local_only"], status["vault"]["not_sent"]) == (1, 0)
    assert "Local only: 1 of them" in laptop.steno("status").out


def test_the_file_says_so_and_the_daemon_keeps_to_it(pair: Pair):
    laptop, desktop = pair
    made(laptop)
    laptop.start()
    path = laptop.file(f"about-{SECRET}")
    assert json.loads(path.read_text().splitlines()[0])["local_only"] is True
    typed = json.dumps({"role": "user", "content": f"{SECRET} typed"})
    path.write_text(path.read_text().replace(',"local_only":true', "") + typed + "\n")
    until(lambda: len(laptop.contents(f"about-{SECRET}")) == 2, "what was typed is taken up")
    laptop.steno("create", "--id", "open")
    desktop.start()
    until(lambda: "open" in desktop.everything(), "the desktop has what is sent")
    laptop.stop()
    assert SECRET.encode() not in told(laptop)
    assert list(desktop.everything()) == ["open"]


def test_a_purge_of_it_tells_nobody_that_it_was(pair: Pair):
    laptop, _ = pair
    laptop.steno("purge", made(laptop), "--yes")
    laptop.steno("create", "--id", "open")
    laptop.steno("sync")
    assert SECRET.encode() not in told(laptop)


def test_sessions_of_a_project_that_is_named_in_the_settings_stay(pair: Pair, place: Path):
    laptop, desktop = pair
    (place / "import").mkdir()
    recorded = transcript(place / "import")
    laptop.steno("import", str(recorded))
    project = laptop.json("show", SESSION)["project"]
    assert project
    keep_project(desktop, project)
    desktop.steno("import", str(recorded))
    desktop.steno("create", "--id", "mine", "--metadata", json.dumps({"project": project}))
    desktop.steno("create", "--id", "open", "--metadata", '{"project": "another"}')
    desktop.steno("sync")
    assert {each["id"]: each["local_only"] for each in desktop.json("list", "--all")} == {
        SESSION: True, "mine": True, "open": False,
    }  # fmt: skip
    laptop.steno("sync", "--pull")
    assert "mine" not in ids(laptop)


def test_a_project_that_is_named_while_the_daemon_runs_is_kept_to(pair: Pair):
    laptop, _ = pair
    laptop.start()
    keep_project(laptop, "client-x")
    with Store(laptop.home.database) as store:
        until(lambda: "client-x" in (store.meta(PROJECTS) or ""), "the daemon has read the settings")
    header, line = {"steno": 1, "metadata": {"project": "client-x"}}, {"role": "user", "content": SECRET}
    (laptop.home.sessions / "typed.jsonl").write_text(f"{json.dumps(header)}\n{json.dumps(line)}\n")
    until(lambda: laptop.json("list"), "what was typed is taken up")
    laptop.steno("create", "--id", "open")
    laptop.steno("sync")
    laptop.stop()
    assert b"open" in told(laptop)
    assert SECRET.encode() not in told(laptop)


def test_it_is_still_so_after_the_database_is_lost(pair: Pair):
    laptop, desktop = pair
    session = made(laptop)
    laptop.steno("create", "--id", "open")
    laptop.steno("sync")
    for path in laptop.place.glob("steno.db*"):
        path.unlink()
    laptop.steno("doctor", "--rebuild")
    laptop.steno("add", session, f"{SECRET} again")
    laptop.steno("sync")
    desktop.steno("sync")
    assert laptop.contents(session) == [f"{SECRET} said", f"{SECRET} again"]
    assert ids(desktop) == ["open"]
    assert SECRET.encode() not in told(laptop)


def test_it_is_still_so_where_only_the_files_were_left(pair: Pair):
    laptop, _ = pair
    session = made(laptop)
    laptop.steno("sync")
    for path in laptop.place.glob("steno.db*"):
        path.unlink()
    laptop.steno("doctor", "--rebuild", "--files-only")
    assert laptop.json("show", session)["local_only"] is True


def test_it_goes_along_when_everything_is_taken_from_the_remote_anew(pair: Pair):
    laptop, desktop = pair
    session = made(laptop)
    laptop.steno("create", "--id", "open")
    laptop.steno("sync")
    done = laptop.steno("sync", "--force", "--pull", "--yes", "--json").json
    assert (done["discarded"], done["sessions"]) == (0, 2)
    assert laptop.contents(session) == [f"{SECRET} said"]
    assert SECRET in laptop.file(session).read_text()
    laptop.steno("sync")
    assert SECRET.encode() not in told(laptop)
    laptop.steno("vault", "share", session)
    laptop.steno("sync")
    desktop.steno("sync")
    assert equal(laptop, desktop)


def test_what_is_written_while_everything_is_taken_anew_goes_along_too(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    laptop, _ = pair
    session = made(laptop)
    laptop.steno("sync")

    def meanwhile(name: str) -> None:
        if name == "restore.staged":
            with laptop.store(write=True) as store:
                store.append(session, NewMessage(role="user", content="meanwhile"))

    monkeypatch.setattr(restore, "step", meanwhile)
    pulling._replaced(laptop.home, required_membership(laptop.home), 0, Progress())
    assert laptop.contents(session) == [f"{SECRET} said", "meanwhile"]
    assert laptop.json("show", session)["local_only"] is True


def test_it_stays_through_another_vault_and_a_restored_backup(pair: Pair, place: Path):
    laptop, _ = pair
    made(laptop)
    laptop.steno("backup", str(place / "kept.db"))
    laptop.steno("sync")
    laptop.steno("backup", "--restore", str(place / "kept.db"))
    laptop.steno("create", "--id", "open")
    laptop.steno("sync")
    assert b"open" in told(laptop)
    assert SECRET.encode() not in told(laptop)


def test_what_is_shared_reaches_the_other_device_whole(pair: Pair):
    laptop, desktop = pair
    session = made(laptop)
    laptop.steno("sync")
    done = laptop.steno("vault", "share", session)
    assert "goes to the other devices" in done.out
    laptop.steno("sync")
    desktop.steno("sync")
    assert equal(laptop, desktop)
    assert desktop.contents(session) == [f"{SECRET} said"]
    assert "local_only" not in laptop.file(session).read_text()


def wrong_setting(device: Device) -> Done:
    with device.home.config_file.open("a", encoding="utf-8") as file:
        file.write('\n[vault]\nlocal-only = "x"\n')
    return device.steno("list", code=4)


REFUSED: dict[str, Callable[[Device], Done]] = {
    "session not found": lambda device: device.steno("vault", "share", "nobody", code=3),
    "[vault] local-only must be a list of names": wrong_setting,
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_done_is_said_in_a_line(lonely: Device, said: str):
    error: Any = REFUSED[said](lonely).err
    assert said in error
    assert error.count("\n") == 1
