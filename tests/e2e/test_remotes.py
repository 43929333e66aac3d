"""Two daemons and a real service between them: what is appended on one device is on the other, and back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from steno.tests.e2e.device import Device, equal, until
from steno.tests.server_fixtures import RCLONE_SETTINGS, S3_SETTINGS, need
from steno.tests.servers import Server, start_syncthing, syncthing_home

pytestmark = pytest.mark.usefixtures("forked")
Make = Callable[[str, str], Device]


@pytest.fixture
def make(place: Path) -> Iterator[Make]:
    """Makes a device in a directory with its remote; the first one makes the vault."""
    devices: list[Device] = []

    def made(name: str, remote: str) -> Device:
        device = Device(place / name, remote=remote).make(found=not devices)
        devices.append(device)
        return device

    yield made
    for device in devices:
        device.kill()


@pytest.fixture(params=["s3", "rclone", "wsgidav", "redis", "postgres"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty place on a service of this run."""
    for name, value in {"s3": S3_SETTINGS, "rclone": RCLONE_SETTINGS}.get(request.param, {}).items():
        monkeypatch.setenv(name, value)
    if request.param == "redis":
        return f"{request.getfixturevalue('redis_url')}?prefix={request.getfixturevalue('redis_prefix')}"
    name = "postgres_database_url" if request.param == "postgres" else f"{request.param}_url"
    return request.getfixturevalue(name)


def _talk(laptop: Device, desktop: Device) -> None:
    """Append here and there, and see each arrive."""
    session = laptop.json("create", "--title", "Over there")["id"]
    laptop.steno("add", session, "from the laptop")
    until(lambda: desktop.contents(session) == ["from the laptop"], "the message is on the desktop")
    desktop.steno("add", session, "and back")
    until(lambda: laptop.contents(session) == ["from the laptop", "and back"], "the answer is on the laptop")
    assert equal(laptop, desktop)


def test_messages_appended_on_one_device_are_on_the_other_and_back(url: str, make: Make):
    laptop, desktop = make("a", url), make("b", url)
    for device in (laptop, desktop):
        device.start()
    _talk(laptop, desktop)
    for device in (laptop, desktop):
        assert device.steno("remote", "show").out == f"{url}\n"
        device.stop()


def test_what_a_service_was_given_is_no_secret_of_its_own(url: str, make: Make):
    device = make("a", url)
    shown = device.steno("status", "--json", code=None).out + device.home.vault_file.read_text(encoding="utf-8")
    for settings in (S3_SETTINGS, RCLONE_SETTINGS):
        assert not any(value in shown for name, value in settings.items() if "PASSWORD" in name or "SECRET" in name)


def _talk_over_replicas(
    make: Make, first: Path, second: Path, *, begin: Callable[[], object], replicate: Callable[[], object]
) -> None:
    """Append here and there where each device has a folder of its own, and see each arrive."""
    laptop = make("a", str(first))
    second.mkdir()
    begin()
    until(lambda: (second / "vault.json").exists() and [*second.glob("keys/1.*")], "the vault is on the desktop")
    desktop = make("b", str(second))
    for device in (laptop, desktop):
        device.start()
    session = laptop.json("create", "--title", "Replicated")["id"]
    laptop.steno("add", session, "from the laptop")
    until(laptop.settled, "it is sent")
    replicate()
    until(lambda: desktop.contents(session) == ["from the laptop"], "the message is on the desktop")
    desktop.steno("add", session, "and back")
    until(desktop.settled, "it is sent")
    replicate()
    until(lambda: laptop.contents(session) == ["from the laptop", "and back"], "the answer is on the laptop")
    assert equal(laptop, desktop)


def test_a_folder_that_is_replicated_by_unison_is_a_remote(place: Path, make: Make):
    need("unison", package="unison")
    first, second = place / "one", place / "two"

    def replicate() -> None:
        options = ["-batch", "-silent", "-perms", "0", "-ignore", "Name .tmp"]
        seen = {"HOME": str(place), "UNISON": str(place / "unison"), "PATH": "/usr/bin:/bin"}
        subprocess.run(["unison", str(first), str(second), *options], env=seen, check=True, capture_output=True)

    _talk_over_replicas(make, first, second, begin=replicate, replicate=replicate)


def test_a_folder_that_is_replicated_by_syncthing_is_a_remote(place: Path, make: Make):
    need("syncthing", package="syncthing")
    first, second = place / "one", place / "two"
    ids = {side: syncthing_home(place / f"syncthing-{side.name}") for side in (first, second)}
    with ExitStack() as running:

        def begin() -> None:
            at = "dynamic"
            for side, other in ((first, second), (second, first)):
                home = place / f"syncthing-{side.name}"
                server = start_syncthing(side, home=home, own=ids[side], other=ids[other], at=at)
                at = running.enter_context(server).url

        _talk_over_replicas(make, first, second, begin=begin, replicate=lambda: None)


@pytest.mark.fault(13)
def test_a_vault_that_was_copied_is_found_at_its_new_place(place: Path, make: Make):
    old = place / "old"
    laptop = make("a", str(old))
    session = laptop.json("create", "--title", "Moved")["id"]
    laptop.steno("add", session, "before")
    laptop.steno("sync")
    new = place / "new"
    shutil.copytree(old, new)
    done = laptop.steno("remote", "set", str(new))
    assert str(new) in done.out
    shutil.rmtree(old)
    laptop.steno("add", session, "after")
    laptop.steno("sync")
    desktop = make("b", str(new))
    desktop.steno("sync")
    assert desktop.contents(session) == ["before", "after"]


@pytest.mark.fault(12, 13)
def test_a_place_without_the_vault_is_not_taken(place: Path, make: Make):
    laptop = make("a", str(place / "old"))
    (place / "empty").mkdir()
    done = laptop.steno("remote", "set", str(place / "empty"), code=6)
    assert "copy all objects" in done.err
    assert laptop.json("remote", "show")["remote"] == str(place / "old")


def test_another_vault_is_not_taken(place: Path, make: Make):
    laptop = make("a", str(place / "one"))
    other = Device(place / "b", remote=place / "two").make(found=True)
    laptop.steno("remote", "set", str(other.remote), code=5)
    assert laptop.json("remote", "show")["remote"] == str(place / "one")


def test_the_address_is_not_changed_under_a_running_daemon(place: Path, make: Make):
    laptop = make("a", str(place / "one")).start()
    until(laptop.settled, "it syncs")
    shutil.copytree(place / "one", place / "two")
    assert "daemon stop" in laptop.steno("remote", "set", str(place / "two"), code=1).err


def test_credentials_in_a_new_address_are_refused_and_not_repeated(place: Path, make: Make):
    laptop = make("a", str(place / "one"))
    done = laptop.steno("remote", "set", "redis://:hunter2@127.0.0.1:1/0", code=4)
    assert "hunter2" not in done.err


def test_a_new_vault_on_a_service_that_does_all_is_made_without_a_remark(url: str, place: Path):
    device = Device(place / "h").configure()
    done = device.steno("init", "--remote", url)
    assert url in done.out
    assert done.err == ""


def test_a_vault_is_moved_as_the_documentation_says(
    place: Path, make: Make, rclone_server: Server, rclone_url: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in RCLONE_SETTINGS.items():
        monkeypatch.setenv(name, value)
    page = (Path(__file__).parents[2] / "docs" / "remotes.md").read_text(encoding="utf-8")
    (block,) = [each for each in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL) if "rclone copy" in each]
    laptop = make("a", str(place / "old")).start()
    session = laptop.json("create", "--title", "Moved")["id"]
    laptop.steno("add", session, "before")
    until(laptop.settled, "it is sent")
    script = (
        block.replace("/media/usb/steno", str(place / "old"))
        .replace("nas:backup/steno", f"{rclone_server.folder}/data{urlsplit(rclone_url).path}")
        .replace("webdav+https://nas.example.org/backup/steno", rclone_url)
    )
    try:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-eu", "-c", script],
            env=laptop.environment(PATH=path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        laptop.steno("add", session, "after")
        desktop = make("b", rclone_url).start()
        until(lambda: desktop.contents(session) == ["before", "after"], "both are on the desktop")
    finally:
        laptop.steno("daemon", "stop", code=None)


def test_a_daemon_that_lacks_what_its_address_leaves_open_says_so_to_everybody(place: Path, make: Make):
    laptop = make("a", str(place / "old"))
    text = laptop.home.vault_file.read_text(encoding="utf-8")
    laptop.home.vault_file.write_text(text.replace(str(place / "old"), "s3://bucket/steno"), encoding="utf-8")
    laptop.start()
    until(lambda: laptop.steno("status", code=None).code == 8, "the status says that something is wrong")
    assert "region" in laptop.steno("status", code=8).out
    assert "region" in laptop.steno("sync", code=4).err
