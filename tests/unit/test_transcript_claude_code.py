from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steno.storage.model import NewMessage, automatic_title
from steno.storage.transcripts import Reading, Transcript, read_transcripts

SESSION = "11111111-2222-4333-8444-555555555555"
OTHER = "99999999-2222-4333-8444-555555555555"


def record(kind: str, uuid: str | None, **fields: Any) -> dict[str, Any]:
    made = {"type": kind, "sessionId": SESSION, "cwd": "/home/dev/shop", "gitBranch": "main", "version": "2.1.0"}
    made["timestamp"] = "2026-03-01T10:00:00.000Z"
    return made | ({} if uuid is None else {"uuid": uuid}) | fields


def user(uuid: str | None, content: Any, **fields: Any) -> dict[str, Any]:
    return record("user", uuid, message={"role": "user", "content": content}, **fields)


def assistant(uuid: str, *blocks: dict[str, Any], api: str = "msg_1", output: int = 1, **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": output}
    message = {"role": "assistant", "id": api, "model": "claude-sonnet-4-5", "content": list(blocks), "usage": usage}
    return record("assistant", uuid, message=message, requestId=f"req_{api}", **fields)


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def written(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in records)


def reading(*records: dict[str, Any], name: str = f"{SESSION}.jsonl") -> Reading:
    return read_transcripts(written(*records), name=name)


def only(*records: dict[str, Any], name: str = f"{SESSION}.jsonl") -> Transcript:
    (transcript,) = reading(*records, name=name).transcripts
    return transcript


def roles(transcript: Transcript) -> list[tuple[str | None, str]]:
    return [(message.id, message.role) for message in transcript.messages]


def title_of(messages: list[NewMessage]) -> str:
    return automatic_title(next(message.content for message in messages if message.role == "user"))


def test_each_record_is_one_message_under_its_own_id_behind_the_one_before() -> None:
    made = only(
        user("u1", "Mend the cart"),
        assistant("a1", {"type": "thinking", "thinking": "hm", "signature": "c2ln"}),
        assistant("a2", {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}),
        user(
            "u2",
            [{"type": "tool_result", "tool_use_id": "t1", "content": "cart.py"}],
            toolUseResult={"stdout": "cart.py"},
        ),
        assistant("a3", said("Done."), api="msg_2"),
    )
    assert roles(made) == [
        ("u1", "user"),
        ("a1", "assistant"),
        ("a2", "assistant"),
        ("u2", "tool"),
        ("a3", "assistant"),
    ]
    assert [message.after for message in made.messages] == [None, "u1", "a1", "a2", "u2"]


def test_the_session_tells_where_it_was_held_and_by_what() -> None:
    made = only(user("u1", "Mend the cart"), assistant("a1", said("Done.")))
    assert made.id == SESSION
    assert made.source == {"tool": "claude-code", "id": SESSION}
    assert (made.provider, made.model, made.title) == ("anthropic", "claude-sonnet-4-5", None)
    assert made.metadata == {
        "cwd": "/home/dev/shop", "project": "shop", "git_branch": "main", "tool_version": "2.1.0",
    }  # fmt: skip
    assert made.created_ms == 1_772_359_200_000


def test_a_lone_text_block_is_its_text_and_other_blocks_stay_as_given() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    made = only(assistant("a1", said("Done.")), assistant("a2", thinking, said("Yes.")))
    assert [message.content for message in made.messages] == ["Done.", [thinking, said("Yes.")]]


def test_the_greatest_usage_of_an_api_message_stands_once_on_its_first_record() -> None:
    made = only(
        assistant("a1", said("one"), output=2),
        assistant("a2", said("two"), output=90),
        assistant("a3", said("three"), output=90),
        assistant("b1", said("four"), api="msg_2", output=7),
    )
    counts = [message.usage and message.usage["output_tokens"] for message in made.messages]
    assert counts == [90, None, None, 7]


def test_records_of_one_api_message_can_be_grouped() -> None:
    made = only(assistant("a1", said("one")), assistant("a2", said("two")), assistant("b1", said("three"), api="msg_2"))
    assert [message.metadata["api_message"] for message in made.messages] == ["msg_1", "msg_1", "msg_2"]


def test_records_without_a_message_are_counted_and_left_out() -> None:
    found = reading(
        {"type": "file-history-snapshot", "messageId": "u1", "snapshot": {}},
        record("progress", "p1", data={"type": "bash_progress"}),
        record("progress", "p2", data={"type": "bash_progress"}),
        user("u1", "Hello"),
        record("system", "s1", subtype="turn_duration", durationMs=3),
        record("attachment", "x1", attachment={"type": "todo_reminder"}),
        record("brand-new-record", "n1"),
    )
    assert [message.id for message in found.transcripts[0].messages] == ["u1"]
    assert found.left_out == {
        "file-history-snapshot": 1,
        "progress": 2,
        "system/turn_duration": 1,
        "attachment/todo_reminder": 1,
        "brand-new-record": 1,
    }
    assert found.faults == []


def test_the_first_human_prompt_is_the_title_whatever_was_injected_before() -> None:
    made = only(
        user("u1", "Caveat: The messages below were generated by the user while running local commands. DO NOT"),
        user("u2", "<command-name>/clear</command-name>\n<command-args></command-args>"),
        user("u3", "<local-command-stdout></local-command-stdout>"),
        user("u4", "Base directory for this skill: /x", isMeta=True),
        user("u5", "This session is being continued from before. Summary: all", isCompactSummary=True),
        user("u6", "<ide_opened_file>a.py</ide_opened_file>Mend the cart"),
    )
    assert title_of(made.messages) == "Mend the cart"
    assert [message.metadata.get("injected") for message in made.messages] == [
        "local-command-caveat", "command-name", "local-command-stdout", "meta", "compact-summary", None,
    ]  # fmt: skip


def test_a_compaction_is_a_system_message_that_says_so() -> None:
    boundary = record(
        "system", "s1", subtype="compact_boundary", content="Conversation compacted",
        compactMetadata={"trigger": "auto", "preTokens": 155000},
    )  # fmt: skip
    made = only(user("u1", "Go on"), boundary)
    assert made.messages[1].role == "system"
    assert made.messages[1].metadata == {"kind": "compact_boundary", "trigger": "auto", "pre_tokens": 155000}


def test_the_last_name_given_by_hand_beats_the_tools_own_title_and_the_summary() -> None:
    records = [
        {"type": "summary", "summary": "By summary", "leafUuid": "u1"},
        user("u1", "Hello"),
        record("ai-title", None, aiTitle="By the tool"),
        record("custom-title", None, customTitle="First name"),
        record("custom-title", None, customTitle="Second name"),
    ]
    assert only(*records).title == "Second name"
    assert only(*records[:3]).title == "By the tool"
    assert only(*records[:2]).title == "By summary"


def test_a_summary_of_another_session_names_nothing_here() -> None:
    assert (
        only({"type": "summary", "summary": "Of another", "leafUuid": "elsewhere"}, user("u1", "Hello")).title is None
    )


def test_a_rename_command_names_the_session() -> None:
    command = "<command-name>/rename</command-name>\n<command-args>Cart work</command-args>"
    assert (
        only(user("u1", "Hello"), record("system", "s1", subtype="local_command", content=command)).title == "Cart work"
    )
    assert only(user("u1", "Hello"), user("u2", command)).title == "Cart work"


def test_a_prompt_that_was_only_queued_is_a_message() -> None:
    queued = record("attachment", None, attachment={"type": "queued_command", "prompt": "Also the README"})
    enqueued = record("queue-operation", None, operation="enqueue", content="And the tests")
    made = only(user("u1", "Hello"), queued, enqueued)
    assert [message.content for message in made.messages] == ["Hello", "Also the README", "And the tests"]
    assert [message.role for message in made.messages] == ["user"] * 3


def test_a_queued_prompt_that_was_recorded_later_is_there_once() -> None:
    enqueued = record("queue-operation", None, operation="enqueue", content="go on")
    made = only(
        user("u1", "go on"), enqueued, record("queue-operation", None, operation="dequeue"), user("u2", "go on")
    )
    assert [message.id for message in made.messages] == ["u1", "u2"]


def test_news_of_a_background_task_is_no_prompt() -> None:
    news = "<task-notification><task-id>1</task-id></task-notification>"
    made = only(
        user("u1", "Hello"),
        record("attachment", None, attachment={"type": "queued_command", "prompt": news}),
        user("u2", "done", origin={"kind": "task-notification"}),
    )
    assert [message.role for message in made.messages] == ["user", "system", "system"]


def test_equal_records_without_an_id_all_stay_and_keep_their_ids() -> None:
    records = [user(None, "again"), user(None, "again"), user("", "again")]
    ids = [message.id for message in only(*records).messages]
    assert len(set(ids)) == 3
    assert ids == [message.id for message in only(*records).messages]
    assert ids[:2] == [message.id for message in only(*records[:2]).messages]


def test_a_record_written_twice_counts_once() -> None:
    found = reading(user("u1", "Hello"), user("u1", "Hello"))
    assert [message.id for message in found.transcripts[0].messages] == ["u1"]
    assert found.left_out == {"record written twice": 1}


def test_two_records_under_one_id_both_stay() -> None:
    made = only(user("u1", "Hello"), user("u1", "Bye"))
    assert [(message.id, message.content) for message in made.messages] == [("u1", "Hello"), ("u1~2", "Bye")]


def test_records_of_two_sessions_in_one_file_are_two_sessions() -> None:
    found = reading(user("u1", "Hello"), user("o1", "Elsewhere", sessionId=OTHER), user("u2", "Again"))
    assert [(one.id, [message.id for message in one.messages]) for one in found.transcripts] == [
        (SESSION, ["u1", "u2"]),
        (OTHER, ["o1"]),
    ]


def test_what_a_subagent_said_inside_its_parents_file_stays_there_and_is_no_prompt() -> None:
    made = only(
        user("u1", "Find it"),
        user("x1", "Search for TODO", isSidechain=True, sessionId=OTHER),
        assistant("x2", said("None."), isSidechain=True),
    )
    assert roles(made) == [("u1", "user"), ("x1", "system"), ("x2", "assistant")]
    assert [message.metadata.get("sidechain") for message in made.messages] == [None, True, True]


def test_a_subagents_own_file_is_a_session_that_names_its_parent() -> None:
    records = (user("x1", "Search", isSidechain=True, agentId="a7"), assistant("x2", said("None."), isSidechain=True))
    made = only(*records, name=f"projects/-home-dev/{SESSION}/subagents/agent-a7.jsonl")
    assert made.id == f"{SESSION}.agent-a7"
    assert made.source == {"tool": "claude-code", "id": made.id}
    assert made.metadata["parent_session"] == SESSION
    assert title_of(made.messages) == "Search"


def test_a_subagents_parent_is_told_by_its_directory_where_its_records_name_only_itself() -> None:
    own = user("x1", "Search", isSidechain=True, agentId="a7", sessionId="agent-a7")
    assert only(own, name=f"/p/{SESSION}/subagents/agent-a7.jsonl").id == f"{SESSION}.agent-a7"
    assert only(own, name="agent-a7.jsonl").id == "agent-a7"


def test_an_answer_of_a_subagent_names_it() -> None:
    result = [{"type": "tool_result", "tool_use_id": "t1", "content": "found"}]
    made = only(user("u1", result, toolUseResult={"agentId": "a7", "content": [{"type": "text"}]}))
    assert made.messages[0].metadata == {"agent_id": "a7"}


def test_any_form_of_tool_result_is_an_answer() -> None:
    result = [{"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True}]
    for outcome in ("Error: no", [{"type": "text", "text": "x"}], {"stdout": ""}, 3, None):
        assert only(user("u1", result, toolUseResult=outcome)).messages[0].role == "tool"


def test_messages_tell_where_the_directory_or_branch_changed() -> None:
    made = only(user("u1", "Hello"), user("u2", "There", cwd="/home/dev/other", gitBranch="fix"), user("u3", "Back"))
    assert [message.metadata for message in made.messages] == [{}, {"cwd": "/home/dev/other", "git_branch": "fix"}, {}]
    assert made.metadata["cwd"] == "/home/dev/shop"


def test_a_project_on_windows_has_a_name_too() -> None:
    assert only(user("u1", "Hello", cwd="C:\\Users\\dev\\shop")).metadata["project"] == "shop"


def test_text_of_the_program_itself_names_no_model_and_costs_nothing() -> None:
    broken = assistant("a1", said("API Error"), isApiErrorMessage=True)
    broken["message"]["model"] = "<synthetic>"
    made = only(user("u1", "Hello"), broken)
    assert (made.model, made.messages[1].model, made.messages[1].usage) == (None, None, None)


def test_times_stay_as_written_and_bad_ones_are_none() -> None:
    made = only(
        user("u1", "a", timestamp="2026-03-01T10:00:00+02:00"),
        user("u2", "b", timestamp="yesterday"),
        user("u3", "c", timestamp=1_772_359_200_000),
    )
    assert [message.timestamp for message in made.messages] == [
        "2026-03-01T10:00:00+02:00", None, "2026-03-01T10:00:00.000Z",
    ]  # fmt: skip


def test_a_file_that_names_no_session_is_named_by_its_file_or_its_first_record() -> None:
    record_ = user("u1", "Hello")
    del record_["sessionId"]
    assert only(record_, name=f"/x/{SESSION}.jsonl").id == SESSION
    assert only(record_, name="chat.jsonl").id == only(record_, name="copy.jsonl").id


def test_content_that_nests_too_deeply_is_kept_as_text_and_reported() -> None:
    deep: Any = "x"
    for _ in range(80):
        deep = [deep]
    found = reading(assistant("a1", {"type": "tool_use", "id": "t", "name": "n", "input": {"deep": deep}}))
    assert isinstance(found.transcripts[0].messages[0].content, str)
    assert [fault.line for fault in found.faults] == [1]


GROWING = (
    {"type": "file-history-snapshot", "messageId": "u1", "snapshot": {}},
    user("u1", "Mend the cart"),
    assistant("a1", {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}, output=3),
    user("u2", [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]),
    record("progress", "p1"),
    user(None, "again"),
    assistant("a2", said("Yes."), output=9),
    user(None, "again"),
    user("u9", "Elsewhere", sessionId=OTHER),
    record("attachment", None, attachment={"type": "queued_command", "prompt": "again"}),
)


@given(st.integers(0, len(written(*GROWING))))
def test_a_file_that_grows_only_adds_messages(cut: int) -> None:
    def messages(data: bytes) -> dict[str, list[tuple[Any, ...]]]:
        found = read_transcripts(data, name="a.jsonl") if b"u1" in data else Reading()
        return {
            one.id: [(message.id, message.after, message.role, message.content) for message in one.messages]
            for one in found.transcripts
        }

    whole = written(*GROWING)
    early, late = messages(whole[: whole.rfind(b"\n", 0, cut) + 1]), messages(whole)
    for session, found in early.items():
        assert late[session][: len(found)] == found


@given(st.integers(len(written(*GROWING[:2])), len(written(*GROWING))))
def test_wherever_a_file_is_cut_what_was_written_before_is_read(cut: int) -> None:
    found = read_transcripts(written(*GROWING)[:cut], name="a.jsonl")
    assert found.transcripts[0].messages[0].content == "Mend the cart"
    assert len(found.faults) <= 1
