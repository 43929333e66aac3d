"""Two daemons and a folder between them: what is on one device is on the other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.tests.e2e.device import Device, equal, until

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "claude-code"
SESSION = "0b5c2a34-77aa-4a0e-9d0c-5d3a2a9f1c11"
pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]


@pytest.fixture(scope="module")
def both(short: Path, make_pair: Callable[[Path], Pair]) -> Iterator[Pair]:
    """Two devices whose daemons run as long as the tests of this module."""
    devices = make_pair(short / "mirror")
    for device in devices:
        device.start()
    yield devices
    for device in devices:
        device.kill()


def record(number: int, kind: str, content: Any, *, session: str = SESSION, **message: Any) -> str:
    """A line as Claude Code writes it."""
    uuid = f"{number:08x}-0000-4000-8000-{session[-12:]}"
    parent = f"{number - 1:08x}-0000-4000-8000-{session[-12:]}" if number > 1 else None
    return json.dumps({
        "sessionId": session, "cwd": "/home/ada/shop", "gitBranch": "main", "version": "2.1.0", "isSidechain": False,
        "userType": "external", "uuid": uuid, "parentUuid": parent, "type": kind,
        "timestamp": f"2026-11-18T09:{number:02d}:00.000Z", "message": {"role": kind, "content": content, **message},
    })  # fmt: skip


def transcript(folder: Path, *, session: str = SESSION) -> Path:
    """A small session as Claude Code leaves it: a tool call in two records, a summary, an unfinished line."""
    answer = {"id": "msg_1", "type": "message", "model": "claude-sonnet-4-5", "stop_reason": "tool_use"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "make test"}}
    lines = [
        json.dumps({"type": "file-history-snapshot", "messageId": "x", "snapshot": {}, "isSnapshotUpdate": False}),
        record(1, "user", "Why is the basket empty after login?", session=session),
        record(2, "assistant", [{"type": "text", "text": "I look at the merge."}], session=session, **answer),
        record(3, "assistant", [call], session=session, **answer),
        record(4, "user", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "2 failed"}], session=session),
        record(5, "assistant", [{"type": "text", "text": "The guest basket is dropped: ünïcode ☃"}], session=session,
               id="msg_2", type="message", model="claude-sonnet-4-5", usage={"input_tokens": 9, "output_tokens": 4}),
        '{"type":"user","uuid":"torn',
    ]  # fmt: skip
    path = folder / f"{session}.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _ids(device: Device) -> list[str]:
    return sorted(each["id"] for each in device.json("list", "--all"))


def _printed(device: Device, session: str) -> str:
    return device.here("show", session, "--format", "json").out


def _take_over(source: Device, target: Device, paths: list[str]) -> list[str]:
    """Import on one device, wait until the other has it all; the ids of the sessions."""
    done = source.steno("import", *paths, "--format", "json", code=None)
    assert done.code in (0, 4), done.err
    sessions = done.json["session_ids"]
    until(lambda: equal(source, target), "both devices hold the same sessions")
    return sessions


def test_claude_code_sessions_imported_on_one_device_read_the_same_on_the_other(both: Pair, place: Path):
    laptop, desktop = both
    sessions = _take_over(laptop, desktop, [str(transcript(place))])
    assert sessions == [SESSION]
    shown = laptop.show(SESSION)
    assert [each["role"] for each in shown["messages"]].count("user") >= 1
    assert desktop.show(SESSION) == shown


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real session files is not here")
@pytest.mark.timeout(240)
def test_every_session_of_the_corpus_reads_the_same_on_the_other_device(both: Pair):
    laptop, desktop = both
    sessions = _take_over(laptop, desktop, [str(CORPUS)])
    assert len(sessions) > 20
    assert _ids(laptop) == _ids(desktop)
    differing = [each for each in sessions if _printed(laptop, each) != _printed(desktop, each)]
    assert differing == []


def test_every_session_has_a_file_on_both_devices(both: Pair, place: Path):
    laptop, desktop = both
    _take_over(laptop, desktop, [str(transcript(place, session="0b5c2a34-77aa-4a0e-9d0c-5d3a2a9f1c12"))])
    for device in both:
        until(device.settled, "the files are written")
        assert len(device.files()) == len(_ids(device))


def test_a_message_added_on_one_device_is_on_the_other(both: Pair):
    laptop, desktop = both
    session = laptop.json("create", "--title", "Appending")["id"]
    laptop.steno("add", session, "from the laptop")
    until(lambda: desktop.contents(session) == ["from the laptop"], "the message is on the desktop")
    desktop.steno("add", session, "and back")
    until(lambda: laptop.contents(session) == ["from the laptop", "and back"], "the answer is on the laptop")
    assert laptop.show(session) == desktop.show(session)


def test_a_hand_edit_of_a_file_on_one_device_is_on_the_other(both: Pair):
    laptop, desktop = both
    session = laptop.json("create", "--title", "By hand")["id"]
    laptop.steno("add", session, "teh text")
    path = desktop.file(session)
    until(lambda: "teh text" in path.read_text(encoding="utf-8"), "the file is whole")
    path.write_text(path.read_text(encoding="utf-8").replace("teh text", "the text"), encoding="utf-8")
    until(lambda: laptop.contents(session) == ["the text"], "the edit is on the laptop")
    until(lambda: "the text" in laptop.file(session).read_text(encoding="utf-8"), "the edit is in the laptop's file")
    assert laptop.show(session) == desktop.show(session)


def test_a_session_deleted_on_one_device_is_gone_on_the_other_with_its_file(both: Pair):
    laptop, desktop = both
    session = laptop.json("create", "--title", "To be deleted")["id"]
    laptop.steno("add", session, "text")
    path = desktop.file(session)
    laptop.steno("delete", session)
    until(lambda: not path.exists(), "the file is gone")
    assert desktop.show(session) is None
    desktop.steno("restore", session)
    until(lambda: laptop.contents(session) == ["text"], "the session is back")


def test_a_search_finds_on_one_device_what_was_written_on_the_other(both: Pair):
    laptop, desktop = both
    session = laptop.json("create", "--title", "Searched")["id"]
    laptop.steno("add", session, "a word like quuxfrobnicate")
    until(lambda: desktop.contents(session), "the message is on the desktop")
    until(desktop.settled, "it is indexed")
    assert [hit["session"] for hit in desktop.json("search", "quuxfrobnicate")["results"]] == [session]


class Offline:
    """Two devices that edited one session while both were stopped, then met again."""

    def __init__(self, laptop: Device, desktop: Device, session: str) -> None:
        self.laptop, self.desktop, self.session = laptop, desktop, session


@pytest.fixture(scope="module")
def met(short: Path, make_pair: Callable[[Path], Pair]) -> Iterator[Offline]:
    laptop, desktop = make_pair(short / "offline")
    for device in (laptop, desktop):
        device.start()
    session = "offline"
    laptop.here(
        "create", "--id", session, "--title", "First", "--tags", "old,gone", "--metadata", '{"a": 1, "b": {"c": 1}}'
    )
    laptop.here("add", session, "one")
    until(lambda: desktop.contents(session), "the session is on the desktop")
    until(lambda: equal(laptop, desktop), "both start equal")
    for device in (laptop, desktop):
        until(device.settled, "nothing is pending")
        device.stop()
    laptop.here("meta", session, "a", "2", "--json-value")
    laptop.here("meta", session, "laptop", "yes")
    laptop.here("tag", session, "from-laptop")
    laptop.here("tag", session, "gone", "--remove")
    laptop.here("rename", session, "The laptop's title")
    laptop.here("add", session, "laptop one")
    laptop.here("add", session, "laptop two")
    desktop.here("meta", session, "b", '{"d": 2}', "--json-value")
    desktop.here("meta", session, "desktop", "yes")
    desktop.here("tag", session, "from-desktop")
    desktop.here("rename", session, "The desktop's title")
    desktop.here("add", session, "desktop one")
    desktop.here("add", session, "desktop two")
    for device in (laptop, desktop):
        device.start()
    until(lambda: equal(laptop, desktop) and len(laptop.contents(session)) == 5, "both devices are equal again")
    yield Offline(laptop, desktop, session)
    for device in (laptop, desktop):
        device.kill()


def test_devices_that_edited_one_session_offline_end_identical(met: Offline):
    assert met.laptop.show(met.session) == met.desktop.show(met.session)


def test_different_metadata_keys_edited_offline_are_both_kept(met: Offline):
    metadata = met.laptop.show(met.session)["metadata"]
    assert metadata == {"a": 2, "b": {"c": 1, "d": 2}, "laptop": "yes", "desktop": "yes"}


def test_tags_added_and_removed_offline_are_joined(met: Offline):
    assert sorted(met.desktop.show(met.session)["tags"]) == ["from-desktop", "from-laptop", "old"]


@pytest.mark.fault(22)
def test_messages_added_offline_stay_in_one_piece_each(met: Offline):
    contents = met.laptop.contents(met.session)
    assert contents[0] == "one"
    assert sorted([contents[1:3], contents[3:5]]) == [["desktop one", "desktop two"], ["laptop one", "laptop two"]]


@pytest.mark.fault(19)
def test_the_title_that_lost_is_in_the_conflicts_of_both_devices(met: Offline):
    found = [device.json("conflicts") for device in (met.laptop, met.desktop)]
    assert found[0] == found[1]
    (conflict,) = found[0]
    assert conflict["field"] == "title"
    values = {conflict["shown"]["value"], *(other["value"] for other in conflict["others"])}
    assert values == {"The laptop's title", "The desktop's title"}
    assert met.laptop.title(met.session) == conflict["shown"]["value"]


@pytest.mark.fault(19)
def test_writing_the_title_again_settles_the_conflict_everywhere(met: Offline):
    met.desktop.steno("rename", met.session, "Settled")
    until(lambda: met.laptop.title(met.session) == "Settled", "the new title is on the laptop")
    assert [device.json("conflicts") for device in (met.laptop, met.desktop)] == [[], []]


def test_the_file_shows_what_both_devices_agreed_on(met: Offline):
    for device in (met.laptop, met.desktop):
        until(device.settled, "the file is written")
    lines = [
        met.laptop.file(met.session).read_text().splitlines(),
        met.desktop.file(met.session).read_text().splitlines(),
    ]
    without_rev = [[json.loads(each[0]) | {"rev": None}, *each[1:]] for each in lines]
    assert without_rev[0] == without_rev[1]


# What lies on the disk


def test_files_of_home_and_remote_are_private_even_without_a_umask(place: Path):
    (place / "up").mkdir()
    file = transcript(place / "up")
    remote, device = place / "remote", Device(place / "home").configure()
    script = " && ".join(f"{sys.executable} -m steno.cli.main {each}" for each in (
        f"init --remote {remote}", "daemon start", f"import {file}", "create --id second --title Second",
        "add second text", "rename second Other", "sync", "search text", "status", "delete second",
        "sync", "daemon stop",
    ))  # fmt: skip
    done = subprocess.run(
        ["sh", "-c", f"umask 000 && {script}"],
        env=device.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert _open_to_others(device.place) == []
    assert _open_to_others(remote) == []
    assert len([path for path in remote.rglob("*") if path.is_file()]) >= 3


def _open_to_others(root: Path) -> list[str]:
    wanted = {True: 0o700, False: 0o600}
    found = [root, *root.rglob("*")]
    return [
        f"{path} {path.stat().st_mode & 0o777:o}"
        for path in found
        if path.stat().st_mode & 0o777 != wanted[path.is_dir()]
    ]
