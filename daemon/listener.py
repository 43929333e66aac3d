"""Where the API listens: a port of this machine, and a Unix socket of its owner.

A port that is taken is replaced by a free one; a socket file that a dead process left is
replaced, a living one's never. What had to be done otherwise than asked is said in `notes`
(tests/contract/http/test_listener.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from ..storage.errors import HomeBusy, InvalidInput, LocalStorageError
from .problem import problem

DEFAULT_PORT = 7836
STOP_WITHIN_S = 2.0

_PROTOCOL: dict[str, Any] = {
    "access_log": None,  # what a person searches for is nobody's business, the log's neither
    "auto_decompress": False,  # a small body must not become a large one
    "keepalive_timeout": 75.0,
    "max_line_size": 16 * 1024,  # two ids of 2,048 bytes, each percent-encoded, must fit
}

_log = logging.getLogger("steno.http")


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that listens until it is stopped; ``socket`` is None where there is only the port."""

    port: int
    socket: Path | None
    notes: tuple[str, ...]
    _runner: web.AppRunner
    _servers: tuple[asyncio.Server, ...]

    async def stop(self) -> None:
        """Take no more requests and end those under way within `STOP_WITHIN_S`; called twice it does nothing."""
        if self.socket is not None and self._servers[0].is_serving():
            self.socket.unlink(missing_ok=True)
        await self._accept_no_more()
        for server in self._servers:
            server.close()
        await self._runner.cleanup()

    async def _accept_no_more(self) -> None:
        """Let connections that were just accepted reach the server: asyncio trips over them once it is closed."""
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for each in server.sockets:
                with contextlib.suppress(NotImplementedError):  # the event loop of Windows
                    loop.remove_reader(each.fileno())
        await asyncio.sleep(0)


class _Protocol(RequestHandler):
    """aiohttp's protocol, but for its answer to what is no HTTP at all: a problem too, and no line in the log."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it quotes what was sent
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if status >= 500:
            _log.error("a request failed", exc_info=exc)
        response = problem(status, None if status >= 500 else "the request is not valid HTTP")
        response.force_close()
        return response


async def serve(
    app: web.Application, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT, socket_path: Path | None = None
) -> Listening:
    """Listen on ``port`` (0 takes any free one, as does a port that is taken) and on a 0600 Unix socket.

    Raises `HomeBusy` where another process answers on the socket, and `LocalStorageError`
    where not even a free port can be had.
    """
    notes: list[str] = []
    at_socket = _unix_socket(socket_path, notes) if socket_path else None
    try:
        at_port = _tcp_socket(host, port, notes)
    except BaseException:
        if at_socket:
            at_socket.close()
        raise
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_WITHIN_S)
    await runner.setup()
    loop = asyncio.get_running_loop()
    server = cast("web.Server", runner.server)  # there from setup to cleanup
    protocol = partial(_Protocol, server, loop=loop, **_PROTOCOL)
    servers = [await loop.create_server(protocol, sock=at_port)]
    if at_socket:
        servers.append(await loop.create_unix_server(protocol, sock=at_socket))
    chosen = at_port.getsockname()[1]
    return Listening(chosen, socket_path if at_socket else None, tuple(notes), runner, tuple(servers))


def _tcp_socket(host: str, port: int, notes: list[str]) -> socket.socket:
    if not 0 <= port <= 65535:
        raise InvalidInput(f"there is no port {port} (valid: 0 to 65535, 0 takes any free one)")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as exc:
        if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise LocalStorageError(f"cannot listen on {host} ({exc.strerror})", hint="check the address") from exc
    found = socket.create_server((host, 0), family=family, backlog=128)
    notes.append(f"port {port} is taken or not allowed; listening on port {found.getsockname()[1]}")
    return found


def _unix_socket(path: Path, notes: list[str]) -> socket.socket | None:
    """Bind the socket; None, and a note, where this machine cannot have it there."""
    if not hasattr(socket, "AF_UNIX"):
        notes.append("this system has no Unix sockets; listening on the port alone")
        return None
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_way(path)
        made.bind(str(path))
        path.chmod(0o600)  # nobody can connect before listen()
        made.listen(128)
    except OSError as exc:
        made.close()
        notes.append(f"no Unix socket at {path} ({exc.strerror or exc}); listening on the port alone")
        return None
    except BaseException:
        made.close()
        raise
    return made


def _make_way(path: Path) -> None:
    """Remove the socket file of a dead process; raises `HomeBusy` for a living one's."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "another file lies there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    raise HomeBusy(home=str(path.parent), holder=None, task="a daemon")
