"""Every error of Steno: one root, one class for each thing that can happen.

The class says what happened, its keywords say to whom, ``hint`` says what to do.
``exit_code`` is the exit code of the process; ``retryable`` says
whether the same call may succeed later without anybody changing anything.
Foreign errors are translated once, where the dependency is owned.
"""

from __future__ import annotations

from typing import ClassVar


class StenoError(Exception):
    """Something that a user can be told in one line."""

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    hint: str = ""

    @property
    def line(self) -> str:
        """The whole message as one line: what happened, and what to do."""
        text = " ".join(str(self).split())
        return f"{text}: {self.hint}" if self.hint else text


class InvalidInput(StenoError, ValueError):
    """A value does not have the form that it must have; nothing was written."""

    exit_code = 4

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class MessageExists(InvalidInput):
    """The session has, or had, a message with this id; nothing was written."""

    def __init__(self, *, session: str, message: str) -> None:
        super().__init__(f"message id already exists in this session: {message}")
        self.session, self.message = session, message


class SessionError(StenoError):
    """A session could not do what was asked of it; nothing was changed."""

    exit_code = 5

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class SessionNotFound(SessionError):
    """No live session has this id, id prefix or title."""

    exit_code = 3
    hint = "see `steno list --all`"

    def __init__(self, *, ref: str) -> None:
        super().__init__(f"session not found: {ref}", hint=self.hint)
        self.ref = ref


class NotASession(SessionNotFound):
    """A conversation was asked for of what is no session."""

    def __init__(self, *, ref: str) -> None:
        SessionError.__init__(self, f"Session not found or is not a valid session: {ref}", hint=self.hint)
        self.ref = ref


SessionNotFoundError = SessionNotFound
"""The name that Coda gives it."""


class SessionDeleted(SessionError):
    """The session was deleted after it was loaded; what was to be saved is not saved."""

    hint = "restore it first, or keep the messages under another id"

    def __init__(self, *, session: str) -> None:
        super().__init__(f"session was deleted meanwhile: {session}", hint=self.hint)
        self.session = session


class MessageIdsTaken(SessionError):
    """Messages to be added have ids that other messages of the session have, or had; nothing was changed."""

    hint = "let their ids be drawn"

    def __init__(self, *, session: str, ids: list[str]) -> None:
        super().__init__(f"message ids are taken in session {session}: {', '.join(ids)}", hint=self.hint)
        self.session, self.ids = session, ids


class SessionTooLarge(SessionError):
    """The session has no room for this; what it holds is kept."""

    hint = "begin another session, truncate this one, or raise max_session_size"

    def __init__(self, *, session: str, limit_bytes: int) -> None:
        super().__init__(f"session {session} would be larger than {limit_bytes / 1e6:g} MB", hint=self.hint)
        self.session, self.limit_bytes = session, limit_bytes


class Unsupported(StenoError):
    """The store cannot do this."""

    exit_code = 2

    def __init__(self, *, store: str, what: str) -> None:
        super().__init__(f"{store} has no {what}")
        self.hint = "use SQLiteSessionStore"


class MissingDriver(StenoError, ImportError):
    """The package that speaks to this kind of store is not installed."""

    exit_code = 2

    def __init__(self, *, store: str, extra: str) -> None:
        super().__init__(f"{store} needs its driver: pip install 'steno[{extra}]'")
        self.extra = extra


class StoreUnreachable(StenoError):
    """The server of the store did not answer; what was to be saved is kept in the session, and may be saved again."""

    exit_code = 6
    retryable = True
    hint = "check the address and the server, then save it again"

    def __init__(self, *, server: str, reason: str) -> None:
        super().__init__(f"the store {server} cannot be reached ({reason})")
        self.server = server


class StoreRefused(StenoError):
    """The server of the store answered and refused: credentials, permission, room."""

    exit_code = 6
    hint = "check credentials, permissions and room of the server"

    def __init__(self, *, server: str, reason: str) -> None:
        super().__init__(f"the store {server} refused ({reason})")
        self.server = server


class StoreDamaged(StenoError):
    """What stands in the store at one place is not what was written there; nothing else is lost."""

    hint = "something else wrote there: restore it from a backup, or purge the session"

    def __init__(self, *, server: str, what: str, reason: str) -> None:
        super().__init__(f"{what} in the store {server} is damaged ({reason})")
        self.server = server


class ConflictNotFound(StenoError):
    """Nothing stands in conflict there; it may have been settled meanwhile."""

    exit_code = 3
    hint = "see `steno conflicts`"

    def __init__(self, *, what: str) -> None:
        super().__init__(f"no open conflict in {what}")
        self.what = what


class DeviceNotFound(StenoError):
    """No device of this id wrote to the vault."""

    exit_code = 3
    hint = "see `steno devices`"

    def __init__(self, *, device: str) -> None:
        super().__init__(f"no device {device} wrote to this vault")
        self.device = device


class MessageNotFound(StenoError):
    """The session has no message with this id."""

    exit_code = 3
    hint = "see `steno show --format json`"

    def __init__(self, *, session: str, message: str) -> None:
        super().__init__(f"message not found: {message} in session {session}")
        self.session, self.message = session, message


class MessagePurged(MessageNotFound):
    """The message was purged: it keeps its place, and nothing else of it can come back."""

    hint = "add it again as a new message"

    def __init__(self, *, session: str, message: str) -> None:
        StenoError.__init__(self, f"message was purged: {message} in session {session}")
        self.session, self.message = session, message


class AmbiguousRef(SessionError):
    """Several sessions answer to this id prefix or title."""

    exit_code = 3
    hint = "give more of the id"

    def __init__(self, *, ref: str, candidates: list[str]) -> None:
        super().__init__(f"{ref!r} names several sessions ({', '.join(candidates)})", hint=self.hint)
        self.ref, self.candidates = ref, candidates


class AmbiguousSplit(SessionError):
    """Devices diverged at several places of a session, and none was named; nothing was changed."""

    exit_code = 3
    hint = "name one, as `steno split ID --at MESSAGE` does"

    def __init__(self, *, session: str, places: list[str]) -> None:
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        super().__init__(f"devices diverged in session {session} at {', '.join(places[:5])}{more}", hint=self.hint)
        self.session, self.places = session, places


class SessionExists(SessionError):
    """A session with this id is already there; nothing was changed."""

    exit_code = 5
    hint = "choose another id, or add to the one that exists"

    def __init__(self, *, session: str) -> None:
        super().__init__(f"session already exists: {session}", hint=self.hint)
        self.session = session


class NoHome(StenoError):
    """This home holds no store yet; or none any more, where it has ``files`` of sessions or belongs to a ``vault``."""

    hint = "run `steno init`, `steno join URL` or `steno up` first"

    def __init__(self, *, home: str, files: bool = False, vault: bool = False) -> None:
        what = "though there are files of sessions" if files else "though it belongs to a vault" if vault else ""
        super().__init__(f"no steno store in {home} {what}".rstrip())
        if files:
            self.hint = "`steno doctor --rebuild` makes it anew from them"
        elif vault:
            self.hint = "`steno doctor --rebuild` makes it anew from the remote"


class HomeExists(StenoError):
    """This home already is what was asked for; nothing was changed."""

    exit_code = 5

    def __init__(self, reason: str, *, hint: str = "see `steno status`") -> None:
        super().__init__(reason)
        self.hint = hint


class HomeBusy(StenoError):
    """Another process holds the lock of this home."""

    retryable = True
    hint = "use the running one, or stop it with `steno daemon stop`"

    def __init__(self, *, home: str, holder: int | None, task: str) -> None:
        by = f"process {holder}" if holder else "another process"
        super().__init__(f"{task} already runs for {home} ({by})")
        self.holder = holder


class DaemonNotRunning(StenoError):
    """No daemon answers for this home."""

    hint = "start it with `steno daemon start`"

    def __init__(self, *, home: str) -> None:
        super().__init__(f"no daemon is running for {home}")


class DaemonSilent(StenoError):
    """The daemon took a request and did not answer it; it may have been carried out."""

    retryable = True
    hint = "see `steno daemon status`, then run it again"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"the daemon did not answer ({reason})")


class TargetExists(StenoError):
    """A file is already there; nothing was written over it."""

    exit_code = 5
    hint = "name another file, or write over it with --force"

    def __init__(self, *, path: str) -> None:
        super().__init__(f"there is a file already: {path}")
        self.path = path


class Incomplete(StenoError):
    """Something is pending, set aside or refused; what could be done was done."""

    exit_code = 8

    def __init__(self, *, count: int, hint: str = "see `steno status`") -> None:
        what = "1 thing is pending or needs a look" if count == 1 else f"{count} things are pending or need a look"
        super().__init__(what)
        self.hint = hint


class OlderSchema(StenoError):
    """The database was written by an older steno, and is to be migrated by somebody who may write."""

    hint = "run any verb that writes, such as `steno doctor --repair`, where the disk can be written"

    def __init__(self, *, path: str) -> None:
        super().__init__(f"{path} was written by an older version of steno")


class NewerSchema(StenoError):
    """The database was written by a newer steno; nothing was changed."""

    hint = "upgrade steno on this machine"

    def __init__(self, *, path: str) -> None:
        super().__init__(f"{path} was written by a newer version of steno")


class LocalStorageError(StenoError):
    """This machine's disk refused: full, read-only, damaged or without permission."""

    retryable = True

    def __init__(self, reason: str, *, hint: str = "free some space or mend the disk, then run it again") -> None:
        super().__init__(reason)
        self.hint = hint


class DatabaseDamaged(LocalStorageError):
    """What stands in a database's file is not what was written there; nothing was changed."""

    retryable = False

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason})",
            hint="keep a copy of it, then put a backup back with `steno backup --restore FILE`, or make it anew "
            "from the files with `steno doctor --rebuild`",
        )


class ContentDamaged(StenoError):
    """What stands here of a message's content does not open; nothing else is lost."""

    hint = "write it anew, or take it from a backup"

    def __init__(self, *, message: str) -> None:
        super().__init__(f"the content of message {message} is damaged on this machine's disk")
        self.message = message


class RemoteNotConfigured(StenoError):
    """This home has no remote."""

    hint = "give it one with `steno init --remote URL` or `steno join URL`"

    def __init__(self, *, home: str) -> None:
        super().__init__(f"no remote is configured for {home}")


class RemoteUnreachable(StenoError):
    """The remote did not answer; what is here is kept and sent later. ``retry_after_s``: how long it asked to wait."""

    exit_code = 6
    retryable = True
    hint = "check the address and the connection; nothing is lost, sync goes on later"

    def __init__(self, *, remote: str, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"remote {remote} cannot be reached ({reason})")
        self.remote, self.retry_after_s = remote, retry_after_s


class RemoteRefused(StenoError):
    """The remote answered and refused: credentials, quota or permission."""

    exit_code = 6
    hint = "check credentials, quota and permissions of the remote"

    def __init__(self, *, remote: str, reason: str) -> None:
        super().__init__(f"remote {remote} refused ({reason})")
        self.remote = remote


class ObjectMissing(StenoError):
    """The remote has no object of this name."""

    exit_code = 6
    retryable = True

    def __init__(self, *, name: str) -> None:
        super().__init__(f"the remote has no object {name}")
        self.name = name


class ObjectDamaged(StenoError):
    """An object of the remote does not open: torn, changed, renamed or forged."""

    exit_code = 8

    def __init__(self, *, name: str, reason: str) -> None:
        super().__init__(f"remote object {name} does not open ({reason})")
        self.name, self.reason = name, reason


class NewerFormat(StenoError):
    """An object was written by a newer steno; it waits until this one is upgraded."""

    exit_code = 8
    hint = "upgrade steno on this machine"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"remote object {name} was written by a newer version of steno")
        self.name = name


class WrongKey(StenoError):
    """The passphrase does not open this vault; nothing was moved."""

    exit_code = 7
    hint = "check the passphrase, or join another vault with `steno join URL`"

    def __init__(self, *, vault: str) -> None:
        super().__init__(f"this passphrase does not open vault {vault}")
        self.vault = vault


class NoVault(StenoError):
    """The remote holds no vault."""

    exit_code = 6
    hint = "check the address, or make a vault there with `steno init --remote URL`"

    def __init__(self, *, remote: str) -> None:
        super().__init__(f"no vault at {remote}")


class OtherVault(StenoError):
    """The remote holds another vault than the one this home belongs to; nothing was moved."""

    exit_code = 5
    hint = "nothing was moved; point this home at its own vault, or join the other one from a fresh home"

    def __init__(self, *, remote: str, found: str, expected: str) -> None:
        super().__init__(f"remote {remote} holds vault {found}, this home belongs to vault {expected}")
