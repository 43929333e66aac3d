from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steno.storage.transcripts import Reading, Transcript, read_transcripts

HELLO = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}
SHARED = {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]}


def reading(*records: Any) -> Reading:
    return read_transcripts("\n".join(json.dumps(one) for one in records).encode(), name="set.jsonl", default_ms=5)


def only(record: Any) -> Transcript:
    (transcript,) = reading(record).transcripts
    return transcript


def spoken(transcript: Transcript) -> list[tuple[str, Any]]:
    return [(message.role, message.content) for message in transcript.messages]


def test_each_line_is_a_session() -> None:
    found = reading(HELLO, {"messages": [{"role": "user", "content": "Bye"}]})
    assert [spoken(one) for one in found.transcripts] == [[("user", "Hello"), ("assistant", "Hi")], [("user", "Bye")]]
    assert found.transcripts[0].created_ms == 5


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=12))
def test_equal_records_all_stay_and_reading_again_names_them_the_same(texts: list[str]) -> None:
    records = [{"messages": [{"role": "user", "content": text}]} for text in texts]
    ids = [one.id for one in reading(*records).transcripts]
    assert len(set(ids)) == len(texts)
    assert ids == [one.id for one in reading(*records).transcripts]


def test_records_that_differ_in_anything_are_different_sessions() -> None:
    first, second = reading(HELLO, HELLO | {"label": True}).transcripts
    assert first.id.split("-")[0] != second.id.split("-")[0]


def test_the_order_of_keys_makes_no_difference() -> None:
    turned = {"messages": [{"content": "Hello", "role": "user"}, {"content": "Hi", "role": "assistant"}]}
    assert only(HELLO).id == only(turned).id


def test_tool_calls_and_their_answers_are_blocks() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    made = only(
        {
            "messages": [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "21"},
            ]
        }
    )
    assert spoken(made) == [
        ("assistant", [{"type": "tool_use", "name": "weather", "id": "c1", "input": {"city": "Paris"}}]),
        ("tool", [{"type": "tool_result", "content": "21", "tool_use_id": "c1"}]),
    ]


def test_what_has_no_place_of_its_own_is_metadata() -> None:
    message = {"role": "user", "content": "Hi", "name": "ada", "weight": 0}
    made = only({"messages": [message], "tools": [{"type": "function"}], "parallel_tool_calls": False})
    assert made.metadata == {"tools": [{"type": "function"}], "parallel_tool_calls": False}
    assert (made.messages[0].sender, made.messages[0].metadata) == ("ada", {"weight": 0})


def test_images_and_text_stay_blocks() -> None:
    blocks = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,x"}}]
    assert spoken(only({"messages": [{"role": "user", "content": blocks}]})) == [("user", blocks)]


def test_both_answers_of_a_preference_are_kept_and_marked() -> None:
    made = only(
        {
            "input": {"messages": [{"role": "user", "content": "Hello"}]},
            "preferred_output": [{"role": "assistant", "content": "Hi"}],
            "non_preferred_output": [{"role": "assistant", "content": "No"}],
        }
    )
    assert [message.metadata for message in made.messages] == [
        {}, {"preference": "preferred"}, {"preference": "non_preferred"},
    ]  # fmt: skip


def test_a_batch_request_and_its_response_are_sessions() -> None:
    body = {"model": "gpt-4o", "messages": HELLO["messages"]}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}}
    answer = {"model": "gpt-4o", "choices": [choice], "usage": {"completion_tokens": 2}, "created": 1_772_359_200}
    asked, answered = reading(
        {"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": body},
        {"custom_id": "r1", "response": {"status_code": 200, "body": answer}},
    ).transcripts
    assert (asked.model, len(asked.messages), asked.metadata) == ("gpt-4o", 2, {"custom_id": "r1"})
    assert answered.messages[0].usage == {"completion_tokens": 2}
    assert answered.messages[0].timestamp == "2026-03-01T10:00:00.000Z"


def test_a_line_that_holds_no_conversation_is_a_fault_with_a_reason() -> None:
    found = reading(
        HELLO, {"custom_id": "r1", "response": {"body": {"error": "no"}}}, {"messages": [{"content": "x"}]}, HELLO
    )
    assert len(found.transcripts) == 2
    assert [fault.line for fault in found.faults] == [2, 3]


def test_shared_conversations_speak_with_our_roles() -> None:
    made = only({"system": "Be brief"} | SHARED)
    assert spoken(made) == [("system", "Be brief"), ("user", "Hello"), ("assistant", "Hi")]
    assert made.source["tool"] == "sharegpt"


def test_shared_ids_name_nothing_since_every_set_counts_from_zero() -> None:
    first, second = reading(
        SHARED | {"id": "identity_0"}, {"id": "identity_0", "items": [{"from": "user", "value": "Bye"}]}
    ).transcripts
    assert first.id != second.id
    assert first.metadata == {"native_id": "identity_0"}


def test_function_calls_of_shared_conversations_are_joined_with_what_was_observed() -> None:
    made = only(
        {
            "conversations": [
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Paris"}}'},
                {"from": "observation", "value": "21"},
                {"from": "function_call", "value": "no json"},
            ],
            "tools": '[{"name": "weather"}]',
        }
    )
    assert spoken(made) == [
        ("assistant", [{"type": "tool_use", "name": "weather", "id": "call-1", "input": {"city": "Paris"}}]),
        ("tool", [{"type": "tool_result", "content": "21", "tool_use_id": "call-1"}]),
        ("assistant", "no json"),
    ]
    assert made.metadata == {"tools": [{"name": "weather"}]}
