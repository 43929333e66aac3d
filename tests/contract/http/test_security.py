"""Who may ask, and what no answer tells."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

ROUTES = [
    ("GET", "/v1/status"), ("GET", "/v1/sessions"), ("POST", "/v1/sessions"), ("GET", "/v1/sessions/one"),
    ("PATCH", "/v1/sessions/one"), ("DELETE", "/v1/sessions/one"), ("POST", "/v1/sessions/one/restore"),
    ("GET", "/v1/sessions/one/messages"), ("POST", "/v1/sessions/one/messages"),
    ("PATCH", "/v1/sessions/one/messages/m"), ("DELETE", "/v1/sessions/one/messages/m"), ("GET", "/v1/search?q=x"),
    ("GET", "/v1/sessions/one/file"), ("POST", "/v1/sessions/one/file"), ("GET", "/v1/files"),
    ("GET", "/v1/files/verify"), ("POST", "/v1/files/rebuild"), ("POST", "/v1/files/resume"),
    ("POST", "/v1/sync"), ("GET", "/"), ("GET", "/v1/nothing"), ("OPTIONS", "/v1/sessions"), ("PUT", "/v1/health"),
    ("GET", "/v1/health/"), ("GET", "//v1/health"), ("GET", "/healthz/../v1/status"), ("TRACE", "/v1/sessions"),
]  # fmt: skip
BAD_TOKENS = ["", "Bearer", "Bearer ", "Bearer wrong", "Basic the-token-of-this-home", "the-token-of-this-home",
              "Bearer the-token-of-this-home2", "Bearer the-token-of-this-hom", "Bearer \xff\xfe"]  # fmt: skip
BAD_HOSTS = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", "192.168.0.1", "[::2]",
             "localhost:", "localhost:80:80", "localhost:999999",
             "localhost@evil.example", "127.0.0.1,evil.example", "::1", "127.0.0.2"]  # fmt: skip


@pytest.mark.fault(42)
@pytest.mark.parametrize(("method", "address"), ROUTES)
def test_every_route_but_health_needs_the_token(server: Any, method: str, address: str):
    answer = server.ask(method, address, token=None)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("given", BAD_TOKENS)
def test_another_token_does_not_open(server: Any, given: str):
    assert server.ask("GET", "/v1/status", headers={"Authorization": given}).status == 401


def test_health_needs_no_token(server: Any):
    assert server.ask("GET", "/v1/health", token=None).json == {"status": "ok"}


def test_healthz_is_a_dot(server: Any):
    assert server.ask("GET", "/healthz", token=None).body == b"."


def test_health_proves_with_a_nonce_that_it_holds_the_token(server: Any):
    answer = server.ask("GET", "/v1/health?nonce=n%C3%B6nce", token=None)
    assert answer.json["hmac"] == hmac.new(server.token.encode(), "nönce".encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("nonce", ["", "x" * 257])
def test_a_nonce_has_a_length(server: Any, nonce: str):
    assert server.ask("GET", f"/v1/health?nonce={nonce}", token=None).status == 400


@pytest.mark.fault(42)
@pytest.mark.parametrize("address", ["/v1/health", "/healthz", "/v1/status"])
@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_name_that_was_made_to_point_here_is_refused(server: Any, host: str, address: str):
    assert server.ask("GET", address, headers={"Host": host}).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST:65535", "[::1]:7836"])
def test_the_names_of_this_machine_are_taken_with_any_port(server: Any, host: str):
    assert server.ask("GET", "/v1/status", headers={"Host": host}).status == 200


@pytest.mark.parametrize("hosts", ["", "Host: localhost\r\nHost: evil.example\r\n"])
def test_the_host_is_named_once(server: Any, hosts: str):
    answer = server.send(f"GET /v1/health HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
    assert answer.status in (400, 403)


def test_an_address_in_the_request_line_cannot_stand_for_the_host(server: Any):
    line = f"GET http://evil.example/v1/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
    assert server.send(f"{line}Connection: close\r\n\r\n".encode()).status == 400


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:1", "https://localhost", "http://127.0.0.1.evil.example",
     "chrome-extension://abc", "file://", "", "http://localhost"],
)  # fmt: skip
def test_a_page_of_another_site_is_refused_even_with_the_token(server: Any, origin: str):
    assert server.ask("GET", "/v1/status", headers={"Origin": origin}).status == 403


def test_a_page_of_another_site_is_refused_on_health_too(server: Any):
    assert server.ask("GET", "/v1/health", headers={"Origin": "http://evil.example"}).status == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
def test_a_page_of_our_own_may_ask(server: Any, name: str):
    headers = {"Origin": f"http://{name}:{server.listening.port}"}
    assert server.ask("GET", "/v1/status", headers=headers).status == 200


def test_a_page_of_our_own_may_ask_through_a_forwarded_port(server: Any):
    headers = {"Host": "localhost:9999", "Origin": "http://localhost:9999"}
    assert server.ask("GET", "/v1/status", headers=headers).status == 200


@pytest.mark.fault(42)
def test_no_answer_lets_another_origin_read_it(server: Any):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        answer = server.ask(method, "/v1/sessions", headers=headers)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_the_unix_socket_takes_any_host(server: Any):
    head = f"GET /v1/status HTTP/1.1\r\nHost: anything\r\nAuthorization: Bearer {server.token}\r\n"
    assert server.send(f"{head}Connection: close\r\n\r\n".encode(), unix=True).status == 200


@pytest.mark.parametrize("extra", ["", "Authorization: Bearer wrong\r\n"])
def test_the_unix_socket_needs_the_token_too(server: Any, extra: str):
    head = f"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n{extra}"
    assert server.send(f"{head}Connection: close\r\n\r\n".encode(), unix=True).status == 401


@pytest.mark.parametrize("origin", ["http://evil.example", "http://anything"])
def test_the_unix_socket_refuses_pages_of_other_sites(server: Any, origin: str):
    head = f"GET /v1/health HTTP/1.1\r\nHost: anything\r\nOrigin: {origin}\r\n"
    assert server.send(f"{head}Connection: close\r\n\r\n".encode(), unix=True).status == 403


def test_the_token_is_asked_before_a_body_is_read(server: Any):
    head = "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n"
    assert server.send(f"{head}Connection: close\r\n\r\n".encode()).status == 401


def test_an_unforeseen_error_tells_nothing_of_the_insides(server: Any, caplog: pytest.LogCaptureFixture):
    server.fails.append(True)
    answer = server.ask("GET", "/v1/status")
    assert (answer.status, answer.json["code"]) == (500, "InternalServerError")
    assert b"secret" not in answer.body
    assert "a secret of the insides" in caplog.text


def test_answers_are_not_kept_by_caches_or_guessed_at_by_browsers(server: Any):
    headers = server.ask("GET", "/v1/sessions").headers
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"], headers["Server"]) == (
        "no-store", "nosniff", "steno",
    )  # fmt: skip
