"""The system's keyring, where a person wants secrets there and not in a file (extra ``keyring``).

An entry is written under a name of its own and never changed: what points to it is the home's file
(tests/unit/test_vault_system_keyring.py).
"""

from __future__ import annotations

import contextlib
from typing import Any

from ...storage.errors import StenoError

_SERVICE = "steno"


class KeyringUnavailable(StenoError):
    """The system's keyring cannot be used here, or has not what was put there."""

    retryable = True
    hint = 'unlock it, or set key = "file" under [vault] in config.toml and run `steno join URL` again'

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"the system's keyring cannot be used ({reason})")


def store(entry: str, secret: str) -> None:
    """Put a secret there and read it back; raises `KeyringUnavailable`."""
    _call("set_password", _SERVICE, entry, secret)
    if load(entry) != secret:
        raise KeyringUnavailable(reason="what was put there does not come back")


def load(entry: str) -> str:
    """A secret that was put there; raises `KeyringUnavailable`, also where there is none."""
    found = _call("get_password", _SERVICE, entry)
    if not isinstance(found, str):
        raise KeyringUnavailable(reason="what was put there is not in it")
    return found


def remove(entry: str) -> None:
    """Remove a secret; one that cannot be removed, or is gone, is left."""
    with contextlib.suppress(KeyringUnavailable):
        _call("delete_password", _SERVICE, entry)


def _call(verb: str, *arguments: str) -> Any:
    try:
        import keyring  # noqa: PLC0415  an extra, and slow
    except ImportError as exc:
        raise KeyringUnavailable(reason="install it with: pip install 'steno[keyring]'") from exc
    try:
        return getattr(keyring, verb)(*arguments)
    except Exception as exc:  # noqa: BLE001  every back end raises its own
        # Not chained: what a back end raises may quote what it was given.
        raise KeyringUnavailable(reason=f"{keyring.get_keyring().name}: {type(exc).__name__}") from None
