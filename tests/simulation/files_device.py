"""A device without its directory: what programs do to its store, and what another device hears of it.

Everything is told to the model before or as it is done.
"""

from __future__ import annotations

from typing import Any

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import decode_batch, local_changes
from steno.storage.model import NewMessage
from steno.storage.purge import purge_message
from steno.storage.rows import message
from steno.storage.state import find_message
from steno.storage.store import Store
from steno.tests.simulation.files_model import GONE, SCALARS, Model


class Device:
    """One device: ``programs`` is the store as programs have it open."""

    def __init__(self, model: Model, name: str, programs: Store) -> None:
        self.model, self.name, self.programs = model, name, programs
        self.log: list[tuple[bytes, int]] = []
        self.cursor = 0
        self.applied = 0

    @property
    def known(self) -> int:
        return self.model.known[self.name]

    def live(self) -> list[str]:
        return sorted(each.id for each in self.programs.sessions())

    def create(self, session: str) -> None:
        if self.programs.row(session) is None and session not in self.model.sessions:
            made = self.programs.create(id=session, title=f"title {session}" if len(session) % 2 else None)
            self.model.session_born(self.name, session, {} if made.automatic_title else {"title": made.title})

    def append(self, session: str, text: str, after: str | None = None) -> None:
        row = self.programs.find(session)
        if row is None:
            return
        if row.hidden:
            known = [self.model._deletions(self.known, (session, "", path))[1] for path in ("cleared", "deleted")]
            self.model.say(self.name, (session, "", "cleared"), known[0] | known[1])
            self.model.say(self.name, (session, "", "deleted"), 0)
        if row.status == "archived":
            self.model.say(self.name, (session, "", "status"), "active")
        new = NewMessage(role="user", content=text, after=after, metadata={"by": "program"})
        done = self.programs.append(session, new)
        self.model.message_born(self.name, session, done.id, line_as_read(done))

    def edit(self, session: str, id_: str, changes: dict[str, Any]) -> None:
        row = self.programs.find(session)
        if row is None or row.hidden:
            return
        for path, value in changes.items():
            for key, leaf in value.items() if path == "metadata" else ():
                self.model.tell(self.name, (session, id_, f"metadata/{key}"), GONE if leaf is None else leaf)
            if path != "metadata":
                self.model.tell(self.name, (session, id_, path), value)
        if "content" in changes and self.model._deletions(self.known, (session, id_, "deleted"))[1]:
            self.model.say(self.name, (session, id_, "deleted"), None)
        self.programs.edit_message(session, id_, changes)

    def delete_message(self, session: str, id_: str) -> None:
        row = self.programs.find(session)
        each = None if row is None else find_message(self.programs, row.no, id_)
        if row is not None and not row.hidden and each is not None and not each.hidden:
            self.programs.delete_message(session, id_)
            self.model.say(self.name, (session, id_, "deleted"), self.known)

    def purge_message(self, session: str, id_: str) -> None:
        purge_message(self.programs, session, id_)
        self.model.say(self.name, (session, id_, "purged"), True)

    def update(self, session: str, **changes: Any) -> None:
        for path, value in changes.get("fields", {}).items():
            self.model.tell(self.name, (session, "", path), value)
        for name in ("metadata", "state"):
            for key, leaf in changes.get(name, {}).items():
                self.model.tell(self.name, (session, "", f"{name}/{key}"), GONE if leaf is None else leaf)
        tags = self.programs.get(session).tags
        for tag in changes.get("add_tags", ()):
            if tag not in tags:
                self.model.say(self.name, (session, "", f"tags/{tag}"), True)
        for tag in changes.get("remove_tags", ()):
            if tag in tags:
                self.model.say(self.name, (session, "", f"tags/{tag}"), GONE)
        self.programs.update(session, **changes)

    def delete(self, session: str) -> None:
        row = self.programs.find(session)
        if row is not None and not row.hidden:
            self.programs.delete(session)
            self.model.say(self.name, (session, "", "deleted"), self.known)
            self.model.deleted.add(session)

    def restore(self, session: str) -> None:
        row = self.programs.find(session)
        if row is not None and (row.hidden or row.vectors):
            self.programs.restore(session)
            self.model.say(self.name, (session, "", "deleted"), None)

    def publish(self) -> None:
        complete, floor = False, self.cursor
        while not complete:
            batch, self.cursor, complete = local_changes(self.programs, since=self.cursor, floor=floor, max_bytes=10**7)
            if batch:
                self.log.append((batch, self.known))

    def pull(self, other: Device) -> None:
        for batch, known in other.log[self.applied :]:
            decoded, done = decode_batch(batch), Applied()
            for part in slices(decoded, rows=100):
                with self.programs.transaction():
                    apply(self.programs, decoded, part, done=done)
            assert done.refused == []
            self.applied += 1
            self._heard(known)

    def _heard(self, known: int) -> None:
        """Another device's writes are here; what was written here to messages purged there stands behind them."""
        before = self.known
        self.model.known[self.name] |= known
        overtaken = self.model.overtaken(self.name, before)
        for session in self.model.sessions:
            row = self.programs.find(session)
            for each in self.programs.message_rows(row.no) if row else ():
                if each.id not in self.model.births[session]:
                    line = line_as_read(message(each))
                    [of, *_] = [at for at in overtaken if at[0] == session and line["content"] in at[1]] or [None]
                    assert of is not None, f"{each.id} came from nowhere"
                    overtaken.remove(of)
                    self.model.message_born(self.name, session, each.id, line)
        lost = [texts for _, texts, live in overtaken if live]
        assert lost == [], f"{lost} went with a purge that did not know of it"


def line_as_read(shown: Any) -> dict[str, Any]:
    """A message of the store as the line of a file says it."""
    line = {path: getattr(shown, path) for path in ("id", "role", *SCALARS)}
    return {**{key: value for key, value in line.items() if value is not None}, "metadata": shown.metadata}
