"""Where runs diverged is told from births alone, in every shape that they can take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.order import Place, walk
from steno.storage.runs import Divergence, Link, diverged
from steno.storage.stamps import BY_HAND, DERIVED


def _links(*stated: tuple[str, str | None, str], **marks: str) -> list[Link]:
    """Messages (id, anchor, devices as digits) in order; ``marks`` by id: inserted, hidden, derived, cut."""
    return [
        Link(
            id=message,
            place=10 * at,
            after=after,
            inserted="inserted" in marks.get(message, ""),
            shown="hidden" not in marks.get(message, ""),
            cut="cut" in marks.get(message, ""),
            rank=DERIVED if "derived" in marks.get(message, "") else BY_HAND,
            devices=frozenset(map(int, devices)),
        )
        for at, (message, after, devices) in enumerate(stated, start=1)
    ]


TWO_RUNS = (("a", None, "0"), ("b", "a", "0"), ("b1", "b", "0"), ("c", "a", "1"), ("c1", "c", "1"))


@pytest.mark.fault(22)
def test_two_devices_that_wrote_behind_one_message_diverged_there():
    assert diverged(_links(*TWO_RUNS)) == [Divergence(anchor="a", run=("c", "c1"), against="b", shared=20)]


def test_what_was_written_later_behind_the_run_belongs_to_it():
    [found] = diverged(_links(*TWO_RUNS, ("d", "c1", "0")))
    assert found.run == ("c", "c1", "d")


def test_what_was_written_behind_a_deleted_end_of_the_run_does_not():
    [found] = diverged(_links(*TWO_RUNS, ("d", "c1", "0"), ("d1", "d", "0"), ("c2", "c", "1"), c1="hidden", d="cut"))
    assert found.run == ("c", "c2")
    assert diverged(_links(*TWO_RUNS, ("d", "c1", "0"), c="hidden", c1="hidden", d="cut")) == []


def test_two_devices_that_wrote_behind_one_deleted_message_diverged_there():
    [found] = diverged(_links(("a", None, "0"), ("b", "a", "0"), ("c", "a", "1"), a="hidden", b="cut", c="cut"))
    assert (found.at, found.against) == ("c", "b")


def test_devices_that_both_began_a_session_diverged_at_its_beginning():
    [found] = diverged(_links(("b", None, "0"), ("c", None, "1")))
    assert (found.anchor, found.shared, found.at) == (None, 10, "c")


def test_each_of_three_runs_but_the_first_is_a_divergence():
    found = diverged(_links(*TWO_RUNS, ("d", "a", "2")))
    assert [(each.at, each.against, each.shared) for each in found] == [("c", "b", 20), ("d", "b", 20)]


def test_runs_within_a_run_are_found_too():
    found = diverged(_links(*TWO_RUNS[:4], ("c1", "c", "1"), ("c2", "c", "2")))
    assert [(each.anchor, each.at, len(each.run)) for each in found] == [("a", "c", 3), ("c", "c2", 1)]


def test_a_session_of_one_device_never_diverges():
    assert diverged(_links(("a", None, "0"), ("b", "a", "0"), ("c", "b", "0"))) == []


def test_an_insertion_is_no_run():
    assert diverged(_links(("a", None, "0"), ("x", "a", "1"), ("b", "a", "0"), x="inserted")) == []


def test_what_one_device_captured_beside_its_own_note_is_no_divergence():
    assert diverged(_links(("a", None, "0"), ("note", "a", "0"), ("b", "a", "0"), a="derived", b="derived")) == []


def test_what_was_captured_beside_the_note_of_another_device_is_no_divergence():
    assert diverged(_links(("a", None, "0"), ("note", "a", "1"), ("b", "a", "0"), a="derived", b="derived")) == []


def test_two_devices_that_captured_different_sequels_diverged():
    marks = dict.fromkeys("abc", "derived")
    assert [each.at for each in diverged(_links(("a", None, "01"), ("b", "a", "0"), ("c", "a", "1"), **marks))] == ["c"]


def test_a_message_that_both_devices_know_is_no_run_of_another_device():
    assert diverged(_links(("a", None, "0"), ("b", "a", "01"), ("c", "a", "1"))) == []


def test_a_run_of_which_nothing_is_shown_is_no_divergence():
    assert diverged(_links(*TWO_RUNS, c="hidden", c1="hidden")) == []
    assert diverged(_links(*TWO_RUNS, b="hidden", b1="hidden")) == []


def test_a_run_begins_with_the_first_message_that_is_shown():
    [found] = diverged(_links(*TWO_RUNS, c="hidden"))
    assert (found.at, found.run) == ("c1", ("c1",))


@pytest.mark.parametrize("after", ["missing", "c"])
def test_messages_whose_anchor_has_not_arrived_are_no_runs(after: str):
    assert diverged(_links(("a", None, "0"), ("b", after, "0"), ("c", after, "1"))) == []


@given(st.data())
def test_a_divergence_is_one_piece_that_hangs_on_its_anchor(data: st.DataObject):
    ids = [f"m{number}" for number in range(data.draw(st.integers(1, 12)))]
    births = {
        each: Place(
            each,
            data.draw(st.sampled_from([None, *ids[:at], "missing"])),
            data.draw(st.booleans()),
            (at, str(data.draw(st.integers(0, 2)))),
        )
        for at, each in enumerate(ids)
    }
    hidden, cut = (data.draw(st.sets(st.sampled_from(ids))) for _ in "ab")
    links = [
        Link(
            id=each,
            place=place,
            after=births[each].after,
            inserted=births[each].inserted,
            shown=each not in hidden,
            cut=each in cut,
            rank=BY_HAND,
            devices=frozenset([int(births[each].instant[1])]),
        )
        for place, each in enumerate(walk(births.values())[0])
    ]

    def hangs_on(message: str | None, anchor: str) -> bool:
        while message is not None and message != anchor and message not in cut:
            message = births[message].after if message in births else None
        return message == anchor

    for found in diverged(links):
        [start] = {
            each
            for each in ids
            if births[each].after == found.anchor
            and not births[each].inserted
            and [below.id for below in links if below.shown and hangs_on(below.id, each)] == list(found.run)
        }
        assert not {found.against, found.anchor} & set(found.run)
        before = [link.id for link in links if link.place < found.shared]
        assert not any(hangs_on(each, start) for each in before)
        assert found.anchor in {None, *before}
