"""Of a session that is local-only nothing leaves by any way out, until it is shared: then all of it does, once."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from steno.storage.apply import Applied, apply
from steno.storage.backup import backup
from steno.storage.carrying import carry_over
from steno.storage.change import decode_batch, local_changes, sessions_in, whole
from steno.storage.errors import InvalidInput, SessionNotFound
from steno.storage.forks import fork, merge, split
from steno.storage.identity import Moment, reidentify
from steno.storage.importing import take_in
from steno.storage.local_only import follow_projects, kept_here, set_local_only, share
from steno.storage.model import NewMessage
from steno.storage.purge import purge_deleted, purge_history, purge_message, purge_session
from steno.storage.restore import restore
from steno.storage.restoring import bring_back
from steno.storage.shape import session_json
from steno.storage.store import Store
from steno.storage.transcripts import read_transcripts
from steno.storage.transcripts.steno_json import Exported, written
from steno.storage.transcripts.transcript import Transcript
from steno.sync.files.absorb import absorb
from steno.sync.files.deriving import derive
from steno.sync.files.lines import Rev, header_of, line_of, parse, render
from steno.sync.vault import sending
from steno.sync.vault.healing import WAIT_MS
from steno.sync.vault.seal import unpack, unseal
from steno.tests.simulation.test_stores_converge import state
from steno.tests.unit.vaults import Device, Vault

SECRET = "the plan that stays"
ALL = 1 << 30


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "steno.db")


def made(store: Store, id: str = "secret", **fields: Any) -> str:
    store.create(id=id, local_only=True, title=SECRET, tags=[SECRET], metadata={"k": SECRET}, **fields)
    return say(store, id)


def say(store: Store, session: str, *texts: str) -> str:
    store.add_messages(session, [NewMessage(role="user", content=each) for each in texts or (SECRET, SECRET)])
    return session


def leaves(store: Store) -> bytes:
    """All that could be published of a store, by any way."""
    every = [no for (no,) in store.execute("SELECT no FROM sessions").fetchall()]
    small = b""
    since, complete = 0, False
    while not complete:  # row by row: each slice may be one of nothing but what stays
        data, since, complete = local_changes(store, since=since, floor=0, max_bytes=1)
        small += data
    return local_changes(store, since=0, floor=0, max_bytes=ALL)[0] + small + b"".join(whole(store, every, max_bytes=1))


def objects(vault: Vault, *names: str) -> bytes:
    """All that lies on a remote, or in some objects of it, opened."""
    opened = b""
    for name in names or vault.log():
        data = unseal(vault.remote.objects[name], keyring=vault.keyring, vault_id=vault.id, name=name)
        opened += unpack(data, name=name)
    return opened


def message_of(store: Store, session: str) -> str:
    return next(iter(store.messages(session))).id


def exported(store: Store) -> Exported:
    """What an export of a session that is kept here brings back."""
    data = b"".join(written(store.get(made(store)), store.messages("secret")))
    [found] = read_transcripts(data, name="x.json", default_ms=1).transcripts
    assert isinstance(found, Exported)
    return found


def file_of(store: Store, session: str, **changed: Any) -> bytes:
    head = msgspec.structs.replace(header_of(store.get(session), rev=Rev(store.store_name, store.last_seq)), **changed)
    return render(head, [line_of(each) for each in store.messages(session)])


# Ways out


def test_a_session_that_is_local_only_says_so(store: Store):
    assert store.create(local_only=True).local_only
    assert session_json(store.create(local_only=True))["local_only"] is True
    assert session_json(store.create())["local_only"] is False


def test_of_a_local_only_session_nothing_is_published(store: Store):
    made(store)
    assert leaves(store) == b""


def test_the_sessions_beside_it_are(store: Store):
    made(store)
    say(store, store.create(id="open").id, "hello")
    made(store, "another")
    assert sessions_in(local_changes(store, since=0, floor=0, max_bytes=ALL)[0]) == ["open"]


def reidentified(store: Store) -> None:
    with store.transaction():
        reidentify(store, fork=Moment(), told=Moment())


def again(store: Store) -> None:
    new = [NewMessage(id=each, role="user", content=SECRET) for each in ("x", "y")]
    take_in(store, Transcript(id="secret", created_ms=1, source={"tool": "x"}, messages=new))


def saved(store: Store, data: bytes, session: str | None = "secret") -> None:
    with store.transaction():
        absorb(store, parse(data), session_id=session)


WRITES: dict[str, Any] = {
    "an edit": lambda store: store.edit_message("secret", message_of(store, "secret"), {"content": SECRET + "!"}),
    "a title": lambda store: store.update("secret", fields={"title": SECRET + "!"}, add_tags=[SECRET]),
    "a message's deletion": lambda store: store.delete_message("secret", message_of(store, "secret")),
    "a deletion": lambda store: store.delete("secret"),
    "a message after a deletion": lambda store: (store.delete("secret"), say(store, "secret")),
    "a restoration": lambda store: (store.delete("secret"), store.restore("secret")),
    "clearing": lambda store: store.clear("secret"),
    "a purge": lambda store: purge_session(store, "secret"),
    "a purge of what is deleted": lambda store: (store.delete("secret"), purge_deleted(store)),
    "a purge of a message": lambda store: purge_message(store, "secret", message_of(store, "secret")),
    "a purge of a history": lambda store: (WRITES["an edit"](store), purge_history(store, "secret")),
    "another life": lambda store: (purge_session(store, "secret"), say(store, store.create(id="secret").id)),
    "a fork": lambda store: fork(store, "secret"),
    "a fork of a fork": lambda store: fork(store, fork(store, "secret").id),
    "merging a fork": lambda store: merge(store, say(store, fork(store, "secret").id)),
    "a new identity": reidentified,
    "an import": again,
    "a save of its file": lambda store: saved(store, file_of(store, "secret") + b'{"role":"user","content":"more"}\n'),
    "a copy of its file": lambda store: saved(store, file_of(store, "secret", id="copy"), "copy"),
    "a copy that does not say what it is": lambda store: saved(store, file_of(store, "secret", local_only=False), None),
    "a copy that was renamed and does not say it": lambda store: saved(
        store, file_of(store, "secret", id="copy", local_only=False), "copy"
    ),
    "a copy without its first line": lambda store: saved(store, file_of(store, "secret").partition(b"\n")[2], None),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_nothing_leaves_by(store: Store, write: Any):
    made(store)
    write(store)
    assert leaves(store) == b""
    assert [bool(each) for (each,) in store.execute("SELECT local_only FROM sessions")] == [True] * (
        store.one("SELECT count(*) FROM sessions")[0]
    )


def test_a_fork_is_not_merged_into_an_original_that_is_sent(store: Store):
    say(store, store.create(id="open").id, "hello")
    made(store, "fork", forked_from={"session": "open", "message": message_of(store, "open")})
    with pytest.raises(InvalidInput, match="local-only"):
        merge(store, "fork")
    assert SECRET.encode() not in leaves(store)


def test_a_split_of_it_stays_as_well(vault: Vault, laptop: Device, desktop: Device):
    made(laptop.store)
    with desktop.store.transaction():
        for content in whole(laptop.store, [1], max_bytes=ALL, local_only=True):
            copied(desktop.store, content)
    say(laptop.store, "secret", "here")
    say(desktop.store, "secret", "there")
    with laptop.store.transaction():
        copied(laptop.store, local_changes(desktop.store, since=0, floor=0, max_bytes=ALL)[0])
    split(laptop.store, "secret")
    assert leaves(laptop.store) == b""


def copied(store: Store, content: bytes) -> None:
    batch = decode_batch(content)
    apply(store, batch, batch.sessions, done=Applied())


# How a session becomes one


@pytest.mark.parametrize("project", ["client-x", "other"])
def test_a_session_of_a_project_that_stays_is_born_local_only(store: Store, project: str):
    follow_projects(store, ["client-x"])
    assert store.create(metadata={"project": project}).local_only is (project == "client-x")


def test_so_is_what_a_tool_recorded_in_such_a_project(store: Store):
    follow_projects(store, ["client-x"])
    take_in(store, Transcript(id="secret", created_ms=1, source={}, metadata={"project": "client-x"}, messages=[]))
    again(store)
    assert store.get("secret").local_only
    assert leaves(store) == b""


def test_so_is_a_file_that_somebody_wrote(store: Store):
    follow_projects(store, ["client-x"])
    header = b'{"steno":1,"id":"secret","metadata":{"project":"client-x"}}\n'
    saved(store, header + b'{"role":"user","content":"x"}\n')
    assert store.get("secret").local_only


def test_what_was_sent_before_its_project_was_named_goes_on_being_sent(store: Store):
    store.create(id="open", metadata={"project": "client-x"})
    follow_projects(store, ["client-x"])
    say(store, "open", "hello")
    assert b"hello" in leaves(store)


def test_a_project_that_is_named_no_more_leaves_its_sessions_as_they_are(store: Store):
    follow_projects(store, ["client-x"])
    store.create(id="secret", metadata={"project": "client-x"})
    follow_projects(store, [])
    store.create(id="open", metadata={"project": "client-x"})
    assert [store.get(each).local_only for each in ("secret", "open")] == [True, False]


def test_a_session_that_is_sent_does_not_become_local_only(store: Store):
    header = store.create(id="open")
    with pytest.raises(InvalidInput, match="may lie on the remote"):
        set_local_only(store, header, wanted=True)


NAMES = [
    ("client-x", "client-x/"),
    ("client-x", "~/work/client-x"),
    ("/home/me/client-x", "client-x"),
    ("client-x", "Client-X"),
    ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"),
]


@pytest.mark.parametrize(("project", "named"), NAMES)
def test_a_project_may_be_named_as_its_directory(store: Store, project: str, named: str):
    follow_projects(store, [named])
    assert store.create(metadata={"project": project}).local_only


def test_a_directory_of_the_same_name_elsewhere_is_another_project(store: Store):
    follow_projects(store, ["work/client-x", "/"])
    assert not store.create(metadata={"project": "play/client-x"}).local_only
    assert not store.create(metadata={"project": ""}).local_only


def test_a_session_that_names_one_further_up_stays_as_well(store: Store):
    made(store)
    assert store.create(forked_from={"session": "unknown", "message": None, "above": ["secret"]}).local_only


NAMED = {"session": "secret", "message": "x"}
COPIES: dict[str, Any] = {
    "a program": lambda store: store.append("open", NewMessage(role="user", content="x", origin=NAMED)),
    "an import": lambda store: take_in(
        store,
        Transcript(
            id="open", created_ms=1, source={}, messages=[NewMessage(id="x", role="user", content="x", origin=NAMED)]
        ),
    ),
    "a save": lambda store: saved(
        store,
        file_of(store, "open") + b'{"role":"user","content":"x","origin":{"session":"secret","message":"x"}}\n',
        "open",
    ),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_session_that_is_sent_takes_no_copy_that_names_it(store: Store, copy: Any):
    made(store)
    store.create(id="open")
    with pytest.raises(InvalidInput, match="names session secret"):
        copy(store)
    assert b"secret" not in leaves(store)


# What survives


def test_a_file_carries_it_and_does_not_take_it_away(store: Store):
    made(store)
    data = file_of(store, "secret")
    assert b'"local_only":true' in data
    with store.transaction():
        done = absorb(store, parse(data.replace(b',"local_only":true', b"")), session_id="secret")
    assert store.get("secret").local_only
    assert [(each.kind, each.field) for each in done.plan.reports] == [("birth-restored", "local_only")]


def test_the_file_of_a_session_that_is_sent_does_not_mention_it(store: Store):
    store.create(id="open")
    assert b"local_only" not in file_of(store, "open")


def test_a_database_made_anew_from_the_files_knows_it(store: Store, tmp_path: Path):
    made(store)
    with Store(tmp_path / "anew.db") as anew:
        with anew.transaction():
            derive(anew, parse(file_of(store, "secret")), session_id="secret", lost=[])
        assert anew.get("secret").local_only
        assert leaves(anew) == b""


def test_it_knows_it_also_where_another_device_has_a_session_of_that_id(store: Store, tmp_path: Path):
    made(store)
    with Store(tmp_path / "anew.db") as anew:
        anew.create(id="secret")
        with anew.transaction():
            derive(anew, parse(file_of(store, "secret")), session_id="secret", lost=[])
        assert leaves(anew) == b""


def test_a_backup_that_is_restored_knows_it(store: Store, tmp_path: Path):
    made(store)
    kept = backup(store, tmp_path / "kept.db")
    store.close()
    restore(kept, store.path, backups=tmp_path / "backups")
    with Store(store.path) as restored:
        assert len(list(restored.messages("secret"))) == 2
        assert leaves(restored) == b""


def test_an_export_that_comes_back_knows_it(store: Store, tmp_path: Path):
    with Store(tmp_path / "other.db") as other:
        bring_back(other, exported(store))
        assert len(list(other.messages("secret"))) == 2
        assert leaves(other) == b""


def test_an_export_does_not_join_a_session_that_is_sent(store: Store, tmp_path: Path):
    with Store(tmp_path / "other.db") as other:
        other.create(id="secret")
        with pytest.raises(InvalidInput, match="local-only there"):
            bring_back(other, exported(store))
        assert SECRET.encode() not in leaves(other)


def test_a_store_that_takes_the_place_of_another_gets_what_was_local_only(store: Store, tmp_path: Path):
    made(store)
    store.edit_message("secret", message_of(store, "secret"), {"content": "edited"})
    store.create(id="open")
    purge_session(store, made(store, "gone"))
    with Store(tmp_path / "anew.db") as anew:
        carry_over(store, into=anew)
        assert [each.content for each in anew.messages("secret")] == ["edited", SECRET]
        assert [each.id for each in anew.sessions()] == ["secret"]
        assert anew.lives_over("gone") == 1
        assert leaves(anew) == b""


async def test_what_another_device_purged_meanwhile_is_not_lost_by_that(
    vault: Vault, laptop: Device, desktop: Device, tmp_path: Path
):
    await both(laptop, desktop)
    purge_session(desktop.store, "secret")
    await desktop.sync()
    fresh = vault.device("fresh")
    await fresh.sync()
    with pytest.raises(InvalidInput, match="session secret was purged on another device"):
        carry_over(laptop.store, into=fresh.store)


def test_purged_sessions_are_not_counted(store: Store):
    purge_session(store, made(store))
    made(store, "another")
    assert kept_here(store) == 1


# Sharing


async def test_what_is_shared_is_sent_whole_and_once(vault: Vault, laptop: Device, desktop: Device):
    made(laptop.store)
    say(laptop.store, "secret", "first draft")
    laptop.store.edit_message("secret", message_of(laptop.store, "secret"), {"content": "edited"})
    laptop.session("something else")
    await laptop.sync()
    await desktop.sync()
    assert len(list(desktop.store.sessions())) == 1
    share(laptop.store, ["secret"])
    await laptop.sync()
    await desktop.sync()
    assert state(laptop.store) == state(desktop.store)
    laptop.asked()
    await laptop.sync()
    assert "put" not in laptop.asked()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_what_is_shared_is_the_same_everywhere_after(vault: Vault, laptop: Device, desktop: Device, write: Any):
    made(laptop.store)
    await laptop.sync()
    write(laptop.store)
    await laptop.sync()
    share(laptop.store, [each.id for each in laptop.store.sessions()])
    await laptop.sync()
    report = await desktop.sync()
    assert report.problems == []
    assert state(laptop.store) == state(desktop.store)
    assert len(list(desktop.store.sessions())) == len(list(laptop.store.sessions()))


async def shared_without(content: bytes, vault: Vault, laptop: Device) -> dict[str, bytes]:
    """Share it, and keep back what holds a content: by its name."""
    laptop.session("later than what is shared")
    await laptop.sync()
    share(laptop.store, ["secret"])
    await laptop.sync()
    [name] = [name for name in vault.log() if content in objects(vault, name)]
    return {name: vault.remote.objects.pop(name)}


async def test_a_deletion_of_what_has_not_all_arrived_swallows_nothing(
    vault: Vault, laptop: Device, desktop: Device, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sending, "SEGMENT_BYTES", 1)  # each row in a segment of its own
    laptop.store.create(id="secret", local_only=True)
    say(laptop.store, "secret", "first", "second", "third")
    late = await shared_without(b"second", vault, laptop)
    await desktop.sync()
    desktop.store.delete("secret")
    vault.remote.objects.update(late)
    await desktop.sync()
    assert desktop.contents("secret") == ["second"]


@pytest.mark.parametrize("writer", ["this device", "a former one"])
async def test_so_it_is_where_nothing_stands_behind_what_is_missing(
    vault: Vault, laptop: Device, desktop: Device, monkeypatch: pytest.MonkeyPatch, writer: str
):
    monkeypatch.setattr(sending, "SEGMENT_BYTES", 1)
    with Store(vault.folder / "before.db") as before:
        first = laptop.store if writer == "this device" else before
        first.create(id="secret", local_only=True)
        say(first, "secret", "first", "second")
        inserted = NewMessage(role="user", content="third", after=message_of(first, "secret"))
        first.append("secret", inserted)
        if writer != "this device":
            carry_over(before, into=laptop.store)
    late = await shared_without(b"second", vault, laptop)
    await desktop.sync()
    assert desktop.contents("secret") == ["first", "third"]
    desktop.store.delete("secret")
    vault.remote.objects.update(late)
    await desktop.sync()
    assert desktop.contents("secret") == ["second"]


async def test_what_is_shared_goes_on_being_sent(vault: Vault, laptop: Device, desktop: Device):
    share(laptop.store, [made(laptop.store)])
    await laptop.sync()
    say(laptop.store, "secret", "and more")
    laptop.store.delete_message("secret", message_of(laptop.store, "secret"))
    await laptop.sync()
    await desktop.sync()
    assert desktop.contents("secret") == [SECRET, "and more"]
    assert state(laptop.store) == state(desktop.store)


async def test_what_was_carried_over_is_shared_whole(vault: Vault, laptop: Device, desktop: Device):
    with Store(vault.folder / "before.db") as before:
        made(before)
        carry_over(before, into=laptop.store)
    share(laptop.store, ["secret"])
    await laptop.sync()
    await desktop.sync()
    assert desktop.contents("secret") == [SECRET, SECRET]


def test_sharing_what_is_sent_changes_nothing(store: Store):
    store.create(id="open")
    before = store.last_seq
    assert not share(store, ["open"])[0].local_only
    assert store.last_seq == before


def test_what_names_another_that_stays_is_not_shared(store: Store):
    made(store)
    fork(store, "secret", id="fork")
    with pytest.raises(InvalidInput, match="names session secret"):
        share(store, ["fork"])
    assert leaves(store) == b""


def test_a_session_and_its_fork_are_shared_together(store: Store):
    made(store)
    merge(store, say(store, fork(store, "secret", id="fork").id, "in the fork"))
    share(store, ["fork", "secret"])
    assert sorted(sessions_in(local_changes(store, since=0, floor=0, max_bytes=ALL)[0])) == ["fork", "secret"]


def test_a_fork_of_what_was_purged_is_not_shared(store: Store):
    made(store)
    fork(store, "secret", id="fork")
    purge_session(store, "secret")
    with pytest.raises(InvalidInput, match="names session secret"):
        share(store, ["fork"])


async def test_a_fork_is_not_shared_because_another_device_has_one_of_its_id_that_is_none(
    vault: Vault, laptop: Device, desktop: Device
):
    desktop.session("in the open", id="fork")
    laptop.store.create(id="secret", local_only=True)
    fork(laptop.store, "secret", id="fork")
    await desktop.sync()
    await laptop.sync()
    with pytest.raises(InvalidInput, match="names session secret"):
        share(laptop.store, ["fork"])


def test_a_session_that_is_not_there_is_not_shared(store: Store):
    with pytest.raises(SessionNotFound):
        share(store, ["nobody"])


# On the remote


async def test_nothing_of_it_lies_on_a_remote(vault: Vault, laptop: Device, desktop: Device):
    made(laptop.store)
    laptop.session("something else")
    await laptop.sync()
    purge_session(laptop.store, made(laptop.store, "secret too"))
    report = await laptop.sync()
    await laptop.engine.tend()
    await desktop.sync()
    assert report.complete
    assert b"secret" not in objects(vault)
    assert SECRET.encode() not in objects(vault)
    assert [each.title for each in desktop.store.sessions()] == ["something else"]


async def test_where_nothing_else_was_written_nothing_is_put(vault: Vault, laptop: Device):
    await laptop.sync()
    laptop.asked()
    made(laptop.store)
    await laptop.sync()
    assert "put" not in laptop.asked()


async def test_healing_leaves_it_out(vault: Vault, laptop: Device, desktop: Device):
    made(laptop.store)
    laptop.session("something else")
    await laptop.sync()
    await desktop.sync()
    for name in vault.log():
        del vault.remote.objects[name]
    await laptop.engine.repair()
    assert b"something else" in objects(vault)
    assert SECRET.encode() not in objects(vault)


async def test_a_copied_home_that_publishes_anew_leaves_it_out(vault: Vault, laptop: Device):
    made(laptop.store)
    laptop.session("something else")
    reidentified(laptop.store)
    laptop.store.set_cursor(f"push:{vault.id}", 0)
    laptop.store.set_cursor(f"push-floor:{vault.id}", 0)
    await laptop.sync()
    assert SECRET.encode() not in objects(vault)


# Where another device has a session of the same id


async def both(laptop: Device, desktop: Device) -> None:
    """A session that is local-only on the laptop and sent by the desktop, which both have."""
    made(laptop.store)
    desktop.session("of the desktop", id="secret")
    await desktop.sync()
    await laptop.sync()


async def test_what_another_device_wrote_joins_it_and_what_was_written_here_stays(
    vault: Vault, laptop: Device, desktop: Device
):
    await both(laptop, desktop)
    laptop.store.update("secret", fields={"title": SECRET + "!"})
    await laptop.sync()
    assert sorted(laptop.contents("secret")) == ["of the desktop", SECRET, SECRET]
    assert SECRET.encode() not in objects(vault)


async def test_what_is_kept_when_another_device_purges_it_stays_as_well(vault: Vault, laptop: Device, desktop: Device):
    await both(laptop, desktop)
    purge_session(desktop.store, "secret")
    await desktop.sync()
    report = await laptop.sync()
    [kept] = list(laptop.store.sessions())
    assert kept.local_only
    assert kept.id in report.rescued[0]
    assert SECRET.encode() not in objects(vault)


async def test_it_is_not_kept_in_a_session_that_is_sent(vault: Vault, laptop: Device, desktop: Device):
    await both(laptop, desktop)
    name = sha256(f"secret\n1\n{laptop.store.device}".encode()).hexdigest()[:12]
    laptop.session("in the open", id=name)
    purge_session(desktop.store, "secret")
    await desktop.sync()
    await laptop.sync()
    await laptop.sync()
    assert laptop.contents(name) == ["in the open"]
    assert SECRET.encode() not in objects(vault)
    assert [each.local_only for each in laptop.store.sessions() if each.id != name] == [True]


async def test_a_log_that_wrote_in_it_is_left_to_others_to_heal(vault: Vault, laptop: Device, desktop: Device):
    await both(laptop, desktop)
    for name in vault.log():
        del vault.remote.objects[name]
    for _ in range(6):
        vault.clock_ms += WAIT_MS // 2
        await laptop.sync()
    await laptop.engine.repair()
    await desktop.engine.repair()
    fresh = vault.device("fresh")
    await fresh.sync()
    assert fresh.contents("secret") == ["of the desktop"]
    assert SECRET.encode() not in objects(vault)


async def test_a_device_that_wrote_in_it_is_not_retired_from_here(vault: Vault, laptop: Device, desktop: Device):
    await both(laptop, desktop)
    log = vault.log()
    with pytest.raises(InvalidInput, match="local-only"):
        await laptop.engine.retire(desktop.store.device)
    assert set(log) <= set(vault.log())
