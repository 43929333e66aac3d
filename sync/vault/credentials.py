"""What a service must know besides its address: from the environment, a file that only its owner reads, or the keyring.

    STENO_S3_ACCESS_KEY_ID=AKIAEXAMPLE
    STENO_S3_SECRET_ACCESS_KEY="…"

The file is ``credentials`` beside ``config.toml``, for a daemon that is started at login and has no environment of
anybody's: one variable a line, as a shell and systemd's ``EnvironmentFile`` write it. What stands in the environment
counts. Where a person wants them in the system's keyring, the file holds only under which name: ``STENO_KEYRING``; what
is written beside that counts. No message quotes a line (tests/unit/test_vault_credentials.py).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import msgspec

from ...storage.errors import InvalidInput, RemoteRefused
from ...storage.home import Home, write_private
from ...storage.steps import step
from . import system_keyring
from .names import new_id
from .system_keyring import KeyringUnavailable

_ENTRY = "STENO_KEYRING"
_LINE = re.compile(r"""(?:export\s+)?(STENO_[A-Z0-9_]+)=(?:"([^"]*)"|'([^']*)'|([^"'\s][^\s]*)?)""")


_SCHEMES = {"rediss": "redis"}


def prefix_of(address: str) -> str:
    """How the variables begin that are for the service at an address: ``STENO_S3_``."""
    scheme = address.partition("://")[0].partition("+")[0]
    return f"STENO_{_SCHEMES.get(scheme, scheme).upper().replace('-', '_')}_"


def refused(*, remote: str, reason: str) -> RemoteRefused:
    """The error of a remote that refuses; where it is a service, its hint says where credentials come from."""
    error = RemoteRefused(remote=remote, reason=reason)
    if "://" in remote:
        error.hint = (
            f"check credentials ({prefix_of(remote)}…, see docs/remotes.md), quota and permissions of the remote"
        )
    return error


def credentials(home: Home, *, environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """The variables of the environment, and of the home's file and the keyring those that are not in it.

    Raises `InvalidInput` where others may read the file, or where it is not as it must be, and `KeyringUnavailable`.
    """
    file = _read(home)
    return environ if file is None else {**_in_keyring(home, file), **file.variables, **environ}


def places(home: Home, *, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Where each variable of the file and the keyring is taken from: "keyring", "file" or "environment"."""
    file = _read(home) or _File([], {}, None)
    found = dict.fromkeys(_in_keyring(home, file), "keyring") | dict.fromkeys(file.variables, "file")
    return {name: "environment" if name in environ else place for name, place in found.items()}


def keep_credentials(home: Home, *, in_keyring: bool, lock: Callable[[], AbstractContextManager[object]]) -> None:
    """Keep the variables of the home's file in the keyring, or those of the keyring in the file.

    Raises `KeyringUnavailable`, and `InvalidInput` where there is no file or it cannot hold a value.
    """
    with lock():
        file = _read(home)
        if file is None:
            raise InvalidInput("there are no credentials to keep", hint=f"write them into {home.credentials_file}")
        found, entry = {**_in_keyring(home, file), **file.variables}, None
        if in_keyring:
            entry = new_id(os.urandom)
            system_keyring.store(entry, msgspec.json.encode(found).decode())
            step("credentials.stored")
        lines = [_line(name, value) for name, value in ({_ENTRY: entry} if entry else found).items()]
        write_private(home.credentials_file, "".join(f"{each}\n" for each in [*file.notes, *lines]).encode())
        if file.entry is not None:
            step("credentials.named")
            system_keyring.remove(file.entry)


class _File(msgspec.Struct, frozen=True):
    notes: list[str]
    variables: dict[str, str]
    entry: str | None


def _in_keyring(home: Home, file: _File) -> dict[str, str]:
    if file.entry is None:
        return {}
    try:
        return msgspec.json.decode(system_keyring.load(file.entry), type=dict[str, str])
    except KeyringUnavailable as exc:
        error = exc
    except msgspec.MsgspecError:  # what it quotes may be secret
        error = KeyringUnavailable(reason="what it holds are no credentials")
    error.hint = f"unlock it, or write the variables into {home.credentials_file} in place of {_ENTRY}"
    raise error from None


def _line(name: str, value: str) -> str:
    for line in (f'{name}="{value}"', f"{name}='{value}'", f"{name}={value}"):
        match = _LINE.fullmatch(line)
        if match is not None and _value(match) == value and len(line.splitlines()) == 1:
            return line
    raise InvalidInput(f"the value of {name} cannot stand in a line")


def _value(match: re.Match[str]) -> str:
    return match[2] or match[3] or match[4] or ""


def _read(home: Home) -> _File | None:
    path = home.credentials_file
    try:
        with path.open(encoding="utf-8-sig") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise InvalidInput(f"{path} can be read by others", hint=f"run `chmod 600 {path}`")
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is no text in UTF-8") from None  # what it quotes may be secret
    found: dict[str, str] = {}
    notes: list[str] = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            notes.append(line)
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise InvalidInput(
                f"line {number} of {path} is no variable", hint="write each as STENO_<SERVICE>_<OPTION>=value"
            )
        found[match[1]] = _value(match)
    entry = found.pop(_ENTRY, None)
    return _File(notes, found, entry)
