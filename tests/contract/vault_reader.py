"""Another program that reads a vault: written from docs/format.md alone, with nothing of Steno in it.

`read_vault` takes a folder and a passphrase and gives the sessions as a person sees them. It writes nothing, and it
reads every segment each time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

ID = "[0-9a-z]{12}"
SEGMENT = re.compile(rf"({ID})\.([0-9]{{12}})-([0-9]{{12}})\.(0|[1-9][0-9]?)\.{ID}")
KEY = re.compile(rf"([1-9][0-9]{{0,11}})\.{ID}")
SCALARS = ("content", "sender", "parent", "timestamp", "model", "usage")
SPACE = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
SPACE += "\u2028\u2029\u202f\u205f\u3000"
MOST = 64 * 1024 * 1024
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unreadable(Exception):
    """An object, or the vault, cannot be read."""


class Key(NamedTuple):
    """A key of the vault; under one that was revoked only these publications of each device count."""

    secret: bytes
    until: dict[str, int] | None


class Opened(NamedTuple):
    """What a vault holds, and what could not be read of it."""

    sessions: list[dict[str, Any]]
    problems: list[str]


def read_vault(folder: Path, passphrase: str) -> Opened:
    vault = _vault_id((folder / "vault.json").read_bytes())
    keys = _keys(folder / "keys", vault, passphrase)
    problems: list[str] = []
    numbers: dict[str, set[int]] = defaultdict(set)
    reading = _Reading()
    for path in sorted((folder / "log").iterdir()):
        found = SEGMENT.fullmatch(path.name)
        if found is None or not 1 <= int(found[2]) <= int(found[3]):
            continue
        try:
            batch = _content(path.read_bytes(), f"log/{path.name}", vault, keys)
        except Unreadable as exc:
            problems.append(f"log/{path.name}: {exc}")
            continue
        numbers[found[1]] |= set(range(int(found[2]), int(found[3]) + 1))
        for device, ranges in (batch[3] if len(batch) > 3 else {}).items():
            numbers[device] |= {number for first, last in ranges for number in range(first, last + 1)}
        reading.take(batch)
    for device, have in numbers.items():
        missing = set(range(1, max(have))) - have
        problems += [f"publication {number} of {device} is not here" for number in sorted(missing)]
    return Opened(list(reading.sessions()), problems)


# Objects


def _vault_id(data: bytes) -> str:
    found = json.loads(data)
    if found.keys() != {"steno_vault", "id", "check"} or found["steno_vault"] != 1:
        raise Unreadable("a vault of another version")
    if found["check"] != _check(["steno vault", found["id"]]):
        raise Unreadable("vault.json is damaged")
    return found["id"]


def _keys(folder: Path, vault: str, passphrase: str) -> dict[str, Key]:
    named = [(int(found[1]), path) for path in sorted(folder.iterdir()) if (found := KEY.fullmatch(path.name))]
    greatest = max(number for number, _ in named)
    problem = Unreadable("there is no key")
    for number, path in named:
        if number == greatest:
            try:
                return _open_key(json.loads(path.read_bytes()), vault, number, passphrase)
            except Unreadable as exc:
                problem = exc
    raise problem


def _open_key(key: dict[str, Any], vault: str, number: int, passphrase: str) -> dict[str, Key]:
    if key["steno_key"] != 1 or key["vault"] != vault or key["n"] != number or key["kdf"]["name"] != "argon2id":
        raise Unreadable("a key of another version or vault")
    salt, cost = key["kdf"]["salt"], key["kdf"]["cost"]
    memory, iterations, lanes = cost["memory_kib"], cost["iterations"], cost["lanes"]
    bound = _json(["steno key", 1, vault, number, key["key"], ["argon2id", salt, memory, iterations, lanes]])
    if key["check"] != _check([base64.b64encode(bound).decode(), key["canary"], key["wrapped"]]):
        raise Unreadable("a damaged key")
    if not (1 <= lanes <= 16 and 1 <= iterations <= 20 and 8 * lanes <= memory <= 1048576):
        raise Unreadable("a cost out of bounds")
    kdf = Argon2id(salt=base64.b64decode(salt), length=32, iterations=iterations, lanes=lanes, memory_cost=memory)
    master = kdf.derive(unicodedata.normalize("NFC", passphrase).encode())
    canary = HKDFExpand(algorithm=SHA256(), length=16, info=b"steno key canary").derive(master)
    if not hmac.compare_digest(canary, base64.b64decode(key["canary"])):
        raise Unreadable("the passphrase is wrong")
    wrap = HKDFExpand(algorithm=SHA256(), length=32, info=b"steno key wrap").derive(master)
    plain = AESGCM(wrap).decrypt(bytes(12), base64.b64decode(key["wrapped"]), bound)
    return {each["id"]: Key(base64.b64decode(each["secret"]), each.get("until")) for each in json.loads(plain)["keys"]}


def _content(sealed: bytes, name: str, vault: str, keys: dict[str, Key]) -> list[Any]:
    if sealed[:5] != b"STENO" or sealed[5:6] != b"\x01":
        raise Unreadable("no sealed object of this version")
    held = keys.get(sealed[6:18].decode("latin-1"))
    if held is None:
        raise Unreadable("sealed with a key that is not known")
    found = SEGMENT.fullmatch(name.removeprefix("log/"))
    if held.until is not None and found is not None and int(found[3]) > held.until.get(found[1], 0):
        raise Unreadable("it came under a key that had been revoked")
    info = _json(["steno object", 1, name])
    key = HKDF(algorithm=SHA256(), length=32, salt=sealed[18:34], info=info).derive(held.secret)
    try:
        packed = AESGCM(key).decrypt(bytes(12), sealed[34:], _json(["steno object", 1, vault, name]))
    except InvalidTag as exc:
        raise Unreadable("the seal is broken") from exc
    if zstandard.get_frame_parameters(packed).content_size > MOST:
        raise Unreadable("too large")
    batch = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False))
    if batch[0] != 1:
        raise Unreadable("a batch of another version")
    return batch


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _check(value: Any) -> str:
    return hashlib.sha256(_json(value)).hexdigest()[:16]


# Stamps and registers


class Stamp(NamedTuple):
    """Sorts by value."""

    rank: int
    clock: int
    device: str

    @property
    def time(self) -> tuple[int, str]:
        return self.clock, self.device


@dataclass
class Register:
    open: dict[Stamp, tuple[bytes, bytes]]
    known: dict[tuple[str, int], int]

    def merge(self, other: Register) -> Register:
        kept: dict[Stamp, tuple[bytes, bytes]] = {}
        for one, two in ((self, other), (other, self)):
            for stamp, value in one.open.items():
                if stamp in two.open:
                    kept[stamp] = max(value, two.open[stamp])
                elif two.known.get((stamp.device, stamp.rank), -1) < stamp.clock:
                    kept[stamp] = value
        known = dict(self.known)
        for writer, clock in other.known.items():
            known[writer] = max(known.get(writer, -1), clock)
        return Register(kept, known)

    @property
    def top(self) -> tuple[Stamp, bytes]:
        stamp, (text, _) = max(self.open.items())
        return stamp, text

    @property
    def text(self) -> bytes:
        return self.top[1] if self.open else b""

    @property
    def value(self) -> Any:
        return json.loads(self.text) if self.text else None


NOTHING = Register({}, {})


def _known(stamps: Iterable[Stamp]) -> dict[tuple[str, int], int]:
    known: dict[tuple[str, int], int] = {}
    for stamp in stamps:
        known[stamp.device, stamp.rank] = max(known.get((stamp.device, stamp.rank), -1), stamp.clock)
    return known


def _born_with(stamps: list[Stamp], text: bytes) -> Register:
    return Register(dict.fromkeys(stamps, (text, b"")), _known(stamps))


def _leaves(document: dict[str, Any], above: str = "") -> Iterator[tuple[str, bytes]]:
    for key, value in document.items():
        where = above + "/" + key.replace("~", "~0").replace("/", "~1")
        if isinstance(value, dict) and value:
            yield from _leaves(value, where)
        else:
            yield where, _json(value)


def _replay(registers: dict[str, Register], name: str) -> dict[str, Any]:
    document: dict[str, Any] = {}
    leaves = [(*register.top, path[len(name) :]) for path, register in registers.items() if register.open]
    for _, pointer, text in sorted((stamp, pointer, text) for stamp, text, pointer in leaves):
        *way, last = [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]
        node = document
        for key in way:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        if text:
            node[last] = json.loads(text)
        else:
            node.pop(last, None)
    return document


class Vector:
    """What is within a ``deleted`` or ``cleared`` that is in force."""

    def __init__(self, vectors: list[dict[str, Any]]) -> None:
        self.at = max(each["at"] for each in vectors)
        self.also = {Stamp(*each) for vector in vectors for each in vector.get("also", [])}
        self.upto: dict[str, int] = {}
        for vector in vectors:
            for writer, clock in vector.get("upto", {}).items():
                self.upto[writer] = max(self.upto.get(writer, -1), clock)

    @classmethod
    def of(cls, register: Register) -> Vector | None:
        if register.text in (b"", b"null"):
            return None
        found = [json.loads(text) for text, _ in register.open.values() if text not in (b"", b"null")]
        found = [each for each in found if each.get("upto") or each.get("also")]
        return cls(found) if found else None

    def holds(self, stamps: Iterable[Stamp]) -> bool:
        return any(
            self.upto.get(f"{stamp.device}:{stamp.rank}", -1) >= stamp.clock or stamp in self.also for stamp in stamps
        )


# Sessions


class Birth(NamedTuple):
    stamp: Stamp
    fields: list[Any]


@dataclass
class Life:
    """All that is said of one life of an id; None among the messages stands for the session itself."""

    births: list[Birth] = field(default_factory=list)
    touched: int = 0
    born: dict[str, list[Birth]] = field(default_factory=lambda: defaultdict(list))
    stamps: dict[str, set[Stamp]] = field(default_factory=lambda: defaultdict(set))
    registers: dict[str | None, dict[str, Register]] = field(default_factory=lambda: defaultdict(dict))

    def join(self, message: str | None, path: str, register: Register) -> None:
        here = self.registers[message]
        here[path] = here.get(path, NOTHING).merge(register)


class _Reading:
    def __init__(self) -> None:
        self._lives: dict[tuple[str, int], Life] = defaultdict(Life)
        self._ended: dict[str, Register] = defaultdict(lambda: NOTHING)

    def take(self, batch: list[Any]) -> None:
        devices = batch[1]

        def stamp(clock: int, author: int) -> Stamp:
            return Stamp(author % 4, clock, devices[author // 4])

        for change in batch[2]:
            session, number, births, touched, states, messages = change[:6]
            life = self._lives[session, number]
            life.births += [Birth(stamp(birth[0], birth[1]), birth) for birth in births]
            life.touched = max(life.touched, touched)
            said: dict[str | None, set[str]] = defaultdict(set)
            for state in states:
                message, path, (opened, known) = state[:3]
                register = Register(
                    {stamp(clock, author): (text, seen) for clock, author, text, seen in opened},
                    {(devices[author // 4], author % 4): clock for author, clock in known},
                )
                for writer, clock in _known(register.open).items():
                    register.known[writer] = max(register.known.get(writer, -1), clock)
                said[message].add(path)
                if message is None and path == "purged":
                    self._ended[session] = self._ended[session].merge(register)
                else:
                    life.join(message, path, register)
            for message in messages:
                _take_message(life, message, said[message[0]], stamp)

    def sessions(self) -> Iterator[dict[str, Any]]:
        for (session, number), life in sorted(self._lives.items(), key=lambda each: each[0]):
            ended = [json.loads(text).get("life", 0) for text, _ in self._ended[session].open.values()]
            if number == max(ended, default=0) + 1:
                shown = _session(session, life)
                if shown is not None:
                    yield shown


def _take_message(life: Life, message: list[Any], said: set[str], stamp: Callable[[int, int], Stamp]) -> None:
    more = msgspec.msgpack.decode(message[15]) if message[15] is not None else []
    stamps = [stamp(message[1], message[2]), *(stamp(*each) for each in more)]
    life.born[message[0]].append(Birth(stamps[0], message))
    life.stamps[message[0]] |= set(stamps)
    timestamp = _json(message[9] if message[9] is not None else _time(message[8]))
    content = message[7] if isinstance(message[7], bytes) else _json(message[7])
    usage = b"null" if message[12] is None else message[12].encode()
    texts = (content, _json(message[6]), _json(message[10]), timestamp, _json(message[11]), usage)
    for path, text in zip(SCALARS, texts, strict=True):
        if path not in said:
            life.join(message[0], path, _born_with(stamps, text))
    if message[13] is not None and not any(path.startswith("metadata/") for path in said):
        for pointer, text in _leaves(json.loads(message[13])):
            life.join(message[0], "metadata" + pointer, _born_with(stamps, text))


def _session(session: str, life: Life) -> dict[str, Any] | None:
    registers = life.registers[None]
    vectors = {name: Vector.of(registers.get(name, NOTHING)) for name in ("deleted", "cleared")}
    deleted = vectors["deleted"]
    by_hand = [stamps for stamps in life.stamps.values() if any(stamp.rank == 2 for stamp in stamps)]
    if deleted is not None and all(deleted.holds(stamps) for stamps in by_hand):
        return None
    least = {message: min(births, key=lambda each: each.stamp.time) for message, births in life.born.items()}
    ordered, incomplete = _order(least)
    messages = [
        _message(message, least[message].fields, life.registers[message])
        for message in ordered
        if not _is_hidden(life.stamps[message], life.registers[message], vectors.values())
    ]
    birth = min(life.births, key=lambda each: each.stamp.time).fields
    times = [_milliseconds(message["timestamp"]) for message in messages]
    value = {name: registers.get(name, NOTHING).value for name in ("title", "status", "provider", "model", "user_id")}
    return {
        "id": session,
        **value,
        "title": value["title"] or _automatic_title(messages),
        "status": value["status"] or "active",
        "tags": _tags(registers),
        **{name: _replay(_below(registers, name), name) for name in ("metadata", "state")},
        "created_at": _time(birth[2]),
        "forked_from": None if birth[3] is None else json.loads(birth[3]),
        "source": None if birth[4] is None else json.loads(birth[4]),
        "updated_at": _time(max(life.touched, birth[2], *times)),
        "message_count": len(messages),
        "incomplete": incomplete or bool(life.registers.keys() - least.keys() - {None}),
        "messages": messages,
    }


def _is_hidden(stamps: set[Stamp], registers: dict[str, Register], vectors: Iterable[Vector | None]) -> bool:
    if "purged" in registers or any(vector is not None and vector.holds(stamps) for vector in vectors):
        return True
    itself = Vector.of(registers.get("deleted", NOTHING))
    by_hand = [stamp for stamp in registers["content"].open if stamp.rank == 2]
    return itself is not None and all(itself.holds([stamp]) for stamp in by_hand)


def _message(message: str, born: list[Any], registers: dict[str, Register]) -> dict[str, Any]:
    return {
        "id": message,
        "role": born[5],
        **{name: registers[name].value for name in SCALARS},
        "metadata": _replay(_below(registers, "metadata"), "metadata"),
        "origin": None if born[14] is None else json.loads(born[14]),
    }


def _below(registers: dict[str, Register], name: str) -> dict[str, Register]:
    return {path: register for path, register in registers.items() if path.startswith(f"{name}/")}


def _tags(registers: dict[str, Register]) -> list[str]:
    shown = {path[len("tags/") :]: register for path, register in _below(registers, "tags").items() if register.text}
    return [tag for _, tag in sorted((register.value, tag) for tag, register in shown.items())]


def _order(births: dict[str, Birth]) -> tuple[list[str], bool]:
    after = {message: birth.fields[3] for message, birth in births.items()}
    loose = {message for message, anchor in after.items() if anchor is not None and anchor not in births}
    ordered = _walk(births, loose)
    left = births.keys() - set(ordered)
    if left:
        loose |= {each for each in left if births[after[each]].stamp.time >= births[each].stamp.time}
        ordered = _walk(births, loose)
    return ordered, bool(loose)


def _walk(births: dict[str, Birth], loose: set[str]) -> list[str]:
    below: dict[str | None, list[str]] = defaultdict(list)
    for message, birth in births.items():
        if message not in loose:
            below[birth.fields[3]].append(message)

    def siblings(messages: Iterable[str]) -> list[str]:
        by_age = sorted(messages, key=lambda each: births[each].stamp.time)
        inserted = [each for each in by_age if births[each].fields[4]]
        return [*reversed(inserted), *(each for each in by_age if not births[each].fields[4])]

    ordered: list[str] = []
    waiting = [*siblings(below[None]), *siblings(loose)][::-1]
    while waiting:
        message = waiting.pop()
        ordered.append(message)
        waiting += siblings(below[message])[::-1]
    return ordered


def _automatic_title(messages: list[dict[str, Any]]) -> str:
    spoken = (_plain(message["content"]) for message in messages if message["role"] == "user")
    text = next((each for each in spoken if each.strip(SPACE)), "")
    blank = "".join(" " if ord(each) < 32 or 127 <= ord(each) < 160 or each in SPACE else each for each in text[:600])
    title = " ".join(word for word in blank.split(" ") if word)
    if len(title) <= 60:
        return title
    title = title[:59]
    if " " in title[20:]:
        title = title[: title.rindex(" ")]
    return title.rstrip(SPACE) + "…"


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    texts = (block.get("text") for block in content if block.get("type") == "text")
    return "\n\n".join(text for text in texts if isinstance(text, str))


def _time(milliseconds: int) -> str:
    moment = EPOCH + timedelta(milliseconds=milliseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def _milliseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1)
