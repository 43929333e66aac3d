"""Push and pull: what arrives, what is asked of the remote, and what a fault leaves behind."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steno.storage.apply import Applied
from steno.storage.change import encode_batch
from steno.storage.errors import (
    LocalStorageError,
    NoVault,
    OtherVault,
    RemoteRefused,
    RemoteUnreachable,
    StenoError,
)
from steno.sync.vault import intake, sending
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.ledger import Ledger
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import LOG, VAULT, SegmentName
from steno.sync.vault.own_log import OwnLog
from steno.sync.vault.seal import SALT_BYTES, VaultKey, pack, seal
from steno.sync.vault.vault import found_vault, vault_json
from steno.tests.unit.vaults import NOW_MS, Device, Vault


@pytest.fixture
async def vault(tmp_path: Path) -> Any:
    remote = MemoryRemote()
    draw = random.Random(0).randbytes
    id_, keyring = await found_vault(remote, passphrase="p", draw=draw, cost=MINIMUM_COST, derive=derive)
    made = Vault(id_, keyring, remote, tmp_path)
    yield made
    for device in made.devices:
        device.store.close()


# What arrives


async def test_what_one_device_wrote_is_on_the_other(laptop: Device, desktop: Device):
    session = laptop.session("one", "two", title="T", tags=["a"], metadata={"k": 1})
    await laptop.sync()
    report = await desktop.sync()
    assert desktop.everything() == laptop.everything()
    assert (report.received_segments, report.received_messages, report.changed_sessions) == (1, 2, 1)
    assert desktop.contents(session) == ["one", "two"]


async def test_what_was_pulled_is_not_sent_back(laptop: Device, desktop: Device, vault: Vault):
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    await desktop.sync()
    assert len(vault.log()) == 1


async def test_a_message_added_to_a_pulled_session_is_sent_without_the_rest(laptop: Device, desktop: Device):
    session = laptop.session("one" * 1000)
    await laptop.sync()
    await desktop.sync()
    desktop.add(session, "two")
    report = await desktop.sync()
    assert report.sent_bytes < 800
    await laptop.sync()
    assert laptop.contents(session) == ["one" * 1000, "two"]


async def test_what_a_device_publishes_of_another_says_nothing_of_its_own_stamps(laptop: Device, desktop: Device):
    """A store that was restored publishes under its new id what it had written under its old one."""
    session = laptop.session("one")
    former = laptop.store.device
    with laptop.store.transaction():
        laptop.store.device_no("restored0001")
        laptop.store.set_meta("device", "restored0001")
    laptop.store.look_who()
    await laptop.sync()
    known = "SELECT gapless_clock FROM logs WHERE device = ?"
    await desktop.sync()
    assert desktop.contents(session) == ["one"]
    assert desktop.store.one(known, ("restored0001",)) == (0,)
    assert desktop.store.one(known, (former,)) is None
    laptop.add(session, "two")
    await laptop.sync()
    await desktop.sync()
    assert desktop.store.one(known, ("restored0001",)) == laptop.store.one("SELECT max(clock) FROM messages")


async def test_three_devices_end_equal(vault: Vault):
    devices = [vault.device(name) for name in "abc"]
    for at, device in enumerate(devices):
        device.session(f"of {at}")
    for device in [*devices, *devices]:
        await device.sync()
    assert devices[0].everything() == devices[1].everything() == devices[2].everything()
    assert len(devices[0].everything()) == 3


async def test_a_sync_with_nothing_new_says_so(laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    report = await desktop.sync()
    assert (report.sent_segments, report.received_segments, report.complete) == (0, 0, True)


async def test_a_large_history_goes_in_several_segments(
    laptop: Device, desktop: Device, vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sending, "SEGMENT_BYTES", 2000)
    session = laptop.session(*(f"{at} " + "x" * 300 for at in range(40)))
    report = await laptop.sync()
    assert report.sent_segments == len(vault.log()) > 5
    await desktop.sync()
    assert desktop.everything() == laptop.everything()
    assert len(desktop.contents(session)) == 40


# What is asked of the remote


@pytest.mark.fault(38)
@pytest.mark.parametrize("history", [10, 1000])
async def test_an_append_is_one_put_whatever_the_history(laptop: Device, desktop: Device, history: int):
    session = await _with_history(laptop, history)
    laptop.add(session, "one more")
    await laptop.engine.push()
    assert laptop.asked() == {"put": 1}


@pytest.mark.fault(38)
@pytest.mark.parametrize("history", [10, 1000])
async def test_an_idle_poll_is_one_list_whatever_the_history(laptop: Device, desktop: Device, history: int):
    await _with_history(laptop, history)
    await desktop.sync()
    desktop.asked()
    await desktop.engine.pull()
    assert desktop.asked() == {"list": 1}


@pytest.mark.fault(38)
@pytest.mark.parametrize("history", [10, 1000])
async def test_what_is_new_is_one_list_and_one_get_whatever_the_history(laptop: Device, desktop: Device, history: int):
    session = await _with_history(laptop, history)
    await desktop.sync()
    laptop.add(session, "one more")
    await laptop.engine.push()
    desktop.asked()
    await desktop.engine.pull()
    assert desktop.asked() == {"list": 1, "get": 1}


async def test_a_push_with_nothing_to_send_asks_nothing(laptop: Device):
    await laptop.sync()
    laptop.asked()
    await laptop.engine.push()
    assert laptop.asked() == {}


async def test_a_poll_that_finds_nothing_writes_nothing(laptop: Device, desktop: Device):
    laptop.session("one")
    await laptop.sync()
    await desktop.sync()
    before = desktop.store.one("PRAGMA data_version"), desktop.store.connection.total_changes
    await desktop.engine.pull()
    await desktop.engine.push()
    assert (desktop.store.one("PRAGMA data_version"), desktop.store.connection.total_changes) == before


async def _with_history(device: Device, segments: int) -> str:
    session = device.session("first")
    await device.sync()
    for at in range(segments - 1):
        device.add(session, str(at))
        await device.engine.push()
    device.asked()
    return session


# Faults of the remote


@pytest.mark.fault(5)
async def test_a_put_that_arrived_unheard_is_repeated_under_its_name(laptop: Device, desktop: Device, vault: Vault):
    session = laptop.session("one")
    laptop.remote.loses_acknowledgement = True
    with pytest.raises(RemoteUnreachable):
        await laptop.sync()
    sent = dict(vault.remote.objects)
    laptop.add(session, "two")
    await laptop.sync()
    assert vault.remote.objects.items() >= sent.items()
    await desktop.sync()
    assert desktop.contents(session) == ["one", "two"]
    assert desktop.everything() == laptop.everything()


@pytest.mark.fault(5)
async def test_an_unheard_put_is_not_taken_for_a_copy_of_this_device(laptop: Device, vault: Vault):
    laptop.session("one")
    laptop.remote.loses_acknowledgement = True
    with pytest.raises(RemoteUnreachable):
        await laptop.sync()
    report = await laptop.engine.pull()
    assert report.problems == []


@pytest.mark.fault(30)
async def test_a_remote_that_takes_nothing_more_still_gives_what_it_has(laptop: Device, desktop: Device):
    session = laptop.session("one")
    await laptop.sync()
    desktop.session("of the desktop")
    desktop.remote.fails = lambda verb, _: RemoteRefused(remote="memory", reason="full") if verb == "put" else None
    for _ in range(2):
        with pytest.raises(RemoteRefused):
            await desktop.sync()
    assert desktop.contents(session) == ["one"]
    desktop.remote.fails = lambda *_: None
    await desktop.sync()
    await laptop.sync()
    assert laptop.everything() == desktop.everything()


@pytest.mark.fault(30)
async def test_what_could_not_be_sent_is_counted_and_sent_later(laptop: Device, desktop: Device):
    session = laptop.session("one")
    laptop.remote.fails = lambda verb, _: RemoteUnreachable(remote="memory", reason="away") if verb == "put" else None
    with pytest.raises(RemoteUnreachable):
        await laptop.sync()
    assert OwnLog(Ledger(laptop.store, laptop.vault.id)).pending_count() == 1
    laptop.remote.fails = lambda *_: None
    await laptop.sync()
    await desktop.sync()
    assert desktop.contents(session) == ["one"]


@pytest.mark.fault(32)
async def test_a_get_that_fails_stops_the_pull_and_the_next_one_goes_on(laptop: Device, desktop: Device):
    session = await _with_history(laptop, 12)
    failing = iter([True] * 1)

    def fails(verb: str, name: str) -> StenoError | None:
        wanted = verb == "get" and name.startswith(LOG) and SegmentName.parse(name).first == 7  # pyright: ignore[reportOptionalMemberAccess]
        return RemoteUnreachable(remote="memory", reason="reset") if wanted and next(failing, False) else None

    desktop.remote.fails = fails
    with pytest.raises(RemoteUnreachable):
        await desktop.sync()
    assert len(desktop.contents(session)) == 6
    await desktop.sync()
    assert desktop.contents(session) == laptop.contents(session)


@pytest.mark.fault(6, 33)
async def test_a_hole_in_a_log_is_reported_and_filled_when_it_arrives(laptop: Device, desktop: Device, vault: Vault):
    session = await _with_history(laptop, 3)
    middle = vault.log()[1]
    kept = vault.remote.objects.pop(middle)
    report = await desktop.sync()
    assert not report.complete
    assert "2-2" in report.problems[0]
    vault.remote.objects[middle] = kept
    assert (await desktop.sync()).complete
    assert desktop.contents(session) == laptop.contents(session)


async def test_a_deletion_beside_a_hole_does_not_swallow_what_was_in_the_hole(
    laptop: Device, desktop: Device, vault: Vault
):
    session = await _with_history(laptop, 3)
    middle = vault.log()[1]
    kept = vault.remote.objects.pop(middle)
    await desktop.sync()
    desktop.store.delete(session)
    vault.remote.objects[middle] = kept
    for device in (desktop, laptop, desktop):
        await device.sync()
    assert desktop.contents(session) == laptop.contents(session) == ["0"]


@pytest.mark.fault(8, 11, 33)
async def test_a_listing_that_is_too_short_is_reported_and_deletes_nothing(
    laptop: Device, desktop: Device, vault: Vault
):
    session = await _with_history(laptop, 3)
    await desktop.sync()
    last = vault.log()[-1]
    kept = vault.remote.objects.pop(last)
    report = await desktop.sync()
    assert last in report.problems[0]
    assert len(desktop.contents(session)) == 3
    vault.remote.objects[last] = kept
    assert (await desktop.sync()).complete


@pytest.mark.fault(12, 14)
async def test_an_emptied_remote_stops_the_sync_and_deletes_nothing(laptop: Device, vault: Vault):
    session = laptop.session("one")
    await laptop.sync()
    vault.remote.objects.clear()
    laptop.add(session, "two")
    with pytest.raises(NoVault):
        await laptop.engine.pull()
    assert laptop.contents(session) == ["one", "two"]
    assert vault.remote.objects == {}


@pytest.mark.fault(12)
async def test_who_meets_an_emptied_remote_is_told_how_it_is_filled_again(laptop: Device, vault: Vault):
    laptop.session("one")
    await laptop.sync()
    vault.remote.objects.clear()
    with pytest.raises(NoVault) as caught:
        await laptop.engine.pull()
    assert "`steno repair`" in caught.value.line
    assert "init" not in caught.value.line


@pytest.mark.fault(12)
async def test_another_vault_in_the_place_of_ours_is_refused_and_nothing_is_moved(laptop: Device, vault: Vault):
    laptop.session("one")
    vault.remote.objects[VAULT] = vault_json("othervault00")
    with pytest.raises(OtherVault):
        await laptop.sync()
    assert vault.log() == []


@pytest.mark.fault(40)
async def test_foreign_files_in_the_log_are_passed_over(laptop: Device, desktop: Device, vault: Vault):
    session = laptop.session("one")
    await laptop.sync()
    (name,) = vault.log()
    vault.remote.objects[f"{name} (conflicted copy)"] = b"x"
    vault.remote.objects[f"{LOG}desktop.ini"] = b"x"
    assert (await desktop.sync()).complete
    assert desktop.contents(session) == ["one"]


# Objects that do not open


@pytest.mark.fault(4, 7, 32)
@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "html", "renamed"])
async def test_a_damaged_object_is_set_aside_and_the_others_go_on(
    laptop: Device, desktop: Device, vault: Vault, damage: str
):
    session = await _with_history(laptop, 3)
    first, middle, _ = vault.log()
    kept = vault.remote.objects[middle]
    vault.remote.objects[middle] = {
        "torn": kept[:-10],
        "flipped": kept[:60] + bytes([kept[60] ^ 1]) + kept[61:],
        "empty": b"",
        "html": b"<html>sign in</html>",
        "renamed": vault.remote.objects[first],
    }[damage]
    report = await desktop.sync()
    assert not report.complete
    assert [problem for problem in report.problems if middle in problem]
    assert desktop.contents(session) == ["first", "1"]
    vault.remote.objects[middle] = kept
    vault.clock_ms += 60_000
    report = await desktop.sync()
    assert report.problems == []
    assert desktop.contents(session) == laptop.contents(session)


@pytest.mark.fault(28)
async def test_an_object_that_was_set_aside_is_tried_ever_more_seldom(laptop: Device, desktop: Device, vault: Vault):
    laptop.session("one")
    await laptop.sync()
    (name,) = vault.log()
    vault.remote.objects[name] = b"torn"
    await desktop.sync()
    tries = 0
    for _ in range(24 * 60):
        vault.clock_ms += 60_000
        desktop.asked()
        await desktop.engine.pull()
        tries += desktop.asked().get("get", 0)
    assert 45 < tries < 60


async def test_an_object_that_was_set_aside_and_is_gone_is_no_longer_named(
    laptop: Device, desktop: Device, vault: Vault
):
    laptop.session("one")
    await laptop.sync()
    (name,) = vault.log()
    vault.remote.objects["log/zzzzzzzzzzzz.000000000001-000000000001.0.zzzzzzzzzzzz"] = b"torn"
    assert len((await desktop.sync()).problems) == 1
    del vault.remote.objects["log/zzzzzzzzzzzz.000000000001-000000000001.0.zzzzzzzzzzzz"]
    assert (await desktop.sync()).problems == []
    assert name in Ledger(desktop.store, vault.id).applied()


def _put(vault: Vault, content: bytes, *, key: VaultKey | None = None) -> str:
    """Put a segment of a device that nobody knows."""
    name = f"log/zzzzzzzzzzzz.{1:012d}-{1:012d}.0.zzzzzzzzzzzz"
    sealed = seal(pack(content), key=key or vault.keyring.current, vault_id=vault.id, name=name, salt=b"s" * SALT_BYTES)
    vault.remote.objects[name] = sealed
    return name


@pytest.mark.parametrize("content", [b"", b"\xc0", b"\x93\x01\x80\x90garbage", b"\x93\x63\x80\x90", b"\x81" * 5000])
async def test_what_is_sealed_and_no_batch_is_set_aside(desktop: Device, vault: Vault, content: bytes):
    name = _put(vault, content)
    report = await desktop.sync()
    assert [problem for problem in report.problems if name in problem]


@pytest.mark.fault(28)
async def test_an_object_under_an_unknown_key_is_set_aside(laptop: Device, desktop: Device, vault: Vault):
    name = _put(vault, encode_batch({0: "zzzzzzzzzzzz"}, []), key=VaultKey("unknownkey00", b"k" * 32))
    session = laptop.session("one")
    await laptop.sync()
    report = await desktop.sync()
    assert [problem for problem in report.problems if name in problem]
    assert desktop.contents(session) == ["one"]


def _change(session: str, **born: Any) -> tuple[Any, ...]:
    fields = {
        "id": "m1", "clock": NOW_MS << 16, "author": 2, "after": None, "inserted": 0, "role": "user", "sender": None,
        "content": "text", "time_ms": NOW_MS, "time_text": None, "parent": None, "model": None, "usage": None,
        "metadata": None, "origin": None, "births": None, **born,
    }  # fmt: skip
    birth = ((NOW_MS << 16) - 1, 2, NOW_MS, None, None)
    return (session, 1, [birth], 0, [], [tuple(fields.values())])


@pytest.mark.fault(18, 37)
@pytest.mark.parametrize(
    "fields",
    [
        {"clock": 9_000_000_000_000 << 16},
        {"clock": -1},
        {"role": ""},
        {"id": "a\nb"},
        {"time_ms": 10**18},
        {"metadata": "[1]"},
        {"usage": "{"},
        {"author": 999},
        {"content": b"\xff"},
        {"time_text": "yesterday"},
    ],
    ids=str,
)
async def test_a_record_that_cannot_be_is_refused_alone_and_named_until_it_is_mended(
    desktop: Device, vault: Vault, fields: dict[str, Any]
):
    good, bad = _change("good"), _change("bad", **fields)
    name = _put(vault, encode_batch({0: "zzzzzzzzzzzz"}, [bad, good]))
    for _ in range(2):
        report = await desktop.sync()
        assert [problem for problem in report.problems if name in problem and "refused" in problem]
        assert desktop.contents("good") == ["text"]
    _put(vault, encode_batch({0: "zzzzzzzzzzzz"}, [_change("bad"), good]))
    vault.clock_ms += 3_600_000
    assert (await desktop.sync()).complete
    assert desktop.contents("bad") == ["text"]


@pytest.mark.fault(37)
@pytest.mark.parametrize("touched", [2**63, -1])
async def test_a_session_whose_time_cannot_be_is_refused_alone(desktop: Device, vault: Vault, touched: int):
    id_, life, births, _, registers, messages = _change("bad")
    bad = id_, life, births, touched, registers, messages
    name = _put(vault, encode_batch({0: "zzzzzzzzzzzz"}, [bad, _change("good")]))
    report = await desktop.sync()
    assert desktop.contents("good") == ["text"]
    assert [problem for problem in report.problems if name in problem and "refused" in problem]


async def test_a_fault_that_nobody_foresaw_sets_its_object_aside_and_the_others_go_on(
    laptop: Device, desktop: Device, vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    session = await _with_history(laptop, 3)
    real, calls = intake.apply, itertools.count()

    def broken(*arguments: Any, done: Applied) -> None:
        if next(calls) == 1:
            raise KeyError("a bug")
        real(*arguments, done=done)

    monkeypatch.setattr(intake, "apply", broken)
    report = await desktop.sync()
    assert [problem for problem in report.problems if "KeyError" in problem]
    assert desktop.contents(session) == ["first", "1"]
    vault.clock_ms += 60_000
    assert (await desktop.sync()).complete
    assert desktop.contents(session) == laptop.contents(session)


@pytest.mark.fault(31)
async def test_a_full_disk_stops_the_pull_and_sets_nothing_aside(
    laptop: Device, desktop: Device, monkeypatch: pytest.MonkeyPatch
):
    session = laptop.session("one")
    await laptop.sync()

    def full(*_: object, **__: object) -> None:
        raise LocalStorageError("no room left")

    with monkeypatch.context() as patched:
        patched.setattr(intake, "apply", full)
        with pytest.raises(LocalStorageError):
            await desktop.sync()
    assert (await desktop.sync()).complete
    assert desktop.contents(session) == ["one"]


# Crashes


class Crash(BaseException):
    """The process ends here."""


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the engine die the next time it passes a step."""

    def crash_at(name: str) -> None:
        def step(passed: str) -> None:
            if passed == name:
                for module in (intake, sending):
                    monkeypatch.setattr(module, "step", lambda _: None)
                raise Crash

        for module in (intake, sending):
            monkeypatch.setattr(module, "step", step)

    return crash_at


@pytest.mark.fault(1)
@pytest.mark.parametrize("at", ["push.batched", "push.intended", "push.put", "push.acknowledged"])
async def test_a_push_that_died_is_finished_and_nothing_is_sent_twice(
    laptop: Device, desktop: Device, vault: Vault, crash_at: Callable[[str], None], at: str
):
    session = laptop.session("one")
    crash_at(at)
    with pytest.raises(Crash):
        await laptop.sync()
    laptop.restart()
    laptop.add(session, "two")
    await laptop.sync()
    ranges = [SegmentName.parse(name) for name in vault.log()]
    assert [(name.first, name.last) for name in ranges if name] == [(at, at) for at in range(1, len(ranges) + 1)]
    assert (await desktop.sync()).complete
    assert desktop.contents(session) == ["one", "two"]


@pytest.mark.fault(2)
@pytest.mark.parametrize("at", ["pull.fetched", "pull.slice"])
async def test_a_pull_that_died_is_done_again_and_nothing_is_there_twice(
    laptop: Device, desktop: Device, crash_at: Callable[[str], None], at: str
):
    session = laptop.session("one", "two")
    await laptop.sync()
    crash_at(at)
    with pytest.raises(Crash):
        await desktop.sync()
    desktop.restart()
    assert (await desktop.sync()).complete
    assert desktop.contents(session) == ["one", "two"]
    assert desktop.everything() == laptop.everything()


@pytest.mark.fault(10)
async def test_a_device_that_was_copied_is_told_so(laptop: Device, vault: Vault, tmp_path: Path):
    session = laptop.session("one")
    await laptop.sync()
    laptop.store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (tmp_path / "clone.db").write_bytes((tmp_path / "laptop.db").read_bytes())
    clone = vault.device("clone")
    clone.add(session, "of the clone")
    await clone.sync()
    report = await laptop.sync()
    assert report.complete
    assert "it catches up" in report.notes[0]
    assert laptop.contents(session) == ["one", "of the clone"]


async def test_publishing_does_not_lower_the_durability_that_was_asked_for(vault: Vault, tmp_path: Path):
    device = vault.device("full")
    device.store.execute("PRAGMA synchronous = FULL")
    device.session("one")
    await device.sync()
    assert device.store.one("PRAGMA synchronous")[0] == 2


async def test_what_waits_to_be_sent_is_not_taken_for_gone(laptop: Device):
    laptop.session("one")
    await laptop.sync()
    refused = RemoteRefused(remote="memory", reason="full")
    laptop.remote.fails = lambda verb, _: refused if verb == "put" else None
    laptop.session("two")
    with pytest.raises(RemoteRefused):
        await laptop.sync()
    report = await laptop.engine.pull()
    assert (report.pending_segments, report.problems) == (1, [])
