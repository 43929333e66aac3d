"""The directory of session files, walked once in the order of its paths, and held against what is recorded of it.

Walk and records come in the same order, so comparing them needs memory for what differs only; links and hidden
folders are not entered (tests/unit/test_files_walk.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import msgspec

from ...storage.errors import InvalidInput
from .exchange import is_torn, is_whole
from .names import is_session_file, is_session_folder, is_session_path
from .reading import NO_FOLLOWING, translated

Recorded = tuple[str, int, int, int]
"""Path, size, mtime in ns and inode of a file as it was last written or read."""
_NO_FILE = (-1, 0, 0)


class Directory:
    """The root of the session files, and the paths below it as they are recorded: relative, with slashes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def place(self, relative: str) -> Path:
        """Where a recorded file stands."""
        return self.root / relative

    def relative(self, path: Path) -> str:
        """A path as it is recorded and shown; a name that is not UTF-8 is shown by its numbers."""
        return os.fsencode(path.relative_to(self.root)).decode(errors="backslashreplace")

    def is_missing(self, relative: str) -> bool:
        """Say whether nothing at all stands there; a link that leads nowhere, and what may not be seen, is something.

        Nobody knows what is behind a link, or what became of a folder in whose place something else stands.
        """
        path = self.root / relative
        return is_gone(path) and self.in_the_way(path) is None

    def stands(self, relative: str) -> bool:
        """Say whether anything stands there; raises `Forbidden` where that may not be seen."""
        path = self.root / relative
        with translated(path):
            try:
                path.lstat()
            except FileNotFoundError:
                return False
            return True

    def in_the_way(self, path: Path) -> Path | None:
        """What stands on the way from the root to a path and is no folder: a link, a file."""
        folder = self.root
        for part in path.relative_to(self.root).parts[:-1]:
            folder /= part
            try:
                if not stat.S_ISDIR(folder.lstat().st_mode):
                    return folder
            except OSError:
                return None
        return None

    def check_way(self, path: Path) -> None:
        """Raise `InvalidInput` where something is in the way to a path: nothing is done behind a link.

        What is not named like a session's file is in the way itself.
        """
        found = self.in_the_way(path)
        if found is not None:
            raise InvalidInput(f"{found} is no folder", hint="move it away; sessions lie below it")
        if not is_session_file(path.name):
            if path.is_symlink():
                hint = "put the folder itself here, or remove it"
                raise InvalidInput(f"{path} is a link, and what lies behind a link is not read", hint=hint)
            raise InvalidInput(f"{path} is neither a folder nor a file", hint="move it away; sessions may lie below it")

    def may_be_session(self, path: Path) -> bool:
        """Say whether a path may be that of a session's file: by its name, with nothing hidden or linked above it."""
        return is_session_path(PurePath(path.relative_to(self.root))) and self.in_the_way(path) is None

    def is_stray(self, path: Path) -> bool:
        """Say whether something stands where a folder of sessions may be that is neither a folder nor a file."""
        parts = path.relative_to(self.root).parts
        return (
            bool(parts)
            and not is_session_file(path.name)
            and all(is_session_folder(part) for part in parts)
            and self.in_the_way(path) is None
            and not is_gone(path)
            and not is_folder(path)
            and not _leads_to_a_file(path)
        )

    def below(self, folder: Path) -> Iterator[Path]:
        """What may be a session's file below a folder, and what is a stray; links are not followed."""
        for found, folders, names in os.walk(folder):
            folders.sort()
            linked = [name for name in folders if Path(found, name).is_symlink()]
            paths = [Path(found, name) for name in sorted([*names, *linked])]
            yield from (path for path in paths if self.may_be_session(path) or self.is_stray(path))


def is_gone(path: Path) -> bool:
    """Say whether nothing stands at a path; what may not be looked at does."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_folder(path: Path) -> bool:
    """Say whether a folder stands at a path; a link to one is none."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _leads_to_a_file(path: Path) -> bool:
    """Say whether a plain file stands at a path, or where a link there leads."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


class Differences(msgspec.Struct):
    """Where the directory is not as it was left: files that look otherwise or are new, recorded ones that are gone.

    ``leftovers`` and ``torn`` are files of ours that a crash left, ``strays`` stand where folders may be and are
    neither folders nor files. Below a folder that may not be entered every recorded file is told as changed.
    """

    changed: list[Path] = []
    gone: list[str] = []
    leftovers: list[Path] = []
    torn: list[Path] = []
    strays: list[Path] = []


def differences(directory: Directory, recorded: Iterable[Recorded]) -> Differences:
    """Compare the directory with what is ``recorded`` of it, which comes in the order of the paths."""
    found = Differences()
    records = iter(recorded)
    record = next(records, None)
    for seen in _walk(str(directory.root), found):
        if seen == record:
            record = next(records, None)
            continue
        while record is not None and record[0] < seen[0]:
            _not_met(directory, record[0], found)
            record = next(records, None)
        if seen != record:
            found.changed.append(directory.place(seen[0]))
        if record is not None and record[0] == seen[0]:
            record = next(records, None)
    while record is not None:
        _not_met(directory, record[0], found)
        record = next(records, None)
    return found


def _not_met(directory: Directory, relative: str, found: Differences) -> None:
    """A recorded file was not met: it is gone, or something else stands there."""
    if directory.is_missing(relative):
        found.gone.append(relative)
    else:
        found.changed.append(directory.place(relative))


def _walk(root: str, found: Differences) -> Iterator[Recorded]:
    """What is named like a session's file, as it would be recorded; what is no plain file as nothing ever is."""
    pending = [("", root)]
    while pending:
        below, path = pending.pop()
        if below and not below.endswith("/"):
            yield _seen(below, path, None)
            continue
        folders: list[tuple[str, str]] = []
        names: list[str] = []
        with translated(Path(path)), _listed(path, may_be_closed=bool(below)) as listing:
            for entry in listing:
                name = entry.name
                if name.startswith("."):
                    _keep_own(name, entry.path, found)
                elif entry.is_dir(follow_symlinks=False):
                    if is_session_folder(name):
                        folders.append((f"{below}{name}/", entry.path))
                elif is_session_file(name):
                    names.append(name)
                elif not entry.is_file(follow_symlinks=False) and is_session_folder(name):
                    stray = Path(entry.path)
                    found.strays += [] if _leads_to_a_file(stray) else [stray]
        if names and not folders:
            with translated(Path(path)), _opened(path) as folder:
                for name in sorted(names):
                    yield _seen(below + name, f"{path}/{name}" if folder is None else name, folder)
        else:
            # A folder sorts by its name with the slash, between the files: as the paths below it do.
            files = [(below + name, f"{path}/{name}") for name in names]
            pending += sorted([*folders, *files], reverse=True)


@contextmanager
def _listed(path: str, *, may_be_closed: bool) -> Generator[Iterable[os.DirEntry[str]]]:
    """What a folder holds; nothing where it may not be entered: then its files are there, but not to be seen."""
    try:
        listing = os.scandir(path)
    except PermissionError:
        if not may_be_closed:
            raise
        yield ()
        return
    with listing:
        yield listing


@contextmanager
def _opened(path: str) -> Generator[int | None]:
    """A folder, in which its files are found sooner than by their paths; None where the system cannot do so."""
    if os.stat not in os.supports_dir_fd:
        yield None
        return
    descriptor = os.open(path, os.O_RDONLY | NO_FOLLOWING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _seen(relative: str, place: str, folder: int | None) -> Recorded:
    try:
        status = os.stat(place, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return relative, *_NO_FILE
    if not stat.S_ISREG(status.st_mode):
        return relative, *_NO_FILE
    return relative, status.st_size, status.st_mtime_ns, status.st_ino


def _keep_own(name: str, path: str, found: Differences) -> None:
    if is_whole(name):
        found.leftovers.append(Path(path))
    elif is_torn(name):
        found.torn.append(Path(path))
