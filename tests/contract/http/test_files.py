"""The session files over HTTP: where they lie, what is wrong with them, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from steno.daemon.client import DaemonClient
from steno.daemon.status import files_status
from steno.storage.errors import InvalidInput, SessionNotFound, StenoError
from steno.storage.model import NewMessage
from steno.sync.files.reports import report_json, reports


def session(server: Any, *contents: str, id: str = "s") -> None:
    server.store.create(id=id, title="A title")
    server.store.add_messages(id, [NewMessage(role="user", content=each, id=each) for each in contents])


def place(server: Any, id: str = "s") -> Path:
    return Path(server.ask("GET", server.path(id, "file")).json["path"])


def take(server: Any, body: Any = None) -> Any:
    return server.ask("POST", server.path("s", "file"), body if body is not None else {})


def contents(server: Any) -> list[Any]:
    return [each.content for each in server.store.messages("s")]


@pytest.mark.parametrize("id", ["s", "a/ü ?", "../../x"])
def test_the_file_of_a_session_is_written_and_named(server: Any, id: str):
    session(server, "one", id=id)
    answer = server.ask("GET", server.path(id, "file"))
    path = Path(answer.json["path"])
    assert (answer.status, answer.json["session"], answer.json["written"]) == (200, id, True)
    assert path.is_relative_to(server.directory / "sessions")
    assert json.loads(path.read_text().splitlines()[1])["content"] == "one"


def test_the_file_is_brought_up_to_its_session(server: Any):
    session(server, "one")
    path = place(server)
    server.store.append("s", NewMessage(role="user", content="arrived"))
    assert place(server) == path
    assert "arrived" in path.read_text()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_session_that_is_not_there_has_no_file(server: Any, method: str):
    answer = server.ask(method, server.path("nobody", "file"), {} if method == "POST" else None)
    assert (answer.status, answer.json["code"]) == (404, "SessionNotFound")


def test_what_was_saved_is_taken_up(server: Any):
    session(server, "one", "two")
    path = place(server)
    path.write_text(path.read_text().replace('"content":"two"', '"content":"2"'))
    answer = take(server)
    assert (answer.status, answer.json["taken"], answer.json["refused"]) == (200, True, None)
    assert contents(server) == ["one", "2"]


def test_why_a_save_is_refused_is_said_with_its_place(server: Any):
    session(server, "one")
    path = place(server)
    path.write_text(path.read_text() + '{"role" "user"}\n')
    found = take(server).json
    assert found["taken"] is True
    assert (found["refused"]["line"], found["refused"]["column"]) == (3, 9)
    assert found["refused"]["path"] == str(path.relative_to(server.directory / "sessions"))


@pytest.mark.parametrize(("deletions", "left"), [("some", 20), ("none", 20), ("all", 1)])
def test_a_save_that_would_delete_much_does_so_where_it_is_said(server: Any, deletions: str, left: int):
    session(server, *map(str, range(20)))
    path = place(server)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    found = take(server, {"deletions": deletions}).json
    assert (len(contents(server)), bool(found["refused"])) == (left, deletions == "some")


def test_nothing_is_taken_where_no_file_was_written_yet(server: Any):
    session(server, "one")
    assert take(server).json == {"session": "s", "path": None, "written": False, "taken": False, "refused": None}


@pytest.mark.parametrize("body", [{"deletions": "many"}, {"all": True}, [], "some", b"{"])
def test_a_body_that_is_not_asked_for_is_refused(server: Any, body: Any):
    session(server, "one")
    assert take(server, body).status == 400


def test_how_the_files_stand_is_the_part_of_the_status(server: Any):
    session(server, "one")
    place(server)
    server.said["files"] = files_status(server.store, server.home)
    found = server.ask("GET", "/v1/files").json
    assert found == server.ask("GET", "/v1/status").json["files"]
    assert (found["files"], found["refused"], found["halted"]) == (1, [], None)


def test_what_was_reported_of_a_save_is_told_as_the_command_line_tells_it(server: Any):
    session(server, "one", "two")
    path = place(server)
    path.write_text(path.read_text().replace('"id":"two","role":"user"', '"id":"two","role":"system"'))
    take(server)
    server.said["files"] = files_status(server.store, server.home)
    found = server.ask("GET", "/v1/files").json["reports"]
    assert found == [report_json(each) for each in reports(server.store)]
    assert [list(each) for each in found] == [["at", "path", "session", "kind", "text"]]
    assert (found[0]["session"], found[0]["kind"]) == ("s", "birth-restored")
    assert server.directory / "sessions" / found[0]["path"] == path


def test_every_file_is_compared_with_the_store_page_by_page(server: Any):
    for number in range(5):
        session(server, "one", id=f"s{number}")
    path = place(server, "s3")
    path.write_text(path.read_text().replace("one", "eno"))
    (path.parent / "notes.txt").write_text("x")
    found, compared, cursor = [], 0, ""
    while cursor is not None:
        page = server.ask("GET", f"/v1/files/verify?limit=2&cursor={cursor}").json
        assert len(page["differences"]) <= 2
        found += page["differences"]
        compared += page["compared"]
        cursor = page["next"]
    kinds = [(each["kind"], each["session"], each["line"]) for each in found]
    missing = [("missing", f"s{number}", 0) for number in (0, 1, 2, 4)]
    assert sorted(kinds[:-1]) == sorted([*missing, ("differs", "s3", 2)])
    assert (kinds[-1], compared) == (("foreign", None, 0), 5)
    assert server.ask("GET", "/v1/files/verify").json == {"differences": found, "compared": 5, "next": None}


@pytest.mark.parametrize("query", ["limit=0", "cursor=x", "cursor=eyJzZXNzaW9uIjotMX0", "cursor=WzFd", "all=true"])
def test_a_query_that_makes_no_sense_is_refused(server: Any, query: str):
    assert server.ask("GET", f"/v1/files/verify?{query}").status == 400


def test_a_rebuild_writes_what_is_missing_and_says_how_many(server: Any):
    for number in range(3):
        session(server, "one", id=f"s{number}")
    assert server.ask("POST", "/v1/files/rebuild").json == {"written": 3}
    place(server, "s1").unlink()
    assert server.ask("POST", "/v1/files/rebuild").json == {"written": 1}
    assert server.ask("GET", "/v1/files/verify").json["differences"] == []


@pytest.mark.parametrize(("action", "live"), [("restore", 15), ("delete", 0)])
def test_files_that_stand_still_go_on_as_it_is_said(server: Any, action: str, live: int):
    for number in range(15):
        session(server, id=f"s{number}")
    gone = [place(server, f"s{number}") for number in range(15)]
    for each in (*gone, server.directory / "sessions" / ".steno"):
        each.unlink()
    answer = server.ask("GET", server.path("s1", "file"))
    assert (answer.status, answer.json["code"]) == (503, "MirrorStopped")
    assert "steno files resume" in answer.json["hint"]
    assert server.ask("POST", "/v1/files/rebuild").status == 503
    done = server.ask("POST", "/v1/files/resume", {"action": action})
    expected = {"deleted": 15 - live, "restored": 0, "files": live, "messages": 0, "refused": [], "kept": []}
    assert done.json == expected
    assert server.store.count()[0] == live
    assert sum(each.exists() for each in gone) == live
    assert server.ask("POST", "/v1/files/rebuild").json == {"written": 0}


def test_what_does_not_stand_still_is_not_resumed(server: Any):
    answer = server.ask("POST", "/v1/files/resume", {"action": "delete"})
    assert (answer.status, answer.json["code"]) == (400, "InvalidInput")


@pytest.mark.parametrize("body", [{}, {"action": "yes"}, {"action": "delete", "yes": True}])
def test_a_resumption_says_which_of_the_two(server: Any, body: Any):
    assert server.ask("POST", "/v1/files/resume", body).status == 400


def test_our_own_client_asks_all_of_that(server: Any):
    session(server, "one")
    server.said["files"] = files_status(server.store, server.home)
    server.home.daemon_file.write_text(
        json.dumps({"pid": 1, "port": 1, "socket": str(server.listening.socket)}), encoding="utf-8"
    )
    server.home.token_file.write_text(server.token, encoding="ascii")
    client = DaemonClient(server.home)
    path = Path(client.session_file("s")["path"])
    path.write_text(path.read_text().replace('"content":"one"', '"content":"1"'))
    assert client.take_file("s", "none")["taken"] is True
    assert contents(server) == ["1"]
    assert client.files()["directory"] == str(server.home.sessions)
    path.unlink()
    assert client.rebuild_files() == 1
    with pytest.raises(InvalidInput, match="do not stand still"):
        client.resume_files("restore")
    with pytest.raises(SessionNotFound):
        client.session_file("nobody")
    (server.directory / "sessions" / ".steno").unlink()
    with pytest.raises(StenoError, match="nobody knows whose directory this is") as raised:
        client.rebuild_files()
    assert "steno files resume" in raised.value.line
    assert client.resume_files("restore")["deleted"] == 0
