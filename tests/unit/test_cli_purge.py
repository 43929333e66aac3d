"""``steno purge``: what it removes, what it asks, and what it says remains."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.daemon.lock import ProcessLock
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.sync.files.mirror import Mirror
from steno.tests.unit.test_cli_sessions import Run, home, run

__all__ = ["home", "run"]


class Terminal(io.TextIOWrapper):
    """Standard input with somebody at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(home / "steno.db") as opened:
        yield opened


def session(store: Store, id: str, *contents: str, title: str | None = None) -> str:
    store.create(id=id, title=title)
    store.add_messages(id, [NewMessage(role="user", content=each, id=each) for each in contents])
    return id


def answering(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command with somebody at the terminal; what it said on standard error."""
    from steno.cli.main import main

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(text.encode())))
    assert main(arguments) == 0
    return capsys.readouterr().err


def left(store: Store) -> list[str]:
    return sorted(each.id for deleted in (False, True) for each in store.sessions(deleted=deleted))


@pytest.mark.parametrize("ref", ["abc", "ab", "A title", "@last"])
def test_purge_removes_the_session_that_a_reference_means(run: Run, store: Store, ref: str) -> None:
    session(store, "other")
    session(store, "abc", "one", title="A title")
    done = run("purge", ref)
    assert (done.code, done.out, left(store)) == (0, "Purged session abc\n", ["other"])


@pytest.mark.parametrize("ref", ["abc", "ab", "A title"])
def test_purge_removes_deleted_sessions_by_reference_too(run: Run, store: Store, ref: str) -> None:
    session(store, "abc", title="A title")
    store.delete("abc")
    assert run("purge", ref).code == 0
    assert left(store) == []


def test_purge_removes_all_that_are_named_or_none(run: Run, store: Store) -> None:
    for each in "ab":
        session(store, each)
    assert run("purge", "a", "nobody").code == 3
    assert left(store) == ["a", "b"]
    assert run("purge", "a", "b", "a", "--json").json["purged"] == ["a", "b"]
    assert left(store) == []


def test_a_title_that_a_live_and_a_deleted_session_have_is_ambiguous(run: Run, store: Store) -> None:
    for each in ("one", "two"):
        session(store, each, title="Same")
    store.delete("one")
    done = run("purge", "Same")
    assert (done.code, "one, two" in done.err, left(store)) == (3, True, ["one", "two"])


def test_a_session_that_was_purged_is_not_found(run: Run, store: Store) -> None:
    session(store, "a")
    run("purge", "a")
    assert run("purge", "a").code == 3


def test_purge_removes_one_message_or_several(run: Run, store: Store) -> None:
    session(store, "a", "one", "two", "three")
    done = run("purge", "a", "--message", "one", "--message", "three")
    assert done.out == "Purged message one of session a\nPurged message three of session a\n"
    assert [each.content for each in store.messages("a")] == ["two"]


def test_an_unknown_message_purges_nothing(run: Run, store: Store) -> None:
    session(store, "a", "one")
    assert run("purge", "a", "--message", "one", "--message", "nobody").code == 3
    assert [each.content for each in store.messages("a")] == ["one"]


@pytest.mark.parametrize("message", [(), ("--message", "one")])
def test_purge_removes_the_history_and_leaves_what_is_shown(run: Run, store: Store, message: tuple[str, ...]) -> None:
    session(store, "a", "one")
    store.edit_message("a", "one", {"content": "edited"})
    assert run("purge", "a", "--history", *message).code == 0
    assert [each.content for each in store.messages("a")] == ["edited"]
    assert store.one("SELECT count(*) FROM revisions")[0] == 0


def test_purge_removes_every_deleted_session_and_no_other(run: Run, store: Store) -> None:
    for each in "abc":
        session(store, each)
    for each in "ab":
        store.delete(each)
    assert run("purge", "--deleted", "--json").json["purged"] == ["a", "b"]
    assert left(store) == ["c"]
    assert run("purge", "--deleted").out == "No deleted session to purge.\n"


def test_purge_removes_what_was_deleted_long_ago(run: Run, store: Store, home: Path) -> None:
    session(store, "new")
    with Store(home / "steno.db", now_ms=lambda: store.now_ms() - 40 * 86_400_000) as earlier:
        session(earlier, "old")
        earlier.delete("old")
    store.delete("new")
    assert run("purge", "--deleted", "--older-than", "30d").out == "Purged session old\n"
    assert left(store) == ["new"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a", "--deleted"),
        ("--deleted", "--history"),
        ("--deleted", "--message", "one"),
        ("a", "--older-than", "30d"),
        ("a", "b", "--message", "one"),
        ("--deleted", "--older-than", "soon"),
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, store: Store, arguments: tuple[str, ...]) -> None:
    for each in "ab":
        session(store, each)
    assert run("purge", *arguments).code == 2
    assert left(store) == ["a", "b"]


def test_purge_asks_at_a_terminal_and_a_no_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session(store, "a", "one", title="T")
    said = answering("n\n", monkeypatch, capsys, "purge", "a")
    assert "Purge session a (T, messages: 1)? It cannot be undone [y/N]:" in said
    assert "Purge cancelled; nothing was changed." in said
    assert left(store) == ["a"]


@pytest.mark.parametrize(("answer", "yes"), [("y\n", ()), ("", ("--yes",))])
def test_purge_goes_on_after_a_yes(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    yes: tuple[str, ...],
) -> None:
    session(store, "a")
    said = answering(answer, monkeypatch, capsys, "purge", "a", *yes)
    assert ("cannot be undone" in said, left(store)) == (not yes, [])


def test_purge_removes_the_file_where_no_daemon_runs(run: Run, store: Store, home: Path) -> None:
    mirror = Mirror(store, home / "sessions")
    mirror.start()
    session(store, "a", "one")
    session(store, "b", "two", "three")
    mirror.write_pending()
    assert run("purge", "a", "--json").json["files"] == []
    assert run("purge", "b", "--message", "two", "--json").json["files"] == []
    [path] = (home / "sessions").rglob("*.jsonl")
    assert "three" in path.read_text()
    assert "two" not in path.read_text()


def test_purge_names_a_file_that_the_daemon_has_not_removed(
    run: Run, store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steno.cli.purging.DAEMON_WITHIN_S", 0.0)
    mirror = Mirror(store, home / "sessions")
    mirror.start()
    session(store, "a", "one")
    mirror.write_pending()
    [path] = (home / "sessions").rglob("*.jsonl")
    with ProcessLock(home / "daemon.lock", task="the daemon"):
        done = run("purge", "a")
    assert (done.code, f"The file {path} is still as it was" in done.err) == (0, True)


@pytest.mark.parametrize("first", ['{"steno":1,"id":"a"}', '{{"steno":1,"id":"a"}', '{"steno":1,"id":"b"}'])
@pytest.mark.parametrize("name", ["one.a.jsonl.refused", "mine.jsonl.refused.2"])
@pytest.mark.parametrize("what", [(), ("--message", "m"), ("--history",)])
def test_purge_names_what_was_set_aside_of_the_session_and_no_other(
    run: Run, store: Store, home: Path, first: str, name: str, what: tuple[str, ...]
) -> None:
    store.create(id="a")
    store.add_messages("a", [NewMessage(role="user", content="one", id="m")])
    aside = home / "sessions" / "2026" / name
    aside.parent.mkdir(parents=True)
    aside.write_text(f"{first}\nsecret\n")
    said = run("purge", "a", *what).err
    assert (f"{aside} may hold what was purged; remove it." in said) == ('"a"' in first or ".a." in name)
    assert aside.exists()


def test_purge_says_what_it_does_not_reach(run: Run, store: Store, home: Path) -> None:
    session(store, "a", "one")
    (home / "vault.json").write_text("{}")
    (home / "backups").mkdir()
    (home / "backups" / "torn.db").write_bytes(b"torn " * 1000)
    store.execute("INSERT INTO outbox VALUES ('v', 1, 'name', x'00', 1)")
    said = run("purge", "a").err
    assert "torn.db was not purged" in said
    assert "waiting to be sent as they are: 1 segments" in said
    assert "What this device sent goes from the remote when it syncs." in said
    assert "Other devices remove it, and what they sent, then." in said
    assert "Not touched: forks, exports" in said


def test_import_says_what_it_leaves_out_because_it_was_purged(run: Run, store: Store, tmp_path: Path) -> None:
    session(store, "a", "one")
    exported = tmp_path / "a.json"
    assert run("export", "a", "--format", "json", "-o", str(exported)).code == 0
    run("purge", "a")
    done = run("import", str(exported))
    assert "Purged here and not taken in: a" in done.err
    assert run("import", str(exported), "--json").json["purged"] == ["a"]
    assert left(store) == []


def test_adding_with_create_starts_the_next_life_of_a_purged_id(run: Run, store: Store) -> None:
    session(store, "a", "one", title="T")
    run("purge", "a")
    assert run("add", "a", "two").code == 3
    assert run("add", "a", "two", "--create").code == 0
    assert ([each.content for each in store.messages("a")], store.get("a").title) == (["two"], "two")
