"""Every error of Steno: one root, one class for each thing that can happen.

The class says what happened, its keywords say to whom, ``hint`` says what to do.
``exit_code`` is the process exit code (docs/cli.md lists them); ``retryable`` says
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


class SessionNotFound(StenoError):
    """No live session has this id, id prefix or title."""

    exit_code = 3
    hint = "see `steno list --all`"

    def __init__(self, *, ref: str) -> None:
        super().__init__(f"session not found: {ref}")
        self.ref = ref


class MessageNotFound(StenoError):
    """The session has no message with this id."""

    exit_code = 3
    hint = "see `steno show --format json`"

    def __init__(self, *, session: str, message: str) -> None:
        super().__init__(f"message not found: {message} in session {session}")
        self.session, self.message = session, message


class AmbiguousRef(StenoError):
    """Several sessions answer to this id prefix or title."""

    exit_code = 3
    hint = "give more of the id"

    def __init__(self, *, ref: str, candidates: list[str]) -> None:
        super().__init__(f"{ref!r} names several sessions ({', '.join(candidates)})")
        self.ref, self.candidates = ref, candidates


class SessionExists(StenoError):
    """A session with this id is already there; nothing was changed."""

    exit_code = 5
    hint = "choose another id, or add to the one that exists"

    def __init__(self, *, session: str) -> None:
        super().__init__(f"session already exists: {session}")
        self.session = session


class NoHome(StenoError):
    """This home holds no store yet."""

    hint = "run `steno init`, `steno join URL` or `steno up` first"

    def __init__(self, *, home: str) -> None:
        super().__init__(f"no steno store in {home}")


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


class Incomplete(StenoError):
    """Something is pending, set aside or refused; what could be done was done."""

    exit_code = 8
    hint = "see `steno status`"

    def __init__(self, *, count: int) -> None:
        what = "1 thing is pending or needs a look" if count == 1 else f"{count} things are pending or need a look"
        super().__init__(what)


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


class RemoteNotConfigured(StenoError):
    """This home has no remote."""

    hint = "give it one with `steno init --remote URL` or `steno join URL`"

    def __init__(self, *, home: str) -> None:
        super().__init__(f"no remote is configured for {home}")


class RemoteUnreachable(StenoError):
    """The remote did not answer; what is here is kept and sent later."""

    exit_code = 6
    retryable = True
    hint = "check the address and the connection; nothing is lost, sync goes on later"

    def __init__(self, *, remote: str, reason: str) -> None:
        super().__init__(f"remote {remote} cannot be reached ({reason})")
        self.remote = remote


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
