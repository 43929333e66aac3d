"""docs/format.md is enough to read a vault: a reader written from it alone sees what Steno shows."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from steno.cli.main import main
from steno.storage.errors import StenoError
from steno.storage.forks import divergences, fork, split
from steno.storage.forks import merge as merge_fork
from steno.storage.importing import take_in
from steno.storage.model import Message, NewMessage, SessionHeader
from steno.storage.purge import purge_history, purge_message, purge_session
from steno.storage.shape import message_json, session_json
from steno.storage.store import Store
from steno.storage.transcripts.transcript import Transcript
from steno.sync.vault import sending
from steno.sync.vault.engine import VaultEngine
from steno.sync.vault.kdf import MINIMUM_COST, derive
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.names import LOG
from steno.sync.vault.seal import Keyring, pack, seal
from steno.sync.vault.vault import found_vault
from steno.sync.vault.work import directly
from steno.tests.contract.vault_reader import Unreadable, read_vault

PASSPHRASE = "ein Schlüssel, 鍵"
SEEDS = int(os.environ.get("STENO_FORMAT_SEEDS", "24"))
SESSIONS = ["one", "two", "drei ☕/../x"]
NATIVE = [f"native-{at}" for at in range(6)]
TEXTS = [
    "plain",
    "",
    "   \u3000\n",
    "こんにちは、世界 \U0001f600 \u2028 \x00 \x85 \u200b end",
    "word " * 40,
    "x" * 59 + " yz",
    "\x01\x1f \ttabs and\ncontrols\x7f",
    [{"type": "text", "text": "first"}, {"type": "image", "data": "AAA="}, {"type": "text", "text": "second"}],
    [{"type": "tool_use", "input": {"a": [1, None, 2.5, {"b": "ü"}]}}],
    [],
]
DOCUMENTS = [
    {"a": 1, "b": {"c": {"d": [1, {"e": None}]}}},
    {"a/b": {"~c": True}, "": {"": 0}, "é": {}},
    {"b": {"c": 1.5e300}, "big": 2**70, "neg": -(2**63)},
]
PATCHES = [
    {"a": None},
    {"b": {"c": None}},
    {"b": {"c": 7}},
    {"b": 3},
    {"b": {"c": {"d": {"deep": "er"}}}},
    {"a/b": {"~c": {"x": 1}}},
    {"": {"": None}},
    {"é": {"": {}}},
    {"b": {}},
]


def as_read(header: SessionHeader, messages: list[Message]) -> dict[str, Any]:
    """A session as the reader gives it: without what only repeats something or says nothing of a shown one."""
    found = session_json(header) | {"incomplete": header.incomplete}
    for name in ("name", "project", "deleted_at", "local_only"):
        del found[name]
    rows = [message_json(message) for message in messages]
    for row in rows:
        assert row.pop("deleted_at") is None
    return found | {"messages": rows}


def shown_by(store: Store) -> dict[str, str]:
    """Every session that a store shows, as text: True and 1 are not the same."""
    headers = list(store.sessions())
    return by_id([as_read(header, list(store.messages(header.id))) for header in headers])


def by_id(sessions: list[dict[str, Any]]) -> dict[str, str]:
    assert len({each["id"] for each in sessions}) == len(sessions)
    return {each["id"]: json.dumps(each, sort_keys=True, ensure_ascii=False, indent=1) for each in sessions}


def lay_down(remote: MemoryRemote, folder: Path) -> Path:
    """Write the objects of a remote into a folder."""
    for name, data in remote.objects.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


class Person:
    """A device and whoever sits at it, who does anything at random."""

    def __init__(self, name: str, folder: Path, vault: Vault) -> None:
        self.rng, self.vault, self.name = vault.rng, vault, name
        self.skew_ms = self.rng.choice([0, -40, 40, 86_400_000])
        self.store = Store(
            folder / f"{name}.db",
            now_ms=lambda: vault.now_ms + self.skew_ms,
            random=lambda length: "".join(self.rng.choices("abcdefghij0123456789", k=length)),
        )
        self.engine = VaultEngine(
            self.store,
            vault.remote.peer(),
            vault=vault.id,
            keyring=vault.keyring,
            now_ms=lambda: vault.now_ms,
            draw=self.rng.randbytes,
            beside=directly,
        )

    def act(self) -> None:
        """Do one thing; what cannot be done just now is left."""
        rng, store = self.rng, self.store
        row = store.find(rng.choice(SESSIONS))
        known = [each.id for each in list(store.sessions())]
        session = rng.choice(known) if known and rng.random() < 0.5 else rng.choice(SESSIONS) if row is None else row.id
        name = rng.choices(list(self.deeds), [weight for weight, _ in self.deeds.values()])[0]
        try:
            if store.find(session) is None:
                name = "create"
            done = self.deeds[name][1](self, session)
        except StenoError:
            return
        if done is not False:
            self.vault.done[name] += 1

    def create(self, session: str) -> None:
        rng = self.rng
        self.store.create(
            id=session,
            title=rng.choice([None, "Ein Titel", "題名"]),
            tags=rng.sample(["a", "b", "ü/ä~", "z"], rng.randint(0, 3)),
            metadata=rng.choice([{}, *DOCUMENTS]),
            state=rng.choice([{}, *DOCUMENTS]),
            provider=rng.choice([None, "p"]),
            user_id=rng.choice([None, "u"]),
            source=rng.choice([None, {"tool": "t", "n": 1}]),
            status=rng.choice(["active", "active", "paused", "archived"]),
        )

    def append(self, session: str) -> None:
        self._add(session, self.rng.randint(1, 3), after=None)

    def insert(self, session: str) -> bool:
        message = self._message(session)
        if message is not None:
            self._add(session, 1, after=message)
        return message is not None

    def _add(self, session: str, count: int, *, after: str | None) -> None:
        rng = self.rng
        parent = self._message(session) if rng.random() < 0.2 else None
        batch = [
            NewMessage(
                role=rng.choice(["user", "user", "assistant", "töol"]),
                content=rng.choice(TEXTS),
                after=after,
                sender=rng.choice([None, "Ada"]),
                parent=parent,
                model=rng.choice([None, "m-1"]),
                usage=rng.choice([None, {"input_tokens": 3, "cost": 0.1}]),
                metadata=rng.choice([{}, {}, *DOCUMENTS]),
                timestamp=rng.choice([None, None, "2026-11-20T10:00:00+02:00", "2031-01-01T00:00:00.1234567Z"]),
            )
            for _ in range(count)
        ]
        self.store.add_messages(session, batch)

    def append_much(self, session: str) -> None:
        content = f"{self.rng.random()} lorem ipsum " * self.rng.choice([300, 3000])
        self.store.append(session, NewMessage(role="user", content=content))

    def capture(self, session: str) -> None:
        messages = [
            NewMessage(
                id=each,
                role="user",
                content=self.rng.choice([each, each, "rewritten"]),
                after=NATIVE[at - 1] if at else None,
                timestamp="2023-11-14T00:00:00Z",
                metadata={"native": {"at": at}},
            )
            for at, each in enumerate(NATIVE[: self.rng.randint(1, len(NATIVE))])
        ]
        title = self.rng.choice([None, "derived"])
        transcript = Transcript(
            id=session, title=title, created_ms=1, provider="q", model=None, source={"tool": "x"}, messages=messages
        )
        take_in(self.store, transcript)

    def edit(self, session: str) -> bool:
        rng, message = self.rng, self._message(session)
        changes = [
            {"content": rng.choice(TEXTS)},
            {"content": f"edit {rng.randint(0, 99)}"},
            {"sender": rng.choice([None, "Bob"]), "usage": rng.choice([None, {}, {"n": 1}])},
            {"timestamp": rng.choice(["2040-01-01T00:00:00Z", "2020-02-02 02:02:02.99999", "2020-01-01T00:00:00.5Z"])},
        ]
        if message is not None:
            self.store.edit_message(session, message, rng.choice(changes))
        return message is not None

    def edit_metadata(self, session: str) -> bool:
        message = self._message(session)
        if message is not None:
            self.store.edit_message(session, message, {"metadata": self.rng.choice(PATCHES)})
        return message is not None

    def update(self, session: str) -> None:
        rng = self.rng
        fields = rng.choice(
            [{"title": f"t{rng.randint(0, 9)}"}, {"status": "paused"}, {"model": "m"}, {"user_id": None}]
        )
        self.store.update(session, fields=fields)

    def patch(self, session: str) -> None:
        patch = self.rng.choice(PATCHES + DOCUMENTS)
        if self.rng.random() < 0.5:
            self.store.update(session, metadata=patch)
        else:
            self.store.update(session, state=patch)

    def tag(self, session: str) -> None:
        names = ["a", "b", "c", "ü/ä~"]
        self.store.update(session, add_tags=[self.rng.choice(names)], remove_tags=[self.rng.choice(names)])

    def delete(self, session: str) -> None:
        self.store.delete(session)

    def restore(self, session: str) -> bool:
        row = self.store.find(session)
        assert row is not None
        self.store.restore(session)
        return bool(row.hidden or row.vectors)

    def clear(self, session: str) -> None:
        self.store.clear(session)

    def delete_message(self, session: str) -> bool:
        message = self._message(session)
        if message is not None:
            self.store.delete_message(session, message)
        return message is not None

    def purge(self, session: str) -> bool:
        return purge_session(self.store, session)

    def purge_message(self, session: str) -> bool:
        message = self._message(session)
        return message is not None and purge_message(self.store, session, message)

    def purge_history(self, session: str) -> None:
        purge_history(self.store, session)

    def fork(self, session: str) -> None:
        fork(self.store, session, at=self._message(session), metadata={"forked": True})

    def merge(self, session: str) -> None:
        merge_fork(self.store, session)

    def split(self, session: str) -> bool:
        found = divergences(self.store, session)
        if found:
            split(self.store, session)
        return bool(found)

    def _message(self, session: str) -> str | None:
        row = self.store.find(session)
        ids = [each.id for each in self.store.message_rows(row.no)] if row is not None else []
        return self.rng.choice(ids) if ids else None

    deeds: ClassVar[dict[str, tuple[int, Callable[[Person, str], bool | None]]]] = {
        "append": (20, append),
        "insert": (8, insert),
        "append_much": (2, append_much),
        "capture": (8, capture),
        "edit": (12, edit),
        "edit_metadata": (8, edit_metadata),
        "update": (6, update),
        "patch": (10, patch),
        "tag": (8, tag),
        "delete": (4, delete),
        "restore": (6, restore),
        "clear": (2, clear),
        "delete_message": (6, delete_message),
        "purge": (2, purge),
        "purge_message": (3, purge_message),
        "purge_history": (2, purge_history),
        "fork": (2, fork),
        "merge": (2, merge),
        "split": (3, split),
        "create": (0, create),
    }


class Vault:
    """A vault on a remote in memory, chance, and a clock."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_ms = 1_800_000_000_000
        self.remote = MemoryRemote()
        self.done: Counter[str] = Counter()
        self.id = ""
        self.keyring: Keyring

    async def found(self) -> None:
        self.id, self.keyring = await found_vault(
            self.remote, passphrase=PASSPHRASE, draw=self.rng.randbytes, cost=MINIMUM_COST, derive=derive
        )


async def lived(seed: int, folder: Path) -> tuple[Vault, list[Person]]:
    """A vault in which some people worked, often not knowing of each other; at the end each has all."""
    vault = Vault(seed)
    await vault.found()
    people = [Person(name, folder, vault) for name in "abc"[: vault.rng.choice([2, 3])]]
    for _ in range(vault.rng.randint(30, 90)):
        vault.now_ms += vault.rng.choice([0, 1, 30, 5_000])
        person = vault.rng.choice(people)
        if vault.rng.random() < 0.8:
            person.act()
        else:
            engine = person.engine
            await vault.rng.choice([engine.sync, engine.sync, engine.push, engine.pull, engine.tend])()
    for person in [*people, *people, *people]:
        vault.now_ms += 86_400_000
        await person.engine.sync()
        await person.engine.tend()
    return vault, people


async def test_a_reader_written_from_the_page_sees_what_every_device_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: Counter[str] = Counter()
    for seed in range(SEEDS):
        monkeypatch.setattr(sending, "SEGMENT_BYTES", random.Random(seed).choice([200, 4000, 1 << 22]))
        folder = tmp_path / str(seed)
        folder.mkdir()
        vault, people = await lived(seed, folder)
        opened = read_vault(lay_down(vault.remote, folder / "remote"), PASSPHRASE)
        assert opened.problems == []
        read = by_id(opened.sessions)
        for person in people:
            assert read == shown_by(person.store), f"seed {seed}: device {person.name}"
            person.store.close()
        done += vault.done
    assert set(Person.deeds) <= done.keys()


def test_it_reads_what_the_commands_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def run(device: str, *words: str) -> str:
        monkeypatch.setenv("STENO_HOME", str(tmp_path / device))
        code, said = main(words), capsys.readouterr()
        assert code == 0, said.err
        return said.out

    monkeypatch.setenv("STENO_PASSPHRASE", PASSPHRASE)
    remote = str(tmp_path / "remote")
    run("laptop", "init", "--remote", remote)
    run("laptop", "create", "--id", "first", "--title", "Über REST", "--tags", "go,api", "--metadata", '{"a":{"b":1}}')
    run("laptop", "add", "first", "Wie geht das?\n\n☕")
    run("laptop", "sync")
    run("desktop", "join", remote)
    run("desktop", "sync")
    run("desktop", "add", "first", "So.", "--role", "assistant")
    run("desktop", "rename", "first", "REST")
    run("laptop", "tag", "first", "new")
    run("desktop", "sync")
    run("laptop", "sync")
    exported = json.loads(run("laptop", "export", "--all", "-o", "-"))
    opened = read_vault(Path(remote), PASSPHRASE)
    assert opened.problems == []
    for each in exported:
        for name in ("steno", "name", "project", "deleted_at", "local_only"):
            del each[name]
        del each["metadata"]["tags"]  # which stand there once more, for other programs
        for message in each["messages"]:
            del message["deleted_at"]
        each["incomplete"] = False
    assert by_id(opened.sessions) == by_id(exported)
    assert [message["content"] for message in exported[0]["messages"]] == ["Wie geht das?\n\n☕", "So."]


@pytest.mark.fault(43)
async def test_what_a_later_program_adds_is_passed_over(tmp_path: Path):
    vault, people = await lived(5, tmp_path)
    device, clock = "later0000000", (vault.now_ms << 16) + 1
    plain = [None] * 2
    message = ["m", clock + 1, 2, None, 0, "user", None, "kept", vault.now_ms, *[None] * 7, "more"]
    batch = [1, {0: device}, [], {}, "more"]
    batch[2] = [
        [
            "from later",
            1,
            [[clock, 2, vault.now_ms, *plain, "more"]],
            0,
            [
                [None, "colour", [[[clock, 2, b'"red"', b""]], [[2, clock]]], "more"],
                ["m", "colour/of/it", [[[clock, 2, b"{}", b""]], [[2, clock]]]],
                [None, "title", [[[clock, 2, b'"Later"', b""]], [[2, clock]]], "more"],
            ],
            [message],
            [],
            "more",
        ]
    ]
    name = f"{LOG}{device}.000000000001-000000000001.0.aaaaaaaaaaaa"
    content = pack(msgspec.msgpack.encode(batch))
    vault.remote.objects[name] = seal(content, key=vault.keyring.current, vault_id=vault.id, name=name, salt=bytes(16))
    opened = read_vault(lay_down(vault.remote, tmp_path / "remote"), PASSPHRASE)
    assert opened.problems == []
    for person in people:
        assert (await person.engine.sync()).problems == []
        assert by_id(opened.sessions) == shown_by(person.store)
        assert person.store.get("from later").title == "Later"
        person.store.close()


async def test_it_says_what_it_cannot_read(tmp_path: Path):
    vault, people = await lived(3, tmp_path)
    for person in people:
        person.store.close()
    log = sorted(name for name in vault.remote.objects if name.startswith(LOG))
    data = bytearray(vault.remote.objects[log[0]])
    data[60] ^= 1
    vault.remote.objects[log[0]] = bytes(data)
    opened = read_vault(lay_down(vault.remote, tmp_path / "remote"), PASSPHRASE)
    assert f"{log[0]}: the seal is broken" in opened.problems
    with pytest.raises(Unreadable, match="passphrase"):
        read_vault(tmp_path / "remote", "another")
