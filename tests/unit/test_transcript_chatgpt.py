"""ChatGPT's conversations: the path that was seen last, a fork for each other branch, and nothing lost between."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.storage.importing import take_in
from steno.storage.lineage import lineage
from steno.storage.store import Store
from steno.storage.transcripts import Reading, read_transcripts

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "chatgpt"


def node(name: str, parent: str | None, *, role: str = "user", content: Any = None, **message: Any) -> dict[str, Any]:
    given = {"content_type": "text", "parts": [name]} if content is None else content
    said = {"id": name, "author": {"role": role}, "content": given, **message}
    return {"id": name, "parent": parent, "children": [], "message": said}


def conversation(*nodes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    root = {"id": "root", "parent": None, "children": [], "message": None}
    made = {
        "id": "c",
        "title": "T",
        "create_time": 1_700_000_000.5,
        "mapping": {each["id"]: each for each in [root, *nodes]},
    }
    return {**made, **fields}


def read(*records: dict[str, Any]) -> Reading:
    return read_transcripts(json.dumps(records).encode(), name="conversations.json")


def only(content: Any, **message: Any) -> Any:
    [found] = read(conversation(node("a", "root", content=content, **message))).transcripts
    return found.messages[0]


def said(reading: Reading) -> dict[str, list[str | None]]:
    return {each.id: [message.id for message in each.messages] for each in reading.transcripts}


def test_a_straight_conversation_is_one_session() -> None:
    nodes = [
        node("a", "root", create_time=1_700_000_001.25),
        node("b", "a", role="assistant", metadata={"model_slug": "gpt"}),
    ]
    reading = read(conversation(*nodes, default_model_slug="gpt", current_node="b", is_archived=True))
    [found] = reading.transcripts
    assert reading.format == "chatgpt"
    assert (found.id, found.title, found.created_ms, found.provider, found.model) == (
        "c", "T", 1_700_000_000_500, "openai", "gpt",
    )  # fmt: skip
    assert [(each.role, each.content, each.model) for each in found.messages] == [
        ("user", "a", None),
        ("assistant", "b", "gpt"),
    ]
    assert found.messages[0].timestamp == "2023-11-14T22:13:21.250Z"
    assert (found.source, found.metadata) == ({"tool": "chatgpt", "id": "c"}, {"chatgpt": {"is_archived": True}})


def test_the_branches_beside_the_path_that_was_seen_last_are_forks() -> None:
    nodes = [node("a", "root"), node("b", "a"), node("c", "b"), node("d", "c"), node("e", "c"), node("f", "b")]
    reading = read(conversation(*nodes, current_node="d"))
    assert said(reading) == {"c": ["a", "b", "c", "d"], "c~f": ["a", "b", "f"], "c~e": ["a", "b", "c", "e"]}
    forks = {each.id: each for each in reading.transcripts}
    assert forks["c~e"].forked_from == {"session": "c", "message": "c"}
    assert [each.origin for each in forks["c~e"].messages] == [
        *({"session": "c", "message": name} for name in "abc"),
        None,
    ]


def test_a_branch_of_a_branch_is_a_fork_of_that_fork(tmp_path: Path) -> None:
    nodes = [node("a", "root"), node("b", "a"), node("x", "a"), node("y", "x"), node("z", "x")]
    reading = read(conversation(*nodes, current_node="b"))
    assert said(reading) == {"c": ["a", "b"], "c~x": ["a", "x", "z"], "c~y": ["a", "x", "y"]}
    with Store(tmp_path / "steno.db") as store:
        for each in reading.transcripts:
            take_in(store, each)
        row = store.find("c~y")
        assert row is not None
        assert lineage(store, row) == ["c~x", "c"]


def test_without_a_last_place_the_youngest_children_are_the_path() -> None:
    nodes = [node("a", "root"), node("b", "a"), node("c", "a")]
    assert said(read(conversation(*nodes, current_node="gone")))["c"] == ["a", "c"]


def test_reading_again_gives_the_same() -> None:
    records = [conversation(node("a", "root"), node("b", "a"), node("x", "a"), current_node="b")]
    assert read(*records) == read(*records)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            {"content_type": "text", "parts": ["one", "two"]},
            [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}],
        ),
        (
            {"content_type": "multimodal_text", "parts": ["look", {"content_type": "image_asset_pointer", "width": 7}]},
            [{"type": "text", "text": "look"}, {"type": "image_asset_pointer", "width": 7}],
        ),
        ({"content_type": "execution_output", "text": "4"}, [{"type": "tool_result", "content": "4"}]),
        (
            {"content_type": "thoughts", "thoughts": [{"summary": "S", "content": "C"}]},
            [{"type": "thinking", "thinking": "S\n\nC"}],
        ),
        ({"content_type": "sonic_webpage", "url": "u"}, [{"type": "sonic_webpage", "url": "u"}]),
        ({"content_type": "code", "language": "py", "text": "1"}, [{"type": "code", "language": "py", "text": "1"}]),
    ],
)  # fmt: skip
def test_every_kind_of_content_is_kept(content: dict[str, Any], found: Any) -> None:
    assert only(content).content == found


def test_what_an_assistant_sends_to_a_tool_is_a_call() -> None:
    found = only({"content_type": "code", "language": "json", "text": '{"q": 1}'}, recipient="browser")
    assert found.content == [{"type": "tool_use", "name": "browser", "input": {"q": 1}}]


def test_attachments_stay_named() -> None:
    attached = [{"id": "file-1", "name": "a.pdf"}]
    assert only(None, metadata={"attachments": attached}).metadata == {"attachments": attached}


def test_what_its_user_never_saw_is_left_out_and_counted() -> None:
    hidden = node("h", "root", role="system", metadata={"is_visually_hidden_from_conversation": True})
    empty = node("e", "h", role="system", content={"content_type": "text", "parts": [""]})
    reading = read(conversation(hidden, empty, node("a", "e"), current_node="a"))
    assert said(reading) == {"c": ["a"]}
    assert reading.left_out == {"hidden message": 1, "empty message": 1}


def test_a_conversation_that_cannot_be_read_is_told_and_the_others_come() -> None:
    reading = read(conversation(node("a", "root")), {"mapping": None}, conversation(node("a", "root"), id="d"))
    assert ([each.id for each in reading.transcripts], [fault.line for fault in reading.faults]) == (["c", "d"], [2])


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=10), st.integers(0, 9))
def test_whatever_the_tree_no_message_is_lost_and_none_is_its_own_twice(
    edges: list[tuple[int, bool]], leaf: int
) -> None:
    """Parents may be missing, later, or in a circle."""
    nodes = [node(f"n{at}", f"n{parent}" if known else None) for at, (parent, known) in enumerate(edges)]
    found = read(conversation(*nodes, current_node=f"n{leaf}"))
    own = Counter(message.id for each in found.transcripts for message in each.messages if message.origin is None)
    assert set(own.values()) <= {1}
    assert set(own) == {each["id"] for each in nodes}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not here")
@pytest.mark.parametrize("path", sorted(SAMPLES.rglob("*.json")), ids=str)
def test_samples_come_in_without_a_fault_and_once(path: Path, tmp_path: Path) -> None:
    reading = read_transcripts(path, name=str(path))
    assert (reading.format, reading.faults) == ("chatgpt", [])
    with Store(tmp_path / "steno.db") as store:
        for each in reading.transcripts:
            take_in(store, each)
        assert sum(take_in(store, each).added for each in reading.transcripts) == 0
