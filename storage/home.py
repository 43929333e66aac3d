"""Where a device keeps its things.

``STENO_HOME`` puts everything into one directory; without it data and settings stand in the
platform's own directories (XDG on Linux). Directories are 0700 and files 0600
(tests/unit/test_home.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InvalidInput, LocalStorageError, NoHome
from .settings import Settings, settings_of


class Home:
    """The directories and files of one device."""

    def __init__(self, data: Path, config: Path) -> None:
        self.data = data
        self.config_file = config / "config.toml"
        self.credentials_file = config / "credentials"
        self.database = data / "steno.db"
        self.sessions = data / "sessions"
        self.vault_file = data / "vault.json"
        self.token_file = data / "token"
        self.sql_history = data / "sql_history"
        self.socket = data / "steno.sock"
        self.daemon_file = data / "daemon.json"
        self.daemon_lock = data / "daemon.lock"
        self.sync_lock = data / "sync.lock"
        self.log_file = data / "daemon.log"
        self.default_remote = data / "remote"
        self.backups = data / "backups"
        self.drafts = data / "drafts"

    @classmethod
    def from_environment(cls) -> Home:
        """The home that ``STENO_HOME`` or the platform names."""
        named = os.environ.get("STENO_HOME")
        if named:
            place = Path(named).expanduser().absolute()
            return cls(place, place)
        if os.name == "posix" and os.uname().sysname == "Linux":
            return cls(_xdg("XDG_DATA_HOME", ".local/share"), _xdg("XDG_CONFIG_HOME", ".config"))
        from platformdirs import PlatformDirs  # noqa: PLC0415  not on Linux, where starting fast is measured

        directories = PlatformDirs("steno", appauthor=False)
        return cls(Path(directories.user_data_dir), Path(directories.user_config_dir))

    @property
    def exists(self) -> bool:
        """Say whether a store was made here; an empty file is none."""
        try:
            return self.database.stat().st_size > 0
        except FileNotFoundError:
            return False

    @property
    def has_files(self) -> bool:
        """Say whether there are files of sessions."""
        return any(not path.name.startswith(".") for path in self.sessions.rglob("*.jsonl"))

    def require(self) -> None:
        """Raise `NoHome` unless a store was made here."""
        if not self.exists:
            raise NoHome(home=str(self.data), files=self.has_files, vault=self.vault_file.exists())

    def make(self) -> None:
        """Make the directories; made twice they stay as they are."""
        for directory in (self.data, self.sessions):
            private_directory(directory)
            directory.chmod(0o700)  # one that was there before as well

    def settings(self) -> Settings:
        """What ``config.toml`` says; raises `InvalidInput` naming the keys that are wrong."""
        try:
            text = self.config_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Settings()
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidInput(f"{self.config_file} cannot be read ({exc})") from exc
        import tomllib  # noqa: PLC0415  most homes have no such file, and every verb starts sooner without

        try:
            read = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as exc:
            raise InvalidInput(f"{self.config_file} cannot be read ({exc})") from exc
        return settings_of(read, where=str(self.config_file))


def private_directory(path: Path) -> None:
    """Make a directory, and what is missing above it, that only its owner may enter."""
    try:
        for directory in (*reversed(path.parents), path):  # `parents=True` makes them open to all
            directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise LocalStorageError(f"{path} cannot be made ({exc.strerror})") from exc


def write_private(path: Path, data: bytes) -> None:
    """Replace a small file durably; only its owner may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:  # `os.write` takes what there is room for, and says nothing
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise LocalStorageError(f"{path} cannot be written ({exc.strerror})") from exc


def _xdg(variable: str, fallback: str) -> Path:
    named = os.environ.get(variable, "")
    base = Path(named) if named.startswith("/") else Path.home() / fallback
    return base / "steno"
