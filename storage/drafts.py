"""What is being said and is no message yet: it stands in a file of its own until the store has it.

Whoever takes in an answer piece by piece writes each piece down as it comes, so that what was said survives the end
of the process, whatever ended it; the store gets one message, the history no revision for each piece, and other
devices nothing half-said. The writer holds a lock on its file: a file without one is left over, and whoever opens
the store next takes it up, once (tests/e2e/test_chat.py).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from .errors import LocalStorageError, SessionDeleted, StenoError
from .home import private_directory
from .model import Json, Message, NewMessage, format_ms
from .rows import message
from .state import find_message
from .steps import step
from .store import Store

INTERRUPTED = "interrupted"
"""The key of a message's metadata that says that it was broken off."""


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a message before its text: its session in which life, its id, and what it answers."""

    session: str
    life: int
    id: str
    after: str
    role: str = "assistant"
    model: str | None = None


class Draft:
    """A message that grows; `keep` or `drop` is its end."""

    def __init__(self, folder: Path, heading: Heading) -> None:
        """Begin a draft; raises `LocalStorageError`."""
        self.heading = heading
        self.text = ""
        self._refused = False
        self._path = folder / heading.id
        private_directory(folder)
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "wb", buffering=0)
        except OSError as exc:
            raise LocalStorageError(f"{self._path} cannot be made ({exc.strerror})") from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._write(msgspec.json.encode(heading) + b"\n")
        except OSError as exc:
            self.drop()
            raise LocalStorageError(f"{self._path} cannot be written ({exc.strerror})") from exc

    def add(self, text: str) -> None:
        """Write a piece down; once the disk refuses one, it and all later ones are held in memory alone."""
        self.text += text
        if not self._refused:
            try:
                self._write(text.encode())
            except OSError:
                self._refused = True

    def keep(
        self, store: Store, *, usage: dict[str, Json] | None = None, metadata: Mapping[str, Json] | None = None
    ) -> Message:
        """Make it a message, right behind what it answers; raises `SessionDeleted`, and waits then."""
        new = _new(self.heading, self.text, usage=usage, metadata=metadata or {})
        [row] = store.extend(self.heading.session, [new], life=self.heading.life)
        step("draft.kept")
        self.drop()
        return message(row)

    def drop(self) -> None:
        """Give it up."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]


def left_over(folder: Path) -> list[Path]:
    """The drafts that nobody writes any more."""
    return [path for path in _drafts(folder) if _is_left_over(path)]


def take_up(store: Store, folder: Path) -> list[Message]:
    """Make messages of the drafts that are left over. Those of a deleted session wait until it is restored."""
    return [taken for path in _drafts(folder) if (taken := _taken_up(store, path)) is not None]


def _taken_up(store: Store, path: Path) -> Message | None:
    with _locked(path) as descriptor:
        read = None if descriptor is None else _read(descriptor)
        if read is None:
            return None
        try:
            taken = _stored(store, *read)
        except StenoError:  # its session is deleted, or the disk is full: it waits
            return None
        step("draft.taken")
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return taken


def _stored(store: Store, heading: Heading, text: str, written_ms: int) -> Message | None:
    """The message that a draft became; None where it is nothing, was kept just before its writer ended, or purged."""
    with store.transaction():
        session = store.find(heading.session)
        purged = store.lives_over(heading.session) >= heading.life
        if not text or purged or (session is not None and find_message(store, session.no, heading.id)):
            return None
        if session is None:  # an older copy of the store was put back
            store.create(id=heading.session)
            session = store.live(heading.session)
        elif session.hidden:
            raise SessionDeleted(session=heading.session)
        new = _new(heading, text, metadata={INTERRUPTED: True}, timestamp=format_ms(written_ms))
        if not find_message(store, session.no, heading.after):
            new = msgspec.structs.replace(new, after=None)
        return store.append(heading.session, new)


def _new(
    heading: Heading, text: str, *, metadata: Mapping[str, Json], usage: dict[str, Json] | None = None,
    timestamp: str | None = None,
) -> NewMessage:  # fmt: skip
    return NewMessage(
        id=heading.id, role=heading.role, content=text, after=heading.after, model=heading.model,
        usage=usage, metadata=dict(metadata), timestamp=timestamp,
    )  # fmt: skip


def _drafts(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(folder.iterdir())


def _is_left_over(path: Path) -> bool:
    with _locked(path) as descriptor:
        return descriptor is not None and _read(descriptor) is not None


@contextmanager
def _locked(path: Path) -> Generator[int | None]:
    """The file with its lock; None where it is gone or somebody has that."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> tuple[Heading, str, int] | None:
    """What a draft says and when it was last written; None for one that has only just been made."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        first, _, text = file.read().partition(b"\n")
        written_ms = os.fstat(descriptor).st_mtime_ns // 1_000_000
    try:
        # A character whose end did not come is no text.
        return msgspec.json.decode(first, type=Heading), text.decode(errors="ignore"), written_ms
    except msgspec.DecodeError:
        return None
