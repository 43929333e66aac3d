"""Addresses of remotes, and what only a folder does."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opendal import exceptions as foreign

from steno.storage.errors import InvalidInput, ObjectMissing, RemoteRefused, RemoteUnreachable
from steno.sync.vault.memory_remote import MemoryRemote
from steno.sync.vault.opendal_remote import FolderRemote, one_line, translated
from steno.sync.vault.remote import SERVICES, folder_of, open_remote


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file can grow beyond 64 KiB, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def entries_of(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert open_remote("some/where").folder == tmp_path / "some/where"


def test_a_tilde_is_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_remote("~/vault").folder == tmp_path / "vault"


def test_a_file_url_is_a_path():
    assert open_remote("file:///some/my%20vault").folder == Path("/some/my vault")


@pytest.mark.parametrize("url", ["", "  ", "a\0b", "file://host/path", "file://path", "s3://[half"])
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(InvalidInput):
        open_remote(url)


@pytest.mark.parametrize("url", ["gopher://host/x", "mysql://host", "memory://", "fs:///x", "webdav://host", "://x"])
def test_an_unknown_kind_of_remote_is_refused_and_the_known_ones_are_named(url: str):
    with pytest.raises(InvalidInput, match="unknown kind of remote") as caught:
        open_remote(url)
    assert "s3://" in caught.value.hint


def test_a_bucket_is_a_remote():
    url = "s3://bucket/prefix?region=eu-central-1&endpoint=http://127.0.0.1:1"
    remote = open_remote(url)
    assert (remote.address, remote.folder) == (url, None)


def test_a_webdav_server_is_a_remote():
    assert open_remote("webdav+https://host.invalid/some/path").address == "webdav+https://host.invalid/some/path"


@pytest.mark.parametrize(
    "url",
    [
        "redis://host", "redis://host:6379/3?prefix=team:steno", "rediss://host/0", "postgresql://host/db",
        "postgresql:///db", "postgresql://ada@host:5433/db?table=vault_2&sslmode=verify-full",
    ],
)  # fmt: skip
def test_a_database_is_a_remote(url: str):
    remote = open_remote(url, environ={})
    assert (remote.address, remote.folder) == (url, None)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host/db", "redis://host/0?prefix=a%20b", "redis://host/0?socket_timeout=1", "redis://host:x/0",
        "postgresql://host/db?table=a;drop", "postgresql://host/db?table=Vault", "postgresql://host/db?options=x",
        "postgresql://host:x:y/db?table=a%22b", f"postgresql://host/db?table={'a' * 49}",
    ],
)  # fmt: skip
def test_an_address_that_a_database_does_not_have_is_refused(url: str):
    with pytest.raises(InvalidInput, match="not the address of a"):
        open_remote(url, environ={})


def test_a_database_takes_its_credentials_from_the_environment():
    pool: Any = open_remote("redis://h", environ={"STENO_REDIS_USERNAME": "u", "STENO_REDIS_PASSWORD": "p"})
    settings = pool._client.connection_pool.connection_kwargs
    assert (settings["username"], settings["password"]) == ("u", "p")
    remote: Any = open_remote("postgresql://h/d", environ={"STENO_POSTGRESQL_PASSWORD": "p", "STENO_POSTGRESQL_X": "y"})
    assert remote._conninfo == {"host": "h", "dbname": "d", "password": "p"}


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [("redis://host", "redis", "steno[redis]"), ("postgresql://host/db", "psycopg", "steno[postgres]")],
)
def test_a_driver_that_is_not_installed_is_named(url: str, driver: str, extra: str):
    code = f"import sys; sys.modules[{driver!r}] = None\nfrom steno.sync.vault.remote import open_remote\n"
    code += f"try: open_remote({url!r})\nexcept Exception as exc: print(type(exc).__name__, exc)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingDriver")
    assert f"pip install '{extra}'" in done.stdout


def test_a_drive_has_no_name_before_its_path():
    with pytest.raises(InvalidInput) as caught:
        open_remote("dropbox://box/x", environ={"STENO_DROPBOX_ACCESS_TOKEN": "hunter2"})
    assert "dropbox:///path" in caught.value.hint


def test_every_address_in_the_documentation_is_one():
    page = (Path(__file__).parents[2] / "docs" / "remotes.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", page, flags=re.MULTILINE)
    assert len(examples) >= 15
    for url, variables in examples:
        environ = dict.fromkeys(re.findall(r"`(STENO_\w+)`", variables), "eHg=")
        assert open_remote(url, environ=environ).address == str(folder_of(url) or url)


def test_every_service_that_the_documentation_names_is_known():
    page = (Path(__file__).parents[2] / "docs" / "remotes.md").read_text(encoding="utf-8")
    assert all(re.search(rf"`{service}(`|[:+])", page) for service in SERVICES)


def test_an_address_that_lacks_something_says_what():
    with pytest.raises(InvalidInput, match="region"):
        open_remote("s3://bucket/prefix", environ={})


@pytest.mark.parametrize(
    "url",
    [
        "s3://me:hunter2@bucket/x?region=x",
        "s3://bucket?region=x&secret_access_key=hunter2",
        "webdav+https://host/x?password=hunter2",
        "webdav+https://me:hunter2@host/x",
        "dropbox:///x?access_token=hunter2",
        "azblob://c?account_key=hunter2",
        "redis://:hunter2@host/0",
        "redis://hunter2@host/0",
        "redis://host/0?password=hunter2",
        "postgresql://me:hunter2@host/db",
        "postgresql://host/db?password=hunter2",
        "postgresql://host/db?sslpassword=hunter2",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str):
    with pytest.raises(InvalidInput) as caught:
        open_remote(url)
    assert "hunter2" not in caught.value.line


def test_credentials_come_from_the_environment_and_stay_out_of_the_address():
    remote = open_remote("dropbox:///box/x", environ={"STENO_DROPBOX_ACCESS_TOKEN": "hunter2"})
    assert remote.address == "dropbox:///box/x"


def test_a_server_that_is_not_there_is_unreachable():
    address = "s3://bucket/x?region=x&endpoint=http://127.0.0.1:1"
    environ = {"STENO_S3_ACCESS_KEY_ID": "a", "STENO_S3_SECRET_ACCESS_KEY": "hunter2"}
    with pytest.raises(RemoteUnreachable, match="Connection refused") as caught:
        asyncio.run(open_remote(address, environ=environ).list("log/"))
    assert "\n" not in caught.value.line
    assert "hunter2" not in caught.value.line


async def test_a_folder_that_does_not_exist_is_unreachable_and_is_not_made(tmp_path: Path):
    remote = FolderRemote(tmp_path / "gone")
    for call in (remote.put("log/a", b"x"), remote.get("log/a"), remote.list("log/"), remote.delete("log/a")):
        with pytest.raises(RemoteUnreachable):
            await call
    assert entries_of(tmp_path) == []


async def test_a_new_folder_is_made_by_the_first_put_and_not_before(tmp_path: Path):
    remote = FolderRemote(tmp_path / "deep" / "new", create=True)
    assert await remote.list("log/") == []
    assert entries_of(tmp_path) == []
    await remote.put("log/a", b"x")
    assert files_in(tmp_path / "deep" / "new") == ["log/a"]


@pytest.mark.fault(14)
async def test_a_folder_that_vanishes_is_not_made_again(tmp_path: Path):
    remote = FolderRemote(tmp_path / "new", create=True)
    await remote.put("log/a", b"x")
    (tmp_path / "new").rename(tmp_path / "moved")
    with pytest.raises(RemoteUnreachable):
        await remote.put("log/b", b"x")
    assert entries_of(tmp_path) == ["moved"]


async def test_a_folder_that_comes_back_is_used_again(tmp_path: Path):
    remote = FolderRemote(tmp_path / "disk")
    with pytest.raises(RemoteUnreachable):
        await remote.list("log/")
    (tmp_path / "disk").mkdir()
    assert await remote.list("log/") == []


async def test_looking_into_a_folder_leaves_nothing_there(tmp_path: Path):
    remote = FolderRemote(tmp_path)
    with pytest.raises(ObjectMissing):
        await remote.get("vault.json")
    await remote.list("log/")
    await remote.delete("log/a")
    assert entries_of(tmp_path) == []


async def test_what_a_folder_remote_makes_is_for_its_owner_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        await FolderRemote(tmp_path / "new", create=True).put("log/a", b"x")
    finally:
        os.umask(before)
    made = [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    assert {oct(path.stat().st_mode & 0o777) for path in made if path.is_dir()} == {"0o700"}
    assert {oct(path.stat().st_mode & 0o777) for path in made if path.is_file()} == {"0o600"}


async def test_an_existing_folder_keeps_its_mode(tmp_path: Path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    await FolderRemote(tmp_path / "shared").put("log/a", b"x")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


async def test_hidden_files_directories_and_links_are_not_listed(tmp_path: Path):
    remote = FolderRemote(tmp_path)
    await remote.put("log/a", b"x")
    (tmp_path / "log" / ".DS_Store").write_bytes(b"")
    (tmp_path / "log" / "directory").mkdir()
    (tmp_path / "log" / "link").symlink_to("a")
    (tmp_path / "log" / "a (conflicted copy)").write_bytes(b"x")
    assert await remote.list("log/") == ["log/a", "log/a (conflicted copy)"]


@pytest.mark.fault(30)
@pytest.mark.usefixtures("small_files")
async def test_a_disk_without_room_refuses_and_keeps_no_pieces(tmp_path: Path):
    remote = FolderRemote(tmp_path)
    await remote.put("log/a", b"x")
    with pytest.raises(RemoteRefused):
        await remote.put("log/b", bytes(1_000_000))
    assert files_in(tmp_path) == ["log/a"]


async def test_a_put_clears_what_a_killed_try_left(tmp_path: Path):
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "a.Xy12Zw34").write_bytes(b"half")
    (tmp_path / ".tmp" / "b.Xy12Zw34").write_bytes(b"of somebody else")
    await FolderRemote(tmp_path).put("log/a", b"whole")
    assert files_in(tmp_path) == [".tmp/b.Xy12Zw34", "log/a"]


async def test_a_folder_that_is_a_file_is_unreachable(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RemoteUnreachable):
        await FolderRemote(tmp_path / "file").list("log/")


def test_one_remote_serves_several_event_loops(tmp_path: Path):
    remote = FolderRemote(tmp_path)
    asyncio.run(remote.put("log/a", b"x"))
    assert asyncio.run(remote.get("log/a")) == b"x"


@pytest.mark.parametrize(
    ("exc", "ours"),
    [
        (foreign.NotFound("NotFound (permanent) at read => entity not found"), ObjectMissing),
        (FileNotFoundError(2, "No such file or directory"), ObjectMissing),
        (OSError("NotFound (permanent) at read, context: {…} => entity not found"), ObjectMissing),
        (foreign.PermissionDenied("PermissionDenied (permanent) at write => permission denied"), RemoteRefused),
        (foreign.Unexpected("Unexpected at write => x\n\nSource:\n   No space left (os error 28)"), RemoteRefused),
        (foreign.Unexpected("Unexpected at write => x\n\nSource:\n   quota (os error 122)"), RemoteRefused),
        (foreign.Unexpected("Unexpected at write\n\n   response: Parts { status: 507, v"), RemoteRefused),
        (OSError(30, "Read-only file system"), RemoteRefused),
        (PermissionError(13, "Permission denied"), RemoteRefused),
        (foreign.RateLimited("RateLimited (temporary) at write => slow down"), RemoteUnreachable),
        (foreign.Unexpected("Unexpected at write\n\n   response: Parts { status: 503, v"), RemoteUnreachable),
        (TimeoutError(), RemoteUnreachable),
        (OSError(5, "Input/output error"), RemoteUnreachable),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_foreign_error_becomes_ours(exc: Exception, ours: type[Exception]):
    assert type(translated(exc, remote="somewhere", wanted="log/a")) is ours


def test_a_write_that_finds_no_place_is_no_missing_object():
    assert type(translated(foreign.NotFound("NotFound at write => x"), remote="somewhere")) is RemoteUnreachable


def test_what_a_server_asked_to_wait_is_kept():
    text = 'Unexpected at write\n\n   response: Parts { status: 503, headers: {"retry-after": "17"} }'
    error = translated(foreign.Unexpected(text), remote="somewhere")
    assert isinstance(error, RemoteUnreachable)
    assert error.retry_after_s == 17


def test_the_reason_of_a_read_is_short_as_well():
    text = "Unexpected (persistent) at read, context: { uri: http://x, response: Parts { status: 401, headers: {} } }"
    assert one_line(OSError(text)) == "Unexpected (persistent) at read, status 401 Unauthorized"


def test_the_reason_is_one_line_without_a_backtrace():
    text = "Unexpected (temporary) at write => no storage space\n\nContext:\n   service: fs\n\n"
    text += "Source:\n   No space left on device (os error 28)\n\nBacktrace:\n   0: <unknown>\n"
    assert one_line(foreign.Unexpected(text)) == "no storage space, No space left on device (os error 28)"


def test_the_seam_is_imported_without_opendal_and_without_cryptography():
    code = "import sys, steno.sync.vault.memory_remote, steno.sync.vault.remote, steno.sync.vault.ranges;"
    code += (
        "print([name for name in ('opendal', 'cryptography', 'zstandard', 'redis', 'psycopg') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_a_peer_in_memory_sees_the_same_objects_and_counts_for_itself():
    remote = MemoryRemote()
    device = remote.peer()
    await remote.put("log/a", b"x")
    assert await device.get("log/a") == b"x"
    assert (remote.requests, device.requests) == ({"put": 1}, {"get": 1})


async def test_a_put_in_memory_is_news_to_a_peer_that_waits():
    remote = MemoryRemote()
    waiting = asyncio.create_task(remote.peer().news(timeout_s=60))
    await asyncio.sleep(0)
    await remote.put("log/a", b"x")
    assert await waiting is True


@pytest.mark.skipif(bool(set(os.environ) & {"AWS_PROFILE", "AWS_ACCESS_KEY_ID"}), reason="this machine has credentials")
def test_a_service_without_credentials_is_refused_and_not_unreachable():
    address = "s3://bucket/x?region=x&endpoint=http://127.0.0.1:1&disable_ec2_metadata=true&disable_config_load=true"
    with pytest.raises(RemoteRefused, match="credential") as caught:
        asyncio.run(open_remote(address, environ={}).list("log/"))
    assert "STENO_S3_" in caught.value.hint
