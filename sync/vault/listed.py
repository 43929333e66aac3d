"""The names of one listing as they come, page by page: whoever answers, they take bounded memory.

(tests/contract/test_remotes.py, tests/contract/test_hostile_remote.py)
"""

from __future__ import annotations

from collections.abc import Iterable

from ...storage.errors import RemoteRefused

MAX_LISTED = 1_000_000
"""More names than any vault has in a directory; a service whose pages lead back to the first reaches it."""
MAX_NAME_BYTES = 401
"""What is longer is no name of an object (`steno.sync.vault.names.check_name`)."""


class Listed:
    """What was listed so far of one directory of a remote."""

    def __init__(self, remote: str, prefix: str) -> None:
        self._remote, self._prefix = remote, prefix
        self._names: list[str] = []

    def add(self, names: Iterable[str]) -> None:
        """Take in a page; raise `RemoteRefused` where there are more than `MAX_LISTED` names by now."""
        for name in names:
            if len(self._names) == MAX_LISTED:
                reason = f"it lists more than {MAX_LISTED:,} objects in {self._prefix}"
                raise RemoteRefused(remote=self._remote, reason=reason)
            self._names.append(name)

    def all(self) -> list[str]:
        """All names, sorted, each once."""
        return sorted(dict.fromkeys(self._names))
