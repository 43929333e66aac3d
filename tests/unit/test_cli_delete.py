"""``steno delete``: what it deletes, when it asks, and what it says."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steno.cli.main import main
from steno.storage.model import NewMessage
from steno.storage.store import Store
from steno.tests.unit.test_cli_purge import Terminal
from steno.tests.unit.test_cli_sessions import Done, Run, home, run

__all__ = ["home", "run"]

DAY_MS = 86_400_000


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store(home / "steno.db") as opened:
        yield opened


@pytest.fixture
def aged(store: Store) -> None:
    """Sessions last written to 10, 100 and 400 days ago, and now."""
    for days in (0, 10, 100, 400):
        store.create(id=f"d{days}", title=f"Of {days} days ago")
        at_ms = store.now_ms() - days * DAY_MS - 1000
        store.execute("UPDATE sessions SET updated_ms = ?, created_ms = 0 WHERE id = ?", (at_ms, f"d{days}"))


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Run]:
    """Somebody at a terminal who answers so."""

    def answering(answer: str) -> Run:
        def run(*arguments: str) -> Done:
            monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(answer.encode())))
            code = main(arguments)
            said = capsys.readouterr()
            return Done(code, said.out, said.err)

        return run

    return answering


def left(store: Store) -> set[str]:
    return {each.id for each in store.sessions()}


@pytest.mark.check("AIN-34")
def test_a_session_is_deleted_named_by_its_title_and_can_be_restored(run: Run, aged: None, store: Store) -> None:
    done = run("delete", "d10")
    assert (done.code, done.out) == (0, "Deleted d10 (Of 10 days ago)\n")
    assert "`steno restore d10`" in done.err
    assert "d10" not in left(store)
    assert run("restore", "d10").code == 0
    assert "d10" in left(store)


@pytest.mark.check("AIN-34")
@pytest.mark.parametrize("answer", [b"y\n", b"yes\n", b"Y\n", b" YES \n", b"y"])
def test_confirm_deletes_after_a_yes(run: Run, aged: None, store: Store, answer: bytes) -> None:
    done = run("delete", "d10", "--confirm", stdin=answer)
    assert done.err.startswith("Delete session d10 (Of 10 days ago)? (y/N): ")
    assert (done.code, "d10" in left(store)) == (0, False)


@pytest.mark.check("AIN-34")
@pytest.mark.parametrize("answer", [b"", b"\n", b"n\n", b"no\n", b"yep\n", b"1\n", b"yes please\n"])
def test_confirm_deletes_nothing_after_any_other_answer(run: Run, aged: None, store: Store, answer: bytes) -> None:
    done = run("delete", "d10", "--confirm", stdin=answer)
    assert (done.code, done.out, done.err.splitlines()[-1]) == (0, "", "Deletion cancelled.")
    assert "d10" in left(store)


@pytest.mark.check("AIN-35")
def test_several_are_deleted_all_or_none(run: Run, aged: None, store: Store) -> None:
    done = run("delete", "d10", "nobody", "d100", "nothing")
    assert (done.code, done.out) == (3, "")
    assert "session not found: nobody, nothing" in done.err
    assert len(left(store)) == 4
    assert run("delete", "d10", "d100", "d10").out.splitlines()[-1] == "Deleted 2 sessions"
    assert left(store) == {"d0", "d400"}


@pytest.mark.check("AIN-36")
@pytest.mark.parametrize(
    ("options", "stay"),
    [
        (("--older-than", "30d"), {"d0", "d10"}),
        (("--older-than", "9w"), {"d0", "d10"}),
        (("--older-than", "12h"), {"d0"}),
        (("--older-than", "6m"), {"d0", "d10", "d100"}),
        (("--older-than", "1y"), {"d0", "d10", "d100"}),
        (("--before", "30d"), {"d0", "d10"}),
        (("--before", "yesterday"), {"d0"}),
        (("--before", "1971-01-01"), {"d0", "d10", "d100", "d400"}),
        (("--older-than", "30d", "--search", "400"), {"d0", "d10", "d100"}),
    ],
)
def test_the_old_are_deleted_by_their_last_write(
    run: Run, aged: None, store: Store, options: tuple[str, ...], stay: set[str]
) -> None:
    gone = 4 - len(stay)
    assert run("delete", *options).out == f"Deleted {gone} session{'s' * (gone != 1)}\n"
    assert left(store) == stay


@pytest.mark.check("AIN-36")
def test_before_leaves_that_day_alone(run: Run, store: Store) -> None:
    for day in (1, 2):
        store.create(id=f"d{day}")
        store.append(f"d{day}", NewMessage(role="user", content="x"))
        noon_ms = 1_704_110_400_000 + (day - 1) * DAY_MS
        store.execute("UPDATE sessions SET updated_ms = ? WHERE id = ?", (noon_ms, f"d{day}"))
    run("delete", "--before", "2024-01-02")
    assert left(store) == {"d2"}


@pytest.mark.check("AIN-36")
def test_a_dry_run_names_and_counts_and_deletes_nothing(run: Run, aged: None, store: Store) -> None:
    done = run("delete", "--older-than", "30d", "--dry-run")
    assert done.out.splitlines() == [
        "Would delete d100 (Of 100 days ago)", "Would delete d400 (Of 400 days ago)", "Would delete 2 sessions",
    ]  # fmt: skip
    assert run("delete", "--all", "--dry-run").code == 0
    assert len(left(store)) == 4


@pytest.mark.check("AIN-36")
@pytest.mark.parametrize(
    "options",
    [(), ("d0", "--older-than", "30d"), ("--all", "--before", "2024-01-01"), ("--older-than", "30s"), ("d0", "--all")],
)
def test_what_is_meant_must_be_clear(run: Run, aged: None, store: Store, options: tuple[str, ...]) -> None:
    done = run("delete", *options)
    assert (done.code, done.out, done.err.count("\n"), len(left(store))) == (2, "", 1, 4)


@pytest.mark.check("AIN-37")
def test_all_alone_is_refused_where_there_is_no_terminal(run: Run, aged: None, store: Store) -> None:
    done = run("delete", "--all")
    assert (done.code, "--force" in done.err, len(left(store))) == (2, True, 4)


@pytest.mark.check("AIN-37")
@pytest.mark.parametrize(("answer", "stay"), [(b"y\n", 0), (b"n\n", 4), (b"", 4)])
def test_all_with_confirm_asks(run: Run, aged: None, store: Store, answer: bytes, stay: int) -> None:
    done = run("delete", "--all", "--confirm", stdin=answer)
    assert done.err.startswith("Delete 4 sessions? (y/N): ")
    assert (done.code, len(left(store))) == (0, stay)


@pytest.mark.check("AIN-37")
def test_all_with_force_asks_nothing(run: Run, aged: None, store: Store) -> None:
    done = run("delete", "--all", "--force")
    assert (done.code, done.out, "?" in done.err, left(store)) == (0, "Deleted 4 sessions\n", False, set())


def test_to_confirm_and_to_force_do_not_go_together(run: Run, aged: None) -> None:
    assert run("delete", "d0", "--confirm", "--force").code == 2


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("d0",), False),
        (("d0", "d10"), False),
        (("--all",), True),
        (("--older-than", "30d"), True),
        (("--older-than", "30d", "--force"), False),
        (("d0", "--hard"), True),
        (("d0", "--hard", "--force"), False),
    ],
)
def test_on_a_terminal_it_asks_before_what_was_not_named_or_cannot_be_undone(
    answering: Callable[[str], Run], aged: None, store: Store, arguments: tuple[str, ...], asked: bool
) -> None:
    done = answering("n\n")("delete", *arguments)
    assert ("(y/N)" in done.err, len(left(store)) == 4) == (asked, asked)


@pytest.mark.check("AIN-38")
@pytest.mark.parametrize("alias", ["rm", "remove"])
def test_an_alias_deletes(run: Run, aged: None, store: Store, alias: str) -> None:
    assert run(alias, "d10").code == 0
    assert "d10" not in left(store)


@pytest.mark.check("AIN-38")
@pytest.mark.parametrize("way", [[("delete", "x", "--hard")], [("delete", "x"), ("purge", "x")]])
def test_after_a_purge_no_word_is_left_in_messages_or_index(
    run: Run, store: Store, home: Path, way: list[tuple[str, ...]]
) -> None:
    store.create(id="x", title="Quokka")
    store.append("x", NewMessage(role="user", content="wombat " * 5000))
    assert len(run("search", "wombat", "--json").json["results"]) == 1
    store.close()
    assert [run(*each).code for each in way] == [0] * len(way)
    left = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert not [word for word in (b"wombat", b"Wombat", b"uokka") if word in left]
    assert run("restore", "x").code == 3


def test_hard_removes_what_the_options_choose(run: Run, aged: None, store: Store) -> None:
    assert run("delete", "--older-than", "30d", "--hard", "--json").json["purged"] == ["d100", "d400"]
    assert left(store) == {"d0", "d10"}


@pytest.mark.check("AIN-52")
def test_cleaning_up_says_how_many_asks_once_and_deletes(run: Run, aged: None, store: Store) -> None:
    done = run("delete", "--older-than", "90d", "--confirm", stdin=b"y\n")
    assert (done.code, done.out, done.err.count("(y/N)")) == (0, "Deleted 2 sessions\n", 1)
    assert done.err.startswith("Delete 2 sessions? ")
    assert left(store) == {"d0", "d10"}


def test_nothing_to_delete_asks_nothing(run: Run, store: Store) -> None:
    done = run("delete", "--older-than", "90d", "--confirm")
    assert done == (0, "Deleted 0 sessions\n", "")


def test_json_has_what_was_deleted(run: Run, aged: None) -> None:
    found = run("delete", "--older-than", "30d", "--json").json
    assert [(each["id"], each["deleted_at"] is None) for each in found] == [("d100", False), ("d400", False)]


def test_more_than_a_slice_is_deleted_whole(run: Run, store: Store) -> None:
    with store.transaction():
        for number in range(450):
            store.create(id=f"s{number}")
    assert run("delete", "--all", "--force").out == "Deleted 450 sessions\n"
    assert left(store) == set()


@pytest.mark.parametrize("text", ["", " "])
def test_a_blank_text_to_search_for_deletes_nothing(run: Run, aged: None, store: Store, text: str) -> None:
    assert run("delete", "--search", text, "--older-than", "1h").code == 2
    assert len(left(store)) == 4


class Meanwhile(Terminal):
    """Somebody at a terminal who agrees, but something happens before."""

    def __init__(self, deed: Callable[[], object]) -> None:
        super().__init__(io.BytesIO(b"y\n"))
        self._deed = deed

    def readline(self, size: int = -1) -> str:
        self._deed()
        return super().readline(size)


@pytest.mark.parametrize("hard", [(), ("--hard",)])
def test_what_was_made_while_it_asked_stays(
    monkeypatch: pytest.MonkeyPatch, aged: None, store: Store, hard: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "stdin", Meanwhile(lambda: store.create(id="new")))
    assert main(("delete", "--all", *hard)) == 0
    assert left(store) == {"new"}


@pytest.mark.parametrize("hard", [(), ("--hard",)])
def test_what_was_written_to_while_it_asked_stays(
    monkeypatch: pytest.MonkeyPatch, aged: None, store: Store, hard: tuple[str, ...]
) -> None:
    wanted = NewMessage(role="user", content="still wanted")
    monkeypatch.setattr(sys, "stdin", Meanwhile(lambda: store.append("d400", wanted)))
    assert main(("delete", "--older-than", "30d", *hard)) == 0
    assert left(store) == {"d0", "d10", "d400"}
