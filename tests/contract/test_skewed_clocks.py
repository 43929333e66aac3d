"""A service that refuses for the time that our requests bear: the clock is named, and by how much it is wrong."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from steno.storage.errors import RemoteRefused, RemoteUnreachable
from steno.sync.vault.opendal_remote import translated
from steno.sync.vault.remote import Remote, open_remote

DAY_S = 86_400
SETTINGS = {"STENO_S3_ACCESS_KEY_ID": "made", "STENO_S3_SECRET_ACCESS_KEY": "up", "STENO_WEBDAV_PASSWORD": "made"}
SKEWED = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>"


@contextmanager
def _service(ahead_s: float) -> Generator[str]:
    """A server that refuses everything, and whose clock is so much ahead of ours."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response_only(403)
            self.send_header("Date", formatdate(time.time() + ahead_s, usegmt=True))
            self.send_header("Content-Length", str(len(SKEWED)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(SKEWED)

        do_GET = do_HEAD = do_PUT = do_DELETE = do_PROPFIND = do_MKCOL = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def _at(kind: str, url: str) -> Remote:
    address = f"s3://bucket/x?region=x&endpoint={url}" if kind == "s3" else f"webdav+{url}/x"
    return open_remote(address, environ=SETTINGS)


async def _said(remote: Remote) -> list[str]:
    calls = (remote.put("log/a", b"x"), remote.get("log/a"), remote.list("log/"), remote.delete("log/a"))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    await remote.close()
    assert [type(each) for each in errors] == [RemoteRefused] * 4
    return [str(each) for each in errors]


@pytest.mark.fault(17)
@pytest.mark.parametrize("kind", ["s3", "webdav"])
@pytest.mark.parametrize(
    ("ahead_s", "said"), [(20_000 * DAY_S + 60, "20,000 days behind"), (-3600, "60 minutes ahead of")]
)
async def test_a_clock_that_is_wrong_is_named_with_how_much(kind: str, ahead_s: float, said: str):
    with _service(ahead_s) as url:
        for line in await _said(_at(kind, url)):
            assert f"this machine's clock is {said} the service's" in line
            assert "\n" not in line


@pytest.mark.parametrize("kind", ["s3", "webdav"])
async def test_a_clock_that_is_right_is_not_named(kind: str):
    with _service(20) as url:
        assert not any("clock" in line for line in await _said(_at(kind, url)))


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    "text",
    [
        "invalid peer certificate: certificate not valid yet: verification time 86400 (UNIX), but",
        "invalid peer certificate: NotValidYet",
        "invalid peer certificate: certificate expired: verification time 9000000000 (UNIX), but",
        "error:0A000086:SSL routines:certificate verify failed: certificate has expired",
        "certificate verify failed (certificate is not yet valid)",
    ],
)
def test_a_certificate_that_is_not_good_now_names_the_clock(text: str):
    found = translated(
        OSError(f"Unexpected (temporary) at list => send http request\n\nSource:\n   {text}"), remote="r"
    )
    assert isinstance(found, RemoteUnreachable)
    assert "is this machine's clock right? It says 20" in str(found)


def test_a_certificate_of_somebody_else_does_not_name_the_clock():
    text = "Unexpected (temporary) at list => send http request\n\nSource:\n   invalid peer certificate: UnknownIssuer"
    assert "clock" not in str(translated(OSError(text), remote="r"))
