"""Our own client of the daemon: how the command line talks to the one that runs for a home.

The token goes only to who proved to be that daemon: over the Unix socket, which only the owner
of the home can have made, or over the port once ``/v1/health`` returned HMAC(token, nonce) on
the same connection. Plain `http.client`, so that a command starts fast (tests/contract/http/test_client.py).
"""

from __future__ import annotations

import hmac
import http.client
import secrets
import socket
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import msgspec

from ..storage import errors
from ..storage.errors import DaemonNotRunning, DaemonSilent, StenoError
from ..storage.home import Home

CONNECT_WITHIN_S = 5.0
ANSWER_WITHIN_S = 30.0
SYNC_WITHIN_S = 600.0
FILES_WITHIN_S = 3600.0
TAKEN_WITHIN_S = 120.0


Way = Literal["push", "pull"]


class Running(msgspec.Struct, frozen=True):
    """What ``daemon.json`` says of the daemon that runs."""

    pid: int
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    socket: str | None = None


class DaemonClient:
    """Asks the running daemon of a home. Every call opens its own connection."""

    def __init__(self, home: Home) -> None:
        """Find the daemon; raises `DaemonNotRunning` where the home names none."""
        self._home = str(home.data)
        try:
            self.running = msgspec.json.decode(home.daemon_file.read_bytes(), type=Running)
            self._token = home.token_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as exc:
            raise DaemonNotRunning(home=self._home) from exc

    def health(self) -> bool:
        """Say whether this home's daemon answers; the system takes connections for one that stands still as well."""
        try:
            self.request("GET", "/v1/health", timeout_s=ANSWER_WITHIN_S)
        except StenoError:
            return False
        return True

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        return self.request("GET", "/v1/status")

    def sync(self, *, only: Way | None = None) -> dict[str, Any]:
        """Push and pull now, or only one of them; returns what is done and what is pending."""
        return self.request("POST", address("sync", only=only), timeout_s=SYNC_WITHIN_S)

    def repair(self) -> dict[str, Any]:
        """Publish again what the remote lost; returns what is done and what is pending."""
        return self.request("POST", "/v1/repair", timeout_s=SYNC_WITHIN_S)

    def retire(self, device: str) -> dict[str, Any]:
        """Adopt the log of a device that never comes back; returns what is done and what is pending."""
        return self.request("POST", address("devices", device, "retire"), timeout_s=SYNC_WITHIN_S)

    def conflicts(self, session: str | None = None) -> Iterator[dict[str, Any]]:
        """Every open conflict, or those of one session."""
        cursor = None
        while cursor != "":
            page = self.request("GET", address("conflicts", session=session, cursor=cursor))
            yield from page["conflicts"]
            cursor = page["next"] or ""

    def restore_conflict(self, conflict: str, value: int) -> dict[str, Any]:
        """Write a value of a conflict again, by its number: it is shown and settled everywhere."""
        return self.request("POST", address("conflicts", conflict, "restore"), body={"value": value})

    def dismiss_conflict(self, conflict: str) -> dict[str, Any]:
        """Settle a conflict by what is shown."""
        return self.request("POST", address("conflicts", conflict, "dismiss"))

    def history(self, session: str, *, message: str | None = None) -> Iterator[dict[str, Any]]:
        """What was written to a session, or to one of its messages, in the order of arrival."""
        cursor = None
        while cursor != "":
            page = self.request("GET", address("sessions", session, "history", message=message, cursor=cursor))
            yield from page["entries"]
            cursor = page["next"] or ""

    def session_at(self, session: str, at: int | str) -> dict[str, Any]:
        """A session with its messages as it was behind a number of its history, or at a time."""
        return self.request("GET", address("sessions", session, "history", at=at))

    def files(self) -> dict[str, Any]:
        """How the session files stand."""
        return self.request("GET", "/v1/files")

    def session_file(self, session: str) -> dict[str, Any]:
        """Where a session's file lies, brought up to the session."""
        return self.request("GET", address("sessions", session, "file"))

    def take_file(self, session: str, deletions: str = "some") -> dict[str, Any]:
        """Have the daemon take up what was saved in a session's file."""
        body = {"deletions": deletions}
        return self.request("POST", address("sessions", session, "file"), body=body, timeout_s=TAKEN_WITHIN_S)

    def resume_files(self, action: str) -> dict[str, Any]:
        """Let the files' mirror go on: ``restore`` what vanished, or ``delete`` its sessions."""
        return self.request("POST", "/v1/files/resume", body={"action": action}, timeout_s=FILES_WITHIN_S)

    def rebuild_files(self) -> int:
        """Have every file written anew that is missing or differs; how many were."""
        return self.request("POST", "/v1/files/rebuild", timeout_s=FILES_WITHIN_S)["written"]

    def request(self, method: str, address: str, *, body: object = None, timeout_s: float = ANSWER_WITHIN_S) -> Any:
        """Ask, and return the JSON of the answer.

        Raises the daemon's own error again: its class, text, hint and exit code (the keywords it was made of
        stay there); `DaemonNotRunning` where none answers, `DaemonSilent` where one took the request and
        did not finish it.
        """
        connection = self._connected(timeout_s)
        try:
            status, answer = self._asked(connection, method, address, body)
        finally:
            connection.close()
        if status >= 400:
            raise error_of(answer)
        return answer

    def _asked(
        self, connection: http.client.HTTPConnection, method: str, address: str, body: object
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        sent = None if body is None else msgspec.json.encode(body)
        if sent is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, address, body=sent, headers=headers)
            response = connection.getresponse()
            return response.status, msgspec.json.decode(response.read())
        except TimeoutError as exc:
            raise DaemonSilent(reason="it took too long") from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise DaemonSilent(reason=str(exc) or type(exc).__name__) from exc

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        for connect in (self._over_socket, self._over_port):
            connection = connect()
            if connection is not None and connection.sock is not None:
                connection.sock.settimeout(timeout_s)
                return connection
        raise DaemonNotRunning(home=self._home)

    def _over_socket(self) -> http.client.HTTPConnection | None:
        path = self.running.socket
        if path is None or not hasattr(socket, "AF_UNIX"):
            return None
        return _open(_UnixConnection(path, timeout=CONNECT_WITHIN_S))

    def _over_port(self) -> http.client.HTTPConnection | None:
        connection = _open(http.client.HTTPConnection("127.0.0.1", self.running.port, timeout=CONNECT_WITHIN_S))
        if connection is not None and not self._proven(connection):
            connection.close()
            return None
        return connection

    def _proven(self, connection: http.client.HTTPConnection) -> bool:
        """Say whether the other end holds the token; it is not told it."""
        nonce = secrets.token_hex(16)
        try:
            connection.request("GET", f"/v1/health?nonce={nonce}")
            response = connection.getresponse()
            answer = msgspec.json.decode(response.read(65536), type=_Health)
        except (OSError, http.client.HTTPException, ValueError):
            return False
        wanted = hmac.new(self._token.encode(), nonce.encode(), "sha256").hexdigest()
        # Closed, it would be opened anew, perhaps to another process.
        return connection.sock is not None and hmac.compare_digest(answer.hmac.encode(), wanted.encode())


class _Health(msgspec.Struct, frozen=True):
    hmac: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, *, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_WITHIN_S)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


def address(*segments: str, **query: object) -> str:
    """The address of a resource: ``address("sessions", id, limit=5)``; a query value of None is left out."""
    path = "/v1/" + "/".join(quote(segment, safe="") for segment in segments)
    pairs = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(pairs, doseq=True)}" if pairs else path


def error_of(problem: Any) -> StenoError:
    """The error that a problem says."""
    members = problem if isinstance(problem, dict) else {}
    kind = getattr(errors, str(members.get("code")), None)
    if not (isinstance(kind, type) and issubclass(kind, StenoError)):
        kind = StenoError
    error = kind.__new__(kind)
    Exception.__init__(error, str(members.get("detail") or "the daemon refused"))
    error.hint = str(members.get("hint") or "")
    return error


def _open(connection: http.client.HTTPConnection) -> http.client.HTTPConnection | None:
    connection.auto_open = 0  # never anew behind our back: the other end was checked on this connection
    try:
        connection.connect()
    except OSError:
        connection.close()
        return None
    return connection
