"""A keyring in a directory: what the system's is to the code, without a desktop.

Named by ``PYTHON_KEYRING_BACKEND=steno.tests.e2e.file_keyring.FileKeyring``; ``STENO_TEST_KEYRING`` is its directory,
and where that is not there it is locked.
"""

from __future__ import annotations

import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class FileKeyring(KeyringBackend):
    """A file for each entry."""

    priority = 1.0  # pyright: ignore[reportAssignmentType]
    name = "FileKeyring"  # pyright: ignore[reportAssignmentType]

    def set_password(self, service: str, username: str, password: str) -> None:
        self._file(service, username).write_text(password, encoding="utf-8")

    def get_password(self, service: str, username: str) -> str | None:
        file = self._file(service, username)
        return file.read_text(encoding="utf-8") if file.exists() else None

    def delete_password(self, service: str, username: str) -> None:
        file = self._file(service, username)
        if not file.exists():
            raise PasswordDeleteError(username)
        file.unlink()

    @staticmethod
    def _file(service: str, username: str) -> Path:
        folder = Path(os.environ["STENO_TEST_KEYRING"])
        if not folder.is_dir():
            raise KeyringLocked
        return folder / f"{service}.{username}"
