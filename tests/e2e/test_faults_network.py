"""Services that refuse, ask for patience, or answer what they were not asked: what a running daemon makes of it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import pytest

from steno.tests.e2e.device import Device, equal, until

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]
Refusal = tuple[int, dict[str, str], bytes]
PORTAL = b"<html><body>Welcome to the hotel. Please sign in.</body></html>"
HASTY = (
    "import sys, steno.daemon.vault_job as job; job.POLL_FIRST_S = job.POLL_LAST_S = 0.1\n"
    "job.BACK_OFF_FIRST_S, job.BACK_OFF_LAST_S = 0.05, 3.0\n"
    "from steno.cli.main import main; sys.exit(main(['daemon', 'run']))"
)
"""A daemon that asks often and begins to back off at once."""
SLOW_TO_RETRY = (
    "import sys, time, steno.daemon.app as app, steno.daemon.vault_job as job\n"
    "job.BACK_OFF_FIRST_S = job.BACK_OFF_LAST_S = 1000.0; app.STORE_POLL_S = 0.05\n"
    "real, slept = time.time, sys.argv[1]\n"
    "import os; time.time = lambda: real() + (3600 if os.path.exists(slept) else 0)\n"
    "from steno.cli.main import main; sys.exit(main(['daemon', 'run']))"
)
"""A daemon that would wait a quarter of an hour, on a machine that sleeps as soon as a file is there."""


class Dav:
    """A WebDAV server over a directory; ``refuses`` says what it answers in place of doing what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.times: list[tuple[str, float]] = []
        self.refuses: Callable[[str, str], Refusal | None] = lambda *_: None
        self.holds = threading.Event()
        self.holds.set()

    def answer(self, method: str, path: str, body: bytes) -> Refusal:
        self.asked[method] += 1
        self.times.append((method, time.monotonic()))
        return self.refuses(method, path) or self._done(method, self.folder / unquote(path).strip("/"), body)

    def _done(self, method: str, target: Path, body: bytes) -> Refusal:
        if method == "PUT":
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(body)
        elif method == "MKCOL":
            target.mkdir(parents=True, exist_ok=True)
        elif not target.exists():
            return 404, {}, b""
        elif method == "DELETE":
            target.unlink()
        elif method == "PROPFIND":
            found = [target, *sorted(target.iterdir())] if target.is_dir() else [target]
            return 207, {"Content-Type": "application/xml"}, self._listing(found)
        else:
            return 200, {}, target.read_bytes()
        return 201, {}, b""

    def pauses(self, *methods: str) -> list[float]:
        """How long nobody asked that, between one try and the next."""
        times = [at for method, at in self.times if not methods or method in methods]
        return [gap for gap in (later - earlier for earlier, later in itertools.pairwise(times)) if gap > 0.04]

    def _listing(self, found: list[Path]) -> bytes:
        entries = []
        for path in found:
            href = "/" + escape(str(path.relative_to(self.folder))) + ("/" if path.is_dir() else "")
            kind = "<D:collection/>" if path.is_dir() else ""
            entries.append(
                f"<D:response><D:href>{href}</D:href><D:propstat><D:prop><D:resourcetype>{kind}</D:resourcetype>"
                f"<D:getcontentlength>{path.stat().st_size}</D:getcontentlength>"
                "<D:getlastmodified>Sat, 21 Nov 2026 10:00:00 GMT</D:getlastmodified></D:prop>"
                "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
            )
        text = f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{"".join(entries)}</D:multistatus>'
        return text.encode()


@contextmanager
def serving(dav: Dav) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command == "PUT":
                dav.holds.wait(60)
            status, headers, content = dav.answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_DELETE = do_PROPFIND = do_MKCOL = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"webdav+http://127.0.0.1:{server.server_address[1]}/"
        dav.holds.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def dav(place: Path) -> Dav:
    (place / "dav").mkdir()
    return Dav(place / "dav")


@pytest.fixture
def devices(place: Path, dav: Dav) -> Iterator[Pair]:
    """Two devices of one vault: the first over the server, the second in the directory that it serves."""
    with serving(dav) as url:
        made = Device(place / "a", remote=url).make(found=True), Device(place / "b", remote=dav.folder).make()
        yield made
        for device in made:
            device.kill()


def _start(device: Device, *more: str, program: str = HASTY) -> None:
    device.daemon = device.run("-c", program, *more)
    until(lambda: device.home.daemon_file.exists() and device.client.health(), "the daemon answers")


def _error(device: Device) -> str:
    return device.status()["vault"].get("error") or ""


def _write(device: Device, session: str) -> None:
    device.steno("create", "--id", session)


def _refusing(status: int, *methods: str, **headers: str) -> Callable[[str, str], Refusal | None]:
    return lambda method, _: (status, headers, b"") if not methods or method in methods else None


@pytest.mark.fault(29)
@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_pause_the_remote_and_it_goes_on_where_it_was(devices: Pair, dav: Dav, status: int):
    laptop, desktop = devices
    _write(laptop, "before")
    _start(laptop)
    until(laptop.settled, "all is sent")
    dav.refuses = _refusing(status)
    _write(laptop, "meanwhile")
    until(lambda: f"status {status}" in _error(laptop), "it is said")
    assert laptop.status()["vault"]["not_sent"] + laptop.status()["vault"]["pending_segments"] > 0
    assert f"status {status}" in laptop.steno("status", code=8).out
    assert laptop.steno("sync", code=6).err.count("\n") == 1
    dav.times.clear()
    until(lambda: any(pause > 1 for pause in dav.pauses()), "it is asked ever more seldom")
    assert len(dav.times) < 60
    dav.refuses = lambda *_: None
    dav.asked.clear()
    until(lambda: laptop.settled() and not _error(laptop), "it goes on by itself")
    assert dav.asked["GET"] == 0, "nothing is read a second time"
    desktop.sync_here()
    assert equal(laptop, desktop)


@pytest.mark.fault(30)
@pytest.mark.parametrize("status", [403, 507])
def test_a_full_remote_is_read_on_while_nothing_is_sent(devices: Pair, dav: Dav, status: int):
    laptop, desktop = devices
    _start(laptop)
    until(laptop.settled, "all is well")
    dav.refuses = _refusing(status, "PUT")
    _write(laptop, "waits")
    until(lambda: f"status {status}" in _error(laptop), "it is said")
    until(lambda: any(pause > 1 for pause in dav.pauses("PUT")), "it is tried ever more seldom")
    assert dav.asked["PUT"] < 60
    for number in range(3):
        _write(desktop, f"of the desktop {number}")
        desktop.sync_here()
        until(lambda wanted=number + 2: len(laptop.everything()) == wanted, "what others wrote arrives", within_s=5)
    assert laptop.status()["vault"]["pending_segments"] > 0
    assert f"status {status}" in laptop.steno("status", code=8).out
    dav.refuses = lambda *_: None
    until(lambda: laptop.settled() and not _error(laptop), "it is sent when there is room")
    desktop.sync_here()
    assert equal(laptop, desktop)


@pytest.mark.fault(32)
@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_asks_for_patience_is_left_alone_as_long_as_it_asks(devices: Pair, dav: Dav, status: int):
    laptop, _ = devices
    _start(laptop)
    until(laptop.settled, "all is well")
    dav.refuses = _refusing(status, **{"Retry-After": "3"})
    _write(laptop, "waits")
    until(lambda: f"status {status}" in _error(laptop), "it is said")
    dav.refuses = lambda *_: None
    until(laptop.settled, "it is sent afterwards")
    assert max(dav.pauses()) >= 2.9


@pytest.mark.fault(32)
def test_a_page_in_the_place_of_every_answer_is_never_taken_for_an_object(devices: Pair, dav: Dav):
    laptop, desktop = devices
    _write(desktop, "of the desktop")
    desktop.sync_here()
    before = {path: path.read_bytes() for path in dav.folder.rglob("*") if path.is_file()}
    dav.refuses = lambda *_: (200, {"Content-Type": "text/html"}, PORTAL)
    _write(laptop, "mine")
    _start(laptop)
    until(lambda: _error(laptop), "it is said")
    laptop.steno("status", code=8)
    assert sorted(laptop.everything()) == ["mine"]
    assert laptop.status()["vault"]["not_sent"] + laptop.status()["vault"]["pending_segments"] > 0
    stranger = Device(laptop.place.parent / "c")
    assert stranger.steno("join", str(laptop.remote), code=None).code != 0
    assert not stranger.home.exists
    assert {path: path.read_bytes() for path in dav.folder.rglob("*") if path.is_file()} == before
    dav.refuses = lambda *_: None
    until(lambda: laptop.settled() and not laptop.status()["problems"], "it goes on by itself")
    desktop.sync_here()
    assert equal(laptop, desktop)


@pytest.mark.fault(32)
def test_a_page_in_answer_to_a_put_is_noticed_and_what_came_of_nothing_is_sent_again(devices: Pair, dav: Dav):
    laptop, desktop = devices
    _start(laptop)
    until(laptop.settled, "all is well")
    dav.refuses = lambda method, _: (200, {"Content-Type": "text/html"}, PORTAL) if method == "PUT" else None
    _write(laptop, "mine")
    until(lambda: "gone" in str(laptop.status()["problems"]), "it is said")
    laptop.steno("status", code=8)
    dav.refuses = lambda *_: None
    until(lambda: not laptop.status()["problems"], "it is sent again by itself")
    desktop.sync_here()
    assert equal(laptop, desktop)


@pytest.mark.fault(32)
def test_after_a_sleep_it_looks_at_once_whatever_it_waited_for(devices: Pair, dav: Dav, place: Path):
    laptop, _ = devices
    dav.refuses = _refusing(500)
    _write(laptop, "waits")
    _start(laptop, str(place / "slept"), program=SLOW_TO_RETRY)
    until(lambda: _error(laptop), "the remote is away")
    dav.refuses = lambda *_: None
    (place / "slept").touch()
    until(laptop.settled, "it has caught up", within_s=10)


@pytest.mark.fault(44)
def test_a_daemon_that_is_stopped_in_the_midst_of_a_put_ends_and_goes_on_later(devices: Pair, dav: Dav):
    laptop, desktop = devices
    _start(laptop)
    until(lambda: laptop.settled() and (dav.folder / "devices").is_dir(), "all is well, and it has said who it is")
    dav.holds.clear()
    _write(laptop, "mine")
    until(lambda: laptop.status()["vault"]["pending_segments"], "it is being sent")
    asked = dav.asked.total()
    began = time.monotonic()
    laptop.stop()
    assert time.monotonic() - began < 10
    assert dav.asked.total() == asked
    dav.holds.set()
    _write(laptop, "later")
    _start(laptop)
    until(lambda: laptop.settled() and not laptop.status()["problems"], "the rest is sent")
    desktop.sync_here()
    assert equal(laptop, desktop)
    assert len({path.name.split(".")[1] for path in (dav.folder / "log").iterdir()}) == 2


def test_a_program_that_ends_right_after_an_answer_ends_well(dav: Dav):
    asks = "import asyncio, sys; from steno.sync.vault.remote import open_remote\n"
    asks += "asyncio.run(open_remote(sys.argv[1]).list(''))"
    with serving(dav) as url:
        ended = [subprocess.run([sys.executable, "-c", asks, url], check=False).returncode for _ in range(6)]
    assert ended == [0] * 6
