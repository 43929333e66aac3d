"""The verbs about sessions: what they print, what they write, and how they refuse."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steno.cli.main import main
from steno.storage import schema
from steno.storage.current import current_session
from steno.storage.model import NewMessage
from steno.storage.rows import SessionBirth, encode_births
from steno.storage.sqlite import dbapi
from steno.storage.store import Store


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("STENO_HOME", str(place))
    Store(place / "steno.db").close()
    return place


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home / "steno.db")


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


# create


@pytest.mark.check("AIN-1")
def test_an_id_is_twelve_characters_and_its_beginning_is_enough(run: Run) -> None:
    made = run("create", "--title", "T", "--json").json["id"]
    assert re.fullmatch("[a-z0-9]{12}", made)
    assert run("show", made[:6], "--json").json["id"] == made


@pytest.mark.check("AIN-1")
def test_an_ambiguous_beginning_names_the_candidates_and_an_unknown_one_itself(run: Run, store: Store) -> None:
    store.create(id="abc123def456")
    store.create(id="abc999def456")
    ambiguous, unknown = run("show", "abc"), run("show", "zzz")
    assert (ambiguous.code, unknown.code) == (3, 3)
    assert "abc123def456, abc999def456" in ambiguous.err
    assert unknown.err.startswith("Error: session not found: zzz")


@pytest.mark.check("AIN-2")
def test_create_prints_what_it_made_and_how_to_go_on(run: Run) -> None:
    done = run("create", "--title", "Bug Investigation")
    facts = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert [*facts] == ["ID", "Title", "Status", "Created"]
    assert (facts["Title"], facts["Status"], done.code) == ("Bug Investigation", "active", 0)
    assert f"`steno chat -s {facts['ID']}`" in done.err


@pytest.mark.check("AIN-2")
def test_a_name_is_a_title(run: Run) -> None:
    assert run("create", "--name", "B", "--json").json["title"] == "B"


@pytest.mark.check("AIN-2")
def test_a_title_wins_over_a_name_and_says_so(run: Run) -> None:
    done = run("create", "--title", "A", "--name", "B", "--json")
    assert (done.json["title"], "--name is not" in done.err) == ("A", True)


@pytest.mark.check("AIN-3")
@pytest.mark.parametrize(("options", "code"), [((), 2), (("--title", "  "), 4), (("--name", ""), 4)])
def test_create_needs_a_title(run: Run, store: Store, options: tuple[str, ...], code: int) -> None:
    done = run("create", *options)
    assert (done.code, done.out, store.count()) == (code, "", (0, 0))
    assert done.err.startswith("Error: session title is required (use --title or --name)")


def test_what_an_id_names_needs_no_title(run: Run) -> None:
    assert run("create", "--id", "build-7", "--json").json["title"] == ""


@pytest.mark.check("AIN-4")
def test_create_keeps_tags_in_order_and_drops_blanks_and_repeats(run: Run) -> None:
    made = run("create", "--title", "T", "--tags", " golang, api,,rest,api, ", "--json").json
    assert made["tags"] == ["golang", "api", "rest"]


@pytest.mark.check("AIN-5")
@pytest.mark.parametrize("provider", ["anthropic", "Anthropic", "ANTHROPIC"])
def test_create_keeps_provider_and_model_apart(run: Run, provider: str) -> None:
    made = run("create", "--title", "T", "--provider", provider, "--model", "claude-3-5-sonnet-20241022", "--json").json
    assert (made["provider"], made["model"]) == ("anthropic", "claude-3-5-sonnet-20241022")


@pytest.mark.check("AIN-5")
def test_an_unknown_provider_is_refused_with_those_that_are_known(run: Run, store: Store) -> None:
    done = run("create", "--title", "T", "--provider", "acme")
    known = "anthropic, openai, azure, bedrock, gemini, ollama, meta"
    assert (done.code, done.out, store.count()[0]) == (4, "", 0)
    assert done.err.startswith(f"Error: invalid provider: acme (valid options: {known})")


@pytest.mark.check("AIN-5")
@pytest.mark.parametrize(("listed", "code"), [('["acme", "Mistral"]', 0), ("[]", 0), ('["openai"]', 4)])
def test_the_known_providers_stand_in_the_settings(run: Run, home: Path, listed: str, code: int) -> None:
    (home / "config.toml").write_text(f"[session]\nproviders = {listed}\n", encoding="utf-8")
    assert run("create", "--title", "T", "--provider", "acme").code == code


@pytest.mark.check("AIN-6")
def test_create_keeps_metadata(run: Run) -> None:
    metadata = {"project": "myapp", "priority": "high"}
    made = run("create", "--title", "T", "--metadata", json.dumps(metadata), "--json").json
    assert (made["metadata"], made["project"]) == (metadata, "myapp")


@pytest.mark.check("AIN-6")
@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("[]", "metadata must be a JSON object"),
        ("3", "metadata must be a JSON object"),
        ("{", "invalid metadata JSON: "),
        ('{"a": NaN}', "invalid metadata JSON: "),
    ],
)
def test_create_refuses_metadata_that_is_no_json_object(run: Run, store: Store, metadata: str, said: str) -> None:
    done = run("create", "--title", "T", "--metadata", metadata)
    assert (done.code, done.out, store.count()[0]) == (4, "", 0)
    assert done.err.startswith(f"Error: {said}")


@pytest.mark.check("AIN-7")
def test_create_makes_its_session_the_current_one(run: Run, store: Store) -> None:
    for name in ("a", "b"):
        run("create", "--id", name)
        assert current_session(store) == name


@pytest.mark.check("AIN-7")
def test_no_activate_leaves_the_current_session_what_it_was(run: Run, store: Store) -> None:
    run("create", "--id", "a")
    done = run("create", "--id", "b", "--no-activate")
    assert (current_session(store), "`steno resume b`" in done.err) == ("a", True)


def test_create_refuses_an_id_that_is_taken(run: Run) -> None:
    run("create", "--id", "x")
    assert run("create", "--id", "x").code == 5


# add


def test_add_appends_a_message_to_the_most_recent_session(run: Run, store: Store) -> None:
    store.create(id="x")
    assert run("add", "@last", "Hello", "--role", "assistant", "--model", "m").code == 0
    (message,) = store.messages("x")
    assert (message.role, message.content, message.model) == ("assistant", "Hello", "m")


@pytest.mark.parametrize("arguments", [("x",), ("x", "-")])
def test_add_reads_standard_input_without_its_last_line_end(run: Run, store: Store, arguments: tuple[str, ...]) -> None:
    store.create(id="x")
    run("add", *arguments, stdin="two\nlines — é\n\n".encode())
    assert [each.content for each in store.messages("x")] == ["two\nlines — é\n"]


def test_add_takes_a_list_of_blocks(run: Run, store: Store) -> None:
    store.create(id="x")
    blocks = [{"type": "text", "text": "Hi"}]
    assert run("add", "x", json.dumps(blocks), "--json-content", "--json").json["content"] == blocks


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_add_refuses_a_blank_message(run: Run, store: Store, text: str) -> None:
    store.create(id="x")
    assert run("add", "x", text) == (4, "", "Error: message cannot be empty\n")


def test_add_refuses_bytes_that_are_not_utf_8(run: Run, store: Store) -> None:
    store.create(id="x")
    assert run("add", "x", stdin=b"\xff\xfe").code == 4


def test_add_to_an_unknown_session_fails_and_makes_none(run: Run, store: Store) -> None:
    assert (run("add", "x", "Hello").code, store.count()) == (3, (0, 0))


def test_add_makes_the_session_when_asked_to(run: Run, store: Store) -> None:
    run("add", "x", "Hello", "--create")
    assert store.get("x").message_count == 1


def test_add_that_may_make_a_session_takes_no_beginning_of_an_id_for_it(run: Run, store: Store) -> None:
    store.create(id="build-12")
    run("add", "build-1", "Hello", "--create")
    assert store.get("build-12").message_count == 0


def test_a_refused_message_makes_no_session(run: Run, store: Store) -> None:
    assert run("add", "x", "Hello", "--create", "--timestamp", "soon").code == 4
    assert store.find("x") is None


def test_add_to_a_deleted_session_says_that_it_is_shown_again(run: Run, store: Store) -> None:
    store.create(id="x")
    store.delete("x")
    assert "is shown again" in run("add", "x", "Hello").err


# list


def test_a_title_with_control_characters_does_not_reach_the_terminal_raw(run: Run, store: Store) -> None:
    store.create(id="x")
    # As another program could have brought it: our own verbs take no such title.
    store.execute("UPDATE sessions SET title = ?", ("red \x1b[31malert\x07 \u202egnp",))
    assert "red \\x1b[31malert\\x07 \\u202egnp" in run("list").out


def test_json_of_such_a_title_is_exact_and_holds_no_raw_one(run: Run, store: Store) -> None:
    title = "red \x1b[31m \x9b1m \x7f \u202egnp"
    store.create()
    store.execute("UPDATE sessions SET title = ?", (title,))
    done = run("list", "--json")
    assert done.json[0]["title"] == title
    assert not {"\x1b", "\x9b", "\x7f", "\u202e"} & set(done.out)


def test_deleted_sessions_are_listed_when_asked_for(run: Run, store: Store) -> None:
    store.create(id="x")
    store.delete("x")
    assert [each["id"] for each in run("list", "--deleted", "--json").json] == ["x"]


# show


@pytest.mark.parametrize("ref", ["abcdef", "abc", "Plans", "-", "@last"])
def test_a_session_is_shown_by_id_prefix_title_or_as_the_last(run: Run, store: Store, ref: str) -> None:
    store.create(id="abcdef", title="Plans")
    assert run("show", ref, "--json").json["id"] == "abcdef"


def test_an_unknown_and_an_ambiguous_reference_exit_3(run: Run, store: Store) -> None:
    store.create(id="ab1")
    store.create(id="ab2")
    assert [run("show", ref).code for ref in ("ab", "zz")] == [3, 3]


def test_show_in_json_has_the_messages_as_they_are(run: Run, store: Store) -> None:
    store.create(id="x")
    store.append("x", NewMessage(role="user", content="a\x1bb", id="m1"))
    assert [(each["id"], each["content"]) for each in run("view", "x", "--format", "json").json["messages"]] == [
        ("m1", "a\x1bb")
    ]


def test_control_characters_of_a_message_do_not_reach_the_terminal_raw(run: Run, store: Store) -> None:
    store.create(id="x")
    store.append("x", NewMessage(role="us\u2066er", sender="a\x9bb", content="clear \x1b]0;title\x07 \r over"))
    assert not set("\x1b\x07\r\x9b\u2066") & set(run("show", "x").out)


def test_looking_works_while_somebody_writes(run: Run, store: Store) -> None:
    store.create(id="x")
    with store.transaction():
        store.update("x", fields={"title": "later"})
        assert run("show", "x", "--json").json["title"] == ""


# rename, tag, meta


@pytest.mark.check("AIN-41")
def test_rename_gives_another_title(run: Run, store: Store) -> None:
    store.create(id="x", title="Old")
    run("rename", "x", "OAuth 2.0 Guide")
    assert store.get("x").title == "OAuth 2.0 Guide"


@pytest.mark.check("AIN-39")
def test_tag_adds_in_order_and_prints_the_set(run: Run, store: Store) -> None:
    store.create(id="x", tags=["go"])
    assert run("tag", "x", "rest", "go", "auth").out == "go, rest, auth\n"


@pytest.mark.check("AIN-39")
def test_tag_removes(run: Run, store: Store) -> None:
    store.create(id="x", tags=["go", "rest"])
    assert run("tag", "x", "go", "--remove", "--json").json["tags"] == ["rest"]


def test_tag_without_a_tag_prints_and_writes_nothing(run: Run, store: Store) -> None:
    store.create(id="x", tags=["go"])
    before = store.last_seq
    assert (run("tag", "x").out, store.last_seq) == ("go\n", before)


@pytest.mark.check("AIN-40")
def test_meta_sets_text_and_keeps_what_else_is_there(run: Run, store: Store) -> None:
    store.create(id="x", metadata={"a": 1})
    run("meta", "x", "b", "2")
    assert store.get("x").metadata == {"a": 1, "b": "2"}


def test_meta_sets_json_when_asked_to(run: Run, store: Store) -> None:
    store.create(id="x")
    run("meta", "x", "b", '{"n": [1]}', "--json-value")
    assert store.get("x").metadata == {"b": {"n": [1]}}


def test_meta_refuses_null_which_would_remove(run: Run, store: Store) -> None:
    store.create(id="x", metadata={"b": 1})
    assert run("meta", "x", "b", "null", "--json-value").code == 4


@pytest.mark.check("AIN-40")
def test_meta_unsets(run: Run, store: Store) -> None:
    store.create(id="x", metadata={"a": 1, "b": 2})
    run("meta", "x", "a", "--unset")
    assert store.get("x").metadata == {"b": 2}


@pytest.mark.check("AIN-40")
def test_meta_prints_all_or_one(run: Run, store: Store) -> None:
    store.create(id="x", title="T", tags=["a", "b"], metadata={"project": "p"})
    assert run("meta", "x").out == "Title: T\nTags: a, b\nProject: p\n"
    assert run("meta", "x", "project").out == "p\n"
    assert run("meta", "x", "nothing").code == 3


@pytest.mark.check("AIN-40")
@pytest.mark.parametrize("value", [("true",), ("True",), ("true", "--json-value")])
def test_meta_archived_hides_from_the_list_until_it_is_taken_back(
    run: Run, store: Store, value: tuple[str, ...]
) -> None:
    store.create(id="x", title="T")
    run("meta", "x", "completed_date", "2024-01-20")
    run("meta", "x", "archived", *value)
    assert (store.get("x").status, run("list").out) == ("archived", "")
    run("meta", "x", "archived", "--unset")
    assert (store.get("x").status, store.get("x").metadata) == ("active", {"completed_date": "2024-01-20"})


@pytest.mark.check("AIN-40")
def test_another_value_of_archived_and_a_key_status_are_metadata_only(run: Run, store: Store) -> None:
    store.create(id="x", title="T", status="paused")
    run("meta", "x", "archived", "false")
    run("meta", "x", "status", "active")
    assert (store.get("x").status, store.get("x").metadata) == ("paused", {"archived": "false", "status": "active"})


@pytest.mark.check("AIN-41")
@pytest.mark.parametrize("title", ["", "  ", "\n"])
def test_rename_refuses_a_blank_title(run: Run, store: Store, title: str) -> None:
    store.create(id="x", title="Old")
    assert (run("rename", "x", title).code, store.get("x").title) == (4, "Old")


# Where it lies


@pytest.mark.check("AIN-54")
def test_sessions_lie_in_one_private_file_in_the_directory_of_the_platform(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STENO_HOME")
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    assert run("init").code == 0
    run("create", "--title", "T")
    database = tmp_path / "XDG_DATA_HOME" / "steno" / "steno.db"
    assert [*database.parent.rglob("*.db")] == [database]
    assert database.stat().st_mode & 0o777 == 0o600


@pytest.mark.check("AIN-54")
def test_steno_home_is_where_everything_lies(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STENO_HOME", str(tmp_path / "elsewhere"))
    assert run("init").code == 0
    assert (tmp_path / "elsewhere" / "steno.db").stat().st_mode & 0o777 == 0o600


# delete, restore


def test_a_dry_run_deletes_nothing(run: Run, store: Store) -> None:
    store.create(id="a1")
    assert (run("rm", "a1", "--dry-run", "--json").json[0]["id"], store.count()[0]) == ("a1", 1)


def test_a_deleted_session_is_gone_and_comes_back_with_its_messages(run: Run, store: Store) -> None:
    store.create(id="a1", title="T")
    store.append("a1", NewMessage(role="user", content="x"))
    assert run("delete", "a1").code == 0
    assert [run(*again).code for again in (("show", "a1"), ("delete", "a1"))] == [3, 3]

    assert run("restore", "a", "--json").json[0]["message_count"] == 1


def test_restoring_what_is_not_deleted_changes_nothing(run: Run, store: Store) -> None:
    store.create(id="a1")
    before = store.last_seq
    assert (run("restore", "a1").code, store.last_seq) == (0, before)


# search


def test_search_prints_no_marks_where_nobody_looks_at_a_terminal(run: Run, store: Store) -> None:
    store.create(id="x", title="T")
    store.append("x", NewMessage(role="user", content="A JWT \x1b[31m here"))
    assert run("search", "jwt").out.splitlines()[1].strip().startswith("A JWT")
    assert not set("\x01\x02\x1b*") & set(run("search", "jwt").out)


def test_search_says_why_a_query_can_find_nothing(run: Run) -> None:
    assert run("search", "*!") == (0, "", "No results found: there is no word in this query.\n")
    assert run("search", "--", "-jwt").err == "No results found: say what is to be there, besides what is not.\n"


def test_search_looks_into_archived_sessions_when_it_is_told_to(run: Run, store: Store) -> None:
    store.create(id="x", title="Old plans", status="archived")
    assert run("search", "plans", "--json").json["results"] == []
    for option in (("--archived",), ("--status", "archived"), ("--session", "x")):
        assert [each["session"] for each in run("search", "plan", "--json", *option).json["results"]] == ["x"]


def test_search_stays_inside_a_session_and_a_tag(run: Run, store: Store) -> None:
    for name in ("x1", "y1"):
        store.create(id=name, title=name, tags=[f"t{name}"])
        store.append(name, NewMessage(role="user", content="token"))
    assert [each["session"] for each in run("search", "token", "-s", "x1", "--json").json["results"]] == ["x1"]
    assert [each["session"] for each in run("search", "token", "--tag", "ty1", "--json").json["results"]] == ["y1"]


def test_the_store_of_an_older_version_is_migrated_by_whoever_looks_first(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    """What version 1 wrote is listed, shown and found; a copy of it was made."""
    (home / "steno.db").unlink()
    for name in ("steno.db-wal", "steno.db-shm"):
        (home / name).unlink(missing_ok=True)
    old = dbapi.connect(str(home / "steno.db"), isolation_level=None)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        patched.setattr(schema, "VERSION", 1)
        assert schema.ready(old, home / "steno.db", read_only=False)
    old.execute("INSERT INTO meta VALUES ('device', 'abcdefghijkl'), ('store', 'abcdefgh')")
    old.execute("INSERT INTO devices VALUES (0, 'abcdefghijkl')")
    births = encode_births([SessionBirth(65536, 2, 1000, None, None)])
    old.execute(
        "INSERT INTO sessions VALUES (1, 's', 1, 1, 1, ?, 0, 'Of old', 0, 'active', NULL, NULL, NULL, '[]', '{}', "
        "'{}', 1000, 1000, 1, NULL, 0, 0, 0)",
        (births,),
    )
    old.execute(
        "INSERT INTO messages VALUES (1, 1, 1, 2, 2, 2, 0, 0, 'm', 65537, 2, NULL, 0, 'user', NULL, 'remembered', "
        "1000, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
    )
    old.execute("UPDATE clock SET seq = 2, hlc = 65537")
    old.close()
    assert [each["title"] for each in run("list", "--json").json] == ["Of old"]
    assert "remembered" in run("show", "s").out
    assert "remembered" in run("search", "remember").out
    assert len(list(home.glob("steno.db.before-2.*"))) == 1
