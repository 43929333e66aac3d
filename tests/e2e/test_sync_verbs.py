"""`steno sync` and `ping` as a person uses them between two devices, with daemons and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.daemon.vault_job import POLL_LAST_S
from steno.storage.current import current_session
from steno.tests.e2e.device import Device, until

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]


def listed(device: Device) -> list[dict[str, Any]]:
    return device.json("list", "--all")


def made(device: Device, title: str, *said: str) -> str:
    """A session with what somebody said in it; its id."""
    session = device.here("create", "--title", title, "--json").json["id"]
    for text in said:
        device.here("add", session, text)
    return session


# By hand


def test_a_warning_is_one_line_that_steers_no_terminal(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Device, "forker", None)  # what is imported there beforehand sets up logging
    laptop, _ = pair
    laptop.here("sync")
    (laptop.home.sessions / "red\x1b[31m.jsonl").write_text("no session\n", encoding="utf-8")
    said = laptop.steno("sync", code=None).err
    assert "\x1b" not in said
    [line] = [each for each in said.splitlines() if "left alone until it is mended" in each]
    assert "red\\x1b[31m.jsonl" in line


def test_what_was_rescued_is_said_once(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Device, "forker", None)
    laptop, desktop = pair
    session = made(laptop, "Plan", "one")
    laptop.here("sync")
    desktop.here("sync")
    desktop.here("add", session, "written meanwhile")
    laptop.here("purge", session, "--yes")
    laptop.here("sync")
    assert desktop.steno("sync", code=None).err.count("was purged on another device") == 1


def test_a_device_that_only_joined_and_reads_is_listed_at_once(pair: Pair):
    laptop, desktop = pair
    made(laptop, "Here")
    laptop.here("sync")
    desktop.here("sync")
    assert {each["id"] for each in laptop.json("devices")} == {each.json("status")["device"] for each in pair}


def test_where_the_remote_is_away_the_devices_that_are_known_are_listed_and_that_is_said(pair: Pair):
    laptop, _ = pair
    made(laptop, "Here")
    laptop.here("sync")
    laptop.folder.rename(laptop.folder.with_name("away"))
    done = laptop.here("devices", "--json")
    assert [each["this"] for each in done.json] == [True]
    assert "were known here" in done.err


@pytest.mark.check("AIN-47")
def test_after_a_push_and_a_pull_the_other_device_lists_and_shows_the_same(pair: Pair):
    laptop, desktop = pair
    session = made(laptop, "Plan", "one", "two")
    laptop.steno("sync", "--push")
    desktop.steno("sync", "--pull")
    assert listed(desktop) == listed(laptop) != []
    assert desktop.show(session) == laptop.show(session)


@pytest.mark.check("AIN-47")
def test_a_push_takes_nothing_in_and_a_pull_sends_nothing(pair: Pair):
    laptop, desktop = pair
    made(laptop, "Here")
    made(desktop, "There")
    laptop.steno("sync", "--push")
    desktop.steno("sync", "--pull")
    assert [{each["title"] for each in listed(device)} for device in pair] == [{"Here"}, {"Here", "There"}]
    assert [device.json("stats")["sessions"] for device in pair] == [1, 2]


@pytest.mark.check("AIN-47")
@pytest.mark.parametrize("both_ways", [["--bidirectional"], ["--push", "--pull"]])
def test_two_way_sync_after_edits_on_both_sides_loses_nothing(pair: Pair, both_ways: list[str]):
    laptop, desktop = pair
    session = made(laptop, "Plan", "one")
    laptop.steno("sync", *both_ways)
    desktop.steno("sync", *both_ways)
    laptop.here("add", session, "from the laptop")
    laptop.here("tag", session, "laptop")
    laptop.here("rename", session, "Of the laptop")
    desktop.here("add", session, "from the desktop")
    desktop.here("tag", session, "desktop")
    desktop.here("rename", session, "Of the desktop")
    for device in (laptop, desktop, laptop):
        device.steno("sync", *both_ways)
    shown = laptop.show(session)
    assert shown == desktop.show(session)
    assert {each["content"] for each in shown["messages"]} == {"one", "from the laptop", "from the desktop"}
    assert set(shown["tags"]) == {"laptop", "desktop"}
    [conflict] = laptop.json("conflicts")
    assert {each["value"] for each in [conflict["shown"], *conflict["others"]]} == {"Of the laptop", "Of the desktop"}


@pytest.mark.check("AIN-47")
def test_a_forced_pull_makes_a_device_equal_to_the_remote_and_says_what_it_discarded(pair: Pair):
    laptop, desktop = pair
    session = made(laptop, "Plan", "one")
    laptop.steno("sync")
    desktop.steno("sync")
    desktop.here("add", session, "never sent")
    done = desktop.steno("sync", "--force", "--pull", "--yes")
    assert desktop.show(session) == laptop.show(session)
    assert str(desktop.home.backups) in done.out
    assert "1 message" in done.out + done.err


@pytest.mark.check("AIN-47")
def test_without_a_remote_a_sync_says_how_to_get_one(lonely: Device):
    done = lonely.steno("sync", code=1)
    assert (done.out, done.err.count("\n")) == ("", 1)
    assert "no remote is configured" in done.err
    assert "steno init --remote URL" in done.err


@pytest.mark.check("AIN-47")
@pytest.mark.parametrize("way", [["--push"], ["--bidirectional"]])
def test_offline_the_exit_code_says_so_and_work_here_goes_on(pair: Pair, way: list[str]):
    laptop, desktop = pair
    session = made(laptop, "Plan", "one")
    away = laptop.folder.rename(laptop.folder.with_name("away"))
    assert laptop.steno("sync", *way, code=6).err.count("\n") == 1
    laptop.steno("add", session, "two")
    away.rename(laptop.folder)
    laptop.steno("sync")
    desktop.steno("sync")
    assert desktop.contents(session) == ["one", "two"]


@pytest.mark.parametrize("ways", [["--bidirectional", "--push"], ["--bidirectional", "--force", "--pull"]])
def test_ways_that_exclude_each_other_are_a_usage_error(lonely: Device, ways: list[str]):
    assert lonely.steno("sync", *ways, code=2).err.count("\n") == 1


# By itself


@pytest.fixture(scope="module")
def both(short: Path, make_pair: Callable[[Path], Pair]) -> Iterator[Pair]:
    """Two devices whose daemons run."""
    devices = make_pair(short / "automatic")
    for device in devices:
        device.start()
    yield devices
    for device in devices:
        device.kill()


@pytest.mark.check("AIN-48")
def test_a_message_is_on_the_other_device_within_one_interval(both: Pair):
    laptop, desktop = both
    session = made(laptop, "Plan", "one")
    until(lambda: desktop.contents(session) == ["one"], "the session is there", within_s=POLL_LAST_S)
    laptop.steno("add", session, "two")
    until(lambda: desktop.contents(session) == ["one", "two"], "the message is there", within_s=POLL_LAST_S)


@pytest.mark.check("AIN-48")
def test_a_session_goes_on_where_another_device_left_it(both: Pair):
    laptop, desktop = both
    session = made(laptop, "Goes on", "one")
    until(lambda: desktop.contents(session) == ["one"], "the session is there", within_s=POLL_LAST_S)
    desktop.steno("resume", session)
    desktop.steno("add", session, "two", "--role", "assistant")
    until(lambda: laptop.contents(session) == ["one", "two"], "the answer is back", within_s=POLL_LAST_S)


@pytest.mark.check("AIN-51")
def test_how_a_session_stands_is_the_same_on_the_other_device_and_what_is_current_is_not(both: Pair):
    laptop, desktop = both
    session = made(laptop, "Stands", "one")
    laptop.steno("resume", session)
    for verb, status in (("pause", "paused"), ("archive", "archived"), ("resume", "active")):
        until(lambda: desktop.show(session) is not None, "the session is there", within_s=POLL_LAST_S)
        laptop.steno(verb, session)
        until(lambda status=status: desktop.show(session)["status"] == status, status, within_s=POLL_LAST_S)
    with desktop.store() as store:
        assert current_session(store) != session


# Asking


def test_a_remote_that_answers_is_told_with_its_latency(pair: Pair):
    laptop, _ = pair
    done = laptop.json("ping")
    assert (done["remote"], len(done["took_ms"])) == (str(laptop.remote), 3)
    assert 0 < done["latency_ms"] == min(done["took_ms"])
    assert laptop.steno("ping").out.startswith(f"{laptop.remote} answers in ")


def test_a_remote_that_does_not_answer_is_told_with_the_reason(pair: Pair):
    laptop, _ = pair
    laptop.folder.rename(laptop.folder.with_name("away"))
    done = laptop.steno("ping", code=6)
    assert (done.out, done.err.count("\n"), str(laptop.remote) in done.err) == ("", 1, True)


def test_without_a_remote_there_is_nothing_to_ask(lonely: Device):
    assert "no remote is configured" in lonely.steno("ping", code=1).err


@pytest.mark.parametrize("runs", [False, True])
def test_the_doctor_finds_all_well_around_a_device_that_syncs(pair: Pair, runs: bool):
    laptop, _ = pair
    made(laptop, "Plan", "one")
    laptop.steno("sync")
    if runs:
        laptop.start()
        until(laptop.settled, "the daemon has nothing left to do")
    found = {each["name"]: each for each in laptop.json("doctor")}
    assert [each for each in found.values() if not each["ok"]] == []
    assert ("answers" in found["daemon"]["what"], "answers" in found["remote"]["what"]) == (runs, True)
    assert "opens what lies on the remote" in found["key"]["what"]


def test_the_doctor_says_what_to_do_where_the_remote_is_away_and_is_not_held_up_by_it_offline(pair: Pair):
    laptop, _ = pair
    laptop.folder.rename(laptop.folder.with_name("away"))
    assert "WRONG  remote" in laptop.steno("doctor", code=8).out
    assert "remote" not in {each["name"] for each in laptop.steno("doctor", "--offline", "--json").json}
