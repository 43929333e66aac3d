"""What goes wrong is said in one line, with the exit code that programs rely on, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from steno.storage.model import NewMessage
from steno.tests.e2e.device import PASSPHRASE, Device, Done, equal, until

pytestmark = pytest.mark.usefixtures("forked")
Pair = tuple[Device, Device]
REQUIRED = bool(os.environ.get("STENO_REQUIRE_SERVERS"))
LARGE = random.Random(1).randbytes(1_500_000).hex()  # compressed it is larger than the room that is left


def one_line(done: Done) -> str:
    """The one line that was said; a failure is never a traceback and never silence."""
    (line,) = done.err.strip().splitlines()
    assert line.startswith("Error: ")
    assert "Traceback" not in line
    return line


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that lies below a directory."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def write(device: Device, session: str, *contents: str) -> None:
    with device.store(write=True) as store:
        if store.find(session) is None:
            store.create(id=session, title=session)
        store.add_messages(session, [NewMessage(role="user", content=each) for each in contents])


# Homes


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",), ("show", "x"), ("search", "x"), ("add", "x", "text"), ("create", "--id", "x"), ("import", "."),
        ("export", "x"), ("rename", "x", "y"), ("tag", "x", "y"), ("meta", "x"), ("delete", "x"), ("conflicts",),
        ("sync",), ("status",), ("daemon", "run"), ("daemon", "start"), ("daemon", "status"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_home_without_init_is_told_to_make_one_and_nothing_is_made(place: Path, arguments: tuple[str, ...]):
    device = Device(place / "nowhere")
    line = one_line(device.steno(*arguments, code=1))
    assert "steno init" in line
    assert not device.place.exists()


def test_a_second_init_is_refused_and_changes_nothing(pair: Pair):
    laptop, _ = pair
    write(laptop, "kept", "text")
    before = laptop.everything()
    assert "already" in one_line(laptop.steno("init", code=5))
    assert laptop.everything() == before


def test_a_config_that_cannot_be_read_names_the_key(lonely: Device):
    lonely.home.config_file.write_text("[daemon]\nport = 'any'\n")
    assert "port" in one_line(lonely.steno("daemon", "run", code=4))


def test_an_unknown_session_is_not_found(lonely: Device):
    for arguments in (("show", "nobody"), ("add", "nobody", "text"), ("delete", "nobody"), ("rename", "nobody", "x")):
        assert "nobody" in one_line(lonely.steno(*arguments, code=3))


def test_an_unknown_verb_is_a_usage_error_of_one_line(lonely: Device):
    assert "there is no verb" in one_line(lonely.steno("frobnicate", code=2))


# Keys


@pytest.mark.fault(25)
def test_a_wrong_passphrase_on_join_writes_nothing_at_all(pair: Pair, place: Path):
    laptop, _ = pair
    write(laptop, "kept", "text")
    laptop.steno("sync")
    before = tree(laptop.folder)
    device = Device(place / "new")
    line = one_line(device.steno("join", str(laptop.folder), code=7, STENO_PASSPHRASE="wrong"))
    assert "passphrase does not open" in line
    assert not device.place.exists()
    assert tree(laptop.folder) == before
    device.configure().steno("join", str(laptop.folder))
    device.steno("sync")
    assert equal(device, laptop)


@pytest.mark.fault(25)
def test_a_wrong_passphrase_changes_nothing_of_a_home_that_is_there(pair: Pair):
    laptop, _ = pair
    write(laptop, "kept", "text")
    before = laptop.home.vault_file.read_bytes()
    one_line(laptop.steno("join", str(laptop.folder), code=7, STENO_PASSPHRASE="wrong"))
    assert laptop.home.vault_file.read_bytes() == before
    laptop.steno("sync")


@pytest.mark.parametrize("passphrase", ["", None])
def test_a_missing_passphrase_is_asked_for_in_one_line(place: Path, passphrase: str | None):
    device = Device(place / "new")
    environment = device.environment() | ({} if passphrase is None else {"STENO_PASSPHRASE": passphrase})
    if passphrase is None:
        del environment["STENO_PASSPHRASE"]
    done = subprocess.run(
        [sys.executable, "-m", "steno.cli.main", "init", "--remote", str(place / "r")],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "passphrase" in one_line(Done(done.returncode, done.stdout, done.stderr))
    assert done.returncode == 4
    assert not device.place.exists()
    assert not (place / "r").exists()


def test_a_passphrase_comes_from_a_file_too(pair: Pair, place: Path):
    (place / "secret").write_text(PASSPHRASE + "\n")
    device = Device(place / "new").configure()
    device.steno("join", str(pair[0].remote), "--passphrase-file", str(place / "secret"), STENO_PASSPHRASE="wrong")
    assert "cannot be read" in one_line(device.steno("join", str(pair[0].remote), "--passphrase-file", "x", code=4))


@pytest.mark.fault(12)
def test_a_folder_without_a_vault_cannot_be_joined_and_stays_empty(place: Path):
    (place / "empty").mkdir()
    device = Device(place / "new")
    assert "no vault" in one_line(device.steno("join", str(place / "empty"), code=6))
    assert tree(place / "empty") == {}
    assert not device.place.exists()


@pytest.mark.parametrize("url", ["nothing://x", "s3://", "ftp", "webdav+https://user:secret@host/x"])
def test_an_address_that_is_none_is_refused(place: Path, url: str):
    device = Device(place / "new")
    done = device.steno("join", url, code=None)
    assert done.code in (4, 6)
    assert "secret" not in one_line(done)
    assert not device.place.exists()


# Remotes


@pytest.mark.fault(14)
def test_a_missing_remote_stops_nothing_but_the_sync_and_is_found_again(pair: Pair):
    laptop, desktop = pair
    away = laptop.folder.with_name("away")
    for device in pair:
        device.start()
    write(laptop, "before", "text")
    until(lambda: equal(*pair), "both are connected")
    laptop.folder.rename(away)
    laptop.steno("create", "--id", "meanwhile", "--title", "Meanwhile")
    desktop.steno("add", "before", "of the desktop")
    assert "cannot be reached" in one_line(laptop.steno("sync", code=6))
    until(lambda: laptop.status()["vault"].get("error"), "the daemon says so")
    assert "cannot be reached" in laptop.steno("status", code=8).out
    assert not laptop.folder.exists(), "a folder that is gone is never made up"
    assert laptop.file("meanwhile").exists()
    away.rename(laptop.folder)
    until(lambda: equal(*pair) and len(laptop.everything()) == 2, "both go on by themselves")
    laptop.steno("add", "before", "afterwards")
    until(lambda: equal(*pair), "and hear of each other at once again", within_s=5)
    for device in pair:
        until(lambda device=device: device.status()["problems"] == [], "nothing is wrong any more")


@pytest.mark.fault(14)
def test_a_missing_remote_without_daemon_is_exit_6(pair: Pair):
    laptop, desktop = pair
    write(laptop, "kept", "text")
    away = laptop.folder.rename(laptop.folder.with_name("away"))
    assert "cannot be reached" in one_line(laptop.steno("sync", code=6))
    laptop.steno("add", "kept", "more")
    away.rename(laptop.folder)
    laptop.steno("sync")
    desktop.steno("sync")
    assert desktop.contents("kept") == ["text", "more"]


@pytest.mark.fault(12, 14)
def test_an_empty_folder_in_the_place_of_the_remote_is_left_empty_and_deletes_nothing(pair: Pair):
    laptop, _ = pair
    write(laptop, "kept", "text")
    laptop.steno("sync")
    laptop.folder.rename(laptop.folder.with_name("away"))
    laptop.folder.mkdir()
    write(laptop, "kept", "more")
    assert "no vault" in one_line(laptop.steno("sync", code=6))
    assert tree(laptop.folder) == {}
    assert laptop.contents("kept") == ["text", "more"]


@pytest.mark.fault(12)
def test_another_vault_in_the_place_of_the_remote_is_refused_and_untouched(pair: Pair, place: Path):
    laptop, _ = pair
    write(laptop, "kept", "text")
    shutil.rmtree(laptop.folder)
    other = Device(place / "other", remote=laptop.folder).make(found=True)
    other.sync_here()
    before = tree(laptop.folder)
    assert "holds vault" in one_line(laptop.steno("sync", code=5))
    assert tree(laptop.folder) == before
    assert laptop.contents("kept") == ["text"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_remote_that_may_not_be_written_is_refused(pair: Pair):
    laptop, _ = pair
    write(laptop, "kept", "text")
    for folder in (laptop.folder, laptop.folder / "keys"):
        folder.chmod(0o500)
    try:
        assert "refused" in one_line(laptop.steno("sync", code=6))
    finally:
        for folder in (laptop.folder, laptop.folder / "keys"):
            folder.chmod(0o700)


@pytest.mark.fault(7)
def test_a_damaged_segment_is_named_the_others_go_on_and_it_is_taken_when_it_is_mended(pair: Pair):
    laptop, desktop = pair
    for session in ("first", "second", "third"):
        write(laptop, session, f"text of {session}")
        laptop.sync_here()
    damaged = sorted((laptop.folder / "log").iterdir())[1]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = desktop.steno("sync", code=8)
    assert damaged.name in done.err
    assert sorted(desktop.everything()) == ["first", "third"]
    status = desktop.steno("status", code=8)
    assert damaged.name in status.out
    damaged.write_bytes(whole)
    desktop.steno("sync")
    assert desktop.steno("status").code == 0
    assert equal(laptop, desktop)


@pytest.mark.fault(4)
def test_the_daemon_names_a_damaged_segment_and_takes_it_when_it_is_mended(pair: Pair):
    laptop, desktop = pair
    write(laptop, "first", "text")
    laptop.sync_here()
    (damaged,) = (laptop.folder / "log").iterdir()
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    desktop.start()
    until(lambda: damaged.name in str(desktop.status()["problems"]), "the object is named")
    write(laptop, "second", "text")
    laptop.sync_here()
    until(lambda: sorted(desktop.everything()) == ["second"], "the others go on")
    assert desktop.steno("sync", code=8).code == 8
    desktop.stop()
    damaged.write_bytes(whole)
    desktop.start()
    until(lambda: equal(laptop, desktop), "the mended object is taken")
    assert desktop.status()["problems"] == []


# Imports


def test_a_file_that_is_no_session_is_refused_and_nothing_of_it_taken(lonely: Device, place: Path):
    (place / "x.jsonl").write_text("{\n")
    (place / "y.jsonl").write_bytes(b"\x00\xff" * 100)
    for name in ("x.jsonl", "y.jsonl"):
        assert name in one_line(lonely.steno("import", str(place / name), code=4))
    assert lonely.everything() == {}


def test_a_broken_line_among_good_ones_is_named_and_the_rest_comes_in(lonely: Device, place: Path):
    good = json.dumps({"messages": [{"role": "user", "content": "hello"}]})
    (place / "x.jsonl").write_text(f"{good}\n{{\n{good.replace('hello', 'there')}\n")
    done = lonely.steno("import", str(place / "x.jsonl"), code=None)
    assert "line 2" in done.err
    assert sorted(lonely.contents(each)[0] for each in lonely.everything()) == ["hello", "there"]


def test_a_file_that_is_not_there_is_a_usage_error(lonely: Device):
    assert "nowhere" in one_line(lonely.steno("import", "nowhere.jsonl", code=2))


# Disks without room


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = place / "small"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        if REQUIRED:
            raise AssertionError("mounting a small file system needs root")
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this machine mounts no tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(folder: Path) -> Path:
    """Take all the room there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


@pytest.mark.fault(31)
def test_a_full_disk_refuses_in_one_line_and_loses_nothing(small_disk: Path):
    device = Device(small_disk / "home").make()
    device.steno("create", "--id", "kept")
    device.steno("add", "kept", "before")
    ballast = fill_up(small_disk)
    line = one_line(device.steno("add", "kept", "-", code=1, stdin=LARGE))
    assert "room" in line or "space" in line.lower() or "full" in line
    assert device.contents("kept") == ["before"]
    assert device.json("show", "kept")["message_count"] == 1
    ballast.unlink()
    device.steno("add", "kept", "after")
    assert device.contents("kept") == ["before", "after"]


@pytest.mark.fault(31)
def test_a_daemon_on_a_full_disk_goes_on_and_catches_up_when_there_is_room(small_disk: Path, pair: Pair):
    laptop, desktop = pair
    device = laptop.copy(small_disk / "home", remote=laptop.folder)
    device.start()
    device.steno("create", "--id", "kept")
    path = device.file("kept")
    until(device.settled, "all is well")
    ballast = fill_up(small_disk)
    before = path.read_bytes()
    write(desktop, "large", LARGE[:300_000])
    write(desktop, "kept-too", "text")
    desktop.sync_here()
    until(lambda: device.status()["problems"], "the daemon says so")
    assert path.read_bytes() == before
    ballast.unlink()
    until(lambda: set(device.everything()) == {"kept", "large", "kept-too"}, "everything has arrived")
    until(lambda: len(device.files()) == 3 and device.settled(), "the files are written")
    until(lambda: device.status()["problems"] == [], "nothing is wrong any more")
    assert json.loads(device.file("large").read_text(encoding="utf-8").splitlines()[1])["content"] == LARGE[:300_000]
    device.stop()


@pytest.mark.fault(30)
def test_a_remote_on_a_full_disk_is_exit_6_and_gets_everything_later(small_disk: Path, pair: Pair):
    laptop, desktop = pair
    shutil.copytree(laptop.folder, small_disk / "r")
    laptop = laptop.copy(small_disk.parent / "a2", remote=small_disk / "r")
    desktop = desktop.copy(small_disk.parent / "b2", remote=small_disk / "r")
    ballast = fill_up(small_disk)
    write(laptop, "kept", os.urandom(100_000).hex())
    one_line(laptop.steno("sync", code=6))
    assert list((small_disk / "r" / ".tmp").glob("*")) == []
    ballast.unlink()
    laptop.steno("sync")
    desktop.steno("sync")
    assert equal(laptop, desktop)


def test_a_limit_on_the_size_of_files_refuses_in_one_line_and_loses_nothing(lonely: Device):
    lonely.steno("create", "--id", "kept")
    lonely.steno("add", "kept", "before")
    limit = lonely.home.database.stat().st_size + 200_000

    def limited() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-m", "steno.cli.main", "add", "kept", "-"],
        env=lonely.environment(), input=LARGE, preexec_fn=limited, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    one_line(Done(done.returncode, done.stdout, done.stderr))
    assert done.returncode == 1
    assert lonely.contents("kept") == ["before"]
    lonely.steno("add", "kept", "after")
    assert lonely.contents("kept") == ["before", "after"]


def test_a_damaged_database_is_said_in_one_line(lonely: Device):
    lonely.steno("create", "--id", "kept")
    for path in lonely.place.glob("steno.db-*"):
        path.unlink()
    lonely.home.database.write_bytes(b"not a database at all" * 1000)
    for verb in ("list", "status"):
        assert "damaged" in one_line(lonely.steno(verb, code=1))


def test_an_init_without_room_leaves_nothing_and_works_when_there_is_room(small_disk: Path):
    device = Device(small_disk / "home").configure()
    ballast = fill_up(small_disk)
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - 32 * 1024)
    one_line(device.steno("init", code=1))
    assert not device.home.database.exists()
    ballast.unlink()
    device.steno("init")
    assert device.json("list") == []


def test_an_init_on_a_remote_that_has_a_vault_leaves_no_home(place: Path):
    Device(place / "first", remote=place / "remote").make(found=True)
    second = Device(place / "second")
    line = one_line(second.steno("init", "--remote", str(place / "remote"), code=5, STENO_PASSPHRASE="another"))
    assert "steno join" in line
    assert not second.place.exists()


def test_a_config_that_cannot_be_read_is_a_problem_in_the_status(lonely: Device):
    lonely.home.config_file.write_text("[daemon")
    assert "config.toml" in lonely.steno("status", code=8).out


def test_what_waits_to_be_sent_makes_the_status_incomplete(place: Path):
    device = Device(place / "home", remote=place / "remote").make(found=True)
    assert device.json("status")["vault"]["pending_segments"] == 0
    device.steno("create", "--id", "x")
    assert "1 change not sent yet" in device.steno("status", code=8).out
    device.steno("sync")
    assert "not sent yet" not in device.steno("status").out


def test_a_sync_without_a_daemon_takes_the_files_too(place: Path):
    device = Device(place / "home", remote=place / "remote").make(found=True)
    device.steno("create", "--id", "x")
    device.steno("add", "x", "before")
    device.steno("sync")
    path = device.file("x")
    path.write_text(path.read_text(encoding="utf-8").replace("before", "after"), encoding="utf-8")
    device.steno("sync")
    assert device.contents("x") == ["after"]
