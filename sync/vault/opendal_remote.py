"""Remotes through Apache OpenDAL: a folder, and the services that OpenDAL knows.

Every foreign error becomes one of ours here, with a reason of one line. A folder is treated
as a disk that may be gone: nothing is made or written where its root is missing, unless the
caller asked for a new one (tests/contract/test_remotes.py, tests/unit/test_vault_remote.py).

Seen with opendal 0.47, and the reason for what looks odd below:

- building a folder's operator makes its root and ``atomic_write_dir`` at once, for everybody to read;
- a write syncs the file but not its directory;
- listing a folder takes a system call and a trip between threads for each entry: 1,000 files cost 150 to 190 ms,
  and 1 with `os.scandir`; a blocking operator is quicker, but holds up every thread of this process while it waits;
- a write that fails leaves its temporary file;
- a process that ends right after an answer aborts, one time in two (`_Threads`);
- ``read(size=…)`` fails if the object is shorter, while ``open`` and ``read(n)`` is one plain GET.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Generator
from email.utils import parsedate_to_datetime
from http.client import responses
from pathlib import Path
from typing import TypeVar

import opendal
from opendal import exceptions as foreign
from opendal.layers import RetryLayer, TimeoutLayer

from ...storage.errors import InvalidInput, ObjectDamaged, ObjectMissing, RemoteUnreachable, StenoError
from .credentials import refused
from .deadlines import TIMEOUT_S, TRANSFER_TIMEOUT_S, in_thread
from .listed import Listed
from .names import ATOMIC_WRITE_DIR, MAX_OBJECT_BYTES, check_name
from .trust import on_the_certificate

_READ_BYTES = 1024 * 1024
_REASON_LENGTH = 160
_SKEW_S = 300
_DATE = re.compile(r'"date": "([^"]{1,40})"')
_NO_CONNECTION = "error sending request"
_NO_CREDENTIALS = "failed to load signing credential"
_LET_GO_S = 0.1
_REFUSING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
_REFUSING_STATUS = {401, 402, 403, 413, 507}
_NO_DIRECTORY = {404, 409}
_FOREIGN = tuple(value for value in vars(foreign).values() if isinstance(value, type) and issubclass(value, Exception))

_T = TypeVar("_T")


class _Threads:
    """OpenDAL's own threads: they take Python's lock once more after an answer, and a process that ends then aborts."""

    def __init__(self) -> None:
        self._answered_s = -_LET_GO_S
        atexit.register(self.let_go)

    def answered(self) -> None:
        """One of them has just given an answer, or is not waited for any more."""
        self._answered_s = time.monotonic()

    def let_go(self) -> None:
        """Give them time, where the last answer is not long ago."""
        time.sleep(max(0.0, self._answered_s + _LET_GO_S - time.monotonic()))


_threads = _Threads()


class OpendalRemote:
    """A `Remote` on any OpenDAL service that can list."""

    folder: Path | None = None

    def __init__(self, operator: opendal.AsyncOperator, *, address: str) -> None:
        self.address = address
        self.requests: Counter[str] = Counter()
        self._operator = operator

    async def put(self, name: str, data: bytes) -> None:
        """Store an object."""
        self.requests["put"] += 1
        check_name(name)
        with self._translated():
            await self._operator.write(name, data)

    async def get(self, name: str, *, limit_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The object; raise `ObjectMissing`, or `ObjectDamaged` if it is larger than ``limit_bytes``."""
        self.requests["get"] += 1
        with self._translated(wanted=check_name(name)):
            try:
                return await _read(self._operator, name, limit_bytes=limit_bytes)
            except OSError as exc:
                if str(exc).endswith(_NO_CONNECTION):  # a read does not say why
                    await self._operator.stat(name)
                raise

    async def list(self, prefix: str) -> list[str]:
        """The names in one directory, sorted; [] if it is absent."""
        self.requests["list"] += 1
        with self._translated():
            listed = Listed(self.address, prefix)
            try:
                async for entry in await self._operator.list(prefix):
                    listed.add([entry.path])
            except foreign.NotFound:
                return []
        # The directory itself is among the entries, and so are directories in it.
        return [path for path in listed.all() if not path.endswith("/")]

    async def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        self.requests["delete"] += 1
        check_name(name)
        with self._translated():
            await self._operator.delete(name)

    async def news(self, *, timeout_s: float) -> bool:
        """Nobody tells us; wait."""
        await asyncio.sleep(timeout_s)
        return False

    async def close(self) -> None:
        """Nothing is held."""

    @contextlib.contextmanager
    def _translated(self, *, wanted: str | None = None) -> Generator[None]:
        """Raise our error for whatever OpenDAL or the system raises inside."""
        try:
            yield
        except (*_FOREIGN, OSError) as exc:
            raise translated(exc, remote=self.address, wanted=wanted) from exc
        finally:
            _threads.answered()


class FolderRemote(OpendalRemote):
    """A `Remote` in a directory of this machine, or one that some other program replicates.

    Files are 0600 and directories 0700 where they are made here. ``create`` lets the first
    put make the root; until then a missing root is an empty remote. Without it a missing
    root is `RemoteUnreachable`: the disk may come back.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        # The operator is made at the first use: making it makes directories.
        self.address = str(folder)
        self.folder = folder
        self.requests = Counter()
        self._create = create
        self._reader: opendal.AsyncOperator | None = None
        self._writer: opendal.AsyncOperator | None = None

    async def put(self, name: str, data: bytes) -> None:
        """Store an object, durably: file and directory are synced."""
        self.requests["put"] += 1
        path = self._folder / check_name(name)
        with self._translated():
            await _in_thread(self._make_room, path.parent)
            try:
                await (await self._writing()).write(name, data)
            finally:
                if path.parent != self._folder:  # what lies in the root is anybody's, the rest has one writer
                    await _in_thread(_discard_leftovers, self._folder / ATOMIC_WRITE_DIR, path.name)
            await _in_thread(_settle, path)

    async def get(self, name: str, *, limit_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The object; raise `ObjectMissing`, or `ObjectDamaged` if it is larger than ``limit_bytes``."""
        self.requests["get"] += 1
        with self._translated(wanted=check_name(name)):
            if not await _in_thread(self._is_there):
                raise ObjectMissing(name=name)
            return await _read(await self._reading(), name, limit_bytes=limit_bytes)

    async def list(self, prefix: str) -> list[str]:
        """The names in one directory, sorted, without hidden files; [] if it is absent."""
        self.requests["list"] += 1
        with self._translated():
            return await _in_thread(self._names, prefix)

    async def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        self.requests["delete"] += 1
        check_name(name)
        with self._translated():
            if await _in_thread(self._is_there):
                await (await self._reading()).delete(name)

    @property
    def _folder(self) -> Path:
        return Path(self.address)

    async def _reading(self) -> opendal.AsyncOperator:
        if self._reader is None:
            self._reader = await _in_thread(_folder_operator, self._folder)
        return self._reader

    async def _writing(self) -> opendal.AsyncOperator:
        if self._writer is None:
            self._writer = await _in_thread(_folder_operator, self._folder, self._folder / ATOMIC_WRITE_DIR)
        return self._writer

    def _is_there(self) -> bool:
        """Whether the root is; raise unless its absence is expected."""
        expected = self._create  # asked first: another put may make the root just now, and then expects it
        if self._folder.is_dir():
            return True
        if expected:
            return False
        raise RemoteUnreachable(remote=self.address, reason="there is no such directory; is the disk mounted?")

    def _make_room(self, parent: Path) -> None:
        if not self._is_there():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._create = False
        # Not with parents: a root that vanishes just now is not made again.
        for directory in (self._folder / ATOMIC_WRITE_DIR, parent):
            directory.mkdir(mode=0o700, exist_ok=True)

    def _names(self, prefix: str) -> list[str]:
        if not self._is_there():
            return []
        listed = Listed(self.address, prefix)
        try:
            with os.scandir(self._folder / prefix) as entries:
                files = (entry.name for entry in entries if entry.is_file(follow_symlinks=False))
                listed.add(prefix + name for name in files if not name.startswith("."))
        except FileNotFoundError:
            return []
        return listed.all()


class WebdavRemote(OpendalRemote):
    """A `Remote` on a WebDAV server. OpenDAL asks for the directory before each put; here it does where a put fails."""

    def __init__(self, operator: opendal.AsyncOperator, *, lean: opendal.AsyncOperator, address: str) -> None:
        super().__init__(operator, address=address)
        self._lean = lean

    async def put(self, name: str, data: bytes) -> None:
        """Store an object: one request where its directory is there."""
        self.requests["put"] += 1
        check_name(name)
        with self._translated():
            try:
                await self._lean.write(name, data)
            except _FOREIGN as exc:
                if _status(exc) not in _NO_DIRECTORY:
                    raise
                await self._operator.write(name, data)


def service_remote(url: str, *, service: str | None, options: dict[str, str]) -> OpendalRemote:
    """The remote at a service's address; with ``service``, all of the address stands in ``options``."""
    try:
        if service is None:
            return OpendalRemote(_layered(opendal.AsyncOperator.from_uri(url, **options)), address=url)
        operator = _layered(opendal.AsyncOperator(service, **options))
        lean = _layered(opendal.AsyncOperator(service, **{**options, "disable_create_dir": "true"}))
    except _FOREIGN as exc:
        raise InvalidInput(
            f"{url} is not complete ({one_line(exc)})",
            hint="add ?option=… to the address; credentials go into STENO_<SERVICE>_<OPTION> in the environment",
        ) from exc
    return WebdavRemote(operator, lean=lean, address=url)


def _layered(operator: opendal.AsyncOperator) -> opendal.AsyncOperator:
    layered = operator.layer(TimeoutLayer(timeout=TIMEOUT_S, io_timeout=TRANSFER_TIMEOUT_S))
    return layered.layer(RetryLayer(max_times=2, min_delay=0.2, jitter=True))


def translated(exc: Exception, *, remote: str, wanted: str | None = None) -> StenoError:
    """Our error for one of OpenDAL's or of the system's; ``wanted`` is the object that was to be read, if any."""
    text = str(exc)
    # A file that is being read raises OSError for everything and names the kind in its text.
    kind = text.partition(" ")[0] if type(exc) is OSError and exc.errno is None else type(exc).__name__
    if wanted is not None and kind in {"NotFound", "FileNotFoundError"}:
        return ObjectMissing(name=wanted)
    code = exc.errno if isinstance(exc, OSError) and exc.errno else _number(r"\(os error (\d+)\)", text)
    status = _status(exc)
    unsigned = _NO_CREDENTIALS in text
    if unsigned or kind in {"PermissionDenied", "ConfigInvalid"} or code in _REFUSING or status in _REFUSING_STATUS:
        return refused(remote=remote, reason=one_line(exc) + _on_the_clock(text))
    retry_after_s = _number(r'"retry-after": "(\d{1,9})"', text)
    more = on_the_certificate(text) or _on_the_clock(text)
    return RemoteUnreachable(remote=remote, reason=one_line(exc) + more, retry_after_s=retry_after_s)


def _on_the_clock(text: str) -> str:
    """What an error says of this machine's clock, where that may be why: signatures are dated."""
    now_s = time.time()
    dated = _DATE.search(text)
    try:
        there_s = parsedate_to_datetime(dated[1]).timestamp() if dated else now_s
    except ValueError:
        return ""
    apart_s = round(abs(now_s - there_s))
    if apart_s < _SKEW_S:
        return ""
    apart = f"{apart_s // 86_400:,} days" if apart_s >= 2 * 86_400 else f"{apart_s // 60:,} minutes"
    return (
        f"; this machine's clock is {apart} {'behind' if now_s < there_s else 'ahead of'} the service's: set it right"
    )


def one_line(exc: Exception) -> str:
    """What an error of OpenDAL says, without its context and backtrace."""
    if isinstance(exc, TimeoutError):
        return "it did not answer in time"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    head, _, rest = str(exc).partition("\n")
    what = re.sub(r", context: \{.*\}", "", head).rpartition("=> ")[2].strip()
    status = _status(exc)
    source = re.search(r"Source:\s*(.+)", rest)
    details = (what, f"status {status} {responses.get(status, '')}" if status else "", source[1] if source else "")
    reason = ", ".join(part.strip() for part in details if part.strip())
    return reason[:_REASON_LENGTH] or type(exc).__name__


async def _read(operator: opendal.AsyncOperator, name: str, *, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    # The stub forgets that leaving is awaited as well.
    async with await operator.open(name, "rb") as file:  # pyright: ignore[reportGeneralTypeIssues]
        while part := await file.read(_READ_BYTES):
            size_bytes += len(part)
            if size_bytes > limit_bytes:
                raise ObjectDamaged(name=name, reason=f"larger than {limit_bytes} bytes")
            parts.append(part)
    return b"".join(parts)


def _folder_operator(folder: Path, atomic_write_dir: Path | None = None) -> opendal.AsyncOperator:
    options = {} if atomic_write_dir is None else {"atomic_write_dir": str(atomic_write_dir)}
    operator = opendal.AsyncOperator("fs", root=str(folder), **options)
    return operator.layer(TimeoutLayer(timeout=TIMEOUT_S, io_timeout=TRANSFER_TIMEOUT_S))


def _discard_leftovers(directory: Path, written: str) -> None:
    """Remove what tries at an object left behind, before a retry fills the disk with more (OpenDAL does not)."""
    with contextlib.suppress(OSError):
        for leftover in directory.glob(f"{written}.*"):
            leftover.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    """Make a written file private and its name durable."""
    # Some file systems have no modes, and whoever replicates the folder may have moved the file on.
    with contextlib.suppress(OSError):
        path.chmod(0o600)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    except OSError as exc:
        if exc.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:  # a file system that syncs no directories
            raise
    finally:
        os.close(directory)


async def _in_thread(function: Callable[..., _T], *arguments: object) -> _T:
    """Run a file system call that may hang (a dead network disk) where only its own thread hangs."""
    return await in_thread(lambda: function(*arguments), timeout_s=TIMEOUT_S)


def _status(exc: Exception) -> int | None:
    """What a server answered, where one did."""
    return _number(r"\bstatus: (\d{3})\b", str(exc))


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None
