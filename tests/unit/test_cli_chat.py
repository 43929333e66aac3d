"""Talking with a model: which session it is, what the model is told, and what is kept."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from steno.cli.chat_context import exchanges, system_text, turns
from steno.cli.chat_prompt import converse, message
from steno.storage.current import current_session, set_current
from steno.storage.model import Message, NewMessage
from steno.storage.store import Store
from steno.tests.e2e.scripted_models import Models
from steno.tests.unit.test_cli_sessions import Run, home, run, store

__all__ = ["home", "run", "store"]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    made = Models(tmp_path / "models")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SCRIPTED_KEY", raising=False)
    monkeypatch.syspath_prepend(str(made.packages))
    from llm.plugins import load_plugins, pm

    load_plugins()
    plugin = importlib.import_module("llm_scripted")
    if not pm.is_registered(plugin):
        pm.register(plugin)
    return made


def contents(store: Store, session: str) -> list[tuple[str, object]]:
    return [(each.role, each.content) for each in store.messages(session)]


# Which session


@pytest.mark.check("AIN-8")
def test_a_session_is_made_with_the_first_message_as_its_title(run: Run, store: Store, models: Models) -> None:
    assert run("chat", "How do I implement OAuth?").out == "You said: How do I implement OAuth?\n"
    [session] = store.sessions()
    assert session.title == "How do I implement OAuth?"
    assert contents(store, session.id) == [
        ("user", "How do I implement OAuth?"),
        ("assistant", "You said: How do I implement OAuth?"),
    ]


@pytest.mark.check("AIN-8")
def test_a_long_first_message_is_shortened_at_a_word(run: Run, store: Store, models: Models) -> None:
    text = "Please explain how the authorisation code flow with proof keys works in detail"
    run("chat", text)
    [session] = store.sessions()
    assert len(session.title) <= 60
    assert text.startswith(session.title.removesuffix("…") + " ")


@pytest.mark.check("AIN-8")
def test_a_title_that_was_given_is_taken(run: Run, store: Store, models: Models) -> None:
    run("chat", "--title", "OAuth Implementation", "How do I do that?")
    [session] = store.sessions()
    assert (session.title, session.message_count) == ("OAuth Implementation", 2)


@pytest.mark.check("AIN-8")
@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_a_blank_message_is_refused_and_makes_no_session(run: Run, store: Store, models: Models, text: str) -> None:
    done = run("chat", text)
    assert (done.code, done.out, done.err) == (4, "", "Error: message cannot be empty\n")
    assert [*store.sessions()] == []


def test_what_is_piped_in_is_the_message(run: Run, store: Store, models: Models) -> None:
    assert run("chat", stdin="Größe\nzwei\n".encode()).out == "You said: Größe\nzwei\n"
    assert run("chat", "-", stdin=b"one").out == "You said: one\n"
    assert run("chat", stdin=b"").err == "Error: message cannot be empty\n"


@pytest.mark.check("AIN-7")
def test_the_current_session_is_used_while_nothing_was_said_in_it(run: Run, store: Store, models: Models) -> None:
    made = run("create", "--title", "Plan", "--json").json["id"]
    assert run("chat", "one", "--json").json["session"] == made
    second = run("chat", "two", "--json").json["session"]
    assert second != made
    assert run("chat", "three", "--json").json["session"] != second


@pytest.mark.check("AIN-7")
def test_current_goes_on_with_the_current_session_whatever_was_said(run: Run, store: Store, models: Models) -> None:
    first = run("chat", "one", "--json").json["session"]
    run("create", "--title", "Elsewhere", "--no-activate")
    assert run("chat", "two", "--current", "--json").json["session"] == first
    assert [content for _, content in contents(store, first)][2:] == ["two", "You said: two"]


def test_without_a_current_session_current_is_a_clear_error(run: Run, store: Store, models: Models) -> None:
    done = run("chat", "one", "--current")
    assert (done.code, done.err) == (
        3,
        "Error: there is no current session: choose one with `steno resume ID`\n",
    )


@pytest.mark.check("AIN-7")
def test_the_session_that_is_talked_in_becomes_the_current_one(run: Run, store: Store, models: Models) -> None:
    for name in ("k3v9", "other"):
        store.create(id=name)
    set_current(store, "other")
    run("chat", "-s", "k3v9", "one")
    assert current_session(store) == "k3v9"


@pytest.mark.check("AIN-9")
def test_a_named_session_is_gone_on_with_and_the_model_told_all_of_it(run: Run, store: Store, models: Models) -> None:
    store.create(id="abc123def456")
    store.add_messages(
        "abc123def456",
        [
            NewMessage(role=role, content=text)
            for role, text in [("system", "Be brief."), ("user", "What is JWT?"), ("assistant", "A token.")]
        ],
    )
    run("chat", "--session-id", "abc123", "And OAuth?")
    assert models.told()[-1]["told"] == [
        ["system", "Be brief."], ["user", "What is JWT?"], ["assistant", "A token."], ["user", "And OAuth?"],
    ]  # fmt: skip
    assert [role for role, _ in contents(store, "abc123def456")] == ["system", "user", "assistant", "user", "assistant"]


def test_a_plug_in_that_asks_for_former_answers_is_told_them(run: Run, store: Store, models: Models) -> None:
    run("chat", "one")
    run("chat", "-r", "two")
    assert models.told()[-1]["former"] == [["one", "You said: one"]]


@pytest.mark.check("AIN-9")
def test_resume_goes_on_with_the_session_that_was_written_to_last(run: Run, store: Store, models: Models) -> None:
    for name in ("first", "second", "away"):
        store.create(id=name)
    for name in ("second", "first", "away"):
        run("add", name, "note")
    run("archive", "away")
    assert run("chat", "--resume", "x", "--json").json["session"] == "first"


@pytest.mark.check("AIN-9")
def test_with_no_session_yet_there_is_nothing_to_resume(run: Run, store: Store, models: Models) -> None:
    done = run("chat", "-r", "x")
    assert (done.code, done.err) == (3, "Error: there is no session to resume yet: begin one with `steno chat`\n")


@pytest.mark.check("AIN-52")
def test_resume_with_a_title_takes_the_newest_of_that_title_or_makes_it(run: Run, store: Store, models: Models) -> None:
    title = "User Authentication Feature"
    made = run("chat", "--title", title, "-r", "one", "--json").json["session"]
    assert store.get(made).title == title
    store.create(id="newer", title=title)
    run("add", "newer", "note")
    assert run("chat", "--title", title, "-r", "two", "--json").json["session"] == "newer"
    run("chat", "--title", "Another", "three")
    assert run("chat", "--title", title, "-r", "four", "--json").json["session"] == "newer"
    assert len([*store.sessions()]) == 3


@pytest.mark.parametrize("status", ["paused", "archived"])
def test_a_session_that_waited_is_active_when_it_is_talked_in(
    run: Run, store: Store, models: Models, status: str
) -> None:
    store.create(id="k3v9", status=status)
    run("chat", "-s", "k3v9", "one")
    assert store.get("k3v9").status == "active"


@pytest.mark.parametrize(
    "options", [("-s", "x", "-r"), ("-r", "--current"), ("-s", "x", "--title", "T"), ("--current", "--title", "T")]
)
def test_options_that_contradict_each_other_are_a_usage_error(
    run: Run, store: Store, models: Models, options: tuple[str, ...]
) -> None:
    assert run("chat", *options, "hello").code == 2


def test_an_unknown_or_deleted_session_is_not_found(run: Run, store: Store, models: Models) -> None:
    store.create(id="gone")
    store.delete("gone")
    assert [run("chat", "-s", session, "x").code for session in ("nowhere", "gone")] == [3, 3]


# What is kept


def test_model_provider_tokens_and_time_are_kept(run: Run, store: Store, models: Models) -> None:
    answer = run("chat", "three words here", "--json").json["answer"]
    [session] = store.sessions()
    assert (session.provider, session.model, answer["model"]) == ("scripted", "scripted", "scripted")
    assert answer["usage"] == {"input_tokens": 3, "output_tokens": 3, "details": {"cached": 1}}
    assert [*answer["metadata"]] == ["duration_ms"]
    user, assistant = store.messages(session.id)
    assert user.timestamp <= assistant.timestamp


def test_a_session_goes_on_with_its_own_model_until_another_is_asked_for(
    run: Run, store: Store, models: Models
) -> None:
    store.create(id="k3v9", model="scripted-other")
    run("chat", "-s", "k3v9", "one")
    run("chat", "-s", "k3v9", "-m", "s1", "two")
    run("chat", "-s", "k3v9", "three")
    assert [each["model"] for each in models.told()] == ["scripted-other", "scripted", "scripted"]
    assert store.get("k3v9").model == "scripted"


def test_what_was_said_stays_where_the_model_fails(run: Run, store: Store, models: Models) -> None:
    done = run("chat", "please fail")
    assert (done.code, done.out) == (6, "You said: \n")
    assert "Error: scripted did not answer to the end (the line broke for sk-secret)" in done.err
    [session] = store.sessions()
    [user, answer] = store.messages(session.id)
    assert (user.content, answer.content, answer.metadata) == ("please fail", "You said: ", {"interrupted": True})


def test_a_key_is_never_told(run: Run, store: Store, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "sk-secret")
    done = run("chat", "-m", "scripted-locked", "please fail")
    assert "(the line broke for …)" in done.err


def test_a_model_that_says_nothing_leaves_no_empty_message(run: Run, store: Store, models: Models) -> None:
    done = run("chat", "silence")
    assert "scripted said nothing." in done.err
    [session] = store.sessions()
    assert session.message_count == 1


def test_half_a_character_loses_nothing_of_an_answer(run: Run, store: Store, models: Models) -> None:
    run("chat", "a surrogate")
    [session] = store.sessions()
    assert contents(store, session.id)[1][1] == "You said: half ?a surrogate"


def test_an_answer_cannot_steer_the_terminal_and_is_kept_as_it_is(run: Run, store: Store, models: Models) -> None:
    assert run("chat", "red \x1b[31m").out == "You said: red \\x1b[31m\n"
    [session] = store.sessions()
    assert contents(store, session.id)[1][1] == "You said: red \x1b[31m"


def test_no_draft_is_left_when_the_answer_is_kept(run: Run, home: Path, models: Models) -> None:
    for text in ("one", "please fail", "silence"):
        run("chat", text)
    assert [*(home / "drafts").iterdir()] == []


def test_llm_keeps_no_log_of_it(run: Run, store: Store, models: Models) -> None:
    run("chat", "one")
    assert [path.name for path in models.user.iterdir()] == ["default_model.txt"]


# What is missing


def test_a_model_without_its_key_is_not_asked_and_nothing_is_stored(run: Run, store: Store, models: Models) -> None:
    done = run("chat", "-m", "scripted-locked", "hello")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "llm keys set scripted" in done.err
    assert [*store.sessions()] == []


@pytest.mark.parametrize("name", ["scriptd", "OTHER"])
def test_an_unknown_model_is_answered_with_near_names(run: Run, store: Store, models: Models, name: str) -> None:
    done = run("chat", "-m", name, "hello")
    assert (done.code, len(done.err.splitlines())) == (3, 1)
    assert re.search(f"no model {name}; did you mean .*scripted", done.err)


def test_a_session_whose_model_is_not_here_is_not_sent_to_another(run: Run, store: Store, models: Models) -> None:
    store.create(id="k3v9", model="private-model")
    assert run("chat", "-s", "k3v9", "hello").code == 3
    assert contents(store, "k3v9") == []


def test_without_llm_one_line_names_the_extra(home: Path) -> None:
    script = "import sys; sys.modules['llm'] = None\nfrom steno.cli.main import main; sys.exit(main(['chat', 'hello']))"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"STENO_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "Error: steno chat needs its driver: pip install 'steno[chat]'\n")


@pytest.mark.parametrize("arguments", [["chat", "--help"], ["chat", " "]])
def test_llm_is_imported_only_to_ask(arguments: list[str], home: Path) -> None:
    script = f"import sys; from steno.cli.main import main; main({arguments!r}); print('llm' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"STENO_HOME": str(home)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


# What the model is told


def _said(role: str, content: object, sender: str | None = None) -> Message:
    return Message(id="m", role=role, content=content, timestamp="2026-11-20T10:00:00Z", sender=sender)  # pyright: ignore[reportArgumentType]


def test_tool_messages_are_told_as_text() -> None:
    call = {"type": "tool_use", "name": "grep", "input": {"for": "x"}}
    told = turns(
        [_said("user", "find x"), _said("assistant", [call]), _said("tool", "line 3"), _said("assistant", "3")]
    )
    assert [*told] == [
        ("user", "find x"), ("assistant", '[tool_use grep] {"for":"x"}'), ("user", "[tool] line 3"), ("assistant", "3"),
    ]  # fmt: skip


def test_what_one_side_said_twice_is_one_turn() -> None:
    told = turns([_said("user", "a"), _said("user", "b"), _said("assistant", " "), _said("user", "c", sender="ada")])
    assert told == [("user", "a\n\nb\n\nc")]


def test_who_is_no_known_side_is_named() -> None:
    assert turns([_said("participant", "hi", sender="ada")]) == [("user", "[ada] hi")]


def test_exchanges_are_pairs_and_leave_the_system_out() -> None:
    told = turns([_said(role, role[0]) for role in ("developer", "assistant", "user", "system", "assistant", "user")])
    assert [*exchanges(told)] == [("", "a"), ("u", "a"), ("u", "")]
    assert system_text(told) == "d\n\ns"


# What is typed


def _lines(given: Iterable[str | type[BaseException]]) -> Callable[[str], str]:
    waiting = iter(given)

    def line(_: str) -> str:
        each = next(waiting, EOFError)
        if isinstance(each, str):
            return each
        raise each

    return line


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["one"], "one"),
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (['"""', "one", "", "two", '"""'], "one\n\ntwo"),
        (['"""', '"""'], ""),
    ],
)
def test_a_message_may_have_several_lines(lines: list[str], text: str) -> None:
    assert message(_lines(lines)) == text


@pytest.mark.parametrize("end", [["exit"], ["QUIT"], [], [KeyboardInterrupt, KeyboardInterrupt]])
def test_the_prompt_ends(end: list[str | type[BaseException]]) -> None:
    said: list[str] = []
    converse(said.append, _lines(["one", "", *end, "later"]) if end else _lines(["one", ""]))
    assert said == ["one"]


def test_one_interruption_drops_what_is_being_typed_and_ends_nothing() -> None:
    said: list[str] = []
    converse(said.append, _lines(["one\\", KeyboardInterrupt, "two", KeyboardInterrupt, "three"]))
    assert said == ["two", "three"]
