"""Real servers of Redis, PostgreSQL, S3 and WebDAV, each on a free port of 127.0.0.1 and in a directory of its own.

A server ends with whoever started it, however that one ends: it runs under a shell that waits for a word from us on a
pipe, or for the pipe to break, and then stops it and removes its directory. (tests/e2e/test_servers.py)
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec
import psycopg
import redis

_READY_WITHIN_S = 60.0
_GONE_WITHIN_S = 20.0
_LOOK_S = 0.01
_TRIES = 5  # another program may take the free port before the server does

# Called with the directory, the signal, and the server's command. A job in the background reads
# /dev/null, hence descriptor 3.
_KEEPER = """
folder=$1 stop=$2; shift 2
exec 3<&0
"$@" 3<&- &
server=$!
(read -r _ <&3; kill -s "$stop" "$server") 2>/dev/null &
reader=$!
wait "$server"
kill "$reader" 2>/dev/null
rm -rf "$folder"
"""


class Missing(Exception):
    """A program that a server needs is not installed."""

    def __init__(self, program: str, *, package: str, of: str = "Debian") -> None:
        super().__init__(f"{program} is not installed ({of}'s package {package})")


class _Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a kind of server is started: what to do in its directory, and the command for a directory and a port."""

    prepare: Callable[[Path], object] = lambda _: None
    command: Callable[[Path, int], list[str]]
    url: str
    answers: Callable[[str], bool]
    stop: str
    account: pwd.struct_passwd | None = None


class Server:
    """A server; leaving it as a context stops it."""

    def __init__(self, recipe: _Recipe, *, port: int) -> None:
        self.url = recipe.url.format(port=port)
        self._answers, account = recipe.answers, recipe.account
        # Another account must be able to enter, which it may not under pytest's directory and some TMPDIRs.
        self.folder = Path(tempfile.mkdtemp(prefix="steno-server-", dir="/tmp" if account else None))
        if account is not None:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            recipe.prepare(self.folder)
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "sh", str(self.folder), recipe.stop, *recipe.command(self.folder, port)],
                stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, cwd=self.folder, start_new_session=True,
                user=account and account.pw_uid, group=account and account.pw_gid, extra_groups=account and [],
            )  # fmt: skip
        except BaseException:
            self._log.close()
            shutil.rmtree(self.folder)
            raise

    def is_ready(self) -> bool:
        """Wait until the server answers; no if it ends instead."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._answers(self.url):
                return True
            with suppress(subprocess.TimeoutExpired):
                self._keeper.wait(_LOOK_S)
                return False
        return False

    def said(self) -> str:
        """What the server wrote."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def stop(self) -> None:
        """End the server and remove what it wrote; again, it does nothing."""
        if self._keeper.stdin is None or self._keeper.stdin.closed:
            return
        # A line, not only the end: a process forked from this one may hold the pipe open.
        with suppress(BrokenPipeError), self._keeper.stdin as pipe:
            pipe.write(b"\n")
        try:
            self._keeper.wait(_GONE_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._keeper.pid, signal.SIGKILL)
            self._keeper.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_redis() -> Server:
    """Start a Redis that keeps nothing on disk; raises `Missing`."""
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("redis-server", package="redis-server")

    def command(folder: Path, port: int) -> list[str]:
        place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
        return [program, *place, "--save", "", "--appendonly", "no"]

    return _started(_Recipe(command=command, url="redis://127.0.0.1:{port}/0", answers=_redis_answers, stop="TERM"))


def start_postgres(*, durable: bool = False) -> Server:
    """Start an empty PostgreSQL: as it comes if ``durable``, else faster and not to survive a crash.

    Raises `Missing`.
    """
    programs = _postgres_programs()
    account = _account() if os.geteuid() == 0 else None  # it refuses to run as root
    hasty = [] if durable else ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]

    def prepare(folder: Path) -> None:
        command = [
            str(programs / "initdb"), "--pgdata", str(folder / "data"), "--username", "steno", "--auth", "trust",
            "--no-sync", "--no-locale", "--encoding", "UTF8",
        ]  # fmt: skip
        subprocess.run(
            command, cwd=folder, check=True, stdout=subprocess.DEVNULL,
            user=account and account.pw_uid, group=account and account.pw_gid, extra_groups=account and [],
        )  # fmt: skip

    def command(folder: Path, port: int) -> list[str]:
        place = ["-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        return [str(programs / "postgres"), *place, *hasty]

    return _started(
        _Recipe(
            prepare=prepare,
            command=command,
            url="postgresql://steno@127.0.0.1:{port}/postgres",
            answers=_postgres_answers,
            stop="INT",
            account=account,
        )
    )


def start_s3() -> Server:
    """Start moto, which keeps buckets in memory; raises `Missing`."""
    _require("moto", package="moto[server]")

    def command(folder: Path, port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    return _started(_Recipe(command=command, url="http://127.0.0.1:{port}", answers=_http_answers, stop="KILL"))


def bucket(s3: Server) -> str:
    """Make a bucket, and return the address of an empty place in it."""
    name, place = f"test-{secrets.token_hex(6)}", urlsplit(s3.url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=10)
    try:
        connection.request("PUT", f"/{name}")
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 200:
        raise RuntimeError(f"no bucket was made: {status}")
    return f"s3://{name}/some/prefix?region=us-east-1&endpoint={s3.url}"


def start_rclone(*, user: str, password: str) -> Server:
    """Start the WebDAV server of rclone, which keeps files in ``folder/data``; raises `Missing`."""
    program = shutil.which("rclone")
    if program is None:
        raise Missing("rclone", package="rclone")

    def command(folder: Path, port: int) -> list[str]:
        # Others may write into the folder. Without any cache it is read anew for each object that is listed.
        place = ["--addr", f"127.0.0.1:{port}", "--config", str(folder / "none"), "--dir-cache-time", "20ms"]
        return [program, "serve", "webdav", str(folder / "data"), *place, "--user", user, "--pass", password]

    return _started(_Recipe(prepare=_data, command=command, url=_WEBDAV, answers=_http_answers, stop="TERM"))


def start_wsgidav() -> Server:
    """Start WsgiDAV, which keeps files in ``folder/data`` and lets anybody in; raises `Missing`."""
    _require("wsgidav", package="wsgidav")

    def command(folder: Path, port: int) -> list[str]:
        place = ["--host", "127.0.0.1", "--port", str(port), "--root", str(folder / "data")]
        return [sys.executable, "-m", "wsgidav.server.server_cli", *place, "--auth", "anonymous", "--no-config", "-q"]

    return _started(_Recipe(prepare=_data, command=command, url=_WEBDAV, answers=_http_answers, stop="KILL"))


def syncthing_home(home: Path) -> str:
    """Make the home of a Syncthing; its id, by which others know it. Raises `Missing`."""
    program = shutil.which("syncthing")
    if program is None:
        raise Missing("syncthing", package="syncthing")
    command = [program, "generate", "--home", str(home), "--no-default-folder", "--skip-port-probing"]
    subprocess.run(command, check=True, capture_output=True)
    return re.findall('<device id="([A-Z0-9-]{63})"', (home / "config.xml").read_text(encoding="utf-8"))[0]


def start_syncthing(shared: Path, *, home: Path, own: str, other: str, at: str = "dynamic") -> Server:
    """Start a Syncthing that shares a directory with one other, by its id, and with nobody else.

    ``at`` is where the other one listens; one of the two must know.
    """

    def command(folder: Path, port: int) -> list[str]:
        settings = _SYNCTHING.format(path=shared, other=other, at=at, own=own, port=port)
        (home / "config.xml").write_text(settings, encoding="utf-8")
        options = ["--no-browser", "--no-restart", "--no-upgrade", "--no-default-folder"]
        return ["syncthing", "serve", "--home", str(home), *options]

    return _started(_Recipe(command=command, url="tcp://127.0.0.1:{port}", answers=_listens, stop="TERM"))


# Each knows only the other one, and no service that helps to find devices or asks for the program's health.
_SYNCTHING = """
<configuration version="36">
    <folder id="shared" path="{path}" rescanIntervalS="5" fsWatcherEnabled="true" fsWatcherDelayS="1">
        <device id="{own}"/>
        <device id="{other}"/>
    </folder>
    <device id="{own}"><address>dynamic</address></device>
    <device id="{other}"><address>{at}</address></device>
    <gui enabled="false"/>
    <options>
        <listenAddress>tcp://127.0.0.1:{port}</listenAddress>
        <globalAnnounceEnabled>false</globalAnnounceEnabled>
        <localAnnounceEnabled>false</localAnnounceEnabled>
        <relaysEnabled>false</relaysEnabled>
        <natEnabled>false</natEnabled>
        <reconnectionIntervalS>1</reconnectionIntervalS>
        <startBrowser>false</startBrowser>
        <urAccepted>-1</urAccepted>
        <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
        <crashReportingEnabled>false</crashReportingEnabled>
        <stunKeepaliveStartS>0</stunKeepaliveStartS>
    </options>
</configuration>
"""


def _listens(url: str) -> bool:
    place = urlsplit(url)
    with socket.socket() as client:
        return client.connect_ex((place.hostname, place.port)) == 0


_WEBDAV = "http://127.0.0.1:{port}"


def _data(folder: Path) -> None:
    (folder / "data").mkdir()


def _require(module: str, *, package: str) -> None:
    if find_spec(module) is None:
        raise Missing(module, package=package, of="PyPI")


def _http_answers(url: str) -> bool:
    place = urlsplit(url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=2)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _started(recipe: _Recipe) -> Server:
    said = ""
    for _ in range(_TRIES):
        server = Server(recipe, port=_free_port())
        try:
            if server.is_ready():
                return server
            said = server.said()
        except BaseException:
            server.stop()
            raise
        server.stop()
    raise RuntimeError(f"the server did not start:\n{said}")


def _redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def _postgres_answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _postgres_programs() -> Path:
    """The directory of the newest PostgreSQL; Debian keeps each version's apart and off the PATH."""
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    if found is None:
        raise Missing("postgres", package="postgresql")
    return Path(found).resolve().parent


def _account() -> pwd.struct_passwd:
    """Somebody who is not root."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
