"""Our own client: finds the daemon of a home, and hands the token to nobody else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steno.daemon import client
from steno.daemon.client import DaemonClient, address, error_of
from steno.storage.errors import DaemonNotRunning, DaemonSilent, RemoteUnreachable, SessionNotFound, StenoError
from steno.storage.home import Home


def _home(directory: Path, *, port: int, socket_path: Path | None, token: str = "the-token-of-this-home") -> Home:
    home = Home(directory, directory)
    running = {"pid": 1, "port": port, "socket": socket_path and str(socket_path)}
    home.daemon_file.write_text(json.dumps(running), encoding="utf-8")
    home.token_file.write_text(token + "\n", encoding="utf-8")
    return home


@pytest.fixture
def home(server: Any) -> Home:
    return _home(server.directory, port=server.listening.port, socket_path=server.listening.socket)


@pytest.fixture
def impostor() -> Iterator[Any]:
    """A program that took the port, answers every request as told, and keeps what it was sent."""
    listening = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def answer(said: Callable[[bytes], bytes]) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65536):
                    heard.append(data)
                    reply = said(data)
                    if not reply:
                        break
                    connection.sendall(reply)

    threads: list[threading.Thread] = []

    def start(said: Callable[[bytes], bytes]) -> tuple[int, list[bytes]]:
        threads.append(threading.Thread(target=answer, args=(said,)))
        threads[0].start()
        return listening.getsockname()[1], heard

    yield start
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for thread in threads:
        thread.join()


def _ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def test_it_asks_over_the_unix_socket(home: Home, server: Any):
    home.daemon_file.write_text(json.dumps({"pid": 1, "port": 1, "socket": str(server.listening.socket)}))
    assert DaemonClient(home).status() == {"pid": 1}


def test_it_asks_over_the_port_where_there_is_no_socket(home: Home, server: Any):
    home.daemon_file.write_text(json.dumps({"pid": 1, "port": server.listening.port}))
    assert DaemonClient(home).status() == {"pid": 1}


def test_it_asks_over_the_port_when_the_socket_is_gone(home: Home, server: Any):
    running = {"pid": 1, "port": server.listening.port, "socket": str(server.directory / "gone")}
    home.daemon_file.write_text(json.dumps(running))
    assert DaemonClient(home).sync() == {"pushed": 0}


def test_it_sends_and_gets_what_any_client_does(home: Home):
    client = DaemonClient(home)
    client.request("POST", address("sessions", "a/ü", "messages"), body={"role": "user", "content": "Hello"})
    assert client.request("GET", address("sessions", "a/ü", "messages", limit=1))["messages"][0]["content"] == "Hello"


def test_an_error_of_the_daemon_is_raised_here_again(home: Home, server: Any):
    server.fails.append(True)
    with pytest.raises(RemoteUnreachable) as raised:
        DaemonClient(home).sync()
    assert raised.value.line == RemoteUnreachable(remote="file:///away", reason="no such directory").line


def test_a_missing_session_is_the_same_error_as_without_a_daemon(home: Home):
    with pytest.raises(SessionNotFound) as raised:
        DaemonClient(home).request("GET", address("sessions", "nobody"))
    assert raised.value.exit_code == 3


def test_an_unforeseen_error_of_the_daemon_is_one_line(home: Home, server: Any):
    server.fails.append(True)
    with pytest.raises(StenoError, match="its log says what"):
        DaemonClient(home).status()


@pytest.mark.parametrize("problem", [None, [], "x", {}, {"code": 5}, {"code": "Home"}, {"code": "annotations"}])
def test_an_answer_that_is_no_problem_is_an_error_all_the_same(problem: Any):
    assert error_of(problem).line == "the daemon refused"


def test_a_home_without_a_daemon_says_so(tmp_path: Path):
    with pytest.raises(DaemonNotRunning):
        DaemonClient(Home(tmp_path, tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid":1}', '{"pid":1,"port":0}', '{"pid":1,"port":99999}', "\xff"])
def test_a_daemon_json_that_cannot_be_read_names_no_daemon(home: Home, text: str):
    home.daemon_file.write_text(text, encoding="latin-1")
    with pytest.raises(DaemonNotRunning):
        DaemonClient(home)


def test_a_daemon_json_that_a_dead_daemon_left_names_none(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DaemonNotRunning):
        DaemonClient(_home(tmp_path, port=port, socket_path=tmp_path / "gone")).status()


def test_a_running_daemon_is_healthy(home: Home):
    assert DaemonClient(home).health()


def test_a_daemon_that_stands_still_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "ANSWER_WITHIN_S", 0.1)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()  # the system takes the connection in its stead
        assert not DaemonClient(_home(tmp_path, port=1, socket_path=tmp_path / "s")).health()


@pytest.mark.parametrize(
    "said", [b'{"status":"ok"}', b'{"status":"ok","hmac":"00"}', b'{"hmac":5}', b"[]", '{"hmac":"é"}'.encode()]
)
def test_who_took_the_port_is_not_told_the_token(impostor: Any, tmp_path: Path, said: bytes):
    port, heard = impostor(lambda _: _ok(said))
    with pytest.raises(DaemonNotRunning):
        DaemonClient(_home(tmp_path, port=port, socket_path=None)).status()
    assert heard
    assert not any(b"the-token" in data for data in heard)


def test_the_daemon_of_another_home_is_not_told_the_token(server: Any, tmp_path: Path):
    home = _home(tmp_path, port=server.listening.port, socket_path=None, token="another")
    assert not DaemonClient(home).health()


def test_a_connection_that_closes_after_the_proof_is_not_opened_anew(impostor: Any, server: Any, tmp_path: Path):
    def relay(data: bytes) -> bytes:
        address = data.split()[1].decode()
        return _ok(server.ask("GET", address, token=None).body).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)

    port, heard = impostor(relay)
    with pytest.raises(DaemonNotRunning):
        DaemonClient(_home(tmp_path, port=port, socket_path=None)).status()
    assert not any(b"the-token" in data for data in heard)


def test_a_daemon_that_dies_at_its_answer_was_silent(impostor: Any, server: Any, tmp_path: Path):
    def relay(data: bytes) -> bytes:
        address = data.split()[1].decode()
        return _ok(server.ask("GET", address, token=None).body) if "nonce" in address else b""

    port, _ = impostor(relay)
    with pytest.raises(DaemonSilent):
        DaemonClient(_home(tmp_path, port=port, socket_path=None)).status()


def test_the_client_brings_no_server_with_it():
    script = "import sys, steno.daemon.client; print(*{'aiohttp', 'asyncio', 'sqlite3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
