"""Every error is a problem (RFC 9457), whatever was sent."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steno.daemon.bodies import MAX_BODY_BYTES
from steno.daemon.problem import problem_of
from steno.storage import errors


def check_problem(answer: Any, status: int | None = None) -> None:
    assert answer.headers["Content-Type"] == "application/problem+json"
    members = answer.json
    assert members["status"] == answer.status
    assert all(isinstance(members[name], str) and members[name] for name in ("type", "title", "detail", "code"))
    assert status in (None, answer.status)


def test_an_address_with_nothing_is_a_problem(server: Any):
    check_problem(server.ask("GET", "/v1/nothing"), 404)


def test_a_method_that_an_address_does_not_take_is_a_problem_and_says_which_it_takes(server: Any):
    answer = server.ask("PUT", server.path("one"))
    check_problem(answer, 405)
    assert set(answer.headers["Allow"].split(",")) == {"GET", "PATCH", "DELETE"}


def test_a_missing_token_is_a_problem(server: Any):
    check_problem(server.ask("GET", "/v1/status", token=None), 401)


def test_a_foreign_host_is_a_problem(server: Any):
    check_problem(server.ask("GET", "/v1/status", headers={"Host": "evil.example"}), 403)


def test_an_unforeseen_error_is_a_problem(server: Any):
    server.fails.append(True)
    check_problem(server.ask("GET", "/v1/status"), 500)


def test_an_error_of_steno_keeps_its_name_hint_and_exit_code(server: Any):
    server.fails.append(True)
    answer = server.ask("POST", "/v1/sync")
    check_problem(answer, 502)
    assert (answer.json["code"], answer.json["exit_code"], answer.json["retryable"]) == ("RemoteUnreachable", 6, True)
    assert answer.json["hint"] == errors.RemoteUnreachable.hint


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", ""],
)
def test_a_body_that_is_not_called_json_is_refused(server: Any, content_type: str):
    check_problem(server.ask("POST", "/v1/sessions", b"{}", headers={"Content-Type": content_type}), 415)


def test_a_merge_patch_makes_no_session(server: Any):
    headers = {"Content-Type": "application/merge-patch+json"}
    check_problem(server.ask("POST", "/v1/sessions", b"{}", headers=headers), 415)


def test_json_may_name_its_charset(server: Any):
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert server.ask("POST", "/v1/sessions", b"{}", headers=headers).status == 201


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_a_packed_body_is_refused(server: Any, coding: str):
    answer = server.ask("POST", "/v1/sessions", b"{}", headers={"Content-Encoding": coding})
    check_problem(answer)
    assert answer.status in (400, 415)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{}{}", b"nul", b"NaN", b'{"title":NaN}', b'{"metadata":{"a":Infinity}}', b'{"metadata":{"a":1e999}}',
     b"\xff", b'{"title":"\xff"}', b'{"title":"\\ud800"}', b"[" * 100_000, b'{"metadata":' + b'{"a":' * 5000,
     b'{"metadata":' + b'{"a":' * 70 + b"1" + b"}" * 71, b"\xef\xbb\xbf{}", b'{"metadata":{"a":1' + b"0" * 5000 + b"}}",
     b'{"title":"\x00"}', b'{"id":"\\u0000"}', b'{"id":""}', b'{"status":"' + b"x" * 100_000 + b'"}'],
    ids=range(20),
)  # fmt: skip
def test_a_body_that_is_no_valid_json_is_refused(server: Any, body: bytes):
    check_problem(server.ask("POST", "/v1/sessions", body), 400)


def test_of_a_member_that_is_given_twice_the_last_counts(server: Any):
    assert server.ask("POST", "/v1/sessions", b'{"title":"a","title":"b"}').json["title"] == "b"


def test_a_body_at_the_limit_is_taken(server: Any):
    frame = b'{"role":"user","content":""}'
    body = frame[:-2] + b"x" * (MAX_BODY_BYTES - len(frame)) + frame[-2:]
    assert server.ask("POST", server.path("one", "messages"), body).status == 201


def test_a_body_beyond_the_limit_is_refused_by_its_length(server: Any):
    check_problem(server.ask("POST", server.path("one", "messages"), b" " * (MAX_BODY_BYTES + 1)), 413)


def test_a_body_beyond_the_limit_is_refused_when_it_comes_in_chunks(server: Any):
    head = (
        "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Authorization: Bearer {server.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    check_problem(server.send(head.encode() + chunk * 17 + b"0\r\n\r\n"), 413)


@pytest.mark.parametrize(
    "data",
    [b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET /\xff HTTP/9.9\r\n\r\n", b"GET\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
     b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ids=range(8),
)  # fmt: skip
def test_what_is_no_http_is_answered_with_a_problem(server: Any, data: bytes):
    answer = server.send(data)
    check_problem(answer)
    assert 400 <= answer.status < 500


def test_a_body_that_breaks_off_is_no_fault_of_ours(server: Any, caplog: pytest.LogCaptureFixture):
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
    server.drop(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
    assert server.ask("GET", "/v1/sessions").json["sessions"] == []
    assert not caplog.records


def test_an_answer_to_what_is_no_http_says_nothing_of_what_we_are_made_with(server: Any):
    assert server.send(b"garbage\r\n\r\n").headers["Server"] == "steno"


def test_a_body_that_is_announced_is_asked_for(server: Any):
    head = (
        "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        f"Authorization: Bearer {server.token}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.listening.port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")


def test_an_expectation_that_nobody_knows_is_passed_over(server: Any):
    assert server.ask("GET", "/v1/status", headers={"Expect": "wonders"}).status == 200


def test_two_long_odd_ids_fit_into_an_address(server: Any):
    session, message = "ü" * 1024, "ö" * 1024
    server.ask("POST", server.path(session, "messages"), {"id": message, "role": "user", "content": "x"})
    assert server.ask("DELETE", server.path(session, "messages", message)).status == 200


@pytest.mark.parametrize("segment", ["%FF", "%00", "%0A", "a" * 2049, "%ED%A0%80", "%C2%80"])
def test_an_address_that_no_id_can_have_is_refused(server: Any, segment: str):
    check_problem(server.ask("GET", f"/v1/sessions/{segment}"), 400)


def test_every_error_class_has_a_status_of_its_own_kind():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StenoError)]
    statuses = {kind: problem_of(Exception.__new__(kind)).status for kind in kinds if kind.exit_code != 1}
    assert all(400 <= status < 500 or kind.exit_code == 6 for kind, status in statuses.items())


def test_what_a_problem_quotes_is_short_and_on_one_line():
    error = errors.InvalidInput("a\nb\ud800" + "x" * 1_000_000)
    body = problem_of(error).body
    assert isinstance(body, bytes)
    assert len(body) < 2000
    assert json.loads(body)["detail"].startswith("a b?x")


# Laws, on one server for all examples

SEGMENTS = st.one_of(
    st.sampled_from(["v1", "sessions", "one", "messages", "m1", "restore", "search", "status", "..", "", "%", "%zz"]),
    st.text(max_size=8).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="")),
    st.binary(max_size=8).map(quote_from_bytes),
)
QUERIES = st.one_of(
    st.sampled_from(["", "?", "?limit=1", "?cursor=x&limit=2", "?q=%22", "?q=a*&session=%00", "?&&==", "?nonce=1"]),
    st.dictionaries(st.sampled_from(["limit", "cursor", "title", "tag", "q", "x"]), st.binary(max_size=12)).map(
        lambda pairs: "?" + "&".join(f"{name}={quote_from_bytes(value)}" for name, value in pairs.items())
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    ["id", "title", "status", "tags", "metadata", "state", "role", "content", "messages", "usage", "timestamp", "after"]
)
BODIES = st.one_of(
    st.binary(max_size=20),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(MEMBERS, JSON, max_size=4).map(lambda value: json.dumps(value).encode()),
)


@pytest.fixture(scope="module")
def lasting(loop: Any, running_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory: Path = tmp_path_factory.mktemp("http")
    yield from running_server(loop, directory)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"]),
    segments=st.lists(SEGMENTS, max_size=5),
    query=QUERIES,
    body=BODIES,
)
def test_whatever_is_asked_is_answered_or_a_problem_of_the_asker(
    lasting: Any, method: str, segments: list[str], query: str, body: bytes
):
    answer = lasting.ask(method, "/v1/" + "/".join(segments) + query, body)
    assert answer.status < 500
    if answer.status >= 400:
        check_problem(answer)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    route=st.sampled_from([("POST", ""), ("PATCH", "/one"), ("POST", "/one/messages"), ("PATCH", "/one/messages/m1")]),
    body=BODIES,
)
def test_whatever_is_sent_to_be_written_is_written_or_refused_whole(lasting: Any, route: tuple[str, str], body: bytes):
    lasting.ask("POST", lasting.path("one", "messages"), {"id": "m1", "role": "user", "content": "x"})
    before = lasting.store.last_seq
    answer = lasting.ask(route[0], f"/v1/sessions{route[1]}", body)
    assert answer.status in (200, 201, 400, 409)
    assert answer.status < 400 or lasting.store.last_seq == before
