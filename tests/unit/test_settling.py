"""A conflict that is settled on one device is settled on every one, and settling it hides nothing else."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steno.storage.apply import Applied, apply, slices
from steno.storage.change import decode_batch, local_changes
from steno.storage.conflicts import Conflict, conflict_id, conflicts, dismiss, named, restore
from steno.storage.errors import ConflictNotFound, InvalidInput
from steno.storage.model import NewMessage
from steno.storage.store import Store


def tell(source: Store, target: Store) -> None:
    """Let one store take in what was written in another."""
    data, _, _ = local_changes(source, since=0, floor=0, max_bytes=1 << 30)
    if data:
        batch = decode_batch(data)
        for part in slices(batch):
            with target.transaction():
                apply(target, batch, part, done=Applied())


class Three:
    """Three stores with one session, which exchange all they have when they are told to."""

    def __init__(self, folder: Path) -> None:
        clock = itertools.count(1_000_000, 1_000)
        self.stores = [Store(folder / f"{name}.db", now_ms=lambda: next(clock)) for name in "abc"]
        self.here, self.there, self.third = self.stores
        self.here.create(id="s", title="First", tags=["go"], metadata={"k": 1})
        self.here.append("s", NewMessage(id="m", role="user", content="text", metadata={"x": 1}))
        self.exchange()

    def exchange(self, *stores: Store) -> None:
        """Let stores (all of them) tell each other everything."""
        stores = stores or tuple(self.stores)
        for source, target in itertools.permutations(stores, 2):
            tell(source, target)

    def differ(self, write: Callable[[Store, Any], object], *values: Any) -> None:
        """Write a value on each store, none of which knows of the others; the last one is shown."""
        for store, value in zip(self.stores, values, strict=False):
            write(store, value)
        self.exchange()

    def shown(self) -> list[Any]:
        """What each store shows, which is the same."""
        found = [(store.get("s"), list(store.messages("s"))) for store in self.stores]
        assert found[0][1] == found[1][1] == found[2][1]
        assert found[0][0].title == found[1][0].title == found[2][0].title
        assert found[0][0].metadata == found[1][0].metadata == found[2][0].metadata
        assert found[0][0].tags == found[1][0].tags == found[2][0].tags
        header = found[0][0]
        return [
            header.title,
            header.tags,
            header.metadata,
            [(each.id, each.content, each.metadata) for each in found[0][1]],
        ]

    def open(self) -> list[tuple[str | None, str]]:
        """The fields that stand in conflict, on every store alike."""
        found = [sorted((each.message or "", each.field) for each in conflicts(store)) for store in self.stores]
        assert found[0] == found[1] == found[2]
        return [(message or None, field) for message, field in found[0]]

    def conflict(self) -> Conflict:
        (found,) = conflicts(self.here)
        return found


@pytest.fixture
def three(tmp_path: Path):
    three = Three(tmp_path)
    yield three
    for store in three.stores:
        store.close()


def title(store: Store, value: str) -> None:
    store.update("s", fields={"title": value})


def content(store: Store, value: str) -> None:
    store.edit_message("s", "m", {"content": value})


def metadata(store: Store, value: Any) -> None:
    store.update("s", metadata=value)


def of_message(store: Store, value: Any) -> None:
    store.edit_message("s", "m", {"metadata": value})


def tags(store: Store, value: list[str]) -> None:
    store.update("s", tags=value)


def delete_or_edit(store: Store, value: str) -> None:
    if value:
        content(store, value)
    else:
        store.delete_message("s", "m")


def delete_or_add(store: Store, value: str) -> None:
    if value:
        store.append("s", NewMessage(id=value, role="user", content=value))
    else:
        store.delete("s")


def restore_or_delete(store: Store, value: str) -> None:
    if value:
        store.delete("s")
        store.restore("s")
    else:
        store.delete("s")


WAYS: dict[str, tuple[Callable[[Store, Any], object], tuple[Any, ...]]] = {
    "title": (title, ("one", "two", "three")),
    "content": (content, ("one", "two", "three")),
    "a leaf": (metadata, ({"k": 2}, {"k": 3})),
    "a removal": (metadata, ({"k": None}, {"k": 3})),
    "a value over those below": (metadata, ({"k": {"l": 1, "n": 2}}, {"k": 3})),
    "values below one": (metadata, ({"k": 3}, {"k": {"l": 1, "n": 2}})),
    "nothing over those below": (metadata, ({"k": {"l": 1}}, {"k": {}})),
    "all three": (metadata, ({"k": {"l": {"n": 1}}}, {"k": 3}, {"k": {"l": 2}})),
    "a message's leaf": (of_message, ({"x": {"y": 1}}, {"x": 3})),
    "a tag": (tags, (["a", "go"], ["b", "go", "a"])),
    "a deleted message that was edited": (delete_or_edit, ("", "edited")),
    "a deleted session that was added to": (delete_or_add, ("", "new")),
    "a deleted session that was restored": (restore_or_delete, ("", "again")),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_conflict_that_is_dismissed_is_settled_everywhere_and_nothing_shown_changes(three: Three, way: str) -> None:
    write, values = WAYS[way]
    three.differ(write, *values)
    before = three.shown()
    assert three.open()
    for _ in range(5):  # fields above and below each other may be settled one by one
        if three.open():
            dismiss(three.there, "s")
            three.exchange()
    assert (three.open(), three.shown()) == ([], before)


@pytest.mark.parametrize("way", WAYS)
def test_one_call_dismisses_all_of_a_session(three: Three, way: str) -> None:
    write, values = WAYS[way]
    three.differ(write, *values)
    dismiss(three.there, "s")
    three.exchange()
    assert three.open() == []


@pytest.mark.parametrize(
    ("write", "values", "number", "wanted"),
    [
        (title, ("one", "two", "three"), 1, lambda found: found[0] == "one"),
        (title, ("one", "two", "three"), 2, lambda found: found[0] == "two"),
        (title, ("one", "two", "three"), 3, lambda found: found[0] == "three"),
        (content, ("one", "two"), 1, lambda found: found[3][0][1] == "one"),
        (metadata, ({"k": None}, {"k": 3}), 1, lambda found: found[2] == {}),
        (metadata, ({"k": {"l": 1}}, {"k": 3}), 1, lambda found: found[2] == {"k": {"l": 1}}),
        (metadata, ({"k": 3}, {"k": {"l": 1}}), 1, lambda found: found[2] == {"k": 3}),
        (of_message, ({"x": 2}, {"x": 3}), 1, lambda found: found[3][0][2] == {"x": 2}),
        (delete_or_edit, ("", "edited"), 2, lambda found: found[3] == []),
        (delete_or_edit, ("", "edited"), 1, lambda found: found[3][0][1] == "edited"),
    ],
)
def test_a_value_that_is_restored_is_shown_everywhere_and_its_conflict_is_settled(
    three: Three, write: Any, values: Any, number: int, wanted: Callable[[list[Any]], bool]
) -> None:
    three.differ(write, *values)
    found = three.conflict()
    restore(three.third, found.session, found.message, found.field, number=number)
    three.exchange()
    assert (three.open(), wanted(three.shown())) == ([], True)


def test_a_deletion_that_is_restored_deletes_the_session_everywhere(three: Three) -> None:
    three.differ(delete_or_add, "", "new")
    found = three.conflict()
    (deletion,) = found.others
    restore(three.third, "s", None, "deleted", number=deletion.number)
    three.exchange()
    assert [list(store.sessions()) for store in three.stores] == [[], [], []]


def test_what_a_device_wrote_that_did_not_know_is_a_conflict_again(three: Three) -> None:
    three.differ(title, "one", "two")
    dismiss(three.here, "s", None, "title")
    title(three.third, "three")
    three.exchange()
    assert {each.value for each in three.conflict().values} == {"two", "three"}


def test_two_devices_that_settle_it_alike_leave_no_conflict(three: Three) -> None:
    three.differ(title, "one", "two")
    dismiss(three.here, "s")
    dismiss(three.there, "s")
    three.exchange()
    assert three.open() == []


def test_two_devices_that_settle_it_otherwise_leave_a_conflict(three: Three) -> None:
    three.differ(title, "one", "two")
    restore(three.here, "s", None, "title", number=1)
    dismiss(three.there, "s")
    three.exchange()
    assert three.open() == [(None, "title")]


def test_a_dismissed_conflict_of_a_deleted_message_does_not_bring_it_back(three: Three) -> None:
    three.differ(content, "one", "two")
    three.third.delete_message("s", "m")
    three.exchange()
    dismiss(three.here, "s")
    three.exchange()
    assert (three.open(), three.shown()[3]) == ([], [])


def test_a_leaf_that_is_dismissed_takes_nothing_with_it_that_was_written_since(three: Three) -> None:
    three.differ(metadata, {"k": {"l": 1}}, {"k": {}})
    three.there.update("s", metadata={"k": {"n": {"o": 3}}})
    three.exchange()
    assert three.open() == [(None, "metadata/k/l")]
    before = three.shown()
    dismiss(three.third, "s")
    three.exchange()
    assert (three.open(), three.shown()) == ([], before)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_metadata_dismissing_changes_nothing_that_is_shown(three: Three, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(14):
        store = rng.choice(three.stores)
        value: Any = rng.choice([None, rng.randint(0, 9), {}])
        for key in rng.sample("abc", rng.randint(0, 3)):
            value = {key: value}
        rng.choice([metadata, of_message])(store, {"k": value})
        if rng.random() < 0.15:
            three.exchange()
    three.exchange()
    before = three.shown()
    for found in list(conflicts(three.here)):
        with contextlib.suppress(ConflictNotFound):  # settled with one above or below it
            dismiss(three.here, "s", found.message, found.field)
        assert all(each.id != found.id for each in conflicts(three.here))
        three.exchange()
        assert three.shown() == before
    assert three.open() == []


def test_a_field_is_dismissed_alone(three: Three) -> None:
    three.differ(title, "one", "two")
    three.differ(content, "one", "two")
    dismiss(three.here, "s", "m", "content")
    three.exchange()
    assert three.open() == [(None, "title")]


def test_the_fields_of_a_message_are_dismissed_alone(three: Three) -> None:
    three.differ(title, "one", "two")
    three.differ(content, "one", "two")
    three.differ(of_message, {"x": 2}, {"x": 3})
    dismiss(three.here, "s", "m")
    three.exchange()
    assert three.open() == [(None, "title")]


def test_values_are_numbered_by_age_on_every_device(three: Three) -> None:
    three.differ(title, "one", "two", "three")
    for store in three.stores:
        (found,) = conflicts(store)
        assert [(each.number, each.value) for each in found.values] == [(1, "one"), (2, "two"), (3, "three")]


def test_an_id_names_the_field_and_is_the_same_everywhere(three: Three) -> None:
    three.differ(of_message, {"x": 2}, {"x": 3})
    ids = {each.id for store in three.stores for each in conflicts(store)}
    assert [named(each) for each in ids] == [("s", "m", "metadata/x")]


@pytest.mark.parametrize("field", ["title", "status", "metadata/none"])
def test_what_does_not_stand_in_conflict_cannot_be_settled(three: Three, field: str) -> None:
    for settle in (
        lambda: restore(three.here, "s", None, field, number=1),
        lambda: dismiss(three.here, "s", None, field),
    ):
        with pytest.raises(ConflictNotFound):
            settle()


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_number_that_no_value_has_is_refused_and_nothing_is_written(three: Three, number: int) -> None:
    three.differ(title, "one", "two")
    before = three.here.last_seq
    with pytest.raises(InvalidInput):
        restore(three.here, "s", None, "title", number=number)
    assert three.here.last_seq == before


@pytest.mark.parametrize("text", ["", "x", "WzFd", "é", conflict_id("s", None, "title") + "!"])
def test_what_is_no_id_names_nothing(text: str) -> None:
    with pytest.raises(ConflictNotFound):
        named(text)
