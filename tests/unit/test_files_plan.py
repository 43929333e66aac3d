from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.order import Place, walk
from steno.storage.registers import REMOVED
from steno.sync.files.alignment import Accepted, accepted
from steno.sync.files.lines import Header, Line, ParsedFile, Refused
from steno.sync.files.plan import (
    AddMessage,
    Base,
    Current,
    DeleteMessage,
    EditMessage,
    Held,
    Leaf,
    Plan,
    Report,
    Restore,
    SetHeader,
    SetTags,
    plan,
)

BORN = "2026-11-20T10:00:00.000Z"
HEADER = Header(id="k3v9", rev="q7f3.00000418", title="REST API", status="active", tags=["go", "api"], created_at=BORN)
KEYS = frozenset(Header.__struct_fields__)


def message(id_: str | None, content: str, **fields: Any) -> Line:
    return Line(id=id_, role="user", content=content, timestamp=BORN if id_ else None, **fields)


A, B, C = message("a", "first"), message("b", "second"), message("c", "third")
NOTE = message(None, "my note")


def file(*lines: Line, header: Header | None = HEADER, present: frozenset[str] = KEYS) -> ParsedFile:
    return ParsedFile(header, present, list(lines), [number + 2 for number in range(len(lines))])


def held(*lines: Line, hidden: str = "", changed: str = "") -> list[Held]:
    return [Held(line, (line.id or "") in hidden.split(), (line.id or "") in changed.split()) for line in lines]


def ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"new-{next(numbers)}"


def planned(
    mine: ParsedFile,
    *,
    base: Sequence[Line] | None = (A, B, C),
    now: Sequence[Held] | None = None,
    base_header: Header = HEADER,
    now_header: Header | None = None,
    previous: Accepted | None = None,
    automatic_title: bool = False,
) -> Plan:
    return plan(
        mine,
        current=Current(now_header or base_header, held(*(base or ())) if now is None else now, automatic_title),
        base=None if base is None else Base(base_header, base, automatic_title),
        previous=previous,
        new_id=ids(),
    )


def edit(line: Line, **fields: Any) -> Line:
    return msgspec.structs.replace(line, **fields)


def header(**fields: Any) -> Header:
    return msgspec.structs.replace(HEADER, **fields)


# A known line with other content


def test_a_changed_line_is_an_edit_of_the_fields_that_changed() -> None:
    result = planned(file(A, edit(B, content="2nd", model="m"), C))
    assert result.actions == (EditMessage("b", {"content": "2nd", "model": "m"}),)
    assert not result.rewrite


def test_an_edit_of_a_message_deleted_meanwhile_restores_it_reported() -> None:
    result = planned(file(A, edit(B, content="2nd"), C), now=held(A, B, C, hidden="b"))
    assert result.actions == (Restore("b"), EditMessage("b", {"content": "2nd"}))
    assert result.reports == (Report("deleted-line-restored", 3, "b"),)


def test_an_unchanged_line_of_a_message_deleted_meanwhile_stays_deleted() -> None:
    result = planned(file(A, B, C), now=held(A, B, C, hidden="b"))
    assert (result.actions, result.reports, result.rewrite) == ((), (), True)


def test_an_unchanged_line_does_not_undo_an_edit_that_arrived() -> None:
    result = planned(file(A, B, C), now=held(A, edit(B, content="theirs"), C, changed="b"))
    assert (result.actions, result.rewrite) == ((), True)


def test_an_edit_beside_one_that_arrived_sets_only_its_own_field() -> None:
    result = planned(file(A, edit(B, model="mine"), C), now=held(A, edit(B, content="theirs"), C, changed="b"))
    assert result.actions == (EditMessage("b", {"model": "mine"}),)
    assert result.rewrite


def test_the_same_edit_made_elsewhere_is_made_once() -> None:
    result = planned(file(A, edit(B, content="2nd"), C), now=held(A, edit(B, content="2nd"), C, changed="b"))
    assert (result.actions, result.rewrite) == ((), False)


def test_metadata_of_a_message_is_given_by_leaf_too() -> None:
    base = [edit(A, metadata={"kept": 1, "gone": 2})]
    result = planned(file(edit(A, metadata={"kept": True})), base=base)
    leaves = (Leaf(("gone",), REMOVED), Leaf(("kept",), True))
    assert result.actions == (EditMessage("a", {"metadata": {"kept": True}}, leaves),)


def test_the_order_of_keys_and_the_form_of_a_time_are_no_edit() -> None:
    base = [edit(A, metadata={"x": 1, "y": 2})]
    mine = edit(A, metadata={"y": 2, "x": 1}, timestamp="2026-11-20T11:00:00+01:00")
    assert planned(file(mine), base=base) == Plan((), (), False, ("a",))


def test_a_time_that_is_none_refuses_the_file() -> None:
    with pytest.raises(Refused, match=r"line 2: not a time: 'yesterday'"):
        planned(file(edit(A, timestamp="yesterday"), B, C))
    with pytest.raises(Refused, match=r"line 5: not a time"):
        planned(file(A, B, C, edit(NOTE, timestamp="soon")))


def test_an_odd_time_that_the_store_holds_is_no_fault_of_the_file() -> None:
    odd = edit(A, timestamp="in May")
    assert planned(file(odd), base=[odd]).actions == ()


# A line with no id


def test_a_line_without_id_at_the_end_is_an_append() -> None:
    result = planned(file(A, B, C, NOTE))
    assert result.actions == (AddMessage(3, "new-1", "c", False, edit(NOTE, id="new-1")),)
    assert (result.ids, result.rewrite) == (("a", "b", "c", "new-1"), True)


def test_new_lines_between_others_are_insertions_each_on_the_one_above() -> None:
    result = planned(file(A, NOTE, NOTE, B, C))
    assert [(add.id, add.after_id, add.insertion) for add in _adds(result)] == [
        ("new-1", "a", True),
        ("new-2", "new-1", True),
    ]


def test_a_new_first_line_hangs_on_nothing() -> None:
    (add,) = _adds(planned(file(NOTE, A, B, C)))
    assert (add.after_id, add.insertion) == (None, True)


# A missing line


def test_a_missing_line_that_the_base_had_is_deleted() -> None:
    result = planned(file(A, C))
    assert result.actions == (DeleteMessage("b"),)
    assert not result.rewrite


def test_a_missing_line_whose_content_changed_since_comes_back() -> None:
    result = planned(file(A, C), now=held(A, edit(B, content="theirs"), C, changed="b"))
    assert result.actions == ()
    assert result.reports == (Report("line-came-back", None, "b"),)
    assert result.rewrite


def test_a_missing_line_that_arrived_meanwhile_comes_back() -> None:
    result = planned(file(A, B), base=[A, B], now=held(A, B, C))
    assert (result.actions, result.reports, result.rewrite) == ((), (), True)


def test_a_line_deleted_here_and_there_is_nothing_to_do() -> None:
    assert planned(file(A, C), now=held(A, B, C, hidden="b")) == Plan((), (), False, ("a", "c"))


def test_a_line_that_the_base_had_not_brings_a_deleted_message_back() -> None:
    result = planned(file(A, B, C), base=[A, C], now=held(A, B, C, hidden="b"))
    assert result.actions == (Restore("b"),)


# The header


def test_changed_fields_of_the_header_are_set() -> None:
    mine = header(title="New  title", status="archived", model="m")
    assert planned(file(A, B, C, header=mine)).actions == (
        SetHeader(("title",), "New title"),
        SetHeader(("status",), "archived"),
        SetHeader(("model",), "m"),
    )


def test_a_removed_key_is_told_from_null() -> None:
    base = header(provider="x", model="y")
    mine = file(A, B, C, header=header(), present=KEYS - {"model"})
    assert planned(mine, base_header=base).actions == (
        SetHeader(("provider",), None),
        SetHeader(("model",), REMOVED),
    )


def test_metadata_differs_by_leaf() -> None:
    base = header(metadata={"a": {"b": 1, "c": 2}, "gone": 1, "same": [1]})
    mine = header(metadata={"a": {"b": 1, "c": 3}, "new": None, "same": [1]})
    result = planned(file(A, B, C, header=mine), base_header=base)
    assert result.actions == (
        SetHeader(("metadata", "a", "c"), 3),
        SetHeader(("metadata", "gone"), REMOVED),
        SetHeader(("metadata", "new"), None),
    )
    assert not result.rewrite


def test_metadata_that_arrived_meanwhile_is_not_removed() -> None:
    result = planned(file(A, B, C, header=header(metadata={"mine": 1})), now_header=header(metadata={"theirs": 1}))
    assert result.actions == (SetHeader(("metadata", "mine"), 1),)
    assert result.rewrite


def test_tags_are_added_and_removed_one_by_one() -> None:
    result = planned(file(A, B, C, header=header(tags=["api", "new"])), now_header=header(tags=["go", "api", "other"]))
    assert result.actions == (SetTags(("new",), ("go",)),)
    assert result.rewrite


@pytest.mark.parametrize("tags", [["api", "go"], ["new", "go", "api"]])
def test_an_order_of_tags_is_given_where_it_matters(tags: list[str]) -> None:
    (action,) = planned(file(A, B, C, header=header(tags=tags))).actions
    assert isinstance(action, SetTags)
    assert action.order == tuple(tags)


def test_an_order_of_tags_keeps_what_arrived_and_what_went_meanwhile() -> None:
    mine = file(A, B, C, header=header(tags=["new", "api", "go"]))
    assert planned(mine, now_header=header(tags=["api", "urgent"])).actions == (
        SetTags(("new",), (), ("new", "api", "urgent")),
    )


def test_an_edit_of_a_cleared_message_is_a_new_message_behind_it_reported() -> None:
    now = [Held(A), Held(B, hidden=True, cleared=True), Held(C)]
    result = planned(file(A, edit(B, content="2nd"), C), now=now)
    (add,) = _adds(result)
    assert (add.id, add.after_id, add.insertion, add.message.content) == ("new-1", "b", True, "2nd")
    assert [(report.kind, report.id) for report in result.reports] == [("deleted-line-restored", "new-1")]
    assert result.ids == ("a", "new-1", "c")


def test_an_edit_of_a_cleared_message_saved_twice_is_one_message() -> None:
    mine = file(A, edit(B, content="2nd"), C)
    now = [Held(A), Held(B, hidden=True, cleared=True), Held(C)]
    first = planned(mine, now=now)
    result = planned(mine, now=applied(now, first), previous=accepted(mine, first.ids))
    assert (result.actions, result.ids) == ((), ("a", "new-1", "c"))


def test_without_base_a_line_that_an_earlier_save_had_is_not_deleted() -> None:
    previous = Accepted(None, [A, B], frozenset({"a", "b"}))
    result = planned(file(edit(A, id=None), header=None), base=None, now=held(A, B), previous=previous)
    assert (result.actions, result.ids) == ((), ("a",))


def test_an_unchanged_automatic_title_is_no_edit() -> None:
    result = planned(file(A, B, C), automatic_title=True, now_header=header(title="Another first line"))
    assert (result.actions, result.rewrite) == ((), True)


@pytest.mark.parametrize(("automatic", "actions"), [(False, (SetHeader(("title",), REMOVED),)), (True, ())])
def test_a_title_taken_away_makes_it_automatic(automatic: bool, actions: tuple[SetHeader, ...]) -> None:
    result = planned(file(A, B, C, header=header(title="")), automatic_title=automatic)
    assert (result.actions, result.rewrite) == (actions, True)


# Births and order


def test_a_changed_birth_of_the_session_is_restored_and_reported() -> None:
    mine = header(created_at="2020-01-01T00:00:00.000Z", forked_from={"session": "x"})
    result = planned(file(A, B, C, header=mine))
    assert result.actions == ()
    assert [report.field for report in result.reports] == ["created_at", "forked_from"]
    assert result.rewrite


def test_a_changed_role_is_restored_and_reported() -> None:
    result = planned(file(A, edit(B, role="system"), C))
    assert (result.actions, result.rewrite) == ((), True)
    assert result.reports == (Report("birth-restored", 3, "b", "role"),)


def test_a_removed_time_is_restored_and_reported() -> None:
    result = planned(file(A, edit(B, timestamp=None), C))
    assert (result.actions, result.rewrite) == ((), True)
    assert result.reports == (Report("birth-restored", 3, "b", "timestamp"),)


def test_another_order_of_lines_is_restored_and_reported() -> None:
    result = planned(file(A, C, B))
    assert (result.actions, result.rewrite) == ((), True)
    assert [report.kind for report in result.reports] == ["order-restored"]


# No base, unknown ids, new sessions


def test_without_base_differing_text_is_an_edit_and_nothing_is_deleted() -> None:
    mine = file(edit(A, content="1st"), header=header(title="Other", tags=["new"], metadata={"a": 1}))
    now = header(metadata={"a": 2, "b": 3}, provider="p")
    result = planned(mine, base=None, now=held(A, B, C), now_header=now)
    assert result.actions == (
        SetHeader(("title",), "Other"),
        SetTags(("new",), ()),
        SetHeader(("metadata", "a"), 1),
        EditMessage("a", {"content": "1st"}),
    )
    assert result.rewrite


def test_without_base_a_file_equal_but_for_its_rev_is_left_as_it_is() -> None:
    mine = file(A, B, C, header=header(rev="other.00000001"))
    assert planned(mine, base=None, now=held(A, B, C)) == Plan((), (), False, ("a", "b", "c"))


def test_without_base_a_deleted_message_stays_deleted() -> None:
    result = planned(file(A, B), base=None, now=held(A, B, hidden="b"))
    assert (result.actions, result.rewrite) == ((), True)


def test_a_line_with_an_unknown_id_is_added_under_it_and_reported() -> None:
    result = planned(file(A, message("z", "pasted"), B, C))
    assert result.actions == (AddMessage(1, "z", "a", True, message("z", "pasted")),)
    assert result.reports == (Report("unknown-id-added", 3, "z"),)


def test_a_file_without_header_fills_a_new_session() -> None:
    result = planned(file(NOTE, NOTE, header=None), base=None, now=[], now_header=Header())
    assert [(add.id, add.after_id, add.insertion) for add in _adds(result)] == [
        ("new-1", None, False),
        ("new-2", "new-1", False),
    ]
    assert result.reports == ()


# The same rev saved again


def _saved(*lines: Line, header: Header = HEADER) -> tuple[Accepted, list[Held]]:
    """What is kept of a first save over A, B, C, and the session after it."""
    mine = file(*lines, header=header)
    first = planned(mine)
    return accepted(mine, first.ids), applied(held(A, B, C), first)


def test_saving_twice_adds_a_new_line_once() -> None:
    previous, now = _saved(A, B, C, NOTE)
    result = planned(file(A, B, C, NOTE), now=now, previous=previous)
    assert (result.actions, result.rewrite, result.ids) == ((), True, ("a", "b", "c", "new-1"))


def test_a_new_line_edited_between_two_saves_is_an_edit() -> None:
    previous, now = _saved(A, NOTE, B, C)
    result = planned(file(A, edit(NOTE, content="my better note"), B, C), now=now, previous=previous)
    assert result.actions == (EditMessage("new-1", {"content": "my better note"}),)


def test_a_new_line_removed_between_two_saves_is_deleted() -> None:
    previous, now = _saved(A, NOTE, edit(NOTE, content="another"), B, C)
    result = planned(file(A, edit(NOTE, content="another"), B, C), now=now, previous=previous)
    assert result.actions == (DeleteMessage("new-1"),)


def test_a_second_new_line_is_added_behind_the_first() -> None:
    previous, now = _saved(A, B, C, NOTE)
    result = planned(file(A, B, C, NOTE, edit(NOTE, content="more")), now=now, previous=previous)
    assert [(add.line, add.after_id, add.insertion) for add in _adds(result)] == [(4, "new-1", False)]


def test_a_new_line_whose_neighbour_was_deleted_is_still_the_same() -> None:
    previous, now = _saved(A, B, NOTE, C)
    assert planned(file(A, NOTE, C), now=now, previous=previous).actions == (DeleteMessage("b"),)


def test_a_new_line_that_moved_is_still_the_same() -> None:
    previous, now = _saved(A, NOTE, B, C)
    result = planned(file(A, B, C, NOTE), now=now, previous=previous)
    assert result.actions == ()
    assert [report.kind for report in result.reports] == ["order-restored"]


def test_a_new_line_that_gave_its_place_to_another_is_still_the_same() -> None:
    previous, now = _saved(A, NOTE, B, C)
    result = planned(file(A, edit(NOTE, content="more"), B, NOTE, C), now=now, previous=previous)
    assert [(add.line, add.message.content) for add in _adds(result)] == [(1, "more")]
    assert len(result.actions) == 1


def test_an_edited_line_that_was_taken_out_and_comes_back_as_it_was_at_first_is_that_again() -> None:
    edited, now = _saved(A, edit(B, content="2nd"), C)
    without = file(A, C)
    second = planned(without, now=now, previous=edited)
    result = planned(file(A, B, C), now=applied(now, second), previous=accepted(without, second.ids, previous=edited))
    assert result.actions == (Restore("b"), EditMessage("b", {"content": "second"}))


def test_an_edit_undone_between_two_saves_is_undone() -> None:
    previous, now = _saved(A, edit(B, content="2nd"), C, header=header(title="Other", metadata={"a": 1}))
    result = planned(file(A, B, C), now=now, now_header=header(title="Other", metadata={"a": 1}), previous=previous)
    assert result.actions == (
        SetHeader(("title",), "REST API"),
        SetHeader(("metadata", "a"), REMOVED),
        EditMessage("b", {"content": "second"}),
    )


def test_a_deletion_undone_between_two_saves_is_undone() -> None:
    previous, now = _saved(A, C)
    assert planned(file(A, B, C), now=now, previous=previous).actions == (Restore("b"),)


def test_a_line_edited_in_one_save_can_be_deleted_in_the_next() -> None:
    previous, _ = _saved(A, edit(B, content="2nd"), C)
    now = held(A, edit(B, content="2nd"), C, changed="b")
    assert planned(file(A, C), now=now, previous=previous).actions == (DeleteMessage("b"),)


def test_an_automatic_title_put_back_between_two_saves_is_automatic_again() -> None:
    previous = Accepted(header(title="Other"), [A, B, C], frozenset())
    result = planned(file(A, B, C), now_header=header(title="Other"), previous=previous, automatic_title=True)
    assert result.actions == (SetHeader(("title",), REMOVED),)


# The laws


def _adds(result: Plan) -> list[AddMessage]:
    return [action for action in result.actions if isinstance(action, AddMessage)]


def applied(now: list[Held], result: Plan) -> list[Held]:
    """The messages after a plan, by the rules of the store: each was appended behind the one before."""
    after = [None, *(held.line.id for held in now)]
    places = [Place(held.line.id or "", above, False, (n, "")) for n, (held, above) in enumerate(zip(now, after))]  # noqa: B905
    lines = {held.line.id or "": held for held in now}
    for action in result.actions:
        match action:
            case EditMessage(id=id_):
                lines[id_] = Held(edit(lines[id_].line, **action.fields), lines[id_].hidden)
            case AddMessage(id=id_):
                lines[id_] = Held(action.message)
                places.append(Place(id_, action.after_id, action.insertion, (len(places), "")))
            case DeleteMessage(id=id_):
                lines[id_] = Held(lines[id_].line, hidden=True)
            case Restore(id=id_):
                lines[id_] = Held(lines[id_].line)
            case _:
                pass
    return [lines[id_] for id_ in walk(places)[0]]


def applied_header(now: Header, result: Plan) -> Header:
    fields = msgspec.to_builtins(now)
    for action in result.actions:
        if isinstance(action, SetTags):
            tags = [tag for tag in (*fields["tags"], *action.added) if tag not in action.removed]
            fields["tags"] = list(action.order or tags)
        elif isinstance(action, SetHeader):
            *above, last = action.path
            node = fields
            for key in above:
                if not isinstance(node.get(key), dict):
                    node[key] = {}
                node = node[key]
            if action.value == REMOVED:
                node.pop(last, None)
            else:
                node[last] = action.value
    return msgspec.convert(fields, Header)


def shown(messages: Sequence[Held]) -> list[tuple[Any, ...]]:
    return [_said(held.line) for held in messages if not held.hidden]


def _said(line: Line) -> tuple[Any, ...]:
    return (line.role, line.sender, line.content, line.model, msgspec.json.encode(line.metadata, order="sorted"))


_words = st.sampled_from(["one", "two", "three", "four"])
_documents = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2),
    lambda inner: st.dictionaries(st.sampled_from("xyz"), inner, min_size=1, max_size=3),
    max_leaves=5,
)
_metadata = st.dictionaries(st.sampled_from("xyz"), _documents, max_size=3)
_new = st.builds(Line, role=st.just("user"), content=_words, sender=st.none() | _words, metadata=_metadata)
_bases = st.lists(_new, max_size=6).map(
    lambda lines: [edit(line, id=f"m{place}", timestamp=BORN) for place, line in enumerate(lines)]
)
_headers = st.builds(
    Header,
    id=st.just("k3v9"),
    title=_words,
    status=st.sampled_from(["active", "paused"]),
    tags=st.lists(_words, unique=True),
    model=st.none() | _words,
    metadata=_metadata,
    state=_metadata,
    created_at=st.just(BORN),
)


@st.composite
def _edited(draw: st.DrawFn, base: Sequence[Line]) -> list[Line]:
    """Lines as a person may leave them: some changed, some gone, some new."""
    lines: list[Line] = draw(st.lists(_new, max_size=2))
    for line in base:
        fate = draw(st.sampled_from(["stays", "stays", "goes", "changes"]))
        if fate == "stays":
            lines.append(line)
        elif fate == "changes":
            lines.append(edit(line, content=draw(_words), metadata=draw(_metadata)))
        lines += draw(st.lists(_new, max_size=2))
    return lines


@given(_bases, _headers)
def test_a_file_equal_to_its_base_is_an_empty_plan(base: list[Line], head: Header) -> None:
    result = planned(file(*base, header=head), base=base, base_header=head)
    assert result == Plan((), (), False, tuple(line.id or "" for line in base))


@given(st.data(), _bases, _headers, _headers)
def test_a_plan_applied_to_the_base_gives_what_the_file_says(
    data: st.DataObject, base: list[Line], head: Header, mine_head: Header
) -> None:
    lines = data.draw(_edited(base))
    result = planned(file(*lines, header=mine_head), base=base, base_header=head)
    after = applied(held(*base), result)
    assert shown(after) == [_said(line) for line in lines]
    after_head = applied_header(head, result)
    assert msgspec.json.encode(after_head, order="sorted") == msgspec.json.encode(mine_head, order="sorted")
    assert result.reports == ()
    assert result.rewrite == any(line.id is None for line in lines)


@given(st.data(), _bases)
def test_the_same_bytes_again_change_nothing(data: st.DataObject, base: list[Line]) -> None:
    mine = file(*data.draw(_edited(base)))
    first = planned(mine, base=base)
    after = applied(held(*base), first)
    again = planned(mine, base=base, now=after, previous=accepted(mine, first.ids))
    assert (again.actions, again.reports, again.ids) == ((), (), first.ids)


@given(st.data(), _bases)
def test_a_second_save_without_reload_gives_what_the_file_says(data: st.DataObject, base: list[Line]) -> None:
    mine = file(*data.draw(_edited(base)))
    first = planned(mine, base=base)
    after = applied(held(*base), first)
    second = file(*data.draw(_edited(mine.lines), label="second"))
    result = plan(
        second,
        current=Current(HEADER, after),
        base=Base(HEADER, base),
        previous=accepted(mine, first.ids),
        new_id=map("late-{}".format, itertools.count()).__next__,
    )
    said = [_said(line) for line in second.lines]
    given = shown(applied(after, result))
    assert Counter(given) == Counter(said)
    assert given == said or result.reports


@given(st.data(), _bases, _bases)
def test_nothing_that_arrived_meanwhile_is_touched(data: st.DataObject, base: list[Line], arrived: list[Line]) -> None:
    theirs = held(*base, *(edit(line, id=f"their-{line.id}") for line in arrived))
    result = planned(file(*data.draw(_edited(base))), base=base, now=theirs)
    touched = {action.id for action in result.actions if isinstance(action, EditMessage | DeleteMessage | Restore)}
    assert not {id_ for id_ in touched if id_.startswith("their-")}
    assert result.rewrite >= bool(arrived)
