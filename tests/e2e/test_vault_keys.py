"""Passphrase, key, leaving, deleting and pairing, as a person does them, with two homes and a folder between them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from steno.storage.home import Home
from steno.sync.vault.membership import membership
from steno.tests.e2e.device import PASSPHRASE, Device, equal, until
from steno.tests.e2e.terminal import Terminal

Pair = tuple[Device, Device]
NEW = "another passphrase"
pytestmark = pytest.mark.usefixtures("forked")


def fresh(device: Device, name: str = "f") -> Device:
    """A device that is nothing yet, beside this one."""
    return Device(device.place.parent / name).configure()


def remote_of(device: Device) -> Path:
    assert isinstance(device.remote, Path)
    return device.remote


def objects(device: Device) -> set[str]:
    """Everything on the remote."""
    folder = remote_of(device)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".tmp" not in path.parts}


def vault_of(device: Device) -> str:
    found = membership(device.home)
    assert found is not None
    return found.vault


def write(device: Device, session: str) -> None:
    device.steno("create", "--id", session)
    device.steno("add", session, f"written in {session}")
    device.steno("sync")


# The passphrase


def test_the_recovery_passphrase_is_printed_where_it_was_made_and_lets_another_device_join(place: Path):
    first = Device(place / "a").configure()
    first.daemon = first.begin("up", "--no-import")
    try:
        until(lambda: "Mirroring" in first.log(), "the daemon runs")
        passphrase = first.json("vault", "recovery")["passphrase"]
        second = fresh(first)
        second.steno("join", str(first.home.default_remote), STENO_PASSPHRASE=passphrase)
        second.steno("vault", "passwd", STENO_PASSPHRASE=NEW)
        done = first.steno("vault", "recovery", code=7)
        first.steno("vault", "rotate", STENO_PASSPHRASE=NEW)
    finally:
        first.stop()
    assert "changed on another device" in done.err
    assert passphrase not in done.out + done.err


def test_a_chosen_passphrase_is_kept_nowhere(pair: Pair):
    done = pair[0].steno("vault", "recovery")
    assert "chosen by a person" in done.out
    assert PASSPHRASE not in done.out
    assert pair[0].json("vault", "recovery")["passphrase"] is None


def test_the_recovery_passphrase_is_printed_also_where_the_remote_is_away(place: Path):
    device = Device(place / "a").make()
    device.home.vault_file.write_text(
        json.dumps({**_file_of_a_vault(place), "recovery": "made-here"}), encoding="utf-8"
    )
    (place / "r").rename(place / "away")
    done = device.steno("vault", "recovery")
    assert done.out == "made-here\n"
    assert "not known" in done.err


def _file_of_a_vault(place: Path) -> dict[str, object]:
    return json.loads(Device(place / "b", remote=place / "r").make(found=True).home.vault_file.read_bytes())


def test_after_passwd_others_go_on_and_only_the_new_passphrase_joins(pair: Pair):
    laptop, desktop = pair
    laptop.steno("vault", "passwd", STENO_PASSPHRASE=NEW)
    write(desktop, "s")
    laptop.steno("sync")
    assert equal(laptop, desktop)
    late = fresh(laptop)
    assert late.steno("join", str(laptop.remote), code=7).err.startswith("Error: this passphrase does not open")
    late.steno("join", str(laptop.remote), STENO_PASSPHRASE=NEW)
    late.steno("sync")
    assert equal(late, laptop)


def test_a_new_passphrase_is_asked_twice_on_a_terminal(pair: Pair):
    laptop, _ = pair
    environment = laptop.environment()
    del environment["STENO_PASSPHRASE"]
    terminal = Terminal([sys.executable, "-m", "steno.cli.main", "vault", "passwd"], environment=environment)
    try:
        terminal.wait("New passphrase: ")
        terminal.type(f"{NEW}\n")
        terminal.wait("Repeat for confirmation: ")
        terminal.type(f"{NEW}\n")
        terminal.wait("The passphrase was changed.")
        assert terminal.end() == 0
    finally:
        terminal.close()
    fresh(laptop).steno("join", str(laptop.remote), STENO_PASSPHRASE=NEW)


def test_a_passphrase_from_a_file_is_taken_and_never_printed(pair: Pair, tmp_path: Path):
    (tmp_path / "new").write_text(f"{NEW}\n", encoding="utf-8")
    done = pair[0].steno("vault", "passwd", "--passphrase-file", str(tmp_path / "new"))
    assert "was changed" in done.out
    assert NEW not in done.out + done.err


def test_a_passphrase_file_of_an_editor_that_begins_it_with_a_mark_holds_what_was_typed(pair: Pair, tmp_path: Path):
    (tmp_path / "new").write_text(f"{NEW}\r\n", encoding="utf-8-sig")
    pair[0].steno("vault", "passwd", "--passphrase-file", str(tmp_path / "new"))
    fresh(pair[0]).steno("join", str(pair[0].remote), STENO_PASSPHRASE=NEW)


# The key


@pytest.mark.fault(26)
def test_after_a_rotation_daemons_follow_by_themselves_and_old_data_is_readable(pair: Pair):
    laptop, desktop = pair
    write(laptop, "before")
    for device in pair:
        device.start()
    laptop.steno("vault", "rotate")
    laptop.steno("create", "--id", "after")
    until(lambda: equal(laptop, desktop) and len(desktop.everything()) == 2, "both sessions are on both")
    desktop.steno("create", "--id", "also")
    until(lambda: equal(laptop, desktop) and len(laptop.everything()) == 3, "the other way too")
    for device in pair:
        assert device.status()["problems"] == []
        device.stop()
    late = fresh(laptop)
    late.steno("join", str(laptop.remote))
    late.steno("sync")
    assert equal(late, laptop)


def test_what_was_done_to_the_vault_is_printed_for_programs_too(pair: Pair):
    laptop, desktop = pair
    write(desktop, "s")
    laptop.sync_here()
    vault, url, device = vault_of(laptop), str(remote_of(laptop)), desktop.json("devices")[0]["id"]
    changed = laptop.steno("vault", "passwd", "--json", STENO_PASSPHRASE=NEW).json
    assert changed == {"vault": vault, "changed": True}
    rotated = laptop.steno("vault", "rotate", "--json", STENO_PASSPHRASE=NEW).json
    assert (rotated["vault"], rotated["revoked"]) == (vault, False)
    assert laptop.json("devices", "retire", device) == {"retired": device}
    assert laptop.json("metered", "--off") == {"metered_until": None}
    assert laptop.json("pause-sync", "2h")["paused_until"] is not None
    assert laptop.json("remote", "set", url) == {"vault": vault, "remote": url}
    assert laptop.json("vault", "leave") == {"left": vault, "remote": url, "passphrase": None}
    deleted = desktop.json("vault", "delete", vault)
    assert deleted == {"deleted": vault, "remote": url, "foreign": []}


def test_a_rotation_needs_the_present_passphrase(pair: Pair):
    before = objects(pair[0]), pair[0].home.vault_file.read_bytes()
    assert pair[0].steno("vault", "rotate", code=7, STENO_PASSPHRASE="wrong").out == ""
    assert (objects(pair[0]), pair[0].home.vault_file.read_bytes()) == before


@pytest.mark.fault(27)
def test_after_a_revocation_a_running_device_is_told_and_goes_on_when_it_has_joined_again(pair: Pair):
    laptop, desktop = pair
    write(laptop, "before")
    desktop.start()
    done = laptop.steno("vault", "rotate", "--revoke", STENO_PASSPHRASE=NEW)
    assert f"steno join {laptop.remote}" in done.out
    laptop.steno("sync")
    until(lambda: any("steno join" in each for each in desktop.status()["problems"]), "the desktop is told")
    desktop.steno("create", "--id", "waits")
    assert desktop.steno("sync", code=8).err.count("revoked") == 1
    assert desktop.status()["vault"]["not_sent"] == 1
    desktop.steno("join", str(laptop.remote), STENO_PASSPHRASE=NEW)
    until(lambda: desktop.status()["problems"] == [], "the desktop has what it needs")
    until(desktop.settled, "what waited is sent")
    laptop.steno("sync")
    assert sorted(laptop.everything()) == ["before", "waits"]
    desktop.stop()


@pytest.mark.fault(27)
def test_a_stolen_copy_of_a_home_that_goes_on_writing_brings_nothing_in(pair: Pair):
    laptop, desktop = pair
    write(desktop, "before")
    laptop.steno("sync")
    thief = desktop.copy(desktop.place.with_name("t"), remote=laptop.remote)
    laptop.steno("vault", "rotate", "--revoke", STENO_PASSPHRASE=NEW)
    thief.steno("create", "--id", "planted")
    thief.steno("sync", "--push")
    desktop.steno("create", "--id", "its own")
    assert "steno join URL" in laptop.steno("sync", code=8).err
    (other,) = [each for each in laptop.json("devices") if not each["this"]]
    assert other["set_aside"] > 0
    assert "revoked key" in laptop.steno("devices").out
    assert "revoked" in laptop.steno("verify", code=8).err
    assert sorted(laptop.everything()) == ["before"]

    late = fresh(laptop, "late")
    for device in (desktop, late):
        device.steno("join", str(laptop.remote), STENO_PASSPHRASE=NEW)
    for device in (desktop, laptop, late):
        assert "revoked" in device.steno("sync", code=8).err
        assert sorted(device.everything()) == ["before", "its own"]


@pytest.mark.fault(26)
def test_a_database_that_is_made_anew_follows_a_rotation(pair: Pair):
    laptop, desktop = pair
    laptop.steno("vault", "rotate")
    write(laptop, "s")
    for path in desktop.place.glob("steno.db*"):
        path.unlink()
    desktop.steno("doctor", "--rebuild")
    assert equal(laptop, desktop)


def test_a_revocation_with_the_present_passphrase_is_refused(pair: Pair):
    before = objects(pair[0])
    assert "choose another one" in pair[0].steno("vault", "rotate", "--revoke", code=4).err
    assert objects(pair[0]) == before


# Leaving and deleting


def test_a_home_that_leaves_keeps_its_sessions_and_the_remote_its_objects(pair: Pair):
    laptop, desktop = pair
    write(laptop, "s")
    before = objects(laptop)
    laptop.steno("vault", "leave")
    assert objects(laptop) == before
    assert list(laptop.everything()) == ["s"]
    assert "no remote is configured" in laptop.steno("sync", code=1).err
    laptop.steno("create", "--id", "alone")
    laptop.steno("join", str(laptop.remote))
    laptop.steno("sync")
    desktop.steno("sync")
    assert equal(laptop, desktop)
    assert sorted(desktop.everything()) == ["alone", "s"]


def test_a_home_with_something_unsent_leaves_only_by_force(pair: Pair):
    laptop, _ = pair
    laptop.steno("create", "--id", "unsent")
    done = laptop.steno("vault", "leave", code=4)
    assert done.err.startswith("Error: 1 change of this device was not sent (in unsent): `steno sync` sends")
    assert membership(laptop.home) is not None
    laptop.steno("vault", "leave", "--force")
    assert membership(laptop.home) is None
    assert list(laptop.everything()) == ["unsent"]


def test_nobody_leaves_or_deletes_while_the_daemon_syncs(pair: Pair):
    laptop, _ = pair
    laptop.start()
    until(laptop.settled, "it has synced")
    before = objects(laptop)
    for arguments in (["leave"], ["delete", vault_of(laptop)]):
        assert "steno daemon stop" in laptop.steno("vault", *arguments, code=1).err
    assert objects(laptop) >= before
    assert membership(laptop.home) is not None
    laptop.stop()


def test_a_deleted_vault_is_gone_from_the_remote_and_every_device_keeps_its_sessions(pair: Pair):
    laptop, desktop = pair
    write(laptop, "s")
    write(desktop, "t")
    (remote_of(laptop) / "somebody's.txt").write_text("not ours", encoding="utf-8")
    laptop.steno("vault", "delete", vault_of(laptop))
    assert objects(laptop) == {"somebody's.txt"}
    assert sorted(laptop.everything()) == ["s", "t"]  # it took in what only the remote had
    assert membership(laptop.home) is None
    assert "no vault" in desktop.steno("sync", code=6).err
    desktop.steno("vault", "leave")
    assert sorted(desktop.everything()) == ["s", "t"]
    laptop.steno("create", "--id", "u")


def test_a_deleted_vault_leaves_no_folder_of_its_own_and_touches_no_other(pair: Pair):
    laptop, _ = pair
    write(laptop, "s")
    folder = remote_of(laptop)
    (folder / "somebody's").mkdir()
    (folder / "log" / "notes.txt").write_text("not ours", encoding="utf-8")
    laptop.steno("vault", "delete", vault_of(laptop))
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["log", "log/notes.txt", "somebody's"]


def test_a_vault_is_deleted_only_by_its_id(pair: Pair):
    laptop, _ = pair
    before = objects(laptop)
    assert vault_of(laptop) in laptop.steno("vault", "delete", code=4).err
    laptop.steno("vault", "delete", "vaultvault00", code=4)
    assert objects(laptop) == before


def test_a_vault_that_holds_what_was_not_taken_in_is_deleted_only_by_force(pair: Pair):
    laptop, desktop = pair
    write(desktop, "s")
    (segment,) = (remote_of(laptop) / "log").iterdir()
    segment.write_bytes(segment.read_bytes()[:-1])
    before = objects(laptop)
    assert segment.name in laptop.steno("vault", "delete", vault_of(laptop), code=4).err
    assert objects(laptop) == before
    laptop.steno("vault", "delete", vault_of(laptop), "--force")
    assert objects(laptop) == set()


def test_what_is_gone_from_the_remote_is_named_and_a_repair_sends_it_again(pair: Pair):
    laptop, _ = pair
    write(laptop, "s")
    [name] = [name for name in objects(laptop) if name.startswith("log/")]
    (remote_of(laptop) / name).unlink()
    done = laptop.steno("verify", code=8)
    assert name in done.err
    assert "`steno repair`" in done.err.splitlines()[-1]
    laptop.steno("repair")
    laptop.steno("verify")


def test_where_the_remote_is_empty_nothing_is_called_deleted(pair: Pair):
    laptop, _ = pair
    remote_of(laptop).rename(laptop.place.parent / "unmounted")
    remote_of(laptop).mkdir()
    assert "steno vault leave" in laptop.steno("vault", "delete", vault_of(laptop), code=6).err
    assert membership(laptop.home) is not None


# Pairing


def test_a_device_joins_by_code_and_secret(pair: Pair):
    laptop, _ = pair
    write(laptop, "s")
    offer = laptop.json("pair", "--no-wait")
    third = fresh(laptop)
    done = third.steno("pair", offer["code"], stdin=offer["secret"] + "\n")
    assert f"lies at {laptop.remote}" in done.err
    assert offer["secret"] not in done.out + done.err + offer["code"]
    third.steno("sync")
    assert equal(third, laptop)
    assert not list((remote_of(laptop) / "pair").iterdir())
    assert "no use any more" in fresh(laptop, "g").steno("pair", offer["code"], code=5, stdin=offer["secret"]).err


def test_a_device_that_was_left_behind_offers_nothing(pair: Pair):
    laptop, desktop = pair
    laptop.steno("vault", "rotate", "--revoke", STENO_PASSPHRASE=NEW)
    done = desktop.steno("pair", "--no-wait", code=7)
    assert "steno join" in done.err
    assert done.out == ""
    assert not (remote_of(laptop) / "pair").exists()


def test_a_wrong_secret_makes_no_home(pair: Pair):
    offer = pair[0].json("pair", "--no-wait")
    third = fresh(pair[0])
    third.steno("pair", offer["code"], code=7, stdin="aaaa-bbbb-cccc-dddd\n")
    third.steno("pair", offer["code"], code=4, stdin="no secret at all\n")
    third.steno("pair", "x", code=4, stdin=offer["secret"])
    assert not Home(third.place, third.place).exists
    assert not third.home.vault_file.exists()


def test_whoever_offers_waits_and_says_that_the_other_device_has_joined(pair: Pair, tmp_path: Path):
    laptop, _ = pair
    waiting, said = _waiting(laptop, tmp_path)
    code, secret = _offered(said)
    fresh(laptop).steno("pair", code, stdin=secret)
    assert waiting.wait(30) == 0
    assert "has joined" in said.read_text(encoding="utf-8")


def test_whoever_stops_waiting_takes_the_offer_back(pair: Pair, tmp_path: Path):
    laptop, _ = pair
    waiting, said = _waiting(laptop, tmp_path)
    code, secret = _offered(said)
    until(lambda: "Waiting" in said.read_text(encoding="utf-8"), "it waits")
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(30) == 130
    assert not list((remote_of(laptop) / "pair").iterdir())
    fresh(laptop).steno("pair", code, code=5, stdin=secret)


def _waiting(device: Device, folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    said = folder / "said"
    with said.open("wb") as out:
        command = [sys.executable, "-m", "steno.cli.main", "pair"]
        return subprocess.Popen(command, env=device.environment(PYTHONUNBUFFERED="1"), stdout=out, stderr=out), said


def _offered(said: Path) -> tuple[str, str]:
    def lines() -> list[str]:
        shown = [line.strip() for line in said.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
        return shown if len(shown) == 2 else []

    command, secret = until(lines, "code and secret are printed")
    return command.split()[-1], secret
