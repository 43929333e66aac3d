"""What steno asks of a remote, and the address of one.

A remote stores whole objects under names with at most one directory. It promises little:
what was put is listed and got sooner or later, whole. It gives no order, no lock and no
clock. tests/contract/test_remotes.py is the contract, run against every implementation.
An address holds no credentials, since it is kept and shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ...storage.errors import InvalidInput
from ...storage.home import Home
from .credentials import credentials
from .names import MAX_OBJECT_BYTES

SERVICES = (
    *("aliyun-drive", "azblob", "azdls", "azfile", "b2", "cos", "dropbox", "ftp", "gcs", "gdrive", "koofr", "obs"),
    *("onedrive", "oss", "s3", "seafile", "swift", "tos", "upyun", "webdav", "webhdfs", "yandex-disk"),
)
"""The services of OpenDAL that keep objects elsewhere and can list them."""
_DATABASES = {"redis": "redis", "rediss": "redis", "postgresql": "postgresql"}
"""Schemes that we speak ourselves, and the service that the environment calls them."""

_DRIVES = {"aliyun-drive", "dropbox", "gdrive", "onedrive", "yandex-disk"}
"""Services of one drive a person: an address has only a path, and OpenDAL would drop a name before it unsaid."""

_SECRET = re.compile(r"secret|password|token|credential|_key$|^key$|sas")


class Remote(Protocol):
    """A dumb object store. Every call may raise `RemoteUnreachable` or `RemoteRefused`."""

    @property
    def address(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def folder(self) -> Path | None:
        """The directory that can be watched for news; None if it lies elsewhere."""
        ...

    @property
    def requests(self) -> Counter[str]:
        """How often each of ``put``, ``get``, ``list``, ``delete`` was asked, failures included."""
        ...

    async def put(self, name: str, data: bytes) -> None:
        """Store an object; again under the same name, it replaces the whole.

        It is never seen in part, but on a WebDAV server: there others may see the beginning of one that is on its way
        or was cut off, and only the seal tells.
        """
        ...

    async def get(self, name: str, *, limit_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The object; raise `ObjectMissing`, or `ObjectDamaged` if it is larger than ``limit_bytes``."""
        ...

    async def list(self, prefix: str) -> list[str]:
        """The names of the objects in one directory (``log/``; ``""`` is the root), sorted; [] if it is absent."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    async def news(self, *, timeout_s: float) -> bool:
        """Wait until something may be new, at most so long. False: nobody said so (many remotes never do).

        What happens between two calls is told by the next one; the first, and the first after a lost connection,
        says True, since nobody listened before. What this very remote put need not be news to it.
        """
        ...

    async def close(self) -> None:
        """Let go of what the remote holds; it is not used afterwards."""
        ...


def open_remote(url: str, *, create: bool = False, environ: Mapping[str, str] | None = None) -> Remote:
    """The remote at an address; nothing is asked of it yet.

    A path, ``file:///path``, ``webdav+https://host/path``, ``redis://host/0?prefix=…``, ``postgresql://host/db?table=…``
    or ``<service>://name/prefix?option=…``; docs/remotes.md has them all.
    ``create`` lets the first put make a folder that does not exist. ``STENO_<SERVICE>_<OPTION>`` in
    ``environ`` gives a service what does not belong in an address (``STENO_WEBDAV_PASSWORD``); without it the
    `credentials` of this process's home do.
    """
    folder = folder_of(url)
    if environ is None:
        environ = {} if folder is not None else credentials(Home.from_environment())
    if folder is None and (scheme := _split(url).scheme) in _DATABASES:
        return _database_remote(url, service=_DATABASES[scheme], environ=environ)
    # opendal is heavy, and whoever only reads sessions imports this module for the type alone.
    from . import opendal_remote  # noqa: PLC0415

    if folder is not None:
        return opendal_remote.FolderRemote(folder, create=create)
    parts = _split(url)
    service, _, transport = parts.scheme.partition("+")
    _check_service(url, service, transport)
    _check_no_secret(parts)
    if service in _DRIVES and parts.netloc:
        raise InvalidInput(f"not an address: {url}", hint=f"write it as {service}:///path")
    options = {**dict(parse_qsl(parts.query)), **_options_from(environ, service)}
    if transport:
        options |= {"endpoint": f"{transport}://{parts.netloc}", "root": unquote(parts.path) or "/"}
        return opendal_remote.service_remote(url, service=service, options=options)
    return opendal_remote.service_remote(url, service=None, options=options)


def folder_of(url: str) -> Path | None:
    """The absolute path that an address names; None if it names something else than a folder."""
    if not url.strip() or "\0" in url:
        raise InvalidInput("the address of a remote cannot be empty", hint=_hint())
    if "://" not in url:
        return Path(url).expanduser().absolute()
    parts = _split(url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise InvalidInput(f"not a path on this machine: {url}", hint="write it as file:///path")
    return Path(unquote(parts.path))


def _database_remote(url: str, *, service: str, environ: Mapping[str, str]) -> Remote:
    """The remote in a database; its driver is imported only here, and is an extra."""
    parts = _split(url)
    _check_no_secret(parts)
    options, settings = dict(parse_qsl(parts.query)), _options_from(environ, service)
    if service == "redis":
        from .redis_remote import redis_remote  # noqa: PLC0415

        return redis_remote(url, options=options, settings=settings)
    from .postgres_remote import postgres_remote  # noqa: PLC0415

    return postgres_remote(url, options=options, settings=settings)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as exc:
        raise InvalidInput(f"not an address: {url} ({exc})", hint=_hint()) from exc


def _check_service(url: str, service: str, transport: str) -> None:
    known = service in SERVICES and (not transport or (service == "webdav" and transport in {"http", "https"}))
    if not known or (service == "webdav" and not transport):
        scheme = url.partition("://")[0]
        raise InvalidInput(f"unknown kind of remote: {scheme}://", hint=_hint())


def _check_no_secret(parts: SplitResult) -> None:
    options = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(name.lower())]
    user, at, _ = parts.netloc.rpartition("@")
    # libpq asks for a user's name in the address, where it is no secret.
    if options or (at and (":" in user or parts.scheme != "postgresql")):
        what = options[0] if options else "a user or password"
        raise InvalidInput(
            f"the address holds {what}; addresses are kept and shown",
            hint="leave it out and set the environment variable STENO_<SERVICE>_<OPTION> instead",
        )


def _options_from(environ: Mapping[str, str], service: str) -> dict[str, str]:
    start = f"STENO_{service.upper().replace('-', '_')}_"
    return {name.removeprefix(start).lower(): value for name, value in environ.items() if name.startswith(start)}


def _hint() -> str:
    schemes = ("file", "webdav+https", *_DATABASES, *(service for service in SERVICES if service != "webdav"))
    return f"give a path, or one of {', '.join(f'{scheme}://' for scheme in schemes)}"
