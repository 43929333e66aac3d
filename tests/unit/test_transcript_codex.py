from __future__ import annotations

import json
from typing import Any

import zstandard

from steno.storage.model import automatic_title
from steno.storage.transcripts import Reading, Transcript, read_transcripts

THREAD = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001"
PARENT = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000"
META = {
    "id": THREAD,
    "cwd": "/home/dev/shop",
    "cli_version": "0.60.0",
    "originator": "codex_cli_rs",
    "git": {"branch": "main"},
}


def record(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"timestamp": "2026-03-01T10:00:00.000Z", "type": kind, "payload": payload}


def meta(**fields: Any) -> dict[str, Any]:
    return record("session_meta", META | fields)


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return record("response_item", {"type": kind, **fields})


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return record("event_msg", {"type": kind, **fields})


def seen(role: str, text: str) -> dict[str, Any]:
    part = "output_text" if role == "assistant" else "input_text"
    return item("message", role=role, content=[{"type": part, "text": text}])


def tokens(total: int, last: int) -> dict[str, Any]:
    info = {"total_token_usage": {"output_tokens": total}, "last_token_usage": {"output_tokens": last}}
    return event("token_count", info=info, rate_limits={"primary": {"used_percent": 3.0}})


def written(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


def reading(*records: dict[str, Any], name: str = f"rollout-2026-03-01T10-00-00-{THREAD}.jsonl") -> Reading:
    return read_transcripts(written(*records), name=name)


def only(*records: dict[str, Any]) -> Transcript:
    (transcript,) = reading(*records).transcripts
    return transcript


def spoken(transcript: Transcript) -> list[tuple[str, Any]]:
    return [(message.role, message.content) for message in transcript.messages]


TURN = (
    meta(model_provider="openai"),
    record("turn_context", {"turn_id": "t1", "model": "gpt-5-codex"}),
    seen("user", "<environment_context>\n<cwd>/home/dev/shop</cwd>\n</environment_context>"),
    seen("user", "Mend the cart"),
    event("user_message", message="Mend the cart"),
    event("agent_reasoning", text="**Looking**"),
    tokens(10, 10),
    item("reasoning", summary=[{"type": "summary_text", "text": "**Looking**"}], encrypted_content="opaque"),
    item("function_call", name="shell", arguments='{"command":["ls"]}', call_id="c1"),
    item("function_call_output", call_id="c1", output='{"output":"cart.py\\n","metadata":{"exit_code":0}}'),
    event("agent_message", message="Done."),
    tokens(25, 15),
    seen("assistant", "Done."),
)


def test_each_turn_is_there_once_with_its_reasoning_and_tools() -> None:
    assert spoken(only(*TURN)) == [
        ("system", "<environment_context>\n<cwd>/home/dev/shop</cwd>\n</environment_context>"),
        ("user", "Mend the cart"),
        ("assistant", [{"type": "thinking", "thinking": "**Looking**"}]),
        ("assistant", [{"type": "tool_use", "name": "shell", "id": "c1", "input": {"command": ["ls"]}}]),
        ("tool", [{"type": "tool_result", "content": "cart.py\n", "tool_use_id": "c1"}]),
        ("assistant", "Done."),
    ]


def test_the_session_tells_where_it_was_held_and_by_what() -> None:
    made = only(*TURN)
    assert (made.id, made.source) == (THREAD, {"tool": "codex", "id": THREAD})
    assert (made.provider, made.model) == ("openai", "gpt-5-codex")
    assert made.metadata == {
        "cwd": "/home/dev/shop", "project": "shop", "git_branch": "main", "tool_version": "0.60.0",
        "originator": "codex_cli_rs",
    }  # fmt: skip


def test_the_tokens_of_each_call_stand_once_on_one_of_its_messages() -> None:
    made = only(*TURN, tokens(25, 15))
    assert [(message.usage or {}).get("output_tokens") for message in made.messages] == [None, None, 10, None, None, 15]


def test_tokens_of_calls_that_left_no_message_go_to_the_next_one_of_the_assistant() -> None:
    made = only(
        meta(), event("user_message", message="Hello"), tokens(4, 4), tokens(9, 5), event("agent_message", message="Hi")
    )
    assert made.messages[1].usage == {"output_tokens": 9}


def test_limits_of_the_account_are_nowhere() -> None:
    assert "rate_limits" not in repr(only(*TURN))


def test_the_exit_code_of_an_early_tool_result_is_kept_apart() -> None:
    assert only(*TURN).messages[4].metadata == {"result": {"exit_code": 0}}


def test_without_prompts_among_the_events_the_response_items_speak() -> None:
    made = only(
        meta(), seen("user", "Mend the cart"), seen("assistant", "Done."), event("agent_message", message="Done.")
    )
    assert spoken(made) == [("user", "Mend the cart"), ("assistant", "Done.")]


def test_a_text_that_only_the_other_side_has_is_not_lost() -> None:
    made = only(
        meta(),
        event("user_message", message="One"),
        seen("user", "One"),
        seen("user", "Two"),
        seen("assistant", "Said"),
    )
    assert spoken(made) == [("user", "One"), ("user", "Two"), ("assistant", "Said")]


def test_a_prompt_that_the_model_saw_behind_context_is_there_once() -> None:
    made = only(
        meta(), event("user_message", message="Please mend the cart"), seen("user", "About a.py:\nPlease mend the cart")
    )
    assert spoken(made) == [("user", "Please mend the cart")]


def test_the_request_behind_an_editors_context_is_the_title() -> None:
    prompt = "# Context from my IDE setup:\n\n## Open tabs:\n- a.py\n\n## My request for Codex:\nMend the cart\n"
    made = only(meta(), seen("user", prompt), event("user_message", message=prompt))
    assert [automatic_title(message.content) for message in made.messages] == ["Mend the cart"]


def test_instructions_are_no_prompts() -> None:
    made = only(
        meta(),
        seen("user", "# AGENTS.md instructions for /src"),
        seen("developer", "Be brief"),
        event("user_message", message="Hi"),
    )
    assert [message.role for message in made.messages] == ["system", "developer", "user"]


def test_encrypted_reasoning_alone_is_left_out_and_counted() -> None:
    found = reading(
        meta(), item("reasoning", summary=[], encrypted_content="opaque"), event("user_message", message="Hi")
    )
    assert len(found.transcripts[0].messages) == 1
    assert found.left_out["response_item/reasoning, encrypted"] == 1


def test_arguments_that_are_no_object_are_kept_as_text() -> None:
    made = only(
        meta(),
        item("custom_tool_call", name="apply_patch", input="*** Begin Patch", call_id="c1"),
        item("function_call", name="shell", arguments="{broken", call_id="c2"),
        item("local_shell_call", action={"command": ["ls"]}, call_id="c3"),
    )
    assert [message.content[0]["input"] for message in made.messages if isinstance(message.content, list)] == [
        {"arguments": "*** Begin Patch"}, {"arguments": "{broken"}, {"command": ["ls"]},
    ]  # fmt: skip


def test_an_item_of_an_unknown_kind_is_kept_as_given() -> None:
    given = {"type": "hologram_call", "id": "h1", "shape": "cube"}
    made = only(meta(), record("response_item", given))
    assert [(message.id, message.content) for message in made.messages] == [("h1", [given])]


def test_a_fork_is_named_by_its_own_first_record_and_keeps_what_it_replays() -> None:
    made = only(
        meta(forked_from_id=PARENT),
        meta(id=PARENT),
        event("user_message", message="Old"),
        event("user_message", message="New"),
    )
    assert made.id == THREAD
    assert made.metadata["forked_from"] == PARENT
    assert made.metadata["replays_parent"] is True
    assert [message.content for message in made.messages] == ["Old", "New"]


def test_replayed_messages_carry_the_ids_of_the_originals() -> None:
    old = event("user_message", message="Old")
    again = old | {"timestamp": "2026-03-02T10:00:00.000Z"}
    parent, child = only(meta(id=PARENT), old), only(meta(forked_from_id=PARENT), meta(id=PARENT), again)
    assert parent.messages[0].id == child.messages[0].id


def test_a_subagent_names_its_parent() -> None:
    spawn = {"subagent": {"thread_spawn": {"parent_thread_id": PARENT, "agent_nickname": "Ada"}}}
    made = only(meta(source=spawn), event("user_message", message="Search"))
    assert (made.metadata["parent_session"], made.metadata["agent_id"]) == (PARENT, "Ada")


def test_turns_that_were_taken_back_stay_and_say_so() -> None:
    made = only(
        meta(),
        event("user_message", message="One"),
        event("agent_message", message="1"),
        event("user_message", message="Two"),
        event("agent_message", message="2"),
        event("thread_rolled_back", num_turns=1),
        event("user_message", message="Three"),
    )
    assert [message.metadata.get("rolled_back") for message in made.messages] == [None, None, True, True, None]


def test_equal_prompts_all_stay() -> None:
    made = only(meta(), event("user_message", message="go on"), event("user_message", message="go on"))
    assert len({message.id for message in made.messages}) == 2


def test_a_rollout_of_the_time_before_the_envelope_is_read() -> None:
    found = reading(
        {"id": THREAD, "timestamp": "2025-05-01T10:00:00.000Z", "instructions": None, "git": {"branch": "main"}},
        {"record_type": "state"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
        {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]},
    )
    assert found.format == "codex"
    assert found.transcripts[0].id == THREAD
    assert [message.role for message in found.transcripts[0].messages] == ["user", "assistant", "tool", "assistant"]


def test_a_compressed_rollout_is_the_same_session() -> None:
    data = written(*TURN)
    packed = read_transcripts(zstandard.compress(data), name=f"rollout-x-{THREAD}.jsonl.zst")
    assert packed.transcripts == read_transcripts(data, name=f"rollout-x-{THREAD}.jsonl").transcripts


def test_a_rollout_without_header_is_named_by_its_file() -> None:
    found = reading(event("user_message", message="Hi"))
    assert found.transcripts[0].id == THREAD


def test_a_rollout_without_messages_is_no_session() -> None:
    found = reading(meta(), tokens(3, 3))
    assert found.transcripts == []
    assert found.left_out == {"session_meta": 1, "event_msg/token_count": 1}


def test_a_thread_name_is_the_title() -> None:
    made = only(meta(), event("user_message", message="Hi"), event("thread_name_updated", thread_name="Cart  work"))
    assert made.title == "Cart work"
