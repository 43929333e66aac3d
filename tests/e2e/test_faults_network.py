"""Services that refuse, ask for patience, or answer what they were not asked: what a running daemon makes of it."""

from __future__ import annotations

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

Pair = tuple[Device, Device]
Refusal = tuple[int, dict[str, str], bytes]
PORTAL = b"<html><body>Welcome to the hotel. Please sign in.</body></html>"
HASTY = (
    "import sys, steno.daemon.app as app; app.BACK_OFF_FIRST_S = 0.05; app.POLL_FIRST_S = app.POLL_LAST_S = 0.1\n"
    "from steno.cli.main import main; sys.exit(main(['daemon', 'run']))"
)
"""A daemon that asks often and begins to back off at once."""
SLOW_TO_RETRY = (
    "import sys, time, steno.daemon.app as app\n"
    "app.BACK_OFF_FIRST_S = app.BACK_OFF_LAST_S = 1000.0; app.STORE_POLL_S = 0.05\n"
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
        self.times: list[float] = []
        self.refuses: Callable[[str, str], Refusal | None] = lambda *_: None
        self.holds = threading.Event()
        self.holds.set()

    def answer(self, method: str, path: str, body: bytes) -> Refusal:
        self.asked[method] += 1
        self.times.append(time.monotonic())
        refusal = self.refuses(method, path)
        if refusal is not None:
            return refusal
        target = self.folder / unquote(path).strip("/")
        if method == "PUT":
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(body)
            return 201, {}, b""
        if method == "MKCOL":
            target.mkdir(parents=True, exist_ok=True)
            return 201, {}, b""
        if not target.exists():
            return 404, {}, b""
        if method == "DELETE":
            target.unlink()
            return 204, {}, b""
        if method == "PROPFIND":
            found = [target, *sorted(target.iterdir())] if target.is_dir() else [target]
            return 207, {"Content-Type": "application/xml"}, self._listing(found)
        return 200, {}, target.read_bytes()

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
    """Two devices of one vault on a WebDAV server."""
    with serving(dav) as url:
        made = Device(place / "a", remote=url).make(found=True), Device(place / "b", remote=url).make()
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
    until(lambda: len(dav.times) > 12, "it is asked again")
    first, last = _gaps(dav.times)
    assert last > 2 * first, "ever more seldom"
    dav.refuses = lambda *_: None
    dav.asked.clear()
    until(lambda: laptop.settled() and not _error(laptop), "it goes on by itself")
    assert dav.asked["GET"] == 0, "nothing is read a second time"
    desktop.sync_here()
    assert equal(laptop, desktop)


def _gaps(times: list[float]) -> tuple[float, float]:
    """How long it was waited, in the middle and in the end."""
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    half = gaps[-10:-5]
    return sum(half) / len(half), sum(gaps[-5:]) / 5


@pytest.mark.fault(30)
@pytest.mark.parametrize("status", [403, 507])
def test_a_full_remote_is_read_on_while_nothing_is_sent(devices: Pair, dav: Dav, status: int):
    laptop, desktop = devices
    _start(laptop)
    until(laptop.settled, "all is well")
    dav.refuses = _refusing(status, "PUT")
    _write(laptop, "waits")
    until(lambda: f"status {status}" in _error(laptop), "it is said")
    for number in range(4):
        dav.refuses = lambda *_: None
        _write(desktop, f"of the desktop {number}")
        dav.refuses = _refusing(status, "PUT")
        puts = dav.asked["PUT"]
        dav.refuses = _once_allowed(dav, status)
        desktop.sync_here()
        dav.refuses = _refusing(status, "PUT")
        until(lambda wanted=number + 2: len(laptop.everything()) == wanted, "what others wrote arrives")
    assert dav.asked["PUT"] - puts < 30
    assert laptop.status()["vault"]["pending_segments"] > 0
    assert f"status {status}" in laptop.steno("status", code=8).out
    dav.refuses = lambda *_: None
    until(lambda: laptop.settled() and not _error(laptop), "it is sent when there is room")
    desktop.sync_here()
    assert equal(laptop, desktop)
